"""The JSON of entries, listings and counters (docs/http.md, JSON)."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, TypeVar

import msgspec

from holdfast.core.digest import Digest
from holdfast.core.entry import (
    EPOCH,
    Entry,
    Grave,
    GravePage,
    HashPage,
    Page,
    Stats,
    VersionPage,
)
from holdfast.core.errors import InvalidError, UnavailableError

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


class GraveDoc(msgspec.Struct):
    """A deleted name as JSON."""

    entry: EntryDoc
    deleted_at: Moment
    until_at: Moment


class GravePageDoc(msgspec.Struct):
    """A page of deleted names as JSON."""

    graves: list[GraveDoc]
    next: str | None = None


class HashPageDoc(msgspec.Struct):
    """A page of digests as JSON."""

    hashes: list[str]
    next: str | None = None


class MoveDoc(msgspec.Struct):
    """How far the move of a store is, as JSON."""

    stage: str
    copied_blobs: int
    copied_bytes: int
    left_blobs: int
    left_bytes: int
    damaged: int
    examples: list[str]


class StatsDoc(msgspec.Struct, omit_defaults=True):
    """How much is stored, as JSON."""

    entries: int
    entry_bytes: int
    revision: int
    away: str = ""
    move: MoveDoc | None = None


_encoder = msgspec.json.Encoder()
_entry_decoder = msgspec.json.Decoder(EntryDoc)
_page_decoder = msgspec.json.Decoder(PageDoc)
_grave_page_decoder = msgspec.json.Decoder(GravePageDoc)
_hash_page_decoder = msgspec.json.Decoder(HashPageDoc)
_stats_decoder = msgspec.json.Decoder(StatsDoc)
D = TypeVar("D")


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
        expires_at=entry.expires_at,
        size=entry.size_bytes,
    )


def entry_json(entry: Entry) -> bytes:
    """Write the body of an answer about one entry."""
    return _encoder.encode(encode_entry(entry))


def page_json(page: Page) -> bytes:
    """Write the body of a listing."""
    return _encoder.encode(
        PageDoc([encode_entry(entry) for entry in page.entries], page.prefixes, page.next)
    )


def version_page_json(page: VersionPage) -> bytes:
    """Write the body of a listing of versions."""
    return _encoder.encode(
        {"entries": [encode_entry(entry) for entry in page.entries], "next": page.next}
    )


def encode_grave(grave: Grave) -> GraveDoc:
    """Spell a deleted name for JSON."""
    return GraveDoc(encode_entry(grave.entry), grave.deleted_at, grave.until_at)


def grave_json(grave: Grave) -> bytes:
    """Write one deleted name."""
    return _encoder.encode(encode_grave(grave))


def grave_page_json(page: GravePage) -> bytes:
    """Write the body of a listing of deleted names."""
    return _encoder.encode(GravePageDoc([encode_grave(one) for one in page.graves], page.next))


def hash_page_json(page: HashPage) -> bytes:
    """Write the body of a listing of digests."""
    return _encoder.encode(HashPageDoc([str(digest) for digest in page.digests], page.next))


def stats_json(stats: Stats, move: MoveDoc | None = None) -> bytes:
    """Write the body of `GET /stats`."""
    return _encoder.encode(
        StatsDoc(stats.entries, stats.entry_bytes, stats.revision, stats.away, move)
    )


def parse_entry(data: bytes) -> Entry:
    """Read an entry; UnavailableError when it is none."""
    return decode_entry(decode_peer(_entry_decoder, data))


def parse_page(data: bytes) -> Page:
    """Read a page of a listing; UnavailableError when it is none."""
    doc = decode_peer(_page_decoder, data)
    return Page([decode_entry(one) for one in doc.entries], doc.prefixes, doc.next)


def parse_version_page(data: bytes) -> VersionPage:
    """Read a page of versions; UnavailableError when it is none."""
    doc = decode_peer(_page_decoder, data)
    return VersionPage([decode_entry(one) for one in doc.entries], doc.next)


def parse_grave_page(data: bytes) -> GravePage:
    """Read a page of deleted names; UnavailableError when it is none."""
    doc = decode_peer(_grave_page_decoder, data)
    return GravePage([_grave(one) for one in doc.graves], doc.next)


def parse_hash_page(data: bytes) -> HashPage:
    """Read a page of digests; UnavailableError when it is none."""
    doc = decode_peer(_hash_page_decoder, data)
    return HashPage([peer_digest(one) for one in doc.hashes], doc.next)


def parse_stats(data: bytes) -> Stats:
    """Read the counters; UnavailableError when they are none."""
    doc = decode_peer(_stats_decoder, data)
    return Stats(doc.entries, doc.entry_bytes, doc.revision, doc.away)


def decode_peer(decoder: "msgspec.json.Decoder[D]", data: bytes) -> D:
    """Read what a peer sent; UnavailableError when it is something else."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None


def decode_entry(doc: EntryDoc) -> Entry:
    """Read an entry that a peer sent; UnavailableError when its digest is none."""
    return Entry(
        bucket=doc.bucket,
        key=doc.key,
        digest=peer_digest(doc.digest),
        size_bytes=doc.size_bytes,
        content_type=doc.content_type,
        created_us=(doc.created_at - EPOCH) // MICROSECOND,
        modified_us=(doc.updated_at - EPOCH) // MICROSECOND,
        version=doc.version,
        metadata=doc.metadata,
        expires_us=(doc.expires_at - EPOCH) // MICROSECOND if doc.expires_at else 0,
    )


def _grave(doc: GraveDoc) -> Grave:
    deleted_us = (doc.deleted_at - EPOCH) // MICROSECOND
    return Grave(decode_entry(doc.entry), deleted_us, (doc.until_at - EPOCH) // MICROSECOND)


def peer_digest(text: str) -> Digest:
    """Read a digest that a peer sent; UnavailableError when it is none."""
    try:
        return Digest.parse(text)
    except InvalidError as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None
