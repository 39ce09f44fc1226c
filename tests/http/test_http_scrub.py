"""A server looks for damage by itself, and says when a blob was verified."""

import hashlib
from datetime import datetime
from pathlib import Path

import pytest
from serving import Server, wait_until

from holdfast.client import Client
from holdfast.core.digest import Digest

MIB = 1024 * 1024
SMALL, LARGE = b"small", bytes(range(256)) * 4096 * 2
BLOBS = {"small": SMALL, "large": LARGE}
HEADER = "holdfast-verified-at"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that a server wrote and that no scrub has read."""
    with Server(tmp_path, {"scrub_days": "0"}) as server:
        for name, data in BLOBS.items():
            assert server.ask("PUT", f"/blob/{name}", data).status == 201
            assert HEADER not in server.ask("HEAD", path_of(data)).headers
    return tmp_path


def path_of(data: bytes) -> str:
    return f"/blobs/{hashlib.sha256(data).hexdigest()}"


def wait_for_pass(server: Server) -> None:
    wait_until(lambda: server.metric("holdfast_scrub_completed_s") > 0, "no pass has ended")


def test_a_blob_says_when_it_was_verified(folder: Path, way: str) -> None:
    with Server(folder, {"hot_path": way}) as server:
        wait_for_pass(server)
        for name, data in BLOBS.items():
            reply = server.ask("HEAD", path_of(data))
            at = datetime.fromisoformat(reply.headers[HEADER])
            assert at.timestamp() >= server.metric("holdfast_scrub_oldest_s") - 1e-5
            assert at.timestamp() <= server.metric("holdfast_scrub_completed_s") + 1e-5
            assert reply.headers["content-length"] == str(len(data))
            assert HEADER not in server.ask("GET", path_of(data)).headers
            assert HEADER not in server.ask("HEAD", f"/blob/{name}").headers
            with Client(server.url) as client:
                assert client.content.verified_at(Digest.of(data)) == at
        assert server.metric("holdfast_scrub_pass") == 1
        assert server.metric("holdfast_scrub_read_bytes") > len(LARGE)
        assert server.metric("holdfast_scrub_left_bytes") == 0
        assert server.ask("HEAD", "/blobs/" + "0" * 64).status == 404
    assert "scrub.completed" in server.log.read_text()


def test_a_server_finds_damage_by_itself_and_goes_on_serving(folder: Path) -> None:
    file = next((folder / "data" / "files").rglob("*.blob"))
    damaged = bytearray(file.read_bytes())
    damaged[MIB] ^= 1
    file.write_bytes(damaged)
    with Server(folder, {}) as server:
        wait_for_pass(server)
        assert server.metric("holdfast_scrub_damaged_blobs") == 1
        assert server.metric("holdfast_scrub_broken_entries") == 0
        assert server.ask("GET", "/blob/large").code == "corrupt"
        assert HEADER not in server.ask("HEAD", path_of(LARGE)).headers
        assert HEADER in server.ask("HEAD", path_of(SMALL)).headers
        assert server.ask("PUT", "/blob/large", LARGE).status == 200
        assert server.ask("GET", "/blob/large").body == LARGE
    told = server.log.read_text()
    assert "scrub.found" in told
    assert hashlib.sha256(LARGE).hexdigest() in told
