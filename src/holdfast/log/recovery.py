"""Recovery: read segments record by record, tell a torn tail from rot, bring the index up to date.

Damage in the newest segment at or behind the line that was durable is what a crash leaves of an
append nobody was told of: the tail is cut off there. Damage anywhere else is rot: it is reported
with its exact extent, left where it is, and every valid record behind it is kept. After the death
of a process alone (the machine did not boot between) an append is missing from its end, never
from its middle, so valid records behind damage make it rot as well.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.log.accounts import Account, State
from holdfast.log.blocks import DamagedError
from holdfast.log.hint import sweep_hints
from holdfast.log.index import Last, Position
from holdfast.log.manifest import read_manifest
from holdfast.log.meter import Meter
from holdfast.log.rebuild import Rebuild
from holdfast.log.record import HEADER_BYTES
from holdfast.log.report import Damages, Recovery
from holdfast.log.scan import WINDOW_BYTES, Damage, Record, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment, segment_path
from holdfast.log.step import Step, never
from holdfast.log.torn import set_aside, torn_tails

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.hint import Hint
    from holdfast.log.index import Index

STEP_BYTES = 4 * limits.MIB


class Known(NamedTuple):
    """What was known of the log when it was last open, and cannot be believed any more."""

    missing: Sequence[Damage] = ()
    """Of the newest segment's file."""
    applied: Position | None = None
    """How far an index went that was made of this log."""


class Replay:
    """Brings an index up to the end of the log."""

    def __init__(
        self, root: Path, disk: Disk, index: Index, meter: Meter, *, same_boot: bool
    ) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._meter = meter
        self._same_boot = same_boot
        self._rebuild = Rebuild(root, disk, index, meter)
        self._ends: dict[int, int] = {}
        self._begin()

    def _begin(self) -> None:
        self._damages = Damages()
        self._records = 0
        self._commits = 0
        self._truncated_bytes = 0
        self._torn: int | None = None
        self._knows_tail = False

    def run(self, segment_ids: list[int], known: Known) -> Recovery:
        """Apply what the index lacks, and cut a torn tail off.

        What was `known` and is not there any more is reported with the damages.

        Raises:
            CorruptError: a segment's own header is damaged.
            OSError: the disk refuses.
        """
        assert segment_ids
        sweep_hints(self._disk, self._root, segment_ids)
        self._ends = self._known_ends(segment_ids)
        start = None
        while start is None:
            try:
                start = self._apply_all(segment_ids)
            except DamagedError:
                self._index.clear()
                self._begin()
        self._meter.end()
        newest = Segment.open(self._disk, self._root, segment_ids[-1], writable=True)
        self._cut(newest, start)
        self._damages.add((*known.missing, *self._forgotten(known), *self._lost(segment_ids)))
        return self._report()

    def _report(self) -> Recovery:
        torn = torn_tails(self._root)
        return Recovery(
            len(self._index.accounts.rows()),
            self._records,
            self._commits,
            self._truncated_bytes,
            tuple(self._damages.kept),
            self._damages.places,
            self._damages.size_bytes,
            len(torn),
            sum(path.stat().st_size for path in torn),
            self._meter.took_s,
        )

    def _forgotten(self, known: Known) -> list[Damage]:
        """What stood behind the end of the log when an index was made of it that is gone."""
        applied, before = self._index.applied(), known.applied
        assert applied is not None
        if before is None or before[:2] <= applied[:2]:
            return []
        start = applied.offset if before.segment_id == applied.segment_id else 0
        return [Damage(before.segment_id, start, before.offset - start)]

    def _known_ends(self, segment_ids: list[int]) -> dict[int, int]:
        """Where each segment but the newest ends, as the newest manifest says."""
        for segment_id in reversed(segment_ids):
            segment = Segment.open(self._disk, self._root, segment_id)
            if (found := read_manifest(self._disk, segment)) is not None:
                return dict(found.manifest.segments)
        return {}

    def _lost(self, segment_ids: list[int]) -> list[Damage]:
        """Segments that the log should have and has not."""
        return [
            Damage(segment_id, 0, row.size_bytes)
            for segment_id, row in self._index.accounts.rows().items()
            if segment_id not in segment_ids and row.state != State.DROPPED
        ]

    def _apply_all(self, segment_ids: list[int]) -> int:
        """Apply the segments in order; those that have hints, together.

        Gives where in the newest segment it began.

        Raises:
            DamagedError: a hint is bad, and so is the index now.
        """
        if self._index.is_loading:
            self._index.clear()
        applied = self._index.applied()
        position = applied or Position(segment_ids[0], FIRST_OFFSET, 0)
        self._meter.begin(self._lacking_bytes(segment_ids, position))
        for segment_id in segment_ids[:-1]:
            if segment_id >= position.segment_id:
                position = _enter(position, segment_id)
                position = self._apply_older(segment_id, position, anew=applied is None)
        self._rebuild.load(position)
        newest = Segment.open(self._disk, self._root, segment_ids[-1], writable=True)
        position = _enter(position, newest.header.id)
        self._damages.add(header_damage(self._disk, newest))
        self._open_account(newest.header.id, 0)
        end = self._apply(newest, position, newest.size_bytes, is_newest=True)
        if self._index.applied() != end:  # it is empty
            with self._index.writing() as txn:
                self._index.set_applied(txn, end, None)
        return position.offset

    def _lacking_bytes(self, segment_ids: list[int], position: Position) -> int:
        """How much of the log the index lacks, about: the newest segment has space in reserve."""
        sizes = {each: segment_path(self._root, each).stat().st_size for each in segment_ids}
        lacking = [size for each, size in sizes.items() if each >= position.segment_id]
        return max(0, sum(lacking) - position.offset)

    def _apply_older(self, segment_id: int, position: Position, *, anew: bool) -> Position:
        """Apply the rest of a segment that is not the newest."""
        segment = Segment.open(self._disk, self._root, segment_id)
        end = self._ends.get(segment_id, segment.size_bytes)
        self._damages.add(header_damage(self._disk, segment))
        if segment.size_bytes < end:
            lost_bytes = end - segment.size_bytes
            self._damages.add([Damage(segment_id, segment.size_bytes, lost_bytes)])
        self._open_account(segment_id, end)
        hint = None
        if position.offset == FIRST_OFFSET:
            hint = self._rebuild.add(segment, end, anew=anew)
        if hint is None:
            self._rebuild.load(position)
            return self._apply(segment, position, end, is_newest=False)
        self._records += hint.facts.records
        self._commits += hint.facts.commits
        self._damages.add(hint.damages)
        position = self._compose(segment, hint, position)
        if self._rebuild.is_full:
            self._rebuild.load(position)
        return position

    def _compose(self, segment: Segment, hint: Hint, position: Position) -> Position:
        """Apply what a hint says beside its tables."""
        step, facts = Step(position), hint.facts
        scan = Scan(self._disk, segment, hint.end)
        for offset in facts.others:
            if isinstance(found := scan.next(offset), Record):
                step.take(found)
        step.first, step.gap, step.deletion_bytes = facts.first, facts.gap, facts.deletion_bytes
        with self._index.writing() as txn:
            self._index.set_loading(txn, is_loading=True)
            step.compose(self._index, txn)
        return Position(segment.header.id, hint.end, max(step.position.revision, facts.revision))

    def _open_account(self, segment_id: int, size_bytes: int) -> None:
        accounts = self._index.accounts
        with self._index.writing() as txn:
            row = accounts.get(txn, segment_id) or Account()
            accounts.put(txn, segment_id, row._replace(size_bytes=size_bytes))

    def _apply(
        self, segment: Segment, position: Position, end: int, *, is_newest: bool
    ) -> Position:
        """Apply what one segment holds from `position` on, record by record."""
        scan = Scan(self._disk, segment, end)
        ends = partial(self._is_torn, segment) if is_newest else never
        more = True
        while more:
            step = Step(position)
            more = step.fill(scan, STEP_BYTES, ends)
            if step.offset != position.offset:
                self._write(step, segment)
                self._meter.move(step.offset - position.offset, step.records)
            position = step.position
        return position

    def _write(self, step: Step, segment: Segment) -> None:
        """Apply a step to the index, and how far the log is applied then."""
        self._damages.add(step.damages)
        self._records += step.records
        self._commits += step.commits
        last = None
        if step.last is not None:
            header = self._disk.pread(segment.descriptor, HEADER_BYTES, step.last)
            last = Last(segment.header.id, step.last, header)
        with self._index.writing() as txn:
            step.apply(self._index, txn)
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

    def _cut(self, segment: Segment, start: int) -> None:
        """Erase what lies behind the end of the newest segment, and make sure of the rest.

        What was applied from `start` on is written again: if the sync failed that should have made
        it durable, the kernel may take its pages for clean, and a new sync would do nothing.
        """
        applied = self._index.applied()
        assert applied is not None
        end = applied.offset
        if self._torn is not None:
            size_bytes = segment.size_bytes - end
            tail = self._disk.pread(segment.descriptor, size_bytes, end).rstrip(b"\x00")
            set_aside(self._disk, segment.path, end, tail)
            self._truncated_bytes = len(tail)
            self._disk.truncate(segment.descriptor, end)
        if self._same_boot:
            for offset in range(start, end, WINDOW_BYTES):
                data = self._disk.pread(segment.descriptor, min(WINDOW_BYTES, end - offset), offset)
                self._disk.pwrite_all(segment.descriptor, (data,), offset)
        if self._torn is not None or self._records:
            self._disk.sync(segment.descriptor)  # the records behind will call these durable


def _enter(position: Position, segment_id: int) -> Position:
    """Where to go on in a segment, which is the one of `position` or a later one."""
    if segment_id == position.segment_id:
        return position
    return Position(segment_id, FIRST_OFFSET, position.revision)
