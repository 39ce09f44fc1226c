"""Keys of an encrypted store, and stores drawn."""

import json
from pathlib import Path

import pytest
from result import Holdfast

from holdfast.config import open_bucket

TEXT = b"something to keep\n" * 1000


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holdfast: Holdfast) -> str:
    """An encrypted store with a blob, by its URL."""
    monkeypatch.setenv("BLOBS_KEY", holdfast("keyring", "new").out.decode().strip())
    monkeypatch.setenv("HOLDFAST_STORE", f"segments://{tmp_path}/store?encrypt=env:BLOBS_KEY")
    (tmp_path / "text").write_bytes(TEXT)
    assert holdfast("put", tmp_path / "text", "first").code == 0
    return f"segments://{tmp_path}/store?encrypt=env:BLOBS_KEY"


def test_master_keys_are_never_the_same(holdfast: Holdfast) -> None:
    one, other = (holdfast("keyring", "new").out.decode().strip() for _ in range(2))
    assert len(bytes.fromhex(one)) == len(bytes.fromhex(other)) == 32
    assert one != other


def test_keys_are_rotated_and_blobs_stay(
    tmp_path: Path, secret: str, holdfast: Holdfast, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(holdfast("keyring", "list", secret).out.splitlines()) == 1
    done = holdfast("keyring", "rotate", secret, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["newest"] for line in lines] == [False, True]
    assert holdfast("put", tmp_path / "text", "second").code == 0
    assert holdfast("cat", "first").out == holdfast("cat", "second").out == TEXT

    (tmp_path / "other").write_text("ab" * 32)
    place = f"file:{tmp_path / 'other'}"
    done = holdfast("keyring", "rotate", secret, "--master", place)
    assert [line.split()[0] for line in done.out.decode().splitlines()] == [
        line["id"] for line in lines
    ]
    refused = holdfast("cat", "first")
    assert refused.code != 0
    assert "another master key" in refused.err
    monkeypatch.setenv("HOLDFAST_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HOLDFAST_ENCRYPT", place)
    assert holdfast("cat", "first").out == TEXT
    for verb in ("fsck", "compact", "gc"):
        assert holdfast(verb, tmp_path / "store").code == 0
    monkeypatch.delenv("HOLDFAST_ENCRYPT")
    for verb in ("fsck", "compact", "gc"):
        assert "is encrypted" in holdfast(verb, tmp_path / "store").err


def test_whoever_looks_after_a_store_may_name_it_by_its_url(
    secret: str, holdfast: Holdfast
) -> None:
    for verb in ("fsck", "compact", "gc"):
        assert holdfast(verb, secret).code == 0
    for verb in ("fsck", "compact"):
        refused = holdfast(verb, "http://127.0.0.1:9")
        assert refused.code != 0
        assert "a folder, or the URL of one" in refused.err


def test_a_store_in_use_keeps_its_keys(secret: str, holdfast: Holdfast) -> None:
    with open_bucket(secret):
        assert "in use" in holdfast("keyring", "rotate", secret).err
    assert len(holdfast("keyring", "list", secret).out.splitlines()) == 1


def test_what_has_no_keys_is_told(tmp_path: Path, secret: str, holdfast: Holdfast) -> None:
    folder = f"{tmp_path}/store"
    assert "encrypt=env:NAME" in holdfast("keyring", "list", folder).err
    nothing = holdfast("keyring", "list", f"segments://{tmp_path}/nothing?encrypt=env:BLOBS_KEY")
    assert "no encrypted store" in nothing.err
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "short").write_text("abcd")
    for place in (f"file:{tmp_path}/short", f"file:{tmp_path}/missing", "env:NOT_SET", "BLOBS_KEY"):
        assert holdfast("keyring", "rotate", secret, "--master", place).code == 2


def test_a_stack_is_drawn(tmp_path: Path, secret: str, holdfast: Holdfast) -> None:
    store = tmp_path / "store"
    drawn = holdfast("config", "explain", f"{secret}&compress=zstd&level=9").out.decode()
    assert drawn.splitlines() == [
        f"{store}",
        f"|- names: the log, {store}/log",
        "`- bytes",
        "   `- compressed: zstd, level 9, where that gains",
        "      `- encrypted: AES-256-GCM, master key: env:BLOBS_KEY",
        "         `- by size",
        f"            |- up to 256 KiB: the log, {store}/log",
        f"            `- larger: a file each, {store}/files",
    ]
    assert "needs a master key" in holdfast("config", "explain", store).out.decode()
    bare = holdfast("config", "explain", tmp_path / "bare").out.decode()
    assert "encrypted" not in bare
    assert not (tmp_path / "bare").exists()
    near = f"{secret}&verify=digest&cache=10GiB&cache_dir=/ssd"
    drawn = holdfast("config", "explain", near).out.decode()
    assert drawn.splitlines()[3:6] == [
        "   `- cached: blobs over 256 KiB, up to 10 GiB of them in /ssd",
        "      `- verified: the SHA-256 of a blob before its first byte",
        "         `- encrypted: AES-256-GCM, master key: env:BLOBS_KEY",
    ]
    disks = "/disk1 (weight 2), /disk2 (weight 1)"
    spread = holdfast("config", "explain", f"segments://{tmp_path}/new?spread=/disk1*2,/disk2")
    assert spread.out.decode().splitlines()[-1] == (
        f"      `- larger: a file each, spread over {disks}; older ones in {tmp_path}/new/files"
    )
    served = tmp_path / "holdfast.toml"
    served.write_text(f'data = "{store}"\ncompress = "zstd"\nsmall_blob_bytes_max = 500\n')
    drawn = holdfast("config", "explain", "--config", served).out.decode()
    assert "compressed: zstd, level 3" in drawn
    assert "up to 500 bytes" in drawn


@pytest.mark.parametrize("wrong", ["", "5f" * 32, "next", "env:", "env:NOT_SET", "file:/none"])
def test_a_next_master_key_that_is_nowhere_changes_nothing(
    secret: str, holdfast: Holdfast, wrong: str
) -> None:
    """Nor is it told: it may be the key itself."""
    before = holdfast("keyring", "list", secret).out
    refused = holdfast("keyring", "rotate", secret, "--master", wrong)
    assert refused.code == 2
    assert "env:NAME" in refused.err or "NOT_SET" in refused.err or "/none" in refused.err
    assert "5f5f" not in refused.err
    assert holdfast("keyring", "list", secret).out == before


def test_what_a_store_is_not_is_not_drawn(tmp_path: Path, holdfast: Holdfast) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "text").write_bytes(TEXT)
    store, old = tmp_path / "store", f"cold=file://{tmp_path}/old"
    assert holdfast("put", tmp_path / "text", "-s", f"segments://{store}?{old}").code == 0
    for url, why in (
        (f"sqlite://{store}?shards=3", "engine log, not sqlite"),
        (f"segments://{store}?cold=file://{tmp_path}/other", "lie in file://"),
    ):
        refused = holdfast("config", "explain", url)
        assert refused.code != 0
        assert why in refused.err
    assert f"objects in file://{tmp_path}/old" in holdfast("config", "explain", store).out.decode()
