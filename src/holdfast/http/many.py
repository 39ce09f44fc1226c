"""Many things in one request: lines of JSON, each with the bytes that it announces (docs/http.md).

The body is made while it is sent. The first window of a blob is verified before its line, so that
damage is mostly a line of its own; behind that, damage can only cut the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast import wire
from holdfast.core import limits
from holdfast.core.access import Scope
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, InvalidError
from holdfast.core.many import outcome
from holdfast.core.store import Span
from holdfast.http import route
from holdfast.http.message import SERVER_ERROR, WINDOW_BYTES, Answer, json_answer, log_failure
from holdfast.wire import Line, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from holdfast.core.store import Source
    from holdfast.depot.content import ContentDepot
    from holdfast.depot.depot import Depot
    from holdfast.http.message import Request
    from holdfast.http.route import Target
    from holdfast.wire import Found

HEAD = f"content-type: {wire.MANY_TYPE}\r\nx-content-type-options: nosniff\r\n".encode()
GATHER_BYTES = 256 * limits.KIB  # small frames travel together


class Opened(NamedTuple):
    """A blob whose bytes follow its line."""

    about: Found
    source: Source


class Doors(NamedTuple):
    """Let the caller in, for something that is only known once the body is read."""

    bucket: Callable[[Scope], Depot]
    content: Callable[[Scope], ContentDepot]


def answer(doors: Doors, request: Request, target: Target, body: bytes) -> Answer:
    """Answer a POST that is about many things; what it changes is durable when this returns.

    Raises:
        InvalidError, TooLargeError: the request is none.
    """
    if request.query:
        raise InvalidError("query parameter", request.query[:100].decode("latin-1"), "none here")
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise InvalidError("content-encoding", request.header(b"content-encoding"), "identity")
    if target.route == route.MISSING:
        missing = doors.content(Scope.READ).missing(wire.parse_hashes(body))
        return json_answer(200, wire.hashes_json(missing))
    if target.route == route.LISTING and _brings_many(request):
        items = wire.parse_items(body)
        stored = doors.bucket(Scope.WRITE).put_many(items)
        return _answer([item.key for item in items], stored)
    wanted = wire.parse_wanted(body)
    scope = Scope.DELETE if wanted.verb == wire.DELETE else Scope.READ
    found: Iterable[Found | Opened]
    if target.route == route.HASHES:
        found = _of_content(doors.content(scope), wanted)
    else:
        found = _of_bucket(doors.bucket(scope), wanted)
    return _answer(wanted.names, found)


def _brings_many(request: Request) -> bool:
    """Whether the body is not about names, but is lines with blobs behind them."""
    declared = request.headers.get(b"content-type", b"")
    return declared.partition(b";")[0].strip().lower() == wire.MANY_TYPE.encode()


def _answer(names: Sequence[str], found: Iterable[Found | Opened]) -> Answer:
    return Answer(200, HEAD, length=-1, parts=_gathered(_frames(names, found)))


def _of_bucket(bucket: Depot, wanted: Wanted) -> Iterable[Found | Opened]:
    if wanted.verb == wire.GET:
        opened = bucket.source_many(wanted.names)
        return (each if isinstance(each, BlobError) else Opened(*each) for each in opened)
    if wanted.verb == wire.HEAD:
        return bucket.head_many(wanted.names)
    return bucket.delete_many(wanted.names)


def _of_content(content: ContentDepot, wanted: Wanted) -> Iterator[Found | Opened]:
    """Do what is wanted with all that are digests, and say of the others that they are none."""
    parsed = [outcome(Digest.parse, name) for name in wanted.names]
    digests = [each for each in parsed if isinstance(each, Digest)]
    outcomes = iter(_of_digests(content, wanted.verb, digests))
    return (each if isinstance(each, BlobError) else next(outcomes) for each in parsed)


def _of_digests(
    content: ContentDepot, verb: str, digests: Sequence[Digest]
) -> Iterable[Found | Opened]:
    if verb == wire.DELETE:
        return content.delete_many(digests)
    if verb == wire.HEAD:
        sizes = zip(digests, content.stat_many(digests), strict=True)
        return (
            size if isinstance(size, BlobError) else BlobRef(name, size) for name, size in sizes
        )
    opened = zip(digests, content.source_many(digests), strict=True)
    return (
        each if isinstance(each, BlobError) else Opened(BlobRef(name, each.size_bytes), each)
        for name, each in opened
    )


def _frames(names: Sequence[str], found: Iterable[Found | Opened]) -> Iterator[bytes]:
    """Yield lines, and bytes behind them.

    Raises:
        BlobError: in the midst of a large blob.
    """
    for name, each in zip(names, found, strict=True):
        if isinstance(each, Opened):
            yield from _with_bytes(name, *each)
        else:
            yield _line(name, each)


def _with_bytes(name: str, about: Found, source: Source) -> Iterator[bytes]:
    with source:
        missing = source.size_bytes
        first = Span(0, min(missing, WINDOW_BYTES))
        refused = outcome(source.verify, first)
        if isinstance(refused, BlobError):
            yield _line(name, refused)
            return
        yield wire.line_json(Line(name, about, missing))
        while missing:
            chunk = source.read(limits.CHUNK_BYTES)
            if not chunk:
                raise CorruptError("a blob is shorter than its description says")
            yield bytes(chunk)
            missing -= len(chunk)


def _line(name: str, found: Found) -> bytes:
    if isinstance(found, BlobError) and found.status >= SERVER_ERROR:
        log_failure(found)
    return wire.line_json(Line(name, found, 0))


def _gathered(frames: Iterator[bytes]) -> Generator[bytes]:
    """Put small frames together; whatever was whole before an error is sent."""
    parts: list[bytes] = []
    size_bytes = 0
    try:
        for frame in frames:
            parts.append(frame)
            size_bytes += len(frame)
            if size_bytes >= GATHER_BYTES:
                yield b"".join(parts)
                parts, size_bytes = [], 0
    except BlobError:
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)
