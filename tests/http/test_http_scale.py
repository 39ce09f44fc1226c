"""Many connections, large bodies, flat memory."""

import hashlib
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rawhttp import Connection, chunked, spell
from serving import Server, Servers, wait_until

MIB = 1024 * 1024
STEP = bytes(range(256)) * 4096  # 1 MiB
IDLE = 1000


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """This process holds the other ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_idle_connections_cost_no_threads(servers: Servers, way: str) -> None:
    server = servers.narrow("nofile=256:8192", hot_path=way)
    for number in range(40):  # so that the pool of disk threads has its full size
        server.ask("GET", f"/blob?prefix={number}")
    threads, memory_kb = server.status("Threads"), server.status("VmRSS")
    with ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(IDLE)]
        for connection in idle[::10]:
            assert connection.ask("GET", "/healthz").status == 200
        started_s = time.monotonic()
        assert server.ask("PUT", "/b/scale/k", b"x").status == 201
        assert server.ask("GET", "/b/scale/k").body == b"x"
        assert time.monotonic() - started_s < 2
        assert server.status("Threads") <= threads + 4
        assert server.status("VmRSS") - memory_kb < 40_000
        assert idle[-1].ask("GET", "/b/scale/k").body == b"x"
    wait_until(lambda: server.descriptors() < 100, "connections stay open")


def test_connections_over_the_limit_are_told_so(servers: Servers) -> None:
    server = servers.shared(hot_path="true", max_connections="20")
    with ExitStack() as stack:
        held = [stack.enter_context(server.connect()) for _ in range(20)]
        assert held[-1].ask("GET", "/healthz").status == 200
        with server.connect() as one_more:
            reply = one_more.reply()
            assert (reply.status, reply.code, reply.closes) == (503, "unavailable", True)
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["retryable"] is True
        assert held[0].ask("GET", "/healthz").status == 200
        held[0].close()
        wait_until(lambda: server.ask("GET", "/healthz").status == 200, "no room again")


def test_a_server_without_descriptors_lives_on(servers: Servers) -> None:
    server = servers.narrow("nofile=64:64", hot_path="true")
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(server.connect())
        time.sleep(0.2)
    wait_until(lambda: server.descriptors() < 50, "connections stay open")
    assert server.ask("PUT", "/b/scale/k", b"x" * MIB).status == 201
    assert len(server.ask("GET", "/b/scale/k").body) == MIB


# Large bodies


@pytest.fixture
def roomy(servers: Servers, way: str) -> Iterator[Server]:
    """A server without a limit for bodies, whose memory nothing else has touched."""
    with servers.own(hot_path=way, max_body_bytes="0") as server:
        yield server
    shutil.rmtree(server.data)


def upload(connection: Connection, path: str, steps: int, kind: str) -> str:
    """Send a body of `steps` MiB, each its own; the digest of what was sent."""
    hasher = hashlib.sha256()
    headers = {"Content-Length": str(steps * MIB)}
    if kind == "chunks":
        headers = {"Transfer-Encoding": "chunked"}
    connection.send(spell("PUT", path, headers=headers))
    for number in range(steps):
        step = number.to_bytes(8, "big") + STEP[8:]
        hasher.update(step)
        connection.send(chunked(step)[:-5] if kind == "chunks" else step)
    if kind == "chunks":
        connection.send(b"0\r\n\r\n")
    reply = connection.reply()
    assert reply.status in {200, 201}, reply
    assert reply.headers["etag"] == f'"{hasher.hexdigest()}"'
    return hasher.hexdigest()


def download(connection: Connection, path: str, steps: int) -> str:
    connection.send(spell("GET", path))
    hasher = hashlib.sha256()
    assert connection.head()[0] == 200
    for _ in range(steps):
        hasher.update(connection.take(MIB))
    return hasher.hexdigest()


def check_memory(server: Server, steps: int, kind: str, bound_kb: int) -> None:
    path = f"/b/scale/{kind}"
    with server.connect(120) as connection:
        connection.ask("GET", "/healthz")
        server.forget_peak()
        digest = upload(connection, path, steps, kind)
    with server.connect(120) as connection:
        assert download(connection, path, steps) == digest
    assert server.status("VmHWM") < bound_kb
    server.ask("DELETE", path)


@pytest.mark.parametrize("kind", ["length", "chunks"])
def test_64_mib_pass_through_little_memory(roomy: Server, kind: str) -> None:
    check_memory(roomy, 64, kind, 80_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["length", "chunks"])
def test_2_gib_pass_through_little_memory(roomy: Server, kind: str) -> None:
    check_memory(roomy, 2048, kind, 150_000)


def test_uploads_that_wait_for_more_hold_little_memory(roomy: Server) -> None:
    """Forty clients send 3 MiB each of a larger body, and stop."""
    roomy.ask("GET", "/healthz")
    with ExitStack() as stack:
        before_kb = roomy.status("VmRSS")
        for number in range(40):
            connection = stack.enter_context(roomy.connect())
            headers = {"Content-Length": str(8 * MIB)}
            connection.send(spell("PUT", f"/b/scale/{number}", headers=headers) + STEP * 3)
        wait_until(lambda: len(roomy.temporary()) == 40, "not all began")
        assert roomy.status("VmRSS") - before_kb < 120_000
    roomy.check_clean("scale")
