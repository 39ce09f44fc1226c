"""Recovery: read segments record by record, tell a torn tail from rot, bring the index up to date.

Damage in the newest segment at or behind the line that was durable is what a crash leaves of an
append nobody was told of: the tail is cut off there. Damage anywhere else is rot: it is reported
with its exact extent, left where it is, and every valid record behind it is kept. After the death
of a process alone (the machine did not boot between) an append is missing from its end, never
from its middle, so valid records behind damage make it rot as well.
"""

from __future__ import annotations

import os
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.kv import Versioned
from holdfast.log.index import Last, Location, Position
from holdfast.log.record import (
    HEADER_BYTES,
    MAGIC,
    Header,
    Kind,
    checksum,
    decode_commits,
    name_revision,
    pack,
    unpack,
)
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment, SegmentHeader, pack_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.index import Index, Txn

WINDOW_BYTES = 4 * limits.MIB
TRANSACTION_RECORDS = 10_000


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


class Recovery(NamedTuple):
    """What opening the log found and did."""

    segments: int
    records: int
    """Records applied to the index."""
    truncated_bytes: int
    """Cut off the newest segment: appends that nobody was told of."""
    damages: tuple[Damage, ...]


class Scan:
    """Reads one segment in order, in windows of 4 MiB."""

    def __init__(self, disk: Disk, segment: Segment) -> None:
        self._disk = disk
        self._segment = segment
        self._size_bytes = segment.size_bytes
        self._window = memoryview(b"")
        self._base = 0

    def records(self, start: int) -> Iterator[Record | Damage]:
        """Yield valid records and damage from `start` until only unused space follows."""
        offset = start
        while offset < self._size_bytes:
            found = self._record(offset)
            if found is None:
                end = self._next_record(offset + 1)
                if end == self._size_bytes and self._is_unused(offset):
                    return
                found = Damage(self._segment.header.id, offset, end - offset)
            yield found
            offset = found.end if isinstance(found, Record) else offset + found.size_bytes

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
            window = self._bytes(offset, WINDOW_BYTES).tobytes()
            at = window.find(MAGIC)
            while at >= 0:
                place = offset + at
                head = self._bytes(place, HEADER_BYTES)
                if unpack(head, self._segment.header.salt, place) is not None:
                    return place
                at = window.find(MAGIC, at + 1)
            offset += max(1, len(window) - len(MAGIC) + 1)
        return self._size_bytes

    def _is_unused(self, offset: int) -> bool:
        while offset < self._size_bytes:
            window = self._bytes(offset, WINDOW_BYTES).tobytes()
            if window.count(0) != len(window):
                return False
            offset += len(window)
        return True

    def _bytes(self, offset: int, size_bytes: int) -> memoryview:
        size_bytes = max(0, min(size_bytes, self._size_bytes - offset))
        at = offset - self._base
        if at < 0 or at + size_bytes > len(self._window):
            step = max(size_bytes, WINDOW_BYTES)
            data = self._disk.pread(self._segment.descriptor, step, offset)
            self._window, self._base, at = memoryview(data), offset, 0
        return self._window[at : at + size_bytes]


class Step:
    """Records of one segment that one index transaction applies."""

    def __init__(self, index: Index, txn: Txn, segment: SegmentHeader, position: Position) -> None:
        self._index = index
        self._txn = txn
        self._segment_id = segment.id
        self._salt = segment.salt
        self._offset = position.offset
        self._revision = position.revision
        self._blobs: dict[bytes, Location] = {}
        self._keys: dict[bytes, Versioned | None] = {}
        self._last: Record | None = None
        self.damages: list[Damage] = []
        self.records = 0

    def take(self, found: Record | Damage) -> None:
        """Take the next record, in the order of the log."""
        if isinstance(found, Damage):
            self.damages.append(found)
            self._offset = found.offset + found.size_bytes
            return
        self.records += 1
        self._last = found
        header, payload = found.header, found.payload
        if header.kind == Kind.BLOB:
            sizes = (header.payload_bytes, header.content_bytes, header.codec)
            self._blobs[header.name] = Location(self._segment_id, found.offset, *sizes)
        elif header.kind == Kind.REMOVE:
            self._remove([bytes(payload[at : at + 32]) for at in range(0, len(payload), 32)])
        elif header.kind == Kind.COMMIT:
            self._commit(header, found)
        self._offset = found.end

    def finish(self) -> Position:
        """Write what was taken to the index, and how far the log is applied now."""
        self._index.put_blobs(self._txn, self._blobs)
        self._index.put_keys(self._txn, self._keys)
        last = None
        if self._last is not None:
            header = pack(self._last.header, self._salt, self._last.offset)
            last = Last(self._segment_id, self._last.offset, header)
        position = Position(self._segment_id, self._offset, self._revision)
        self._index.set_applied(self._txn, position, last)
        return position

    def _commit(self, header: Header, found: Record) -> None:
        first = revision = name_revision(header.name)
        self._index.put_batch(self._txn, first, self._segment_id, found.offset)
        for revision, writes in enumerate(decode_commits(found.payload), first):
            for key, value in writes:
                self._keys[key] = None if value is None else Versioned(value, revision)
        self._revision = revision

    def _remove(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._blobs.pop(digest, None)
            self._index.remove_blob(self._txn, digest)


def header_damage(disk: Disk, segment: Segment) -> list[Damage]:
    """A segment's header that could be read although it is damaged."""
    is_whole = disk.pread(segment.descriptor, FIRST_OFFSET, 0) == pack_header(segment.header)
    return [] if is_whole else [Damage(segment.header.id, 0, FIRST_OFFSET)]


class Replay:
    """Brings an index up to the end of the log."""

    def __init__(self, root: Path, disk: Disk, index: Index, *, same_boot: bool) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._same_boot = same_boot
        self._damages: list[Damage] = []
        self._records = 0
        self._truncated_bytes = 0
        self._torn: int | None = None

    def run(
        self, segment_ids: list[int], missing: Sequence[Damage]
    ) -> tuple[Segment, Position, Recovery]:
        """Apply what the index lacks; return the newest segment, open for writing, and its end.

        `missing` is what was known and is not there any more; it is reported with the damages.

        Raises:
            CorruptError: a segment's own header is damaged.
            OSError: the disk refuses.
        """
        assert segment_ids
        self._damages += missing
        position = self._index.applied() or Position(segment_ids[0], FIRST_OFFSET, 0)
        newest = segment_ids[-1]
        segment = None
        for segment_id in segment_ids:
            if segment_id < position.segment_id:
                continue
            if segment_id > position.segment_id:
                position = Position(segment_id, FIRST_OFFSET, position.revision)
            is_newest = segment_id == newest
            segment = Segment.open(self._disk, self._root, segment_id, writable=is_newest)
            self._damages += header_damage(self._disk, segment)
            found = Scan(self._disk, segment).records(position.offset)
            position = self._apply(
                segment, position, self._untorn(segment, found) if is_newest else found
            )
        assert segment is not None
        self._cut(segment, position.offset)
        report = Recovery(
            len(segment_ids), self._records, self._truncated_bytes, tuple(self._damages)
        )
        return segment, position, report

    def _untorn(
        self, segment: Segment, scan: Iterator[Record | Damage]
    ) -> Iterator[Record | Damage]:
        """Pass on what stands before a torn tail; only damage makes it look for one."""
        is_first = True
        for found in scan:
            if is_first and isinstance(found, Damage):
                self._torn = self._durable_end(segment, found.offset)
                is_first = False
            if self._torn is not None and found.offset >= self._torn:
                return
            yield found

    def _durable_end(self, segment: Segment, start: int) -> int | None:
        """Where the tail of the newest segment is torn; None when it is not."""
        torn: int | None = None
        for found in Scan(self._disk, segment).records(start):
            if isinstance(found, Damage):
                torn = found.offset if torn is None else torn
            elif torn is not None and (self._same_boot or found.header.durable_bytes > torn):
                torn = None
        return torn

    def _apply(
        self, segment: Segment, position: Position, scan: Iterator[Record | Damage]
    ) -> Position:
        """Apply what was found in one segment from `position` on."""
        while (first := next(scan, None)) is not None:
            with self._index.writing() as txn:
                step = Step(self._index, txn, segment.header, position)
                for found in chain((first,), islice(scan, TRANSACTION_RECORDS)):
                    step.take(found)
                position = step.finish()
            self._damages += step.damages
            self._records += step.records
        return position

    def _cut(self, segment: Segment, end: int) -> None:
        """Erase what lies behind the end of the newest segment."""
        size_bytes = segment.size_bytes
        if self._torn is not None:
            tail = self._disk.pread(segment.descriptor, size_bytes - end, end).rstrip(b"\x00")
            self._set_aside(segment, end, tail)
            self._truncated_bytes = len(tail)
        if size_bytes != end:
            self._disk.truncate(segment.descriptor, end)
        if size_bytes != end or self._records:
            self._disk.sync(segment.descriptor)  # the records behind will call these durable

    def _set_aside(self, segment: Segment, end: int, tail: bytes) -> None:
        """Keep the bytes of a torn tail beside the log, for people to look at."""
        name = segment.path.with_name(f"{segment.path.stem}-{end}.torn")
        descriptor = self._disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self._disk.pwrite_all(descriptor, (tail,), 0)
        finally:
            self._disk.close(descriptor)
