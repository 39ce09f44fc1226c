"""Downloads: conditions, ranges and headers of a blob, the same on every face (docs/http.md)."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from holdfast import wire
from holdfast.core import limits
from holdfast.core.errors import PreconditionError
from holdfast.core.preconditions import (
    NO_CONDITIONS,
    Outcome,
    Validators,
    evaluate,
    format_date,
    range_applies,
)
from holdfast.core.ranges import parse_range
from holdfast.core.store import Span
from holdfast.http.message import Answer, Request, Stream, conditions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from holdfast.core.digest import Digest
    from holdfast.core.entry import Entry
    from holdfast.core.store import Source
    from holdfast.depot.catalog import Held

NO_CACHE = b"no-cache"
PRIVATE = b"private, max-age=31536000, immutable"
IMMUTABLE = b"public, max-age=31536000, immutable"
BOUNDARY = b"holdfast-part-"
MICROSECONDS = 1_000_000
HEAD = (
    b"etag: %b\r\nlast-modified: %b\r\naccept-ranges: bytes\r\ncache-control: %b\r\n"
    b"x-content-type-options: nosniff\r\ncontent-security-policy: default-src 'none'; sandbox\r\n"
)
DIGEST_HEAD = b"repr-digest: sha-256=:%b:\r\n"
DISPOSITION_HEAD = b"content-disposition: %b\r\n"
VARY_HEAD = b"vary: accept-encoding\r\n"


class Download(NamedTuple):
    """What is sent, before conditions and ranges."""

    digest: Digest
    size_bytes: int
    content_type: str
    modified_s: int
    file_name: str
    cache_control: bytes
    metadata: Mapping[str, str]
    lasts: bool = True
    """It does not end by itself, so the answer may be given again while nothing changes."""
    varies: bool = False
    """There may be other forms of it, which other clients would get."""
    coding: str = ""
    """The content coding of this form."""

    @property
    def etag(self) -> str:
        """The strong tag of this form."""
        return f'"{self.digest.hex()}-{self.coding}"' if self.coding else f'"{self.digest.hex()}"'


def of_name(entry: Entry) -> Download:
    """What a name points to."""
    return Download(
        entry.digest,
        entry.size_bytes,
        entry.content_type,
        entry.modified_us // MICROSECONDS,
        entry.key.rpartition("/")[2],
        NO_CACHE,
        entry.metadata,
        lasts=entry.expires_us == 0,
    )


def of_hash(digest: Digest, held: Held, *, is_public: bool) -> Download:
    """A blob under its hash, which never changes."""
    return Download(
        digest,
        held.size_bytes,
        held.content_type,
        held.since_us // MICROSECONDS,
        digest.file_name,
        IMMUTABLE if is_public else PRIVATE,
        {},
    )


def answer(
    request: Request,
    download: Download,
    opener: Callable[[Span | None], Source | None],
    *,
    inline: bool,
    wait: bool,
) -> Answer | None:
    """Answer a GET or HEAD; None when `wait` is False and a disk would have to be waited for.

    What is sent first was verified: damage there is an error, later it cuts the connection.

    Raises:
        PreconditionError, UnsatisfiableError, CorruptError: as the request or the store has it.
    """
    head = _head(download)
    spans = None
    wanted = conditions(request)
    if wanted is not NO_CONDITIONS:
        stored = Validators(download.etag, download.modified_s)
        outcome = evaluate(wanted, stored, reading=True)
        if outcome is Outcome.NOT_MODIFIED:
            return Answer(304, head, length=-1)
        if outcome is Outcome.FAILED:
            raise PreconditionError("the condition does not hold", etag=stored.etag)
    ranged = request.header(b"range")
    if ranged is not None and request.method == "GET":
        stored = Validators(download.etag, download.modified_s)
        if range_applies(wanted.if_range, stored):
            spans = parse_range(ranged, download.size_bytes)
    head += _body_head(download, inline=inline)
    made = _body(request, download, head, spans, opener)
    return made if made is None or made.stream is None else _verified(made, made.stream, wait=wait)


def _head(download: Download) -> bytes:
    tag, moment = download.etag.encode(), http_date(download.modified_s)
    head = HEAD % (tag, moment, download.cache_control)
    return head + VARY_HEAD if download.varies else head


def _body_head(download: Download, *, inline: bool) -> bytes:
    form = b"content-encoding: %b\r\n" % download.coding.encode()
    if not download.coding:
        form = DIGEST_HEAD % b64encode(download.digest)
    head = form + DISPOSITION_HEAD % disposition(download.file_name, inline=inline)
    return head + metadata_head(download.metadata) if download.metadata else head


def describe(
    request: Request, download: Download, verified_at: datetime | None, *, inline: bool
) -> Answer:
    """Answer a HEAD, also with the time at which the blob was last verified."""
    made = answer(request, download, _unopened, inline=inline, wait=True)
    assert made is not None
    if verified_at is not None:
        line = f"{wire.VERIFIED_AT.lower()}: {wire.format_moment(verified_at)}\r\n"
        made.head += line.encode()
    return made


def _unopened(span: Span | None) -> Source | None:
    """HEAD opens nothing."""
    del span
    return None


def _verified(answer: Answer, stream: Stream, *, wait: bool) -> Answer | None:
    try:
        is_verified = stream.verify_first(wait=wait)
    except BaseException:
        answer.close()
        raise
    if not is_verified:
        answer.close()
        return None
    return answer


def _body(
    request: Request,
    download: Download,
    head: bytes,
    spans: list[Span] | None,
    opener: Callable[[Span | None], Source | None],
) -> Answer | None:
    content_type = b"content-type: %b\r\n" % download.content_type.encode()
    if request.method == "HEAD":
        return Answer(200, head + content_type, length=download.size_bytes)
    if spans is None:
        whole = _send(200, head + content_type, opener(None))
        if whole is not None and whole.stream is None:
            whole.digest = download.digest if download.lasts else None
            whole.coding = download.coding
        return whole
    if len(spans) == 1:
        line = b"content-range: %b\r\n" % content_range(spans[0], download.size_bytes)
        return _send(206, head + content_type + line, opener(spans[0]))
    source = opener(None)
    if source is None:
        return None
    parts, size_bytes = multipart(spans, download)
    kind = b"content-type: multipart/byteranges; boundary=%b\r\n" % boundary(download.digest)
    return Answer(206, head + kind, stream=Stream(source, parts), length=size_bytes)


def _send(status: int, head: bytes, source: Source | None) -> Answer | None:
    """Send one span: small ones from memory, others as a stream."""
    if source is None:
        return None
    size_bytes = source.size_bytes
    if size_bytes <= limits.SMALL_BLOB_BYTES_MAX and source.file() is None:
        with source:
            body = bytes(source.read(size_bytes)) if size_bytes else b""
            while len(body) < size_bytes:
                body += bytes(source.read(size_bytes - len(body)))
        return Answer(status, head, body)
    return Answer(status, head, stream=Stream(source, (Span(0, size_bytes),)), length=size_bytes)


def multipart(spans: list[Span], download: Download) -> tuple[list[bytes | Span], int]:
    """Lay out multipart/byteranges (RFC 9110 section 14.6) and count its bytes."""
    parts: list[bytes | Span] = []
    mark = boundary(download.digest)
    for span in spans:
        parts.append(
            b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: %b\r\n\r\n"
            % (mark, download.content_type.encode(), content_range(span, download.size_bytes))
        )
        parts.append(span)
    parts.append(b"\r\n--%b--\r\n" % mark)
    size_bytes = sum(one.size_bytes if isinstance(one, Span) else len(one) for one in parts)
    return parts, size_bytes


def boundary(digest: Digest) -> bytes:
    """A line that the blob holds only by an accident of 128 bits."""
    return BOUNDARY + digest.hex()[:32].encode()


def content_range(span: Span, size_bytes: int) -> bytes:
    """The value of Content-Range."""
    return b"bytes %d-%d/%d" % (span.offset, span.offset + span.size_bytes - 1, size_bytes)


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> bytes:
    """An HTTP date as bytes."""
    return format_date(seconds).encode()


@lru_cache(maxsize=4096)
def disposition(file_name: str, *, inline: bool) -> bytes:
    """Content-Disposition (RFC 6266): the name in ASCII, and in UTF-8 where that differs."""
    kind = b"inline" if inline else b"attachment"
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in file_name)
    line = b'%b; filename="%b"' % (kind, plain.encode())
    if plain != file_name:
        line += b"; filename*=UTF-8''" + quote(file_name, safe="").encode()
    return line


def metadata_head(metadata: Mapping[str, str]) -> bytes:
    """User metadata as header lines."""
    return b"".join(b"%b: %b\r\n" % line for line in wire.metadata_headers(metadata))
