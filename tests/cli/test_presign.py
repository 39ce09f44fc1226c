"""`holdfast presign`: URLs for those who have no key."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from result import Holdfast


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a server that asks for keys, and its first key, which it shows."""
    folder = tmp_path_factory.mktemp("guarded")
    command = [sys.executable, "-m", "holdfast", "serve", "--data", str(folder), "--port", "0"]
    environment = os.environ | {"HOLDFAST_AUTH": "keys"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as server:
        assert server.stdout is not None
        key = server.stdout.readline().split()[-1]
        yield server.stdout.readline().split()[-1], key
        server.terminate()


@pytest.fixture
def guarded(server: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The same server, for commands that name none."""
    url, key = server
    monkeypatch.setenv("HOLDFAST_STORE", url)
    monkeypatch.setenv("HOLDFAST_KEY", key)
    return url


def test_what_is_stored_by_one_url_is_fetched_by_another(holdfast: Holdfast, guarded: str) -> None:
    put = holdfast("presign", "put", "in/a b.txt", "--expires", "10m", "--max-bytes", "5B", "-n")
    assert put.code == 0
    url = put.out.decode().strip()
    assert url.startswith(guarded + "/blob/in/a%20b.txt?")
    assert httpx.put(url, content=b"too large").status_code == 413
    stored = httpx.put(url, content=b"small", headers={"Content-Type": "text/x"})
    assert stored.status_code == 201
    assert httpx.put(url, content=b"again").status_code == 412
    got = holdfast("presign", "get", "in/a b.txt", "--inline").out.decode().strip()
    assert httpx.get(got).content == b"small"
    assert httpx.head(got).headers["content-disposition"].startswith("inline")
    digest = stored.json()["digest"]
    by_hash = holdfast("presign", "get", digest).out.decode().strip()
    assert httpx.get(by_hash).content == b"small"
    exact = holdfast("presign", "put", "c", "--digest", digest, "-t", "text/x").out.decode().strip()
    assert httpx.put(exact, content=b"other").status_code == 422
    assert httpx.put(exact, content=b"small").json()["content_type"] == "text/x"


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "k", "--expires", "soon"),
        ("get", "k", "--expires", "8d"),
        ("get", "k", "--expires", "0"),
        ("put", "k", "--max-bytes", "lots"),
        ("put", "k", "--digest", "md5"),
    ],
)
def test_what_cannot_be_signed_is_refused(
    holdfast: Holdfast, guarded: str, arguments: tuple[str, ...]
) -> None:
    assert holdfast("presign", *arguments).code == 2


def test_a_folder_has_no_urls(holdfast: Holdfast, tmp_path: Path) -> None:
    done = holdfast("presign", "get", "k", "-s", tmp_path)
    assert done.code == 2
    assert "the URL of a server" in done.err


def test_without_a_key_nothing_is_signed(
    holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_KEY", "")
    assert holdfast("presign", "get", "k", "-s", "http://127.0.0.1:1").code == 2
