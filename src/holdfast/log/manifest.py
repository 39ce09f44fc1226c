"""Manifests: the first record of a segment says which others the log has, and where each ends.

So a segment that is lost is known to be missing, one that compaction dropped is not missed, and
bytes behind the end of a segment that was left after a failed write are never taken for a part of
the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.log.record import (
    HEADER_BYTES,
    NO_NAME,
    Header,
    Kind,
    Number,
    checksum,
    pack,
    unpack,
)
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET

if TYPE_CHECKING:
    from holdfast.core.seams import Buffer, Disk
    from holdfast.log.segment import Segment, SegmentHeader


class Manifest(msgspec.Struct, array_like=True, frozen=True):
    """The payload, as a MessagePack array."""

    revision: Number
    """The newest when the segment was made."""
    segments: list[tuple[Number, Number]]
    """The ids of all older segments, and where each ends."""


class Found(NamedTuple):
    """A manifest, the header of its record, and where the record ends."""

    manifest: Manifest
    header: bytes
    end: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Manifest).decode


def pack_manifest(manifest: Manifest, segment: SegmentHeader) -> tuple[bytes, bytes]:
    """Make header and payload of the record that a segment begins with."""
    payload = _encode(manifest)
    total = checksum(payload)
    header = Header(Kind.MANIFEST, 0, len(payload), 0, FIRST_OFFSET, NO_NAME, 0, total)
    return pack(header, segment.salt, FIRST_OFFSET), payload


def decode_manifest(payload: Buffer) -> Manifest:
    """Decode a payload whose checksum was verified before.

    Raises:
        msgspec.DecodeError: it is none of a manifest.
    """
    return _decode(payload)


def read_manifest(disk: Disk, segment: Segment) -> Found | None:
    """Read the manifest of a segment; None when it is damaged, or of format 1 and has none.

    Raises:
        OSError: the disk refuses.
    """
    packed = disk.pread(segment.descriptor, HEADER_BYTES, FIRST_OFFSET)
    header = unpack(packed, segment.header.salt, FIRST_OFFSET)
    if header is None or header.kind != Kind.MANIFEST:
        return None
    offset = FIRST_OFFSET + HEADER_BYTES
    payload = disk.pread(segment.descriptor, header.payload_bytes, offset)
    if checksum(payload) != header.payload_sum:
        return None
    try:
        manifest = _decode(payload)
    except msgspec.DecodeError:
        return None
    return Found(manifest, packed, offset + len(payload))
