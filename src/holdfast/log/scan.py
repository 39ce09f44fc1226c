"""Reading a segment in order: valid records, and what is none.

Most records are small blobs, so those have a loop of their own that makes no object for each: it
checks header and payload where they stand in the window, and notes where the blob lies.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_intdigest as checksum

from holdfast.core import limits
from holdfast.log.index import LOCATION
from holdfast.log.record import (
    HEADER_BYTES,
    MAGIC,
    RAW,
    SUMMED_BYTES,
    VERSION,
    Header,
    Kind,
    unpack,
)
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import pack_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.seams import Disk
    from holdfast.log.segment import Segment

WINDOW_BYTES = 4 * limits.MIB
SEED_MASK = (1 << 64) - 1
BLOB = struct.Struct("<8sII4x32s4xQQ")  # a record's header: what a blob needs of it
RAW_BLOB = MAGIC + bytes((VERSION, Kind.BLOB, RAW, 0))
unpack_blob, pack_place = BLOB.unpack_from, LOCATION.pack

assert BLOB.size == HEADER_BYTES


class Record(NamedTuple):
    """A valid record and where it stands."""

    offset: int
    header: Header
    payload: memoryview

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + HEADER_BYTES + len(self.payload)


class Damage(NamedTuple):
    """Bytes that are no record and no unused space."""

    segment_id: int
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.size_bytes


class Scan:
    """Reads one segment in order, a window at a time."""

    def __init__(
        self,
        disk: Disk,
        segment: Segment,
        end: int | None = None,
        window_bytes: int | None = None,
    ) -> None:
        """Read up to `end`, if it is known: what stands behind it is not of the log."""
        self._disk = disk
        self._segment = segment
        size_bytes = segment.size_bytes
        self._size_bytes = size_bytes if end is None else min(end, size_bytes)
        self._window_bytes = window_bytes or WINDOW_BYTES
        self._data = b""
        self._window = memoryview(self._data)
        self._base = 0

    def records(self, start: int) -> Iterator[Record | Damage]:
        """Yield valid records and damage from `start` until only unused space follows."""
        offset = start
        while (found := self.next(offset)) is not None:
            yield found
            offset = found.end

    def next(self, offset: int) -> Record | Damage | None:
        """What stands at `offset`; None when nothing but unused space follows."""
        if offset >= self._size_bytes:
            return None
        found = self._record(offset)
        if found is not None:
            return found
        end = self._next_record(offset + 1)
        if end == self._size_bytes and self._is_unused(offset):
            return None
        return Damage(self._segment.header.id, offset, end - offset)

    def take_blobs(self, offset: int, places: dict[bytes, bytes | None]) -> tuple[int, int, int]:
        """Note the places of the valid blobs from `offset` on that the window holds.

        It ends at what is for `next`: another kind of record, damage, a blob that the end of the
        window cuts. Gives their number, the offset of the last one, and the offset behind it.
        """
        window, base, size_bytes = self._window, self._base, len(self._window)
        segment_id, salt, _ = self._segment.header
        last = at = offset - base
        count = 0
        while 0 <= at <= size_bytes - HEADER_BYTES:
            first, payload_bytes, content_bytes, name, total, own = unpack_blob(window, at)
            body = at + HEADER_BYTES
            end = body + payload_bytes
            if first != RAW_BLOB or end > size_bytes:
                break
            if checksum(window[at : at + SUMMED_BYTES], (salt + base + at) & SEED_MASK) != own:
                break
            if checksum(window[body:end]) != total:
                break
            places[name] = pack_place(segment_id, base + at, payload_bytes, content_bytes, RAW)
            count, last, at = count + 1, at, end
        return count, base + last, base + at

    def _record(self, offset: int) -> Record | Damage | None:
        salt = self._segment.header.salt
        at = offset - self._base
        if 0 <= at <= len(self._window) - HEADER_BYTES:
            header = unpack(self._window, salt, offset, at)
        else:
            header = unpack(self._bytes(offset, HEADER_BYTES), salt, offset)
            at = offset - self._base
        if header is None:
            return None
        payload = self._window[at + HEADER_BYTES : at + HEADER_BYTES + header.payload_bytes]
        if len(payload) < header.payload_bytes:
            payload = self._bytes(offset + HEADER_BYTES, header.payload_bytes)
        if len(payload) < header.payload_bytes or checksum(payload) != header.payload_sum:
            size_bytes = HEADER_BYTES + len(payload)
            return Damage(self._segment.header.id, offset, size_bytes)
        return Record(offset, header, payload)

    def _next_record(self, offset: int) -> int:
        """Where the next valid header stands, or the size of the file."""
        while offset < self._size_bytes:
            size_bytes = len(self._bytes(offset, self._window_bytes))
            data, base = self._data, self._base
            end = offset - base + size_bytes
            at = data.find(MAGIC, offset - base, end)
            while at >= 0:
                place = base + at
                head = self._bytes(place, HEADER_BYTES)
                if unpack(head, self._segment.header.salt, place) is not None:
                    return place
                at = data.find(MAGIC, at + 1, end)
            offset += max(1, size_bytes - len(MAGIC) + 1)
        return self._size_bytes

    def _is_unused(self, offset: int) -> bool:
        while offset < self._size_bytes:
            size_bytes = len(self._bytes(offset, self._window_bytes))
            at = offset - self._base
            if self._data.count(0, at, at + size_bytes) != size_bytes:
                return False
            offset += size_bytes
        return True

    def _bytes(self, offset: int, size_bytes: int) -> memoryview:
        size_bytes = max(0, min(size_bytes, self._size_bytes - offset))
        at = offset - self._base
        if at < 0 or at + size_bytes > len(self._window):
            step = max(size_bytes, self._window_bytes)
            step = min(step, self._size_bytes - offset)
            self._data, self._window = b"", memoryview(b"")  # one at a time
            self._data = self._disk.pread(self._segment.descriptor, step, offset)
            self._window, self._base, at = memoryview(self._data), offset, 0
        return self._window[at : at + size_bytes]


def header_damage(disk: Disk, segment: Segment) -> list[Damage]:
    """A segment's header that could be read although it is damaged."""
    is_whole = disk.pread(segment.descriptor, FIRST_OFFSET, 0) == pack_header(segment.header)
    return [] if is_whole else [Damage(segment.header.id, 0, FIRST_OFFSET)]
