"""The catalog: which keys and values of the KV say what (docs/format.md, "Catalog").

    e <bucket> 0 <key>                  -> the entry
    g <bucket> 0 <key>                  -> the grave of a deleted name
    v <bucket> 0 <key> 0 <version> <time>   -> an entry that was replaced
    r <digest> e <bucket> 0 <key>       -> Held: an entry holds the blob; g and v the same
    r <digest> c <owner>                -> Held: the content face holds the blob
    u <bucket>, w <owner>               -> counters: entries, bytes, versions, their bytes
    d <time> <table> <bucket> 0 <key>   -> when something is due
    s                                   -> counters: blobs, bytes that sweeps removed
    m <digest>, n                       -> what went to the cold store (depot/cold.py)

A blob is held while any key begins with `r <digest>`. Every change of an entry changes its
reference and the counters in the same commit, so none of them can drift.
"""

from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.entry import Entry, Grave
from holdfast.core.errors import CorruptError
from holdfast.core.kv import Add, Delete, Put, Write
from holdfast.core.policy import NOBODY, OWNER_MARK, owner_of

ENTRY = b"e"
GRAVE = b"g"
VERSION = b"v"
REFERENCE = b"r"
USAGE = b"u"
SWEPT = b"s"
OWNER_USAGE = b"w"
DUE = b"d"
COLD = b"m"
MOVED = b"n"
OWNER = b"o"
BY_CONTENT = b"c"
VISIBLE = (b"c", b"e")
"""Holders that show a blob; they are before the others in the order of keys."""
NAMES = (ENTRY, GRAVE, VERSION)
"""Tables whose rows name a blob."""
COUNTERS = 4  # in a row of them
TIME_BYTES = 8
VERSION_BYTES = 16  # its number, then when it was stored, for a name may begin to count again


class _Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry's value, as a MessagePack array; members are only ever added at the end."""

    digest: bytes
    size_bytes: int
    content_type: str
    created_us: int
    modified_us: int
    version: int
    metadata: dict[str, str]
    expires_us: int = 0


class _GraveRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A grave's value; members are only ever added at the end."""

    entry: _Record
    deleted_us: int
    until_us: int


class Held(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a holder of a blob says of it; members are only ever added at the end."""

    size_bytes: int
    content_type: str
    since_us: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_decode_grave = msgspec.msgpack.Decoder(_GraveRecord).decode
_decode_held = msgspec.msgpack.Decoder(Held).decode


@lru_cache(maxsize=4096)
def usage_rows(bucket: str) -> tuple[bytes, ...]:
    """All counters that what is in a bucket is counted by."""
    owner = owner_of(bucket)
    row = usage_key(bucket)
    return (row, owner_usage_key(owner)) if owner else (row,)


class Due(NamedTuple):
    """Something that is to be done with a name at a time."""

    at_us: int
    table: bytes
    """ENTRY: it expires; GRAVE: it goes for good; VERSION: it may have too many versions."""
    bucket: str
    key: str


class Row(NamedTuple):
    """A row of one of the tables that name blobs."""

    table: bytes
    entry: Entry
    until_us: int = 0
    """When a grave goes for good."""


def name_key(table: bytes, bucket: str, key: bytes) -> bytes:
    """The KV key of a name in one of the tables; names of a bucket order as their keys' bytes."""
    return table + bucket.encode() + b"\x00" + key


def entry_key(bucket: str, key: bytes) -> bytes:
    """The KV key of an entry."""
    return name_key(ENTRY, bucket, key)


def version_key(entry: Entry) -> bytes:
    """The KV key of an entry, once it is replaced."""
    start = version_start(entry.bucket, entry.key.encode(), entry.version)
    return start + entry.modified_us.to_bytes(TIME_BYTES, "big")


def version_start(bucket: str, key: bytes, version: int) -> bytes:
    """What the KV key of a replaced entry with this number begins with."""
    return versions_of(bucket, key) + version.to_bytes(VERSION_BYTES - TIME_BYTES, "big")


def versions_of(bucket: str, key: bytes) -> bytes:
    """What the keys of all replaced entries of a name begin with."""
    return name_key(VERSION, bucket, key) + b"\x00"


def split_name(row: bytes) -> tuple[str, str]:
    """Bucket and key of a row of `e` or `g`."""
    bucket, _, key = row[1:].partition(b"\x00")
    return bucket.decode(), key.decode()


def holds(digest: bytes) -> bytes:
    """What every reference to a blob begins with."""
    return REFERENCE + digest


def held_by_row(digest: bytes, row: bytes) -> bytes:
    """The reference of an entry, a grave or a version, whose KV key is `row`."""
    return holds(digest) + row


def held_by_content(digest: bytes, owner: str = NOBODY) -> bytes:
    """The reference of the content face, for one owner."""
    return holds(digest) + BY_CONTENT + owner.encode()


def referenced_digest(reference: bytes) -> Digest:
    """The blob that a reference holds."""
    return Digest(reference[1 : 1 + DIGEST_BYTES])


def holder(reference: bytes) -> bytes:
    """The row that holds a blob, or BY_CONTENT and an owner."""
    return reference[1 + DIGEST_BYTES :]


def is_visible(reference: bytes) -> bool:
    """Whether the holder shows the blob; deleted and replaced entries only keep it."""
    return holder(reference)[:1] in VISIBLE


def holder_name(reference: bytes) -> str:
    """Who holds a blob, for people: bucket/key, or the digest where it is held by that."""
    row = holding_row(reference)
    return str(referenced_digest(reference)) if row is None else row_name(row)


def holding_row(reference: bytes) -> bytes | None:
    """The KV key of the name that a reference is of; None for that of the content face."""
    row = holder(reference)
    return None if row.startswith(BY_CONTENT) else row


def entries_of(owner: str) -> bytes:
    """What the KV keys of all entries of an owner begin with."""
    return ENTRY + owner.encode() + OWNER_MARK.encode()


def holding_owner(reference: bytes) -> str:
    """Whose a holder is."""
    row = holder(reference)
    if row.startswith(BY_CONTENT):
        return row[len(BY_CONTENT) :].decode()
    return owner_of(row[1:].partition(b"\x00")[0].decode())


def row_name(row: bytes) -> str:
    """The bucket and key of the row of an entry, a grave or a version, for people."""
    bucket, _, key = row[1:].partition(b"\x00")
    if row.startswith(VERSION):
        version = int.from_bytes(key[-VERSION_BYTES:-TIME_BYTES], "big")
        key = key[: -VERSION_BYTES - 1] + b" (version %d)" % version
    return (bucket + b"/" + key).decode(errors="replace")


def usage_key(bucket: str) -> bytes:
    """The counters of a bucket."""
    return USAGE + bucket.encode()


def owner_usage_key(owner: str) -> bytes:
    """The counters of all that an owner has."""
    return OWNER_USAGE + owner.encode()


def due_key(due: Due) -> bytes:
    """The row that says that something is due; rows order by time."""
    row = name_key(due.table, due.bucket, due.key.encode())
    return DUE + due.at_us.to_bytes(TIME_BYTES, "big") + row


def read_due(key: bytes) -> Due:
    """What a row of that table says."""
    at_us = int.from_bytes(key[1 : 1 + TIME_BYTES], "big")
    row = key[1 + TIME_BYTES :]
    return Due(at_us, row[:1], *split_name(row))


def _record(entry: Entry) -> _Record:
    return _Record(
        bytes(entry.digest),
        entry.size_bytes,
        entry.content_type,
        entry.created_us,
        entry.modified_us,
        entry.version,
        dict(entry.metadata),
        entry.expires_us,
    )


def _entry(bucket: str, key: str, record: _Record) -> Entry:
    return Entry(
        bucket,
        key,
        Digest(record.digest),
        record.size_bytes,
        record.content_type,
        record.created_us,
        record.modified_us,
        record.version,
        record.metadata,
        record.expires_us,
    )


def encode_entry(entry: Entry) -> bytes:
    """The value of an entry; its bucket and key are in the KV key."""
    return _encode(_record(entry))


def decode_entry(bucket: str, key: str, value: bytes) -> Entry:
    """Read an entry back.

    Raises:
        CorruptError: the value is no entry.
    """
    try:
        record = _decode(value)
    except msgspec.DecodeError as error:
        raise CorruptError("an entry is damaged", bucket=bucket, key=key) from error
    return _entry(bucket, key, record)


def encode_grave(grave: Grave) -> bytes:
    """The value of a grave."""
    return _encode(_GraveRecord(_record(grave.entry), grave.deleted_us, grave.until_us))


def decode_grave(bucket: str, key: str, value: bytes) -> Grave:
    """Read a grave back.

    Raises:
        CorruptError: the value is no grave.
    """
    try:
        record = _decode_grave(value)
    except msgspec.DecodeError as error:
        raise CorruptError("a deleted name is damaged", bucket=bucket, key=key) from error
    return Grave(_entry(bucket, key, record.entry), record.deleted_us, record.until_us)


def decode_row(key: bytes, value: bytes) -> Row:
    """Read a row of any table that names blobs.

    Raises:
        CorruptError: the value is none.
        UnicodeDecodeError: the key is none.
    """
    table = key[:1]
    if table == GRAVE:
        grave = decode_grave(*split_name(key), value)
        return Row(table, grave.entry, grave.until_us)
    end = -1 - VERSION_BYTES if table == VERSION else None
    return Row(table, decode_entry(*split_name(key[:end]), value))


def due_of(row: Row) -> Due | None:
    """What the row has coming."""
    at_us = {ENTRY: row.entry.expires_us, GRAVE: row.until_us}.get(row.table, 0)
    return Due(at_us, row.table, row.entry.bucket, row.entry.key) if at_us else None


def deltas(row: Row) -> tuple[int, ...]:
    """What the row adds to the counters of its bucket."""
    size_bytes = row.entry.size_bytes
    counted = {ENTRY: (1, size_bytes, 0, 0), VERSION: (0, 0, 1, size_bytes)}
    return counted.get(row.table, (0, 0, 0, 0))


def held(entry: Entry) -> Held:
    """What the reference of an entry says."""
    return Held(entry.size_bytes, entry.content_type, entry.created_us)


def encode_held(held: Held) -> bytes:
    """The value of a reference."""
    return _encode(held)


def decode_held(value: bytes) -> Held:
    """Read the value of a reference back.

    Raises:
        CorruptError: it is none.
    """
    try:
        return _decode_held(value)
    except msgspec.DecodeError as error:
        raise CorruptError("a reference is damaged") from error


def counting(bucket: str, entries: int, size_bytes: int) -> list[Write]:
    """The writes that count entries that come or go."""
    return _counting(bucket, (entries, size_bytes))


def counting_versions(bucket: str, versions: int, size_bytes: int) -> list[Write]:
    """The writes that count replaced entries that are kept or go."""
    return _counting(bucket, (0, 0, versions, size_bytes))


def _counting(bucket: str, deltas: tuple[int, ...]) -> list[Write]:
    return [Add(row, deltas) for row in usage_rows(bucket)] if any(deltas) else []


def storing(entry: Entry, row: bytes, value: bytes) -> list[Write]:
    """The writes that put a row and its reference there."""
    return [Put(row, value), Put(held_by_row(entry.digest, row), encode_held(held(entry)))]


def forgetting(row: Row, key: bytes) -> list[Write]:
    """The writes that remove a row and all that follows from it."""
    writes = dropping(row.entry, key) + _counting(row.entry.bucket, tuple(-n for n in deltas(row)))
    due = due_of(row)
    return [*writes, Delete(due_key(due))] if due is not None else writes


def dropping(entry: Entry, row: bytes) -> list[Write]:
    """The writes that remove a row and its reference."""
    return [Delete(row), Delete(held_by_row(entry.digest, row))]


def merge(writes: list[Write]) -> list[Write]:
    """Join the writes of one commit to one key: counters add up, of others the last wins."""
    merged: dict[bytes, Write] = {}
    for write in writes:
        before = merged.get(write.key)
        if isinstance(write, Add) and isinstance(before, Add):
            sums = tuple(a + b for a, b in zip_longest(before.deltas, write.deltas, fillvalue=0))
            merged[write.key] = Add(write.key, sums)
        else:
            merged[write.key] = write
    return list(merged.values())
