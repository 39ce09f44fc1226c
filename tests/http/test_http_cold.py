"""A server with a real object store as its cold store, which dies, and comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server, wait_until

from bench.process import start
from bench.seaweed import Seaweed, install
from bench.table import NotRunError

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

    def serve(self, name: str) -> Server:
        settings = {"cold": "s3://bench/cold", "cold_after": "0"}
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
