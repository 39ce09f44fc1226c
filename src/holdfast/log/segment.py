"""Segments: the files of the log (docs/format.md, "Segments").

A segment is `<20 digits>.seg` with a header of 64 bytes and then records. The header holds the
salt, without which no record can be told from garbage, twice, each with a checksum. Ids grow and
are never used again, because the newest segment is never removed. Only the newest is written;
space is reserved ahead of it in zeros, so that a sync has no file size to write and what frees
space always finds some.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from xxhash import xxh3_64_intdigest

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, FullError, UnavailableError
from holdfast.core.seams import Buffer, Disk

MAGIC = b"\x89HFSEG\r\n"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQQQQ")  # the last three: salt again, its checksum, checksum
HEADER_BYTES = HEADER.size
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
NAME = re.compile(r"([0-9]{20})\.seg")

assert HEADER_BYTES == 64


class SegmentHeader(NamedTuple):
    """Who a segment is."""

    id: int
    salt: int
    created_us: int


def segment_path(root: Path, segment_id: int) -> Path:
    """Where a segment lies."""
    return root / f"{segment_id:020d}.seg"


def segment_ids(root: Path) -> list[int]:
    """Ids of the segments in `root`, oldest first; other files are not looked at."""
    return sorted(int(match[1]) for path in root.iterdir() if (match := NAME.fullmatch(path.name)))


def pack_header(header: SegmentHeader) -> bytes:
    """Encode a segment's header."""
    spare = (header.salt, _spare_sum(header.id, header.salt))
    packed = HEADER.pack(MAGIC, VERSION, HEADER_BYTES, *header, *spare, 0)[:-8]
    return packed + xxh3_64_intdigest(packed).to_bytes(8, "little")


def unpack_header(data: Buffer, segment_id: int) -> SegmentHeader | None:
    """Decode the header of a segment; None when it is another's or too damaged."""
    if len(data) < HEADER_BYTES:
        return None
    magic, version, header_bytes, *fields, salt, spare_sum, total = HEADER.unpack_from(data)
    header = SegmentHeader(*fields)
    is_known = (magic, version, header_bytes) == (MAGIC, VERSION, HEADER_BYTES)
    if is_known and total.to_bytes(8, "little") == pack_header(header)[-8:]:
        return header if header.id == segment_id else None
    is_spare_good = spare_sum == _spare_sum(segment_id, salt)
    return SegmentHeader(segment_id, salt, 0) if is_spare_good else None


def _spare_sum(segment_id: int, salt: int) -> int:
    return xxh3_64_intdigest(struct.pack("<QQ", segment_id, salt))


class Segment:
    """An open segment; its descriptor is closed when nobody refers to it any more."""

    __slots__ = ("__weakref__", "_disk", "descriptor", "header", "path")

    def __init__(self, disk: Disk, path: Path, descriptor: int, header: SegmentHeader) -> None:
        self._disk = disk
        self.path = path
        self.descriptor = descriptor
        self.header = header

    @classmethod
    def open(cls, disk: Disk, root: Path, segment_id: int, *, writable: bool = False) -> Self:
        """Open an existing segment and check who it is.

        Raises:
            CorruptError: not a regular file, or its header is damaged or another segment's.
            OSError: it cannot be opened.
        """
        path = segment_path(root, segment_id)
        mode = os.O_RDWR if writable else os.O_RDONLY
        descriptor = disk.open(path, mode | os.O_NONBLOCK)  # which only a pipe would mind
        header = None
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                header = unpack_header(disk.pread(descriptor, HEADER_BYTES, 0), segment_id)
        finally:
            if header is None:
                disk.close(descriptor)
        if header is None:
            raise CorruptError("the segment's header is damaged", file=path.name)
        return cls(disk, path, descriptor, header)

    @classmethod
    def create(
        cls,
        disk: Disk,
        root: Path,
        header: SegmentHeader,
        first: Sequence[Buffer] = (),
        reserve_bytes: int | None = None,
    ) -> Self:
        """Make a new segment, with its `first` record and a reserve, that survives a power cut.

        Raises:
            OSError: nothing that recovery would take for a segment is left behind.
        """
        path = segment_path(root, header.id)
        temporary = path.with_suffix(".new")
        descriptor = disk.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            used = disk.pwrite_all(descriptor, (pack_header(header), *first), 0)
            ahead_bytes = limits.RESERVE_BYTES if reserve_bytes is None else reserve_bytes
            disk.allocate(descriptor, used, max(1, ahead_bytes))
            disk.sync(descriptor)
            disk.rename(temporary, path)
            disk.sync_directory(root)
        except OSError:
            disk.close(descriptor)
            for made in (temporary, path):
                with suppress(OSError):
                    disk.unlink(made)
            raise
        return cls(disk, path, descriptor, header)

    def check_path(self) -> None:
        """Hold the file that has the name now to be the one that is open.

        Raises:
            CorruptError: it is another one, or a link.
            OSError: there is none.
        """
        named, opened = self.path.lstat(), os.fstat(self.descriptor)
        if not os.path.samestat(named, opened):
            raise CorruptError("another file has the segment's name", file=self.path.name)

    @property
    def size_bytes(self) -> int:
        """Size of the file, reserved space included."""
        return os.fstat(self.descriptor).st_size

    def reserve(self, allocated: int, needed: int) -> int:
        """Make room for `needed` bytes when only `allocated` are; return what is now."""
        if needed <= allocated:
            return allocated
        step = limits.SEGMENT_ALLOCATE_BYTES
        target = -(-needed // step) * step
        try:
            self._disk.allocate(self.descriptor, allocated, target - allocated)
        except OSError as error:
            if error.errno not in FULL:
                raise
            target = needed
            self._disk.allocate(self.descriptor, allocated, target - allocated)
        return target

    def __del__(self) -> None:
        """Close the descriptor."""
        self._disk.close(self.descriptor)


def map_disk_error(error: OSError, what: str = "the disk of the log refuses") -> BlobError:
    """Say what an error of the log's disk means."""
    if error.errno in FULL:
        return FullError("the disk of the log is full")
    return UnavailableError(f"{what}: {error.strerror}")
