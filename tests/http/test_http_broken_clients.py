"""Clients that vanish, stop, or read slowly: nothing is left behind, and others are served."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
from rawhttp import chunked, spell
from serving import Server, Servers, steady_descriptors, wait_until

MIB = 1024 * 1024
CHUNKED = {"Transfer-Encoding": "chunked"}
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
FORM_HEAD = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'


def declared(size: int, headers: dict[str, str] | None = None) -> dict[str, str]:
    return {"Content-Length": str(size)} | (headers or {})


UNFINISHED: dict[str, Callable[[str], bytes]] = {
    "half a request line": lambda _: b"PUT /b",
    "half a head": lambda path: spell("PUT", path, headers=declared(9))[:-5],
    "no body": lambda path: spell("PUT", path, headers=declared(9)),
    "half a small body": lambda path: spell("PUT", path, b"x" * 500, declared(1000)),
    "all but one byte": lambda path: spell("PUT", path, b"x" * 999, declared(1000)),
    "half a MiB": lambda path: spell("PUT", path, b"x" * (MIB // 2), declared(MIB)),
    "a large body but one byte": lambda path: spell(
        "PUT", path, b"x" * (5 * MIB - 1), declared(5 * MIB)
    ),
    "a chunk without an end": lambda path: spell("PUT", path, b"5\r\nhello\r\n", CHUNKED),
    "half a chunk": lambda path: spell("PUT", path, b"%x\r\n" % MIB + b"x" * 1000, CHUNKED),
    "large chunks without an end": lambda path: spell(
        "PUT", path, chunked(b"x" * MIB, b"y" * MIB)[:-5], CHUNKED
    ),
    "half a form": lambda path: spell("POST", path, FORM_HEAD + b"x" * 1000, declared(MIB, FORM)),
    "half a large form": lambda path: spell(
        "POST", path, FORM_HEAD + b"x" * MIB, declared(2 * MIB, FORM)
    ),
    "a form but its end": lambda path: spell(
        "POST", path, FORM_HEAD + b"x" * MIB + b"\r\n--edge--\r", FORM | CHUNKED
    ),
}


@pytest.mark.parametrize("how", ["close", "reset", "finish_sending"])
@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_upload_leaves_nothing(
    server: Server, bucket: str, name: str, how: str
) -> None:
    with steady_descriptors(server):
        with server.connect() as connection:
            connection.send(UNFINISHED[name](f"/b/{bucket}/k"))
            with suppress(OSError):  # it may be refused already
                getattr(connection, how)()
            if how == "finish_sending":
                replies = connection.all_replies()
                assert [reply for reply in replies if reply.status < 400] == []
        server.check_clean(bucket)


def test_an_unfinished_replacement_leaves_the_old_blob(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"old")
    for name in ("half a small body", "a large body but one byte", "half a chunk"):
        with server.connect() as connection:
            connection.send(UNFINISHED[name](path))
            connection.reset()
    server.check_clean(bucket, ("k",))
    assert server.ask("GET", path).body == b"old"


def test_many_vanished_uploads_leave_nothing_open(server: Server, bucket: str) -> None:
    with steady_descriptors(server):
        for number in range(60):
            with server.connect() as connection:
                size = (1000, MIB, 4 * MIB)[number % 3]
                body = b"x" * (size - number - 1)
                connection.send(spell("PUT", f"/b/{bucket}/{number}", body, declared(size)))
                connection.reset()
        server.check_clean(bucket)


def test_a_client_that_never_reads_its_answer_has_stored_all_the_same(
    server: Server, bucket: str
) -> None:
    """The whole body was there: the upload counts, whoever hears of it."""
    for size in (10, 2 * MIB):
        with server.connect() as connection:
            connection.send(spell("PUT", f"/b/{bucket}/{size}", b"x" * size))
        path = f"/b/{bucket}/{size}"
        if server.is_hot:
            wait_until(lambda path=path: server.ask("HEAD", path).status == 200, path)  # type: ignore[misc]
    wait_until(lambda: not server.temporary(), "temporary files are left")


# Downloads


@pytest.fixture
def large(server: Server) -> str:
    """A blob that does not fit into socket buffers."""
    path = "/b/broken/large"
    if server.ask("HEAD", path).status != 200:
        assert server.ask("PUT", path, bytes(range(256)) * (20 * MIB // 256)).status == 201
    return path


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("read_bytes", [0, 1, 100_000, 6 * MIB])
def test_a_vanished_download_leaves_nothing_open(
    server: Server, large: str, how: str, read_bytes: int
) -> None:
    server.ask("GET", large, headers={"Range": "bytes=0-0"})
    with steady_descriptors(server):
        for headers in ({}, {"Range": "bytes=5-"}, {"Range": "bytes=0-9999999,15000000-"}):
            with server.connect() as connection:
                connection.send(spell("GET", large, headers=headers))
                if read_bytes:
                    connection.take(read_bytes)
                getattr(connection, how)()
    assert server.ask("GET", "/healthz").status == 200


def test_many_vanished_downloads_leave_nothing_open(server: Server, large: str) -> None:
    server.ask("GET", large, headers={"Range": "bytes=0-0"})
    threads = server.status("Threads")
    with steady_descriptors(server):
        connections = []
        for _ in range(50):
            connection = server.connect()
            connection.send(spell("GET", large) * 2)
            connections.append(connection)
        assert server.ask("GET", "/healthz").status == 200
        for number, connection in enumerate(connections):
            connection.reset() if number % 2 else connection.close()
    assert server.ask("GET", large).body[-256:] == bytes(range(256))
    assert server.status("Threads") <= threads + 32


def test_a_slow_reader_gets_every_byte(server: Server, large: str) -> None:
    with server.connect() as connection:
        connection.send(spell("GET", large))
        parts = [connection.take(MIB) for _ in range(3)]
        time.sleep(0.3)
        assert server.ask("GET", "/healthz").status == 200
        parts.append(connection.take(17 * MIB))  # and a little of the head
    assert b"".join(parts).partition(b"\r\n\r\n")[2].startswith(bytes(range(256)))


@pytest.fixture(scope="module")
def hasty(servers: Servers) -> Server:
    """Only the hot path watches how clients read; uvicorn waits for them without end."""
    return servers.shared(hot_path="true", idle_wait_s="1", head_wait_s="1", body_wait_s="1")


@pytest.fixture(scope="module")
def slow_food(hasty: Server) -> dict[str, bytes]:
    """Requests whose answers do not fit into the kernel's buffers."""
    hasty.ask("PUT", "/b/broken/large", bytes(256) * (20 * MIB // 256))
    hasty.ask("PUT", "/b/broken/small", bytes(100_000))
    about = {"Holdfast-Meta-A": "x" * 8000}
    with hasty.connect() as connection:
        for number in range(1000):
            assert connection.ask("PUT", f"/b/wordy/{number}", b"", about).status in {200, 201}
    return {
        "one stream": spell("GET", "/b/broken/large"),
        "many answers": spell("GET", "/b/broken/small") * 500,
        "a last answer": spell("GET", "/b/wordy?limit=1000", headers={"Connection": "close"}),
        "a last stream": spell("GET", "/b/broken/large", headers={"Connection": "close"}),
    }


def test_clients_that_read_nothing_are_let_go(hasty: Server, slow_food: dict[str, bytes]) -> None:
    with steady_descriptors(hasty), ExitStack() as stack:
        for raw in slow_food.values():
            connection = stack.enter_context(hasty.connect())
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.send(raw)
        wait_until(lambda: hasty.metric("holdfast_http_connections") <= 1, "some are still there")


def test_clients_that_read_slowly_get_all_of_it(hasty: Server, slow_food: dict[str, bytes]) -> None:
    """The kernel's buffers hold so much that nothing new is written for longer than the wait."""
    with ExitStack() as stack:
        connections = [stack.enter_context(hasty.connect()) for _ in range(2)]
        for connection, name in zip(connections, ("a last answer", "a last stream"), strict=True):
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.send(slow_food[name])
        lengths = [int(one.head()[1]["content-length"]) for one in connections]
        for _ in range(25):
            assert all(len(one.take(20_000)) == 20_000 for one in connections)
            time.sleep(0.1)
        assert [len(one.rest()) + 500_000 for one in connections] == lengths
    assert min(lengths) > 8_000_000


# Slow bodies


@pytest.fixture
def impatient(servers: Servers, way: str) -> Server:
    """A server that waits one second for the next bytes of a body."""
    return servers.shared(hot_path=way, idle_wait_s="1", head_wait_s="1", body_wait_s="1")


def test_a_body_that_does_not_come_is_not_waited_for(impatient: Server, bucket: str) -> None:
    names = ("no body", "half a small body", "half a MiB", "half a chunk", "half a form")
    with steady_descriptors(impatient):
        with ExitStack() as stack:
            waiting = {name: stack.enter_context(impatient.connect()) for name in names}
            for name, connection in waiting.items():
                connection.send(UNFINISHED[name](f"/b/{bucket}/k"))
            for name, connection in waiting.items():
                reply = connection.reply()
                assert (reply.status, reply.code) == (408, "timeout"), name
        impatient.check_clean(bucket)


def test_a_body_that_keeps_coming_is_waited_for(impatient: Server, bucket: str) -> None:
    with impatient.connect() as connection:
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=declared(6)))
        for _ in range(6):
            connection.send(b"x")
            time.sleep(0.3)
        assert connection.reply().status == 201


# A disk that is full


@pytest.fixture(scope="module", params=["true", "false"])
def narrow(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """A server whose files cannot grow over 20 MiB, which stands for a full disk."""
    return servers.narrow(f"fsize={20 * MIB}", hot_path=request.param)


@pytest.mark.parametrize("kind", ["length", "chunks", "form"])
def test_a_full_disk_is_said_and_nothing_is_left(narrow: Server, bucket: str, kind: str) -> None:
    path, size = f"/b/{bucket}/k", 25 * MIB
    raw = {
        "length": lambda: spell("PUT", path, b"x" * size),
        "chunks": lambda: spell("PUT", path, chunked(*[b"x" * MIB] * 25), CHUNKED),
        "form": lambda: spell("PUT", path, FORM_HEAD + b"x" * size + b"\r\n--edge--\r\n", FORM),
    }[kind]()
    with steady_descriptors(narrow):
        with narrow.connect() as connection:
            connection.try_send(raw)
            reply = connection.reply()
            assert (reply.status, reply.code) == (507, "storage_full")
        narrow.check_clean(bucket)
        assert narrow.ask("PUT", path, b"small").status == 201
        assert narrow.ask("GET", path).body == b"small"


def test_a_request_behind_a_failed_upload_is_not_lost(narrow: Server, bucket: str) -> None:
    """The connection closes, as it says; it never answers what it has not read."""
    raw = spell("PUT", f"/b/{bucket}/k", b"x" * (25 * MIB)) + spell("PUT", f"/b/{bucket}/l", b"x")
    with narrow.connect() as connection:
        connection.try_send(raw)
        first = connection.reply()
        assert first.status == 507
        if not first.closes:
            assert connection.reply().status == 201
    narrow.check_clean(bucket, () if first.closes else ("l",))
