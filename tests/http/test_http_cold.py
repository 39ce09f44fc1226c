"""A server with a real object store as its cold store, which dies, and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from serving import Server, wait_until

from bench.process import start
from bench.seaweed import Seaweed, install
from bench.table import NotRunError
from holdfast.cli import cli

WORK = Path(__file__).parent.parent.parent / "bench" / ".work"
SMALL, LARGE = b"small" * 100, b"large " * 100_000
LOG_SECONDS = 2.1  # until what is in the log is older than nothing


class Cold:
    """The object store, and servers that have it."""

    def __init__(self, folder: Path) -> None:
        self.seaweed = Seaweed(folder, install(WORK))
        self.folder = folder
        self.running = start(self.seaweed.server)
        self.seaweed.wait()

    def restart(self) -> None:
        self.running = start(self.seaweed.server)
        self.seaweed.wait()

    def serve(self, name: str, settings: dict[str, str] | None = None) -> Server:
        settings = settings or {"cold": "s3://bench/cold", "cold_after": "0"}
        return Server(self.folder / name, settings, data=self.folder / "data")


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cold]:
    try:
        cold = Cold(tmp_path)
    except NotRunError as error:
        pytest.skip(f"needs SeaweedFS: {error}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{cold.seaweed.ports['s3']}")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    yield cold
    cold.running.kill()


@pytest.mark.slow
@pytest.mark.xdist_group("seaweed")
def test_while_the_cold_store_is_down_cold_blobs_are_503_and_all_else_goes_on(cold: Cold) -> None:
    """It is stopped as a power cut would do it, and started again."""
    with cold.serve("first") as server:
        for name, data in {"small": SMALL, "large": LARGE}.items():
            assert server.ask("PUT", f"/b/b/{name}", data).status == 201
        time.sleep(LOG_SECONDS)
    with cold.serve("second") as server:
        wait_until(lambda: server.metric("holdfast_tier_blobs_total") == 2, "nothing moved")
        assert server.metric("holdfast_tier_bytes_total") == len(SMALL) + len(LARGE)
        assert server.ask("PUT", "/b/b/young", b"young").status == 201
        check(server, 200)
        cold.running.kill()
        check(server, 503)
        assert server.ask("GET", "/b/b/young").body == b"young"
        assert server.ask("HEAD", "/b/b/small").status == 200
        assert server.ask("PUT", "/b/b/again", SMALL).status == 201
        assert server.ask("GET", "/b/b/small").body == SMALL
        cold.restart()
        check(server, 200)
        assert server.traces() == ""


@pytest.mark.slow
@pytest.mark.xdist_group("seaweed")
def test_a_server_starts_while_its_object_store_is_down_and_heals_when_it_is_back(
    cold: Cold,
) -> None:
    """It is stopped before the server starts, and nobody asks for what is there when it is back."""
    settings = {"large": "s3://bench/large"}
    with cold.serve("first", settings) as server:
        for name, data in {"small": SMALL, "large": LARGE}.items():
            assert server.ask("PUT", f"/b/b/{name}", data).status == 201
    cold.running.kill()
    with cold.serve("second", settings) as server:
        assert server.ask("GET", "/b/b/small").body == SMALL
        assert server.ask("PUT", "/b/b/new", b"new").status == 201
        reply = server.ask("GET", "/b/b/large")
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert server.ask("PUT", "/b/b/other", LARGE[1:]).status == 503
        assert server.ask("GET", "/b/b/other").status == 404
        ready = server.ask("GET", "/readyz")
        assert (ready.status, ready.body) == (200, b"ok, but the large blobs are away\n")
        assert json.loads(server.ask("GET", "/stats").body)["away"].startswith("s3://bench/large: ")
        said = CliRunner().invoke(cli, ["stats", "-s", server.url]).output
        assert "away      s3://bench/large: " in said
        assert server.metric("holdfast_objects_away") == 1
        cold.restart()
        wait_until(lambda: server.metric("holdfast_objects_away") == 0, "it is still away", 20)
        assert server.ask("GET", "/readyz").body == b"ok\n"
        assert "away" not in json.loads(server.ask("GET", "/stats").body)
        assert server.ask("GET", "/b/b/large").body == LARGE
        assert server.ask("PUT", "/b/b/other", LARGE[1:]).status == 201
        assert server.ask("GET", "/b/b/other").body == LARGE[1:]
        assert server.log.read_text().count("objects.away") == 1
        assert server.log.read_text().count("objects.back") == 1


def check(server: Server, status: int) -> None:
    """Read both, whole and in part."""
    for name, data in {"small": SMALL, "large": LARGE}.items():
        with server.connect(60) as connection:
            reply = connection.ask("GET", f"/b/b/{name}")
            assert reply.status == status, reply
            assert status != 200 or reply.body == data
            if status == 503:
                assert reply.headers["retry-after"]
            part = connection.ask("GET", f"/b/b/{name}", headers={"Range": "bytes=10-19"})
            assert part.status == (206 if status == 200 else status)
