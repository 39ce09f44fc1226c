"""HTTP as data: the JSON, headers and paths of docs/http.md, without any I/O.

The server and both clients share this module, so that each spelling has one definition. Writers
take values of core and give bytes; readers take what came from a peer that may be old, broken or
hostile, and raise a BlobError rather than guess.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar
from urllib.parse import quote, unquote_to_bytes

import msgspec

from holdfast.core.entry import Entry, HashPage, Page, Stats
from holdfast.core.errors import BlobError, Fact, InvalidError

DEFAULT_BUCKET = "default"
METADATA_PREFIX = b"holdfast-meta-"
COPY_FROM = "Holdfast-Copy-From"
MOVE_FROM = "Holdfast-Move-From"
RETRY_AFTER_S_MAX = 3600  # a longer Retry-After is read as this

VALUE_SAFE = "!#$&'()*+-./:;<=>?@[]^_`{|}~"  # printable, and never cut or joined by a proxy
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class EntryDoc(msgspec.Struct, kw_only=True):
    """An entry as JSON; unknown members of a newer server are ignored."""

    key: str
    bucket: str
    size_bytes: int
    digest: str
    content_type: str
    metadata: Mapping[str, str] = {}
    created_at: datetime
    updated_at: datetime
    version: int = 0
    expires_at: datetime | None = None
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

    error: dict[str, Fact]


_encoder = msgspec.json.Encoder()
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
    own: dict[str, Fact] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    return ErrorDoc({name: _clean(fact) for name, fact in {**own, **error.facts, **own}.items()})


def _clean(fact: Fact) -> Fact:
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
