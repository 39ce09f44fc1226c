"""The end of a large blob's file: a checksum for each chunk, then the footer (docs/format.md).

    content, from offset 0 | xxh3_64 of each 1 MiB chunk | footer of 64 bytes

All integers have their least significant byte first.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from holdfast.core.digest import DIGEST_BYTES, BlobRef, Digest
from holdfast.core.errors import CorruptError, UnsupportedError
from holdfast.core.limits import CHUNK_BYTES

MAGIC = b"HFLARGE\n"
VERSION = 1
FOOTER = struct.Struct("<8sIIQ32sQ")  # magic, version, chunk bytes, content bytes, digest, checksum
FOOTER_BYTES = FOOTER.size
CHECKSUM_BYTES = 8


class Footer(NamedTuple):
    """What the end of the file says about its content."""

    ref: BlobRef
    checksums: bytes
    """Eight bytes for each chunk."""

    def checksum(self, chunk: int) -> int:
        """The xxh3_64 that chunk number `chunk` was written with."""
        at = chunk * CHECKSUM_BYTES
        return int.from_bytes(self.checksums[at : at + CHECKSUM_BYTES], "little")


class Checksums:
    """The checksums of content that arrives in pieces of any size."""

    __slots__ = ("_chunk", "_done", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = 0
        self._chunk = xxhash.xxh3_64()
        self._done = bytearray()

    def update(self, piece: memoryview) -> None:
        """Take the next bytes."""
        for part in _split(piece, CHUNK_BYTES - self.size_bytes % CHUNK_BYTES):
            self._chunk.update(part)
            self.size_bytes += len(part)
            if self.size_bytes % CHUNK_BYTES == 0:
                self._end()

    def finish(self) -> bytes:
        """Give the checksums of all chunks; nothing may come behind."""
        if self.size_bytes % CHUNK_BYTES:
            self._end()
        return bytes(self._done)

    def _end(self) -> None:
        self._done += self._chunk.intdigest().to_bytes(CHECKSUM_BYTES, "little")
        self._chunk.reset()


def chunk_count(size_bytes: int) -> int:
    """How many chunks, the last one maybe short, make up `size_bytes` of content."""
    return -(-size_bytes // CHUNK_BYTES)


def tail_bytes(size_bytes: int) -> int:
    """How many bytes follow `size_bytes` of content."""
    return chunk_count(size_bytes) * CHECKSUM_BYTES + FOOTER_BYTES


def content_bytes(file_bytes: int) -> int | None:
    """The size of the content of a file of `file_bytes`; None when no content makes that size.

    >>> content_bytes(FOOTER_BYTES), content_bytes(FOOTER_BYTES + 1)
    (0, None)
    >>> content_bytes(10 + tail_bytes(10))
    10
    """
    body_bytes = file_bytes - FOOTER_BYTES
    chunks = -(-body_bytes // (CHUNK_BYTES + CHECKSUM_BYTES))
    size_bytes = body_bytes - chunks * CHECKSUM_BYTES
    return size_bytes if size_bytes >= 0 and chunk_count(size_bytes) == chunks else None


def pack(ref: BlobRef, checksums: bytes) -> bytes:
    """Make the tail of a file."""
    assert len(checksums) == chunk_count(ref.size_bytes) * CHECKSUM_BYTES
    fields = FOOTER.pack(MAGIC, VERSION, CHUNK_BYTES, ref.size_bytes, ref.digest, 0)
    covered = checksums + fields[:-CHECKSUM_BYTES]
    return covered + xxhash.xxh3_64_intdigest(covered).to_bytes(CHECKSUM_BYTES, "little")


def unpack(tail: bytes, ref: BlobRef) -> Footer:
    """Read the tail of the file that should hold `ref`.

    Raises:
        CorruptError: it is damaged, or belongs to another blob.
        UnsupportedError: a newer holdfast wrote it.
    """
    if len(tail) != tail_bytes(ref.size_bytes):
        raise CorruptError("the file was cut", digest=str(ref.digest))
    covered, checksum = tail[:-CHECKSUM_BYTES], tail[-CHECKSUM_BYTES:]
    if xxhash.xxh3_64_intdigest(covered) != int.from_bytes(checksum, "little"):
        raise CorruptError("the footer is damaged", digest=str(ref.digest))
    magic, version, chunk_bytes, size_bytes, digest, _ = FOOTER.unpack(tail[-FOOTER_BYTES:])
    if magic == MAGIC and version > VERSION:
        raise UnsupportedError("a newer holdfast wrote this blob", version=version)
    assert len(digest) == DIGEST_BYTES
    if (magic, chunk_bytes, size_bytes, digest) != (MAGIC, CHUNK_BYTES, *reversed(ref)):
        raise CorruptError("the footer is that of another blob", digest=str(ref.digest))
    return Footer(BlobRef(Digest(digest), size_bytes), tail[:-FOOTER_BYTES])


def _split(view: memoryview, first_bytes: int) -> Iterator[memoryview]:
    """Cut at `first_bytes`, and every chunk from there."""
    if view:
        yield view[:first_bytes]
    for start in range(first_bytes, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
