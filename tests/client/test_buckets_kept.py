"""What was deleted or replaced, and events, on every way to a bucket."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from scripted_server import ScriptedServer

from holdfast.client import ClientOptions
from holdfast.core.bucket import Description, matches
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CompactedError,
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.policy import Policy
from holdfast.core.store import Span
from holdfast.core.stream import NOW, Cursor, Kind

UPLOADED, DELETED = Kind.UPLOADED, Kind.DELETED
LARGE = bytes(range(256)) * 5000
KEYS = ["plain", "a/../b", "/lead", "a//b", "x/metadata", "\u00fc 100%?#&", "u\u0308", "k" * 1024]

Options = Callable[..., Any]


@pytest.fixture
def kept(bucket: Any, request: pytest.FixtureRequest) -> Any:
    """A bucket that keeps what is deleted and what is replaced."""
    policy = Policy(undelete_s=1000, versions=3)
    if "depot" in request.node.callspec.params["bucket"]:
        request.getfixturevalue("depot").bucket(bucket.name).set_policy(policy)
    else:
        url = request.getfixturevalue("url")
        body = msgspec.json.encode(policy)
        assert httpx.put(f"{url}/admin/policies/{bucket.name}", content=body).status_code == 200
    return bucket


def listed(page: Callable[..., Any], member: str) -> Iterator[Any]:
    cursor = None
    while True:
        found = page(cursor=cursor, limit=2)
        yield from getattr(found, member)
        cursor = found.next
        if cursor is None:
            return
        assert len(getattr(found, member)) == 2


@pytest.mark.parametrize("key", KEYS)
def test_a_deleted_name_comes_back_as_it_was(kept: Any, key: str) -> None:
    entry = kept.put(key, key.encode(), about=Description("text/odd", {"n": "Z\u00fcrich"}))
    assert kept.delete(key)
    (grave,) = kept.deleted().graves
    assert grave.entry == entry
    assert 0 < grave.until_us - grave.deleted_us == 1_000_000_000
    assert kept.undelete(key) == entry
    assert (kept.get(key), kept.head(key)) == (key.encode(), entry)
    assert kept.deleted().graves == []
    with pytest.raises(ConflictError):
        kept.undelete(key)


def test_what_was_never_there_does_not_come_back(kept: Any) -> None:
    with pytest.raises(NotFoundError):
        kept.undelete("absent")
    for key in ("", "k" * 1025, "a\nb", "\udcff"):
        for verb in (kept.undelete, kept.versions, lambda key: kept.restore(key, 0)):
            with pytest.raises(InvalidError):
                verb(key)


def test_deleted_names_come_in_pages_by_prefix(kept: Any) -> None:
    keys = sorted(f"{folder}/{number}" for folder in "ab" for number in range(5))
    for key in keys:
        kept.put(key, b"x")
    kept.delete_many(keys)
    assert [one.entry.key for one in listed(kept.deleted, "graves")] == keys
    assert [one.entry.key for one in kept.deleted(prefix="b/").graves] == keys[5:]
    with pytest.raises(InvalidError):
        kept.deleted(limit=0)
    with pytest.raises(InvalidError):
        kept.deleted(cursor="nonsense?")


def test_versions_are_listed_and_read(kept: Any) -> None:
    bodies = [b"zero", LARGE, b"two", b"three"]
    entries = [kept.put("k ?", body) for body in bodies]
    assert list(listed(lambda **page: kept.versions("k ?", **page), "entries")) == entries[::-1]
    for number, (entry, body) in enumerate(zip(entries, bodies, strict=True)):
        assert kept.head("k ?", version=number) == entry
        assert kept.get("k ?", version=number) == body
        assert kept.get("k ?", Span(1, 3), version=number) == body[1:4]
        with kept.open("k ?", version=number) as file:
            assert file.seek(2) == 2
            assert file.read() == body[2:]
    with pytest.raises(UnsatisfiableError):
        kept.get("k ?", Span(5, 1), version=0)


def test_a_version_becomes_what_the_name_is(kept: Any) -> None:
    first, second = kept.put("k", b"one"), kept.put("k", b"two")
    with pytest.raises(PreconditionError):
        kept.restore("k", 0, when=matches(first.etag))
    restored = kept.restore("k", 0, when=matches(second.etag))
    assert (restored.version, restored.digest) == (2, first.digest)
    assert kept.get("k") == b"one"
    assert kept.get("k", version=1) == b"two"


def test_a_version_that_is_not_there_is_gone_or_never_was(bucket: Any) -> None:
    bucket.put("k", b"one")
    bucket.put("k", b"two")
    verbs: list[Callable[[str, int], Any]] = [
        lambda key, version: bucket.get(key, version=version),
        lambda key, version: bucket.open(key, version=version),
        lambda key, version: bucket.head(key, version=version),
        bucket.restore,
    ]
    for verb in verbs:
        with pytest.raises(GoneError):
            verb("k", 0)
        for key, version in (("k", 2), ("absent", 0)):
            with pytest.raises(NotFoundError):
                verb(key, version)
        for version in (-1, 1 << 64):
            with pytest.raises(InvalidError):
                verb("k", version)
    with pytest.raises(NotFoundError):
        bucket.versions("absent")


@pytest.mark.parametrize("rest", [b"", LARGE], ids=["small", "large"])
def test_a_blob_without_a_name_gets_one(bucket: Any, rest: bytes) -> None:
    data = bucket.name.encode() + rest
    lost = bucket.put("k", data).digest
    bucket.put("k", b"other")
    with pytest.raises(NotFoundError):
        bucket.content.get(lost)
    with pytest.raises(ConflictError):
        bucket.undelete("k", digest=lost)
    entry = bucket.undelete("found ?", digest=lost)
    assert (entry.key, entry.digest, entry.version) == ("found ?", lost, 0)
    assert bucket.get("found ?") == data
    with pytest.raises(NotFoundError):
        bucket.undelete("nothing", digest=Digest.of(b"never stored" + data))
    with pytest.raises(InvalidError):
        bucket.undelete("", digest=lost)


# Events


def beginning(bucket: Any) -> Cursor:
    """Where the store stands."""
    with bucket.events(NOW) as reader:
        assert list(reader) == []
        cursor = reader.cursor
    assert isinstance(cursor, Cursor)
    assert cursor != NOW
    return cursor


def test_events_are_read_in_order_from_any_place_on(kept: Any) -> None:
    begin = beginning(kept)
    entry = kept.put("a ?", b"x")
    other = kept.bucket(f"{kept.name}-other")
    other.put("z", b"other")
    kept.move("a ?", "b")
    kept.delete("b")
    back = kept.undelete("b")
    events = list(kept.events(begin))
    assert [(event.kind, event.key) for event in events] == [
        (UPLOADED, "a ?"),
        (DELETED, "a ?"),
        (UPLOADED, "b"),
        (DELETED, "b"),
        (UPLOADED, "b"),
    ]
    assert {event.bucket for event in events} == {kept.name}
    assert (events[0].entry, events[-1].entry) == (entry, back)
    for number, event in enumerate(events, 1):
        assert list(kept.events(event.cursor)) == events[number:]
    everywhere = kept.events(begin, all_buckets=True)
    assert [event.key for event in everywhere] == ["a ?", "z", "a ?", "b", "b", "b"]
    assert list(kept.events(everywhere.cursor, all_buckets=True)) == []
    assert [event.key for event in kept.events(begin, prefix="a ?")] == ["a ?", "a ?"]
    assert len(list(kept.events())) == len(events)


def test_the_cursor_is_behind_what_was_given(bucket: Any) -> None:
    begin = beginning(bucket)
    for number in range(250):
        bucket.put(f"{number}", b"x")
    with bucket.events(begin) as reader:
        for number in range(120):
            event = next(reader)
            assert (event.key, reader.cursor) == (f"{number}", event.cursor)
        cursor = reader.cursor
    assert [event.key for event in bucket.events(cursor)] == [f"{n}" for n in range(120, 250)]


def test_a_reader_waits_for_what_is_to_come(bucket: Any) -> None:
    with bucket.events(beginning(bucket), wait_s=30) as reader:
        for number in range(3):
            later = threading.Timer(0.2, bucket.put, (f"{number}", b"x"))
            later.start()
            assert next(reader).key == f"{number}"
            later.join()
    assert list(reader) == []


def test_a_reader_ends_when_nothing_came_for_its_time(bucket: Any) -> None:
    begin = beginning(bucket)
    began_s = time.monotonic()
    assert list(bucket.events(begin, wait_s=1)) == []
    assert 0.9 < time.monotonic() - began_s < 5


def test_a_cursor_of_another_store_is_refused(bucket: Any) -> None:
    for cursor in (Cursor(10**9), Cursor(10**25)):
        with pytest.raises(InvalidError):
            list(bucket.events(cursor))
    with pytest.raises(InvalidError):
        list(bucket.events(wait_s=-1))


# Servers that misbehave


def line(**members: object) -> bytes:
    return json.dumps(members).encode() + b"\n"


def told(key: str, cursor: str) -> bytes:
    digest = str(Digest.of(b"x"))
    return line(kind="deleted", cursor=cursor, revision=1, bucket="default", key=key, digest=digest)


def chunked(*chunks: bytes, ends: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nHoldfast-Cursor: 3\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
    return head + b"Connection: close\r\n\r\n" + body + (b"0\r\n\r\n" if ends else b"")


MARK = line(kind="mark", cursor="9")


def test_a_broken_stream_is_read_on_from_its_cursor(
    connect: Callable[..., Any], scripted: Callable[..., ScriptedServer]
) -> None:
    first = told("a", "5") + told("b", "6")
    server = scripted(
        chunked(first[:20], first[20:], told("half", "7")[:30], ends=False),
        chunked(told("c", "7")),
        chunked(ends=False),
        chunked(told("d", "8"), line(kind="news", cursor="9"), MARK),
    )
    reader = connect(server.url).events()
    assert [event.key for event in reader] == ["a", "b", "c", "d"]
    assert reader.cursor == Cursor(9)
    asked = [request.line.split()[1].partition("?")[2] for request in server.requests]
    assert [query.partition("&")[0] for query in asked] == [
        "bucket=default",
        "from=6",
        "from=7",
        "from=7",
    ]


def test_a_stream_that_never_holds_is_given_up_and_can_be_tried_again(
    connect: Callable[..., Any], scripted: Callable[..., ScriptedServer]
) -> None:
    options = ClientOptions(retries=2, retry_wait_s=0.001)
    broken = [chunked(ends=False)] * 3
    server = scripted(*broken, chunked(told("a", "5"), MARK))
    reader = connect(server.url, options).events(Cursor(4))
    with pytest.raises(UnavailableError):
        next(reader)
    assert [event.key for event in reader] == ["a"]


@pytest.mark.parametrize("is_begun", [False, True])
def test_history_that_is_gone_is_told(
    connect: Callable[..., Any], scripted: Callable[..., ScriptedServer], *, is_begun: bool
) -> None:
    error = {
        "code": "compacted",
        "message": "history begins at revision 8",
        "retryable": False,
        "oldest": 8,
    }
    body = json.dumps({"error": error}).encode()
    head = b"HTTP/1.1 410 Gone\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    begun = chunked(told("a", "5"), line(kind="error", error=error))
    server = scripted(begun if is_begun else head + body, head + body)
    found: list[str] = []

    def read() -> None:
        found.extend(event.key for event in connect(server.url).events(Cursor(4)))

    with pytest.raises(CompactedError) as caught:
        read()
    assert caught.value.oldest == 8


@pytest.mark.parametrize("rubbish", [b"<html>\n", b"{}\n", b"[" * 300_000, b'{"kind":"mark"}\n'])
def test_what_is_no_stream_of_events_is_said(
    connect: Callable[..., Any], scripted: Callable[..., ScriptedServer], rubbish: bytes
) -> None:
    server = scripted(*[chunked(rubbish)] * 9)
    with pytest.raises(BlobError):
        list(connect(server.url, ClientOptions(retries=0)).events())
