"""Records: the self-describing units of the log (docs/format.md, "Records").

A record is a header of 72 bytes and its payload. The header's checksum is seeded with the salt of
its segment and with its own offset, so bytes that a user stored, or a record copied to another
place, are never taken for a record. Every header also says up to where its segment was known to be
durable when it was written: damage below that line is rot, damage above it is a torn tail.
"""

import struct
from enum import IntEnum
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from xxhash import xxh3_64_intdigest

from holdfast.core.digest import DIGEST_BYTES
from holdfast.core.seams import Buffer

MAGIC = b"\x89HFR"
VERSION = 1
HEADER = struct.Struct("<4s4B3I32sIQQ")
HEADER_BYTES = HEADER.size
SUMMED_BYTES = HEADER_BYTES - 8  # the header's checksum covers all before itself
NO_NAME = bytes(32)
RAW = 0  # codec: the payload is the content

assert HEADER_BYTES == 72

Writes = list[tuple[bytes, bytes | None]]
"""What one commit changes: keys with their new values; None deletes."""
Carried = list[tuple[int, bytes, bytes | None]]
"""Writes of older commits in a new place: the revision of each, key and value."""


class Kind(IntEnum):
    """What a record holds."""

    BLOB = 1
    COMMIT = 2
    SEAL = 3
    REMOVE = 4
    MANIFEST = 5
    CARRY = 6
    DROP = 7


class Header(NamedTuple):
    """The fields of a header, in their order on disk."""

    kind: int
    codec: int
    payload_bytes: int
    content_bytes: int
    durable_bytes: int
    name: bytes
    age_s: int
    """Seconds between the making of the segment and that of the record."""
    payload_sum: int


def pack(header: Header, salt: int, offset: int) -> bytes:
    """Encode `header` for `offset` of the segment that has `salt`."""
    kind, codec, *rest = header
    summed = HEADER.pack(MAGIC, VERSION, kind, codec, 0, *rest, 0)[:SUMMED_BYTES]
    return summed + xxh3_64_intdigest(summed, _seed(salt, offset)).to_bytes(8, "little")


def unpack(data: Buffer, salt: int, offset: int, at: int = 0) -> Header | None:
    """Decode the header that should stand at `offset`; None when it is damaged or not there.

    Its bytes begin at `at` of `data`.
    """
    if len(data) < at + HEADER_BYTES:
        return None
    fields = HEADER.unpack_from(data, at)
    if fields[0] != MAGIC or fields[1] != VERSION:
        return None
    if xxh3_64_intdigest(data[at : at + SUMMED_BYTES], _seed(salt, offset)) != fields[-1]:
        return None
    return Header(fields[2], fields[3], *fields[5:11])


def unpack_trusted(data: Buffer) -> tuple[bytes, int, int]:
    """Read name, payload size and payload checksum of a header whose place the index knows.

    The caller compares name and size with the index and the payload with its checksum, which
    leaves nothing of the header's own checksum to prove.
    """
    fields = HEADER.unpack_from(data)
    return fields[8], fields[5], fields[10]


def checksum(payload: Buffer) -> int:
    """The payload's checksum: XXH3, 64 bits."""
    return xxh3_64_intdigest(payload)


NUMBER_MAX = 1 << 62
Number = Annotated[int, Meta(ge=0, lt=NUMBER_MAX)]
"""A revision, an id or an offset: what the index has room for."""
Key = Annotated[bytes, Meta(min_length=1)]
Commits = Annotated[list[list[tuple[Key, bytes | None]]], Meta(min_length=1)]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Commits)
_carried_decoder = msgspec.msgpack.Decoder(list[tuple[Number, Key, bytes | None]])
_drop_decoder = msgspec.msgpack.Decoder(list[Number])


def encode_commits(commits: list[Writes]) -> bytes:
    """Encode the commits of one batch; the first has the revision that the record's name holds."""
    return _encoder.encode(commits)


def decode_commits(payload: Buffer) -> list[Writes]:
    """Decode what `encode_commits` made; the payload's checksum was verified before.

    Raises:
        msgspec.DecodeError: it is nothing of the kind.
    """
    return _decoder.decode(payload)


def encode_carried(writes: Carried) -> bytes:
    """Encode the writes that a compaction moves."""
    return _encoder.encode(writes)


def decode_carried(payload: Buffer) -> Carried:
    """Decode what `encode_carried` made; the payload's checksum was verified before.

    Raises:
        msgspec.DecodeError: it is nothing of the kind.
    """
    return _carried_decoder.decode(payload)


def encode_drop(segment_ids: list[int]) -> bytes:
    """Encode which segments are not part of the log any more."""
    return _encoder.encode(segment_ids)


def decode_drop(payload: Buffer) -> list[int]:
    """Decode what `encode_drop` made; the payload's checksum was verified before.

    Raises:
        msgspec.DecodeError: it is nothing of the kind.
    """
    return _drop_decoder.decode(payload)


def decode_removed(payload: Buffer) -> list[bytes]:
    """Take the digests of a removal apart.

    Raises:
        msgspec.DecodeError: they are none.
    """
    if len(payload) % DIGEST_BYTES:
        raise msgspec.DecodeError("a digest is cut")
    starts = range(0, len(payload), DIGEST_BYTES)
    return [bytes(payload[at : at + DIGEST_BYTES]) for at in starts]


def revision_name(revision: int) -> bytes:
    """The name of a commit record: its first revision."""
    return revision.to_bytes(8, "little") + NO_NAME[8:]


def name_revision(name: bytes) -> int:
    """Read `revision_name` back.

    Raises:
        msgspec.DecodeError: it is none.
    """
    revision = int.from_bytes(name[:8], "little")
    if not 0 < revision < NUMBER_MAX:
        raise msgspec.DecodeError("no commit has such a revision")
    return revision


def _seed(salt: int, offset: int) -> int:
    return (salt + offset) & 0xFFFFFFFFFFFFFFFF
