"""Many things from a server that breaks off, lies or sends garbage: each outcome is told.

The server is scripted; what it was asked is looked at.
"""

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer, answer

from holdfast import wire
from holdfast.client.many import LINE_BYTES_MAX, Lines, Retrieval
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
)
from holdfast.core.limits import KIB
from holdfast.wire import Line

Connect = Callable[..., Any]
Serve = Callable[..., ScriptedServer]

BLOBS = {"a": b"first", "b": b"", "c": b"third\n{}" * 100, "d": b"fourth"}
RETRIES = 3


def entry(key: str, data: bytes) -> Entry:
    return Entry("default", key, Digest.of(data), len(data), "text/plain", 0, 0)


def frame(key: str, data: bytes, body: bytes | None = None) -> bytes:
    body = data if body is None else body
    return wire.line_json(Line(key, entry(key, data), len(body))) + body


def refusal(name: str, error: BlobError) -> bytes:
    return wire.line_json(Line(name, error, 0))


FRAMES = {key: frame(key, data) for key, data in BLOBS.items()}
WHOLE = b"".join(FRAMES.values())


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks if one)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + end


def cut(*chunks: bytes) -> bytes:
    """An answer that breaks off."""
    return chunked(*chunks, end=b"")


def asked(server: ScriptedServer) -> list[list[str]]:
    return [json.loads(request.body)["get"] for request in server.requests]


def kinds(outcomes: Any) -> list[type]:
    return [type(each) for each in outcomes]


def test_an_answer_that_breaks_off_is_asked_for_again_from_there(
    connect: Connect, scripted: Serve
) -> None:
    broken = WHOLE.index(b"third") + 5
    server = scripted(cut(WHOLE[:10]), cut(WHOLE[:broken]), chunked(FRAMES["c"], FRAMES["d"]))
    assert list(connect(server.url).get_many(BLOBS)) == list(BLOBS.values())
    assert asked(server) == [list("abcd"), list("abcd"), list("cd")]


def test_a_blob_that_never_comes_whole_costs_itself_alone(
    connect: Connect, scripted: Serve
) -> None:
    """As one with damage deep inside does, before which a server hangs up each time."""
    half = FRAMES["c"][:-50]
    server = scripted(
        cut(FRAMES["a"], FRAMES["b"], half), *[cut(half)] * RETRIES, chunked(FRAMES["d"])
    )
    outcomes = list(connect(server.url).get_many(BLOBS))
    assert kinds(outcomes) == [bytes, bytes, UnavailableError, bytes]
    assert asked(server)[-1] == ["d"]


def test_a_server_that_is_gone_is_said_of_each(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = connect(f"http://127.0.0.1:{port}")
    for verb in (client.get_many, client.head_many, client.delete_many):
        assert kinds(verb(BLOBS)) == [UnavailableError] * 4
    digests = [Digest.of(data) for data in BLOBS.values()]
    for verb in (client.content.get_many, client.content.stat_many, client.content.delete_many):
        assert kinds(verb(digests)) == [UnavailableError] * 4
    assert kinds(client.put_many(BLOBS.items())) == [UnavailableError] * 4
    with pytest.raises(UnavailableError):
        client.content.missing(digests)


def test_bytes_that_changed_on_their_way_are_an_error(connect: Connect, scripted: Serve) -> None:
    changed = frame("b", b"right", b"wrong")
    server = scripted(chunked(FRAMES["a"], changed, FRAMES["c"], FRAMES["d"]))
    assert kinds(connect(server.url).get_many(BLOBS)) == [bytes, CorruptError, bytes, bytes]
    assert len(server.requests) == 1


def test_another_blob_than_was_asked_for_is_no_answer(connect: Connect, scripted: Serve) -> None:
    right, wrong = Digest.of(b"right"), Digest.of(b"wrong")
    line = wire.line_json(Line(str(right), BlobRef(wrong, 5), 5)) + b"wrong"
    server = scripted(chunked(line))
    assert kinds(connect(server.url).content.get_many([right])) == [UnavailableError]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\n", b"{}\n", b"null\n", b"garbage\n" + WHOLE, b"\xff\n", b"<html>" * 100_000),
        b'{"name":"a","body_bytes":-1}\n',
        b'{"name":"a","body_bytes":0}\n',
        b'{"name":"a","body_bytes":0,"digest":"nonsense","size_bytes":0}\n',
        b'{"name":"a","body_bytes":0,"deleted":true}\n',
        FRAMES["b"] + FRAMES["a"],
        refusal("b", NotFoundError("no such key")),
    ],
    ids=range(13),
)
def test_garbage_is_no_answer(connect: Connect, scripted: Serve, body: bytes) -> None:
    server = scripted(*[chunked(body)] * (5 * (RETRIES + 1)))
    outcomes = list(connect(server.url).get_many(BLOBS))
    assert kinds(outcomes) == [UnavailableError] * 4
    server = scripted(*[answer(200, body)] * 9)
    if not body.startswith(b'{"name":"a","body_bytes":0,"deleted"'):
        assert kinds(connect(server.url).delete_many(BLOBS)) == [UnavailableError] * 4


def test_errors_of_the_whole_request_are_said_of_each(connect: Connect, scripted: Serve) -> None:
    refused = answer(413, wire.error_json(TooLargeError("names of one request", 2, "names")))
    server = scripted(refused, refused, refused)
    client = connect(server.url)
    for verb in (client.get_many, client.head_many, client.delete_many):
        outcomes = list(verb(BLOBS))
        assert kinds(outcomes) == [TooLargeError] * 4
        assert outcomes[0].limit == 2


def test_errors_come_with_their_facts(connect: Connect, scripted: Serve) -> None:
    corrupt = refusal("b", CorruptError("a chunk is damaged", digest="x", offset=7))
    server = scripted(chunked(FRAMES["a"], corrupt, refusal("c", InvalidError("key", "c", "d"))))
    _, damaged, invalid = connect(server.url).get_many("abc")
    assert (damaged.message, damaged.facts["offset"]) == ("a chunk is damaged", 7)
    assert (invalid.facts["what"], invalid.facts["allowed"]) == ("key", "d")


def test_a_deletion_that_was_repeated_counts(connect: Connect, scripted: Serve) -> None:
    gone = wire.line_json(Line("a", found=False, body_bytes=0)) + refusal("b", NotFoundError("?"))
    server = scripted(None, answer(200, gone))
    deleted, missing = connect(server.url).delete_many("ab")
    assert deleted is True
    assert isinstance(missing, NotFoundError)
    server = scripted(answer(200, gone))
    assert connect(server.url).delete_many("ab")[0] is False


# The parts without any socket.


@given(st.lists(st.integers(1, 200), max_size=20))
def test_it_does_not_matter_how_an_answer_is_cut(steps: list[int]) -> None:
    lines, found, at = Lines(), [], 0
    for step in [*steps, len(WHOLE)]:
        found += [body for _, body in lines.feed(WHOLE[at : at + step])]
        at += step
    assert found == list(BLOBS.values())


@given(st.binary(max_size=300))
def test_no_bytes_make_more_of_an_answer_than_an_error(data: bytes) -> None:
    retrieval = Retrieval("/blob", list(BLOBS), 0)
    outcomes = [*retrieval.feed(data), *retrieval.refused(UnavailableError("end"))]
    assert kinds(outcomes) == [UnavailableError] * 4


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_byte_that_changed_is_never_taken_for_the_blob(at: int, mask: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= mask
    retrieval = Retrieval("/blob", list(BLOBS), 0)
    outcomes = [*retrieval.feed(bytes(damaged)), *retrieval.refused(UnavailableError("end"))]
    for outcome, data in zip(outcomes, BLOBS.values(), strict=True):
        assert outcome == data or isinstance(outcome, BlobError)


def test_a_line_has_a_bound() -> None:
    lines = Lines()
    for _ in range(LINE_BYTES_MAX // KIB):
        assert list(lines.feed(b"x" * KIB)) == []
    with pytest.raises(UnavailableError):
        list(lines.feed(b"x"))
