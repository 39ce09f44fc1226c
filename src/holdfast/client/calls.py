"""What each verb sends and how its answer is read: one table for both clients.

A `Call` is data and a pure function. `repeatable` says that sending it twice does what sending it
once does, so that it may be tried again when nobody knows whether the server acted.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote

from holdfast import wire
from holdfast.core.bucket import CREATE_ONLY, Description
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, GravePage, HashPage, Page, Stats, VersionPage
from holdfast.core.errors import (
    CorruptError,
    InvalidError,
    PreconditionError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.store import Span, clamp

T = TypeVar("T")

Headers = tuple[tuple[str, str], ...]

EMPTY: Headers = (("Content-Length", "0"),)
WAIT: Headers = (("Prefer", "wait=60"),)
"""Answer when it is durable, also on a server with `async_write`."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
LINE = re.compile(r"[\t\x20-\x7e]*")
ETAG = re.compile(r'"([0-9a-f]{64})"')
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


class Answer(NamedTuple):
    """What came back; header names in lower case. The body is empty while it is streamed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    repeated: bool = False
    """An earlier attempt may have reached the server."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and the meaning of its answer."""

    method: str
    target: str
    read: Callable[[Answer], T]
    headers: Headers = ()
    repeatable: bool = True
    expected: frozenset[int] = field(default=frozenset())
    """Statuses of 300 and above that `read` understands; all others are errors."""
    is_download: bool = False
    """The answer's body is a blob, whose progress is reported."""
    body: bytes = b""
    """JSON; of calls that bring a blob, the body is not here."""


class Head(NamedTuple):
    """What the head of a download says: the whole size, the name and what part follows."""

    size_bytes: int
    etag: str
    digest: Digest | None
    span: Span


def head(bucket: str, key: str, version: int | None = None) -> Call[Entry]:
    """Describe an entry."""
    target = wire.blob_path(bucket, key) + "/metadata" + query(version=_whole(version))
    return Call("GET", target, _read_entry)


def blob(bucket: str, key: str, version: int | None) -> str:
    """Spell where a blob is read."""
    return wire.blob_path(bucket, key) + query(version=_whole(version))


def deleted(bucket: str, prefix: str, cursor: str | None, limit: int) -> Call[GravePage]:
    """List deleted names."""
    target = wire.deleted_path(bucket) + query(prefix=prefix, cursor=cursor, limit=str(limit))
    return Call("GET", target, lambda answer: wire.parse_grave_page(answer.body))


def undelete(bucket: str, key: str, digest: Digest | None) -> Call[Entry]:
    """Bring a deleted name back; doing it again is a conflict."""
    asked = None if digest is None else str(digest)
    target = wire.kept_path("undelete", bucket, key) + query(digest=asked)
    return Call("POST", target, _read_entry, headers=EMPTY, repeatable=False)


def versions(bucket: str, key: str, cursor: str | None, limit: int) -> Call[VersionPage]:
    """List versions."""
    target = wire.kept_path("versions", bucket, key) + query(cursor=cursor, limit=str(limit))
    return Call("GET", target, lambda answer: wire.parse_version_page(answer.body))


def restore(bucket: str, key: str, version: int, when: Conditions) -> Call[Entry]:
    """Point a name to one of its versions; doing it again makes one more."""
    target = wire.kept_path("restore", bucket, key) + query(version=_whole(version))
    headers = EMPTY + conditional(when)
    return Call("POST", target, _read_entry, headers=headers, repeatable=False)


def page(bucket: str, prefix: str, delimiter: str, cursor: str | None, limit: int) -> Call[Page]:
    """List entries."""
    target = wire.bucket_path(bucket) + query(
        prefix=prefix, delimiter=delimiter, cursor=cursor, limit=str(limit)
    )
    return Call("GET", target, lambda answer: wire.parse_page(answer.body))


def hashes(cursor: str | None, limit: int) -> Call[HashPage]:
    """List digests."""
    target = "/blobs" + query(cursor=cursor, limit=str(limit))
    return Call("GET", target, lambda answer: wire.parse_hash_page(answer.body))


def stats() -> Call[Stats]:
    """Read the counters."""
    return Call("GET", "/stats", lambda answer: wire.parse_stats(answer.body))


def size_of(digest: Digest) -> Call[int]:
    """Ask for the size of a blob."""
    return Call("HEAD", wire.hash_path(digest), lambda answer: read_head(answer).size_bytes)


def verified_at(digest: Digest) -> Call[datetime | None]:
    """Ask when a blob was last verified."""
    return Call("HEAD", wire.hash_path(digest), _read_verified_at)


def get(target: str, span: Span | None) -> Call[bytes]:
    """Read a blob, or a part of it, into memory."""
    if span is None:
        return Call("GET", target, _read_whole, is_download=True)
    return Call(
        "GET",
        target,
        lambda answer: _read_span(answer, span),
        headers=(range_header(span),),
        expected=frozenset({UnsatisfiableError.status}),
        is_download=True,
    )


def window(target: str, span: Span, etag: str | None) -> Call[Head]:
    """Begin to read a part of a blob, of the version that has `etag`."""
    headers: Headers = (range_header(span),)
    if etag is not None:
        headers += (("If-Match", etag),)
    return Call("GET", target, read_head, headers=headers)


def put(
    bucket: str, key: str, about: Description, when: Conditions, digest: Digest | None
) -> Call[Entry]:
    """Store bytes, of which `digest` is known beforehand or not."""
    headers = _described(about) + conditional(when) + WAIT
    if digest is not None:
        headers += (("Repr-Digest", wire.repr_digest(digest)),)
    return Call(
        "PUT",
        wire.blob_path(bucket, key),
        _read_entry,
        headers=headers,
        repeatable=when == NO_CONDITIONS,
    )


def put_hash(digest: Digest) -> Call[None]:
    """Store bytes under their digest."""
    return Call("PUT", wire.hash_path(digest), lambda _: None)


def ask_hash(digest: Digest) -> Call[bool]:
    """Put without the bytes: True when the server has them, and now holds them for us too.

    The server answers 200 before it looks at the body when the blob is there, and 422 when it is
    not, because an empty body is not the blob.
    """
    return Call(
        "PUT",
        wire.hash_path(digest),
        lambda answer: answer.status < 300,
        headers=EMPTY,
        expected=frozenset({422}),
    )


def delete(bucket: str, key: str, when: Conditions) -> Call[bool]:
    """Remove a name; `If-Match: *` makes the server say whether it was there."""
    target = wire.blob_path(bucket, key)
    if when != NO_CONDITIONS:
        return Call("DELETE", target, lambda _: True, headers=conditional(when), repeatable=False)
    return Call(
        "DELETE",
        target,
        lambda answer: answer.status < 300 or answer.repeated,
        headers=(("If-Match", "*"),),
        expected=frozenset({PreconditionError.status}),
    )


def delete_hash(digest: Digest) -> Call[None]:
    """Let go of a blob on the content face."""
    return Call("DELETE", wire.hash_path(digest), lambda _: None)


def transfer(
    header: str, source: tuple[str, str], target: tuple[str, str], when: Conditions
) -> Call[Entry]:
    """Copy or move a name, as `header` says."""
    return Call(
        "PUT",
        wire.blob_path(*target),
        _read_entry,
        headers=(
            (header, wire.source_name(*source)),
            *EMPTY,
            *conditional(when),
        ),
        repeatable=when == NO_CONDITIONS and header == wire.COPY_FROM,
    )


def query(**parameters: str | None) -> str:
    """Spell a query; what is None or empty is left out."""
    pairs = [f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value]
    return "?" + "&".join(pairs) if pairs else ""


def conditional(when: Conditions) -> Headers:
    """Spell conditions as headers."""
    if when == CREATE_ONLY:
        return (("If-None-Match", "*"),)
    names = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
    for value in when:
        if value is not None and not LINE.fullmatch(value):
            raise InvalidError("condition", value[:100], "printable ASCII")
    return tuple(
        (name, value) for name, value in zip(names, when, strict=True) if value is not None
    )


def range_header(span: Span) -> tuple[str, str]:
    """Spell a span; an empty one asks for one byte, because HTTP cannot ask for none."""
    return ("Range", f"bytes={span.offset}-{span.offset + max(1, span.size_bytes) - 1}")


def read_head(answer: Answer) -> Head:
    """Read the head of a download of the whole or of one part.

    Raises:
        UnavailableError: what answers is no holdfast server.
    """
    etag = answer.headers.get("etag", "")
    match = ETAG.fullmatch(etag)
    digest = Digest.parse(match[1]) if match else None
    if answer.status == 206:
        part = CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        if part is None or int(part[1]) > int(part[2]):
            raise UnavailableError("the server's answer is not ours: no Content-Range")
        first, last, total = map(int, part.groups())
        return Head(total, etag, digest, Span(first, last - first + 1))
    length = answer.headers.get("content-length", "")
    if answer.status != 200 or not length.isdecimal():
        raise UnavailableError("the server's answer is not ours: no Content-Length")
    return Head(int(length), etag, digest, Span(0, int(length)))


def verify(data: bytes, expected: Digest | None) -> None:
    """Compare downloaded bytes with what the server calls them; CorruptError when they differ."""
    if expected is not None:
        verify_digest(Digest.of(data), expected)


def verify_digest(actual: Digest, expected: Digest) -> None:
    """Compare the digest of moved bytes with what the server calls them."""
    if actual != expected:
        raise CorruptError(
            "the bytes changed on their way", expected=str(expected), actual=str(actual)
        )


def _read_whole(answer: Answer) -> bytes:
    verify(answer.body, read_head(answer).digest)
    return answer.body


def _read_verified_at(answer: Answer) -> datetime | None:
    said = answer.headers.get(wire.VERIFIED_AT.lower())
    return None if said is None else wire.parse_moment(said)


def _read_span(answer: Answer, span: Span) -> bytes:
    if answer.status == UnsatisfiableError.status:
        error = wire.parse_error(answer.status, answer.headers, answer.body)
        if isinstance(error, UnsatisfiableError) and error.size_bytes == span.offset:
            return b""
        raise error
    part = read_head(answer)
    if answer.status == 200 or part.span.size_bytes == part.size_bytes:
        verify(answer.body, part.digest)
    wanted = clamp(span, part.size_bytes)
    start = wanted.offset - part.span.offset
    data = answer.body[start : start + wanted.size_bytes]
    if start < 0 or len(data) != wanted.size_bytes:
        raise UnavailableError("the server sent another part than was asked")
    return data


def _described(about: Description) -> Headers:
    headers: Headers = ()
    if about.content_type is not None:
        if not LINE.fullmatch(about.content_type):
            raise InvalidError("content type", about.content_type[:100], "printable ASCII")
        headers += (("Content-Type", about.content_type),)
    if about.expire_s is not None:
        headers += ((wire.EXPIRE_IN, str(about.expire_s)),)
    for name in about.metadata or {}:
        if not TOKEN.fullmatch(name):
            raise InvalidError("metadata name", name[:100], "letters, digits and -_.")
    spelled = wire.metadata_headers(about.metadata or {})
    return headers + tuple((name.decode(), value.decode()) for name, value in spelled)


def _read_entry(answer: Answer) -> Entry:
    return wire.parse_entry(answer.body)


def _whole(version: int | None) -> str | None:
    return None if version is None else str(version)
