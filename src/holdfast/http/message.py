"""Requests and answers as values, between the two ways in (protocol.py, app.py) and the faces."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from holdfast import wire
from holdfast.core import events
from holdfast.core.bucket import Description
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    InvalidError,
    MethodError,
    QuotaError,
    RateError,
    UnauthenticatedError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.limits import MIB
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.rates import BYTES
from holdfast.core.store import Span

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from holdfast.core.access import Caller
    from holdfast.core.digest import Digest
    from holdfast.core.store import Source
    from holdfast.http.feed import Feed
    from holdfast.http.meters import Bill

EXPIRE_IN = wire.EXPIRE_IN.lower().encode()
DIGITS_MAX = 12
CODED_TAG = re.compile(r'"([0-9a-f]{64})-(?:zstd|gzip)"')
CONDITIONAL = frozenset(
    (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range")
)
VERSIONS = ("1.1", "1.0")
DIGESTS = frozenset((b"content-digest", b"repr-digest", b"digest"))
SERVER_ERROR = 500
FORM = b"application/x-www-form-urlencoded"
JSON_HEAD = b"content-type: application/json\r\nx-content-type-options: nosniff\r\n"
WINDOW_BYTES = 4 * MIB  # of a stream: verified, then sent
CHALLENGE = (
    b'www-authenticate: Bearer realm="holdfast", Basic realm="holdfast", charset="UTF-8"\r\n'
)
CLOSE = b"connection: close\r\n\r\n"
KEEP_OLD = b"connection: keep-alive\r\n\r\n"  # HTTP/1.0 must be told
HEAD_END = b"\r\n"
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Request(NamedTuple):
    """One request without its body; header names are in lower case, repeated ones are joined."""

    method: str
    path: bytes
    """As it came, percent-encoded."""
    query: bytes
    headers: Mapping[bytes, bytes]
    address: str
    """Where it comes from."""
    bill: Bill | None = None
    """What its bytes are charged to, where they are counted."""
    caller: Caller | None = None
    """Who the gate has found to send it, by its key or its signed URL; it may be asked again."""

    def found(self, bill: Bill | None, caller: Caller | None) -> Request:
        """The same, with what was found out of it."""
        sent = self.method, self.path, self.query, self.headers, self.address
        return Request(*sent, bill, caller)

    def charge(self, size_bytes: int) -> None:
        """Count bytes of a body, this way or back."""
        if self.bill is not None:
            self.bill.spend(size_bytes)

    def header(self, name: bytes) -> str | None:
        """One header as text; bytes over 127 are read as Latin-1."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


class Stream(NamedTuple):
    """A body that is sent in parts: bytes as they are, spans from the source."""

    source: Source
    parts: Sequence[bytes | Span]

    def verify_first(self, *, wait: bool) -> bool:
        """Verify what is sent first, while the answer can still become an error.

        Without waiting, False says that a disk is needed (see `Source.verify`).

        Raises:
            CorruptError: it is damaged.
        """
        first = next(part for part in self.parts if isinstance(part, Span))
        size_bytes = min(first.size_bytes, WINDOW_BYTES)
        return self.source.verify(Span(first.offset, size_bytes), wait=wait)


@dataclass(slots=True)
class Answer:
    """One answer; `head` holds whole header lines, without those of the connection."""

    status: int
    head: bytes
    body: bytes = b""
    stream: Stream | None = None
    length: int | None = None
    """Content-Length where it is not that of `body`; negative for none (204, 304)."""
    digest: Digest | None = None
    """Of the whole blob, when `body` is just that, in some coding."""
    coding: str = ""
    parts: Generator[bytes] | None = None
    """A body that is made while it is sent, by the app alone; each step may wait for a disk."""

    feed: Feed | None = None
    """Events, which the app tells as they happen."""

    @property
    def content_length(self) -> bytes:
        """The header line of the length."""
        if self.length is None:
            return b"content-length: %d\r\n" % len(self.body)
        return b"" if self.length < 0 else b"content-length: %d\r\n" % self.length

    @property
    def sent_bytes(self) -> int:
        """How large a body it announces."""
        return len(self.body) if self.length is None else max(0, self.length)

    def spell(self, common_head: bytes, version: str, *, keep: bool) -> bytes:
        """Write the head of the answer as it goes over the wire."""
        end = CLOSE if not keep else HEAD_END if version == "1.1" else KEEP_OLD
        start = STATUS_LINES[self.status]
        return b"".join((start, common_head, self.head, self.content_length, end))

    def close(self) -> None:
        """Let go of the source, sent or not."""
        if self.stream is not None:
            self.stream.source.close()
        if self.parts is not None:
            self.parts.close()


def json_answer(status: int, body: bytes, head: bytes = b"") -> Answer:
    """Answer with JSON."""
    return Answer(status, JSON_HEAD + head, body)


def error_answer(error: BlobError) -> Answer:
    """Answer with the one error shape and the headers that its status asks for."""
    if error.status >= SERVER_ERROR and not isinstance(error, QuotaError):
        log_failure(error)
    head = b""
    if isinstance(error, UnavailableError):
        head = b"retry-after: %d\r\n" % error.retry_after_s
    elif isinstance(error, RateError):
        head = _rate_head(error)
    elif isinstance(error, UnauthenticatedError):
        head = CHALLENGE
    elif isinstance(error, MethodError):
        head = b"allow: %b\r\n" % error.allow.encode()
    elif isinstance(error, UnsatisfiableError):
        head = b"content-range: bytes */%d\r\n" % error.size_bytes
    return json_answer(error.status, wire.error_json(error), head)


def _rate_head(error: RateError) -> bytes:
    """What was over and when it is not any more (draft-ietf-httpapi-ratelimit-headers-11)."""
    name = f'"{error.policy}-{error.unit}"'
    counts = ';qu="content-bytes"' if error.unit == BYTES else ""
    lines = (
        f"retry-after: {error.retry_after_s}",
        f"ratelimit-policy: {name};q={error.limit};w={error.window_s}{counts}",
        f"ratelimit: {name};r=0;t={error.retry_after_s}",
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def log_failure(error: BlobError) -> None:
    """Log an error that is not the client's."""
    level = logging.ERROR if error.status == SERVER_ERROR else logging.WARNING
    facts = {**error.facts, "code": error.code, "message": error.message}
    events.event(level, "request.failed", **facts)


def defect_answer(error: BaseException, where: str) -> Answer:
    """Answer for a defect of ours: logged with its trace, told without details."""
    events.defect(error, where)
    return json_answer(SERVER_ERROR, wire.error_json(CorruptError("an internal error")))


def head_error(version: str, host: bytes | None) -> InvalidError | None:
    """What is wrong with the version or the Host header; repeated ones were joined by commas."""
    if version not in VERSIONS:
        return InvalidError("version", version, "HTTP/1.1 or HTTP/1.0")
    if (host is None and version == "1.1") or (host is not None and b"," in host):
        got = None if host is None else host[:100].decode("latin-1")
        return InvalidError("host", got, "one Host header (RFC 9112 section 3.2)")
    return None


def conditions(request: Request) -> Conditions:
    """The conditional headers of a request; of a write, with any form's tag for the blob's own."""
    if CONDITIONAL.isdisjoint(request.headers):
        return NO_CONDITIONS
    return Conditions(
        _tags(request, b"if-match"),
        _tags(request, b"if-none-match"),
        request.header(b"if-modified-since"),
        request.header(b"if-unmodified-since"),
        request.header(b"if-range"),
    )


def _tags(request: Request, name: bytes) -> str | None:
    tags = request.header(name)
    if tags is None or request.method in {"GET", "HEAD"}:
        return tags
    return CODED_TAG.sub(r'"\1"', tags)


def description(request: Request) -> Description:
    """What the headers of an upload say of its bytes.

    Raises:
        InvalidError: malformed metadata, digests or time of life, or bytes that are encoded.
    """
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        got = request.header(b"content-encoding")
        raise InvalidError("content-encoding", got, "identity: send the bytes as they are")
    declared = request.headers.get(b"content-type", b"")
    is_form = declared.partition(b";")[0].strip().lower() == FORM
    content_type = None if is_form else declared.decode("latin-1").strip() or None
    return Description(
        content_type,
        wire.parse_metadata(request.headers.items()),
        promised_digest(request),
        _expire_s(request),
    )


def _expire_s(request: Request) -> int | None:
    text = request.header(EXPIRE_IN)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < DIGITS_MAX):
        raise InvalidError(wire.EXPIRE_IN, text[:100], "a whole number of seconds, at least 1")
    return int(text)


def promised_digest(request: Request) -> Digest | None:
    """The SHA-256 that the digest headers promise.

    Raises:
        InvalidError: malformed, or they contradict each other.
    """
    promised = None
    if DIGESTS.isdisjoint(request.headers):
        return None
    for name in DIGESTS:
        if (header := request.header(name)) is None:
            continue
        digest = wire.parse_digest(header.encode("ascii", "replace").decode())
        if promised is not None and digest not in (None, promised):
            raise InvalidError("digest headers", header[:100], "one SHA-256 for one body")
        promised = promised or digest
    return promised
