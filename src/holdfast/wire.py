"""HTTP as data: the JSON, headers and paths of docs/http.md, without any I/O.

The server and both clients share this module, so that each spelling has one definition. Writers
take values of core and give bytes; readers take what came from a peer that may be old, broken or
hostile, and raise a BlobError rather than guess.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from holdfast.core import errors
from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.entry import EPOCH, Entry, HashPage, Page, Stats
from holdfast.core.errors import BlobError, Fact, InvalidError, UnavailableError

DEFAULT_BUCKET = "default"
METADATA_PREFIX = b"holdfast-meta-"
COPY_FROM = "Holdfast-Copy-From"
MOVE_FROM = "Holdfast-Move-From"
RETRY_AFTER_S_MAX = 3600  # a longer Retry-After is read as this

VALUE_SAFE = "!#$&'()*+-./:;<=>?@[]^_`{|}~"  # printable, and never cut or joined by a proxy
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MICROSECOND = timedelta(microseconds=1)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class EntryDoc(msgspec.Struct, kw_only=True):
    """An entry as JSON; unknown members of a newer server are ignored."""

    key: str
    bucket: str
    size_bytes: int
    digest: str
    content_type: str
    metadata: Mapping[str, str] = {}
    created_at: Moment
    updated_at: Moment
    version: int = 0
    expires_at: Moment | None = None
    size: int | None = None
    """`size_bytes` again, under the name that clients of Blobnom read."""


class PageDoc(msgspec.Struct):
    """A page of a listing as JSON."""

    entries: list[EntryDoc]
    prefixes: list[str] = []
    next: str | None = None


class HashPageDoc(msgspec.Struct):
    """A page of digests as JSON."""

    hashes: list[str]
    next: str | None = None


class StatsDoc(msgspec.Struct):
    """How much is stored, as JSON."""

    entries: int
    entry_bytes: int
    revision: int


class ErrorDoc(msgspec.Struct):
    """The one error shape: `code`, `message`, `retryable` and the facts of the class."""

    error: dict[str, object]


_encoder = msgspec.json.Encoder()
_entry_decoder = msgspec.json.Decoder(EntryDoc)
_page_decoder = msgspec.json.Decoder(PageDoc)
_hash_page_decoder = msgspec.json.Decoder(HashPageDoc)
_stats_decoder = msgspec.json.Decoder(StatsDoc)
_error_decoder = msgspec.json.Decoder(ErrorDoc)
D = TypeVar("D", EntryDoc, PageDoc, HashPageDoc, StatsDoc, ErrorDoc)


def encode_entry(entry: Entry) -> EntryDoc:
    """Spell an entry for JSON."""
    return EntryDoc(
        key=entry.key,
        bucket=entry.bucket,
        size_bytes=entry.size_bytes,
        digest=str(entry.digest),
        content_type=entry.content_type,
        created_at=entry.created_at,
        updated_at=entry.modified_at,
        metadata=dict(entry.metadata),
        version=entry.version,
        size=entry.size_bytes,
    )


def encode_error(error: BlobError) -> ErrorDoc:
    """Spell an error for JSON; its own three members win over facts of the same name."""
    own = {"code": error.code, "message": error.message, "retryable": error.retryable}
    return ErrorDoc({name: _clean(fact) for name, fact in {**own, **error.facts, **own}.items()})


def _clean(fact: object) -> object:
    """Replace what came from a bad request and cannot be spelled as UTF-8."""
    return fact.encode("utf-8", "replace").decode() if isinstance(fact, str) else fact


def entry_json(entry: Entry) -> bytes:
    """Write the body of an answer about one entry."""
    return _encoder.encode(encode_entry(entry))


def page_json(page: Page) -> bytes:
    """Write the body of a listing."""
    return _encoder.encode(
        PageDoc([encode_entry(entry) for entry in page.entries], page.prefixes, page.next)
    )


def hash_page_json(page: HashPage) -> bytes:
    """Write the body of a listing of digests."""
    return _encoder.encode(HashPageDoc([str(digest) for digest in page.digests], page.next))


def stats_json(stats: Stats) -> bytes:
    """Write the body of `GET /stats`."""
    return _encoder.encode(StatsDoc(stats.entries, stats.entry_bytes, stats.revision))


def error_json(error: BlobError) -> bytes:
    """Write the body of any answer of 400 and above."""
    return _encoder.encode(encode_error(error))


def metadata_headers(metadata: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Spell user metadata as headers; names in lower case, values percent-encoded."""
    return [
        (METADATA_PREFIX + name.lower().encode(), quote(value, safe=VALUE_SAFE).encode())
        for name, value in metadata.items()
    ]


def parse_metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Collect user metadata from all headers of a message; other headers are passed over.

    Raises:
        InvalidError: a name is empty, not ASCII or comes twice, or a value is not
            percent-encoded UTF-8.
    """
    metadata: dict[str, str] = {}
    for header, value in headers:
        lower = header.lower()
        if not lower.startswith(METADATA_PREFIX):
            continue
        name = lower[len(METADATA_PREFIX) :].decode("ascii", "replace")
        if not name or not name.isascii() or name in metadata:
            raise InvalidError("metadata name", name, "each once, ASCII, at least one character")
        metadata[name] = _metadata_value(value)
    return metadata


def _metadata_value(value: bytes) -> str:
    try:
        if not BAD_ESCAPE.search(value):
            return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        pass
    shown = value[:100].decode("ascii", "backslashreplace")
    raise InvalidError("metadata value", shown, "percent-encoded UTF-8, a plain % is %25")


def blob_path(bucket: str, key: str) -> str:
    """Spell the path of a name, so that no client or proxy on the way shortens it.

    Slashes stay readable, but dot segments, empty segments and a final `/metadata` are escaped.

    >>> blob_path("default", "a/../b c"), blob_path("photos", "/x/metadata")
    ('/blob/a/%2E%2E/b%20c', '/b/photos/%2Fx%2Fmetadata')
    """
    segments = quote(key, safe="/").split("/")
    path = "/".join(one.replace(".", "%2E") if one in {".", ".."} else one for one in segments)
    path = path.replace("//", "/%2F")
    if path.startswith("/"):
        path = "%2F" + path[1:]
    if path.endswith("/metadata"):
        path = path.removesuffix("/metadata") + "%2Fmetadata"
    return f"{bucket_path(bucket)}/{path}"


def bucket_path(bucket: str) -> str:
    """Spell the path of a bucket, which is that of its listing."""
    return "/blob" if bucket == DEFAULT_BUCKET else "/b/" + quote(bucket, safe="")


def hash_path(digest: Digest) -> str:
    """Spell the path of a blob on the content face."""
    return "/blobs/" + digest.file_name


def source_name(bucket: str, key: str) -> str:
    """Spell the source of a copy or move as a header value."""
    return quote(f"{bucket}/{key}", safe="/")


def repr_digest(digest: Digest) -> str:
    """Spell a digest for Repr-Digest or Content-Digest (RFC 9530).

    >>> repr_digest(Digest.of(b""))
    'sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:'
    """
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def parse_digest(header: str) -> Digest | None:
    """Read the SHA-256 of a Repr-Digest, Content-Digest or older Digest header; None without one.

    Raises:
        InvalidError: it names SHA-256, but the value is not 32 bytes in base64.
    """
    for item in header.split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue
        try:
            raw = base64.b64decode(value.strip().strip(":"), validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != DIGEST_BYTES:
            raise InvalidError("digest header", header[:100], "sha-256=:<base64 of 32 bytes>:")
        return Digest(raw)
    return None


def parse_entry(data: bytes) -> Entry:
    """Read an entry; UnavailableError when it is none."""
    return _entry(_decode(_entry_decoder, data))


def parse_page(data: bytes) -> Page:
    """Read a page of a listing; UnavailableError when it is none."""
    doc = _decode(_page_decoder, data)
    return Page([_entry(one) for one in doc.entries], doc.prefixes, doc.next)


def parse_hash_page(data: bytes) -> HashPage:
    """Read a page of digests; UnavailableError when it is none."""
    doc = _decode(_hash_page_decoder, data)
    return HashPage([_peer_digest(one) for one in doc.hashes], doc.next)


def parse_stats(data: bytes) -> Stats:
    """Read the counters; UnavailableError when they are none."""
    doc = _decode(_stats_decoder, data)
    return Stats(doc.entries, doc.entry_bytes, doc.revision)


def parse_error(status: int, headers: Mapping[str, str], body: bytes) -> BlobError:
    """Make the error that an answer of 300 and above stands for; `headers` in lower case.

    The code decides the class. Without a body of ours (HEAD, or a proxy in between) the status
    does; what nobody of us says becomes UnavailableError, or InvalidError where a retry is futile.
    """
    facts = _error_facts(status, headers, body)
    code = facts.pop("code", "")
    message = str(facts.pop("message", ""))
    build = _BUILDERS.get(code) if isinstance(code, str) else None
    try:
        return build(message, facts) if build else _foreign(status, message, facts)
    except (KeyError, TypeError, ValueError):
        return _foreign(status, message, facts)


def _error_facts(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Fact]:
    facts: dict[str, Fact] = {}
    try:
        document = _error_decoder.decode(body).error
        facts |= {name: fact for name, fact in document.items() if isinstance(fact, Fact)}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        facts["code"] = _CODES.get(status, "")
        facts["message"] = f"the server answered {status}"
    facts.pop("retryable", None)
    total = headers.get("content-range", "").removeprefix("bytes */")
    if status == errors.UnsatisfiableError.status and total.isdecimal():
        facts.setdefault("size_bytes", int(total))
    if "allow" in headers:
        facts.setdefault("allow", headers["allow"])
    facts["retry_after_s"] = retry_after_s(headers) or 1
    return facts


def retry_after_s(headers: Mapping[str, str]) -> int:
    """Seconds of Retry-After; 0 without one, at most `RETRY_AFTER_S_MAX`; dates count as none."""
    after = headers.get("retry-after", "")
    return min(int(after), RETRY_AFTER_S_MAX) if after.isdecimal() else 0


def _foreign(status: int, message: str, facts: dict[str, Fact]) -> BlobError:
    if status in {408, 429} or status >= 500:
        return UnavailableError(message, _int(facts, "retry_after_s"))
    return InvalidError("answer", status, message or "not one of a holdfast server")


def _decode(decoder: "msgspec.json.Decoder[D]", data: bytes) -> D:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None


def _entry(doc: EntryDoc) -> Entry:
    return Entry(
        bucket=doc.bucket,
        key=doc.key,
        digest=_peer_digest(doc.digest),
        size_bytes=doc.size_bytes,
        content_type=doc.content_type,
        created_us=(doc.created_at - EPOCH) // MICROSECOND,
        modified_us=(doc.updated_at - EPOCH) // MICROSECOND,
        version=doc.version,
        metadata=doc.metadata,
    )


def _peer_digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidError as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None


def _int(facts: Mapping[str, Fact], name: str) -> int:
    value = facts[name]
    if not isinstance(value, int):
        raise TypeError(name)
    return value


def _plain(kind: type[BlobError]) -> Callable[[str, dict[str, Fact]], BlobError]:
    def build(message: str, facts: dict[str, Fact]) -> BlobError:
        facts.pop("retry_after_s", None)
        return kind(message, **{name: fact for name, fact in facts.items() if name != "self"})

    return build


_CODES = {
    kind.status: kind.code
    for kind in (
        errors.NotFoundError,
        errors.PreconditionError,
        errors.UnsatisfiableError,
        errors.UnauthenticatedError,
        errors.DeniedError,
        errors.MethodError,
        errors.UnavailableError,
        errors.UnsupportedError,
    )
}
_BUILDERS: dict[str, Callable[[str, dict[str, Fact]], BlobError]] = {
    **{kind.code: _plain(kind) for kind in errors.classes()},
    errors.InvalidError.code: lambda _, facts: errors.InvalidError(
        str(facts["what"]), facts["got"], str(facts["allowed"])
    ),
    errors.UnsatisfiableError.code: lambda _, facts: errors.UnsatisfiableError(
        _int(facts, "size_bytes")
    ),
    errors.DigestMismatchError.code: lambda _, facts: errors.DigestMismatchError(
        str(facts["expected"]), str(facts["actual"])
    ),
    errors.TooLargeError.code: lambda _, facts: errors.TooLargeError(
        str(facts["what"]), _int(facts, "limit"), str(facts.get("unit", "bytes"))
    ),
    errors.QuotaError.code: lambda _, facts: errors.QuotaError(
        _int(facts, "used_bytes"), _int(facts, "limit_bytes")
    ),
    errors.MethodError.code: lambda _, facts: errors.MethodError(str(facts["allow"])),
    errors.UnavailableError.code: lambda message, facts: errors.UnavailableError(
        message, _int(facts, "retry_after_s")
    ),
    errors.CompactedError.code: lambda _, facts: errors.CompactedError(_int(facts, "oldest")),
}
