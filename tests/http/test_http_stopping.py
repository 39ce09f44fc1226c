"""Starting and stopping: what is under way ends well, and a folder has one server."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rawhttp import spell
from serving import SERVE, Server, Servers, environment, wait_until

from holdfast.depot.local import open_depot

MIB = 1024 * 1024
BIG = bytes(range(256)) * (8 * MIB // 256)


@pytest.fixture
def own(servers: Servers, ways: dict[str, str]) -> Server:
    """A server that the test may stop."""
    return servers.own(**ways)


def stored(server: Server) -> dict[str, bytes]:
    """What a stopped server has left in the bucket `stop`, read without a server."""
    with open_depot(server.data) as depot:
        bucket = depot.bucket("stop")
        return {entry.key: bucket.get(entry.key) for entry in bucket.entries()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_with_all_that_it_acknowledged(
    own: Server, number: int
) -> None:
    blobs = {str(size): b"x" * size for size in (0, 10, MIB)}
    with own.connect() as idle, own.connect() as silent:
        for key, data in blobs.items():
            assert idle.ask("PUT", f"/b/stop/{key}", data).status == 201
        started_s = time.monotonic()
        own.signal(number)
        assert own.wait() == 0
        assert time.monotonic() - started_s < 3
        assert idle.at_end()
        assert silent.at_end()
    assert own.traces() == ""
    assert stored(own) == blobs


def test_uploads_that_are_under_way_are_finished(own: Server) -> None:
    sizes = (1000, len(BIG))
    with own.connect() as small, own.connect() as large:
        for size, connection in zip(sizes, (small, large), strict=True):
            headers = {"Content-Length": str(size)}
            connection.send(spell("PUT", f"/b/stop/{size}", BIG[: size // 2], headers))
        time.sleep(0.1)
        own.signal()
        wait_until(own.refuses, "it takes new connections")
        for size, connection in zip(sizes, (small, large), strict=True):
            connection.send(BIG[size // 2 : size])
            reply = connection.reply()
            assert (reply.status, reply.closes) == (201, True)
            assert connection.at_end()
    assert own.wait() == 0
    assert own.traces() == ""
    assert stored(own) == {str(size): BIG[:size] for size in sizes}


def test_a_download_that_is_under_way_is_finished(own: Server) -> None:
    own.ask("PUT", "/b/stop/k", BIG)
    with own.connect() as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.send(spell("GET", "/b/stop/k"))
        assert connection.head()[0] == 200
        data = connection.take(100_000)
        own.signal()
        wait_until(own.refuses, "it takes new connections")
        data += connection.take(len(BIG) - len(data))
        assert data == BIG
        assert connection.at_end()
    assert own.wait() == 0
    assert own.traces() == ""


def test_a_stop_does_not_wait_for_ever(servers: Servers, way: str) -> None:
    server = servers.own(hot_path=way, stop_wait_s="1")
    server.ask("PUT", "/b/stop/big", BIG * 3)
    with server.connect() as upload, server.connect() as download:
        upload.send(spell("PUT", "/b/stop/k", b"x", {"Content-Length": "1000"}))
        download.send(spell("GET", "/b/stop/big"))
        assert download.head()[0] == 200
        started_s = time.monotonic()
        server.signal()
        assert server.wait() == 0
        assert time.monotonic() - started_s < 5
    assert list(stored(server)) == ["big"]
    assert server.temporary() == []


def test_of_many_uploads_each_is_acknowledged_and_kept_or_neither(own: Server) -> None:
    """Writers run against a stop; what they were told is true afterwards."""
    acknowledged: dict[str, bytes] = {}

    def write(name: int) -> None:
        try:
            with own.connect() as connection:
                for number in range(10_000):
                    key, body = f"{name}-{number:05}", b"%d %d" % (name, number) * 20
                    if connection.ask("PUT", f"/b/stop/{key}", body).status == 201:
                        acknowledged[key] = body
        except (OSError, EOFError):
            return

    writers = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) > 200, "nothing is written")
    own.signal()
    for writer in writers:
        writer.join(30)
    assert own.wait() == 0
    assert own.traces() == ""
    assert acknowledged.items() <= stored(own).items()


# Starting


def serve(data: Path, *flags: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *SERVE, "--data", str(data), *flags]
    return subprocess.run(
        command, capture_output=True, timeout=30, check=False, env=environment({})
    )


def test_a_second_server_on_the_same_folder_is_refused(hot: Server) -> None:
    done = serve(hot.data)
    assert done.returncode == 7
    assert done.stdout == b""
    assert b"in use" in done.stderr
    assert str(hot.process.pid).encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert hot.ask("GET", "/healthz").status == 200


def test_a_taken_port_is_said(hot: Server, tmp_path: Path) -> None:
    done = serve(tmp_path / "data", "--port", str(hot.port))
    assert done.returncode == 7
    assert str(hot.port).encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert hot.ask("GET", "/healthz").status == 200


def test_the_first_line_says_where_it_serves(hot: Server) -> None:
    assert hot.line == f"holdfast serves {hot.data} at http://127.0.0.1:{hot.port}\n"
