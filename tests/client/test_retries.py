"""What a client does when the server or the network misbehaves: never a lie, never a second effect.

Each test scripts a real socket server and counts what reached it.
"""

import dataclasses
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from scripted_server import ScriptedServer, answer

from holdfast import wire
from holdfast.client import ClientOptions
from holdfast.core.bucket import CREATE_ONLY, Description, matches
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    FullError,
    InvalidError,
    PreconditionError,
    UnavailableError,
)

QUICK = ClientOptions(retry_wait_s=0.001, connect_timeout_s=2, idle_timeout_s=5)
Connect = Callable[..., Any]
Serve = Callable[..., ScriptedServer]

DATA = b"some bytes"
ENTRY = Entry("default", "k", Digest.of(DATA), len(DATA), "text/plain", 0, 0)
STORED = answer(201, wire.entry_json(ENTRY))
BUSY = answer(503, wire.error_json(UnavailableError("busy")), Retry_After="0")
BIG = bytes(range(256)) * 12_000  # over one window
BIG_TAG = f'"{Digest.of(BIG).hex()}"'


def blob(data: bytes = DATA, digest: Digest | None = None) -> bytes:
    return answer(200, data, ETag=f'"{(digest or Digest.of(data)).hex()}"')


def part(first: int, last: int, **headers: str) -> bytes:
    headers = {"ETag": BIG_TAG, "Content_Range": f"bytes {first}-{last}/{len(BIG)}"} | headers
    return answer(206, BIG[first : last + 1], **headers)


def test_a_busy_server_is_asked_again(connect: Connect, scripted: Serve) -> None:
    server = scripted(BUSY, BUSY, STORED)
    assert connect(server.url).put("k", DATA) == ENTRY
    assert [one.body for one in server.requests] == [DATA] * 3


def test_retries_are_bounded(connect: Connect, scripted: Serve) -> None:
    server = scripted(*[BUSY] * 9)
    with pytest.raises(UnavailableError, match="busy"):
        connect(server.url).get("k")
    assert len(server.requests) == QUICK.retries + 1


def test_a_server_that_asks_for_a_long_wait_is_not_asked_again(
    connect: Connect, scripted: Serve
) -> None:
    server = scripted(answer(503, Retry_After="3600"))
    with pytest.raises(UnavailableError) as caught:
        connect(server.url).get("k")
    assert caught.value.retry_after_s == 3600
    assert len(server.requests) == 1


def test_retry_after_is_waited_for(connect: Connect, scripted: Serve) -> None:
    server = scripted(answer(503, Retry_After="1"), blob())
    begin = time.monotonic()
    assert connect(server.url).get("k") == DATA
    assert time.monotonic() - begin >= 1


def test_what_can_be_read_once_is_sent_once(connect: Connect, scripted: Serve) -> None:
    server = scripted(BUSY, STORED)
    with pytest.raises(UnavailableError):
        connect(server.url).put("k", iter([DATA]))
    assert len(server.requests) == 1
    assert server.requests[0].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("action", [None, b"HTTP/1.1 garbage\r\n\r\n", answer(502)])
def test_an_unconditional_put_is_sent_again_when_nobody_knows(
    connect: Connect, scripted: Serve, action: bytes | None
) -> None:
    server = scripted(action, STORED)
    assert connect(server.url).put("k", DATA) == ENTRY
    assert len(server.requests) == 2


@pytest.mark.parametrize("when", [CREATE_ONLY, matches('"x"')])
@pytest.mark.parametrize("action", [None, answer(502)])
def test_a_conditional_put_is_not(
    connect: Connect, scripted: Serve, when: Any, action: bytes | None
) -> None:
    server = scripted(action, STORED)
    with pytest.raises(UnavailableError):
        connect(server.url).put("k", DATA, when=when)
    assert len(server.requests) == 1


def test_a_conditional_put_is_sent_again_when_the_server_says_it_did_nothing(
    connect: Connect, scripted: Serve
) -> None:
    server = scripted(BUSY, STORED)
    assert connect(server.url).put("k", DATA, when=CREATE_ONLY) == ENTRY


def test_a_copy_is_sent_again_and_a_move_is_not(connect: Connect, scripted: Serve) -> None:
    server = scripted(None, STORED, None, STORED)
    client = connect(server.url)
    assert client.copy("a", "k") == ENTRY
    with pytest.raises(UnavailableError):
        client.move("a", "k")
    assert len(server.requests) == 3


def test_a_delete_that_was_lost_counts_as_done_when_nothing_is_left(
    connect: Connect, scripted: Serve
) -> None:
    gone = answer(412, wire.error_json(PreconditionError("nothing there")))
    server = scripted(None, gone, gone)
    client = connect(server.url)
    assert client.delete("k") is True
    assert client.delete("k") is False


def test_a_full_disk_is_not_asked_again(connect: Connect, scripted: Serve) -> None:
    server = scripted(answer(507, wire.error_json(FullError("full"))))
    with pytest.raises(FullError):
        connect(server.url).put("k", DATA)
    assert len(server.requests) == 1


def test_nobody_there_is_unavailable(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"http://127.0.0.1:{port} does not answer"):
        connect(f"http://127.0.0.1:{port}").head("k")


def test_a_silent_server_is_given_up(connect: Connect, scripted: Serve) -> None:
    options = dataclasses.replace(QUICK, idle_timeout_s=0.2, retries=0)
    server = scripted(lambda connection: connection.recv(1) and None)
    with pytest.raises(UnavailableError):
        connect(server.url, options).get("k")


def test_an_answer_of_something_else_is_unavailable(connect: Connect, scripted: Serve) -> None:
    server = scripted(answer(200, b"<html>welcome</html>"))
    with pytest.raises(UnavailableError, match="not ours"):
        connect(server.url).head("k")


def test_a_redirect_is_not_followed(connect: Connect, scripted: Serve) -> None:
    server = scripted(answer(302, Location="http://127.0.0.1:1/"))
    with pytest.raises(InvalidError):
        connect(server.url).put("k", DATA)


def test_small_bytes_are_sent_with_their_digest(connect: Connect, scripted: Serve) -> None:
    server = scripted(STORED)
    connect(server.url).put("k", DATA)
    assert server.requests[0].headers["repr-digest"] == wire.repr_digest(Digest.of(DATA))


def test_a_server_that_stored_other_bytes_is_found_out(connect: Connect, scripted: Serve) -> None:
    server = scripted(STORED, STORED)
    with pytest.raises(CorruptError):
        connect(server.url).put("k", b"other bytes")
    with pytest.raises(CorruptError):
        connect(server.url).put("k", iter([b"other bytes"]))


def test_bytes_that_change_on_their_way_are_never_returned(
    connect: Connect, scripted: Serve
) -> None:
    bad = blob(b"sOme bytes", Digest.of(DATA))
    server = scripted(bad, bad)
    client = connect(server.url)
    with pytest.raises(CorruptError):
        client.get("k")
    with client.open("k") as file, pytest.raises(CorruptError):
        file.read()


def test_a_short_body_is_never_returned(connect: Connect, scripted: Serve) -> None:
    cut = blob()[:-3]
    server = scripted(cut, blob())
    assert connect(server.url).get("k") == DATA
    assert len(server.requests) == 2


def test_a_stream_goes_on_where_it_was_cut(connect: Connect, scripted: Serve) -> None:
    mib = 1024 * 1024
    cut = part(0, mib - 1)[: mib // 2]
    got = len(cut.partition(b"\r\n\r\n")[2])
    server = scripted(cut, part(got, got + 2 * mib - 1), part(got + 2 * mib, len(BIG) - 1))
    with connect(server.url).open("k") as file:
        assert file.read() == BIG
    assert [one.headers.get("if-match") for one in server.requests] == [None, BIG_TAG, BIG_TAG]
    assert server.requests[1].headers["range"].startswith(f"bytes={got}-")


def test_a_stream_that_never_goes_on_is_given_up(connect: Connect, scripted: Serve) -> None:
    server = scripted(part(0, 1023), *[part(1024, 2047)[:-1024]] * 9)
    with connect(server.url).open("k") as file, pytest.raises(UnavailableError):
        file.read()
    assert len(server.requests) == QUICK.retries + 2


@pytest.mark.parametrize(
    "second",
    [
        part(0, 1023),
        part(4096, 8191),
        part(1024, 2047, ETag='"' + "0" * 64 + '"'),
        answer(206, BIG[1024:2048], ETag=BIG_TAG),
        answer(206, BIG[1024:2048], ETag=BIG_TAG, Content_Range="bytes 1024-2047/*"),
    ],
)
def test_another_part_than_was_asked_is_refused(
    connect: Connect, scripted: Serve, second: bytes
) -> None:
    server = scripted(part(0, 1023), second)
    with connect(server.url).open("k") as file, pytest.raises(UnavailableError):
        file.read()


def test_a_blob_replaced_while_it_is_read_is_noticed(connect: Connect, scripted: Serve) -> None:
    replaced = answer(412, wire.error_json(PreconditionError("replaced")))
    server = scripted(part(0, 1023), replaced)
    with connect(server.url).open("k") as file, pytest.raises(PreconditionError):
        file.read()


def test_a_server_without_ranges_is_read_all_the_same(connect: Connect, scripted: Serve) -> None:
    whole = answer(200, BIG, ETag=BIG_TAG)
    server = scripted(whole, whole, whole)
    client = connect(server.url)
    with client.open("k") as file:
        file.seek(2_000_000)
        assert file.read(10) == BIG[2_000_000:2_000_010]
    assert len(server.requests) == 2


def test_errors_are_errors_of_the_core(connect: Connect, scripted: Serve) -> None:
    for url in ("ftp://x", "http://", "nonsense", "http://[", "http://x?y=1", "http://x:70000"):
        with pytest.raises(BlobError):
            connect(url)
    client = connect(scripted().url)
    for about in (Description("text/plain\r\nX: y"), Description(metadata={"a: b": "c"})):
        with pytest.raises(InvalidError):
            client.put("k", DATA, about=about)
