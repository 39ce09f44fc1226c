"""Recovery: read segments record by record, tell a torn tail from rot, bring the index up to date.

Damage in the newest segment at or behind the line that was durable is what a crash leaves of an
append nobody was told of: the tail is cut off there. Damage anywhere else is rot: it is reported
with its exact extent, left where it is, and every valid record behind it is kept. After the death
of a process alone (the machine did not boot between) an append is missing from its end, never
from its middle, so valid records behind damage make it rot as well.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.log.blocks import DamagedError
from holdfast.log.hint import sweep_hints
from holdfast.log.index import Last, Position
from holdfast.log.rebuild import Rebuild
from holdfast.log.record import HEADER_BYTES
from holdfast.log.scan import Damage, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment
from holdfast.log.step import Step, never

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


class Replay:
    """Brings an index up to the end of the log."""

    def __init__(self, root: Path, disk: Disk, index: Index, *, same_boot: bool) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._same_boot = same_boot
        self._rebuild = Rebuild(root, disk, index)
        self._begin()

    def _begin(self) -> None:
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
        sweep_hints(self._disk, self._root, segment_ids)
        found = None
        while found is None:
            try:
                found = self._apply_all(segment_ids)
            except DamagedError:
                self._index.clear()
                self._begin()
        segment, position = found
        self._cut(segment, position.offset)
        damages = (*missing, *self._damages)
        report = Recovery(len(segment_ids), self._records, self._truncated_bytes, damages)
        return segment, position, report

    def _apply_all(self, segment_ids: list[int]) -> tuple[Segment, Position]:
        """Apply the segments in order; those that have hints, together.

        Raises:
            DamagedError: a hint is bad, and so is the index now.
        """
        applied = self._index.applied()
        position = applied or Position(segment_ids[0], FIRST_OFFSET, 0)
        for segment_id in segment_ids[:-1]:
            if segment_id >= position.segment_id:
                position = _enter(position, segment_id)
                position = self._apply_older(segment_id, position, anew=applied is None)
        self._rebuild.load(position)
        newest = Segment.open(self._disk, self._root, segment_ids[-1], writable=True)
        self._damages += header_damage(self._disk, newest)
        return newest, self._apply(newest, _enter(position, newest.header.id), is_newest=True)

    def _apply_older(self, segment_id: int, position: Position, *, anew: bool) -> Position:
        """Apply the rest of a segment that is not the newest."""
        segment = Segment.open(self._disk, self._root, segment_id)
        self._damages += header_damage(self._disk, segment)
        hint = None
        if position.offset == FIRST_OFFSET:
            hint = self._rebuild.add(segment, segment.size_bytes, anew=anew)
        if hint is None:
            self._rebuild.load(position)
            return self._apply(segment, position, is_newest=False)
        self._records += hint.facts.records
        self._damages += hint.damages
        position = Position(segment_id, hint.end, max(position.revision, hint.facts.revision))
        if self._rebuild.is_full:
            self._rebuild.load(position)
        return position

    def _apply(self, segment: Segment, position: Position, *, is_newest: bool) -> Position:
        """Apply what one segment holds from `position` on, record by record."""
        scan = Scan(self._disk, segment)
        ends = partial(self._is_torn, segment) if is_newest else never
        more = True
        while more:
            step = Step(position)
            more = step.fill(scan, STEP_BYTES, ends)
            if step.offset != position.offset:
                self._write(step, segment)
            position = step.position
        return position

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


def _enter(position: Position, segment_id: int) -> Position:
    """Where to go on in a segment, which is the one of `position` or a later one."""
    if segment_id == position.segment_id:
        return position
    return Position(segment_id, FIRST_OFFSET, position.revision)
