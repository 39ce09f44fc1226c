"""What a shard's file holds (docs/format.md, "Shards"): rows, chunks, and their checksums.

    b"k" + a key of the KV      the value
    b"b" + a digest             where the bytes of a blob are
    b"l" + the id of chunks     chunks that no blob has: on their way in, or on their way out

SQLite has no checksums of its own, so each row has one that covers its key, too: a row that rots or
trades places with another is never served.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from holdfast.core.errors import CorruptError

KEY, BLOB, LOOSE = b"k", b"b", b"l"
BLOB_END = b"c"
LOOSE_END = b"m"
ID = struct.Struct(">Q")
BLOB_VALUE = struct.Struct("<IQQQ")
NUMBER_BITS = 24
"""Of the place of a chunk: its number in its blob; the id of the blob's chunks is above."""
NUMBERS = 1 << NUMBER_BITS
IDS = 1 << 63 - NUMBER_BITS
SIGN = 1 << 63
SUM_BYTES = 8
NO_SUM = 2 * SIGN  # which no integer of SQLite's is
POWERS = [1 << bit for bit in range(64)]
REVISION_BITS = 63
UNFLIP_BYTES_MAX = 16_384  # a second or so for one row

Stored = tuple[int, bytes, int]
"""Revision, value and checksum."""


class Row(NamedTuple):
    """What a key has: the revision that wrote it, 0 where that means nothing, and the value."""

    revision: int
    value: bytes


class Blob(NamedTuple):
    """Where a blob is: the shard with its chunks, and their id."""

    home: int
    id: int
    size_bytes: int
    stored_us: int

    def pack(self) -> bytes:
        """Encode."""
        return BLOB_VALUE.pack(*self)


class Chunk(NamedTuple):
    """A part of a blob, under the place that orders it."""

    place: int
    sum: int
    data: bytes


class Change(NamedTuple):
    """A key of the KV that a commit changed, for those who watch; None means deleted."""

    revision: int
    key: bytes
    value: bytes | None


class State(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a shard knows of the last epoch that it took part in."""

    epoch: int = 0
    revision: int = 0
    """The newest one behind it."""
    oldest: int = 1
    """The first revision of the history that is kept."""
    members: list[int] = []
    """The shards that took part."""
    before: list[int] = []
    """For each shard, the last epoch that it took part in before this one."""
    keys: int = 0
    """In this shard, as the two that follow."""
    blobs: int = 0
    blob_bytes: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(State).decode


def loose_key(number: int) -> bytes:
    """The key of the row that says that no blob has the chunks with this id."""
    return LOOSE + ID.pack(number)


def loose_id(key: bytes) -> int:
    """The id in such a key; 0 if it is damaged."""
    return int.from_bytes(key[1:], "big") if len(key) == 1 + ID.size else 0


def read_blob(value: bytes) -> Blob:
    """Decode."""
    return Blob(*BLOB_VALUE.unpack(value))


def likely_blob(key: bytes, stored: Stored) -> Blob | None:
    """Where a blob was, going by a row that may be damaged; None when that makes no sense."""
    right = unflipped(key, stored)
    value = stored[1] if right is None or right[0] != key else right[1].value
    if not is_bytes(value) or len(value) != BLOB_VALUE.size:
        return None
    blob = read_blob(value)
    return blob if blob.id < IDS else None


def place_of(blob_id: int, number: int) -> int:
    """Where chunk `number` of a blob is, in the order of places."""
    assert number < NUMBERS
    return blob_id << NUMBER_BITS | number


def row_sum(key: bytes, revision: int, value: bytes | None) -> int:
    """The checksum of a row, or of a change; of what a damaged page gives out instead, none."""
    if not (is_bytes(key) and is_whole(revision) and (value is None or is_bytes(value))):
        return NO_SUM
    total = xxh3_64_intdigest(b"%d %d " % (len(key), revision) + key + (value or b""))
    return signed(total if value is not None else ~total & (SIGN * 2 - 1))


def unflipped(key: bytes, stored: Stored) -> tuple[bytes, Row] | None:
    """What a damaged row was if one bit of it has flipped, which its checksum proves."""
    revision, value, total = stored
    if not (is_bytes(value) and is_whole(total) and is_whole(revision)):
        return None
    if (row_sum(key, revision, value) ^ total) % (2 * SIGN) in POWERS:
        return key, Row(revision, value)
    packed = key + value
    if len(packed) > UNFLIP_BYTES_MAX:
        return None
    for power in POWERS[:REVISION_BITS]:
        if row_sum(key, revision ^ power, value) == total:
            return key, Row(revision ^ power, value)
    for bit in range(len(packed) * 8):
        tried = bytearray(packed)
        tried[bit // 8] ^= 1 << bit % 8
        data = bytes(tried)
        if row_sum(data[: len(key)], revision, data[len(key) :]) == total:
            return data[: len(key)], Row(revision, data[len(key) :])
    return None


def chunk_of(place: int, data: bytes) -> Chunk:
    """Make a chunk with its checksum."""
    return Chunk(place, signed(xxh3_64_intdigest(data, place)), data)


def is_sound(place: int, total: int, data: bytes) -> bool:
    """Whether a chunk is what was stored in this place."""
    return is_bytes(data) and signed(xxh3_64_intdigest(data, place)) == total


def is_bytes(given: object) -> bool:
    """Whether it is what it should be: a damaged page may give out anything."""
    return isinstance(given, bytes)


def is_whole(given: object) -> bool:
    """The same of an integer."""
    return isinstance(given, int)


def signed(number: int) -> int:
    """As SQLite has integers."""
    return number - 2 * SIGN if number >= SIGN else number


def checked(key: bytes, stored: Stored, shard: int) -> Row:
    """Hold a row to its checksum.

    Raises:
        CorruptError: it is not what was stored.
    """
    revision, value, total = stored
    if row_sum(key, revision, value) != total:
        raise CorruptError("a row is damaged", shard=shard, key=key[:100].hex())
    return Row(revision, value)


def pack_state(state: State) -> bytes:
    """Encode, with a checksum."""
    packed = _encode(state)
    return xxh3_64_intdigest(packed).to_bytes(SUM_BYTES, "little") + packed


def read_state(packed: bytes) -> State | None:
    """Decode; None when it is damaged."""
    if not is_bytes(packed):
        return None
    total, body = packed[:SUM_BYTES], packed[SUM_BYTES:]
    if xxh3_64_intdigest(body).to_bytes(SUM_BYTES, "little") != total:
        return None
    return _decode(body)
