"""The head of a blob in parts: which upload holds its content, and a checksum for each chunk.

    fields of 80 bytes | xxh3_64 of each 1 MiB chunk | xxh3_64 of all before

All integers have their least significant byte first. A part has `part_bytes` bytes of the content,
the last one the rest; they begin at chunks, so a chunk never lies in two.
"""

import struct
from typing import NamedTuple

import xxhash

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, UnsupportedError
from holdfast.core.limits import CHUNK_BYTES
from holdfast.stores.footer import CHECKSUM_BYTES, chunk_count

MAGIC = b"HFPARTS\n"
VERSION = 1
FIELDS = struct.Struct("<8sIIQQ32s16s")
"""Magic, version, chunk bytes, part bytes, content bytes, digest, upload."""


class Description(NamedTuple):
    """What a head says."""

    ref: BlobRef
    upload: str
    part_bytes: int
    checksums: bytes
    """Eight bytes for each chunk."""


def head_bytes(size_bytes: int) -> int:
    """How large the head of a blob of `size_bytes` is."""
    return FIELDS.size + (chunk_count(size_bytes) + 1) * CHECKSUM_BYTES


def pack(described: Description) -> bytes:
    """Make the content of a head."""
    ref, upload, part_bytes, checksums = described
    assert part_bytes % CHUNK_BYTES == 0
    assert len(checksums) == chunk_count(ref.size_bytes) * CHECKSUM_BYTES
    fields = FIELDS.pack(
        MAGIC,
        VERSION,
        CHUNK_BYTES,
        part_bytes,
        ref.size_bytes,
        ref.digest,
        bytes.fromhex(upload),
    )
    covered = fields + checksums
    return covered + xxhash.xxh3_64_intdigest(covered).to_bytes(CHECKSUM_BYTES, "little")


def unpack(data: bytes, digest: Digest) -> Description:
    """Read the head of `digest`.

    Raises:
        CorruptError: it is damaged, or belongs to another blob.
        UnsupportedError: a newer holdfast wrote it.
    """
    covered, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    sound = xxhash.xxh3_64_intdigest(covered) == int.from_bytes(checksum, "little")
    if len(covered) < FIELDS.size or not sound:
        raise CorruptError("the head of a blob is damaged", digest=str(digest))
    fields = FIELDS.unpack_from(covered)
    magic, version, chunk_bytes, part_bytes, size_bytes, named, upload = fields
    if magic == MAGIC and version > VERSION:
        raise UnsupportedError("a newer holdfast wrote this blob", version=version)
    checksums = covered[FIELDS.size :]
    if (
        (magic, chunk_bytes, named) != (MAGIC, CHUNK_BYTES, digest)
        or len(checksums) != chunk_count(size_bytes) * CHECKSUM_BYTES
        or part_bytes == 0
        or part_bytes % CHUNK_BYTES
    ):
        raise CorruptError("the head is that of another blob", digest=str(digest))
    return Description(BlobRef(digest, size_bytes), upload.hex(), part_bytes, checksums)
