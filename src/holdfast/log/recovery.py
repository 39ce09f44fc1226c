"""Recovery: read segments record by record, tell a torn tail from rot, bring the index up to date.

Damage in the newest segment at or behind the line that was durable is what a crash leaves of an
append nobody was told of: the tail is cut off there. Damage anywhere else is rot: it is reported
with its exact extent, left where it is, and every valid record behind it is kept. After the death
of a process alone (the machine did not boot between) an append is missing from its end, never
from its middle, so valid records behind damage make it rot as well.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import DIGEST_BYTES
from holdfast.log.changes import Changes
from holdfast.log.index import LOCATION, POSITION, REVISION, Last, Position
from holdfast.log.record import HEADER_BYTES, Kind, decode_commits, name_revision
from holdfast.log.scan import Damage, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.index import Index
    from holdfast.log.scan import Record

STEP_BYTES = 4 * limits.MIB
PLACE_BYTES = 128  # what the place of a blob is counted as


class Recovery(NamedTuple):
    """What opening the log found and did."""

    segments: int
    records: int
    """Records applied to the index."""
    truncated_bytes: int
    """Cut off the newest segment: appends that nobody was told of."""
    damages: tuple[Damage, ...]


class Step:
    """Records of one segment that one index transaction applies."""

    def __init__(self, position: Position) -> None:
        self._segment_id = position.segment_id
        self._revision = position.revision
        self.offset = position.offset
        """Where the next record begins."""
        self.changes = Changes()
        self.damages: list[Damage] = []
        self.last: int | None = None
        """Where the newest record begins."""
        self.records = 0
        self.size_bytes = 0

    @property
    def position(self) -> Position:
        """How far the log is applied when this step is."""
        return Position(self._segment_id, self.offset, self._revision)

    def take_blobs(self, scan: Scan) -> None:
        """Take the blobs that come next and are at hand."""
        count, last, self.offset = scan.take_blobs(self.offset, self.changes.blobs)
        if count:
            self.last = last
            self.records += count
            self.size_bytes += count * PLACE_BYTES

    def take(self, found: Record | Damage) -> None:
        """Take the next record, in the order of the log."""
        self.offset = found.end
        if isinstance(found, Damage):
            self.damages.append(found)
            return
        self.last = found.offset
        self.records += 1
        self.size_bytes += PLACE_BYTES + len(found.payload)
        if found.header.kind == Kind.BLOB:
            self._blob(found)
        elif found.header.kind == Kind.REMOVE:
            self._remove(found)
        elif found.header.kind == Kind.COMMIT:
            self._commit(found)

    def _blob(self, found: Record) -> None:
        header = found.header
        self.size_bytes -= len(found.payload)  # which stays where it is
        sizes = (header.payload_bytes, header.content_bytes, header.codec)
        place = LOCATION.pack(self._segment_id, found.offset, *sizes)
        self.changes.blobs[header.name] = place

    def _remove(self, found: Record) -> None:
        for at in range(0, len(found.payload), DIGEST_BYTES):
            self.changes.blobs[bytes(found.payload[at : at + DIGEST_BYTES])] = None

    def _commit(self, found: Record) -> None:
        first = name_revision(found.header.name)
        commits, keys, pack = decode_commits(found.payload), self.changes.keys, REVISION.pack
        for revision, writes in enumerate(commits, first):
            mark = pack(revision)
            for key, value in writes:
                keys[key] = None if value is None else mark + value
        self._revision = first + len(commits) - 1
        place = POSITION.pack(self._segment_id, found.offset, first)
        self.changes.batches[pack(first)] = place


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
        self._knows_tail = False

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
            position = self._apply(segment, position, is_newest=is_newest)
        assert segment is not None
        self._cut(segment, position.offset)
        report = Recovery(
            len(segment_ids), self._records, self._truncated_bytes, tuple(self._damages)
        )
        return segment, position, report

    def _apply(self, segment: Segment, position: Position, *, is_newest: bool) -> Position:
        """Apply what one segment holds from `position` on."""
        scan = Scan(self._disk, segment)
        more = True
        while more:
            step = Step(position)
            more = self._fill(step, scan, segment if is_newest else None)
            if step.offset != position.offset:
                self._write(step, segment)
            position = step.position
        return position

    def _fill(self, step: Step, scan: Scan, newest: Segment | None) -> bool:
        """Take records into a step until it is full; False when there are no more."""
        while step.size_bytes < STEP_BYTES:
            step.take_blobs(scan)
            found = scan.next(step.offset)
            if found is None:
                return False
            if newest is not None and self._is_torn(newest, found):
                return False
            step.take(found)
        return True

    def _write(self, step: Step, segment: Segment) -> None:
        """Apply a step to the index, and how far the log is applied then."""
        self._damages += step.damages
        self._records += step.records
        last = None
        if step.last is not None:
            header = self._disk.pread(segment.descriptor, HEADER_BYTES, step.last)
            last = Last(segment.header.id, step.last, header)
        with self._index.writing() as txn:
            self._index.load(txn, step.changes)
            self._index.set_applied(txn, step.position, last)

    def _is_torn(self, newest: Segment, found: Record | Damage) -> bool:
        """Whether what was found is the torn tail; only damage makes it look for one."""
        if isinstance(found, Damage) and not self._knows_tail:
            self._torn = self._durable_end(newest, found.offset)
            self._knows_tail = True
        return self._torn is not None and found.offset >= self._torn

    def _durable_end(self, segment: Segment, start: int) -> int | None:
        """Where the tail of the newest segment is torn; None when it is not."""
        torn: int | None = None
        for found in Scan(self._disk, segment).records(start):
            if isinstance(found, Damage):
                torn = found.offset if torn is None else torn
            elif torn is not None and (self._same_boot or found.header.durable_bytes > torn):
                torn = None
        return torn

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
