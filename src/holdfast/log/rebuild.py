"""Rebuilding: finished segments are applied to the index by their hints, many at once.

The hints are merged table by table and loaded in order, so that an empty index is only ever
appended to, whatever the size of the log, in the memory of a few blocks of each hint. What a hint
cannot say is read from its segment: a hint that is missing or damaged is made again, and if even
that does not help, the segment is replayed record by record.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.log.blocks import DamagedError
from holdfast.log.changes import TABLES
from holdfast.log.hint import Hint, hint_path, make_hint
from holdfast.log.index import Last
from holdfast.log.live import Live
from holdfast.log.merge import merge
from holdfast.log.meter import Share
from holdfast.log.record import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.changes import Pair
    from holdfast.log.index import Index, Position
    from holdfast.log.meter import Meter
    from holdfast.log.segment import Segment

RUN_BYTES = 64 * limits.MIB
LOAD_BYTES = 8 * limits.MIB  # about, in one transaction


class Rebuild:
    """Gathers hints in the order of the log, and loads them."""

    def __init__(self, root: Path, disk: Disk, index: Index, meter: Meter) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._meter = meter
        self._hints: list[tuple[Hint, Segment]] = []
        self._distrusted: set[int] = set()
        self._can_make = True
        self._made_bytes: dict[int, int] = {}
        """Of the log, that the meter has counted already."""

    def add(self, segment: Segment, end: int, *, anew: bool) -> Hint | None:
        """Take a segment by its hint; None when it must be read record by record.

        `anew`, all of the log has to be read, so that it pays to make a hint that is missing.
        """
        hint = self._open(segment, end)
        if hint is None and anew and self._can_make:
            hint = self._make(segment, end)
        if hint is not None:
            self._hints.append((hint, segment))
        return hint

    @property
    def is_full(self) -> bool:
        """Whether it is time to load."""
        return len(self._hints) >= limits.HINTS_MAX

    def load(self, position: Position) -> None:
        """Apply all that was added; the log is applied up to `position` then.

        Raises:
            DamagedError: a hint is bad, and so is the index now; it will not be taken again.
        """
        hints, self._hints = self._hints, []
        if not hints:
            return
        live = Live()
        share = self._share([hint for hint, _ in hints])
        try:
            for number in TABLES:
                for size_bytes in self._load_table(number, [hint for hint, _ in hints], live):
                    share.spend(size_bytes)
        except DamagedError:
            self._distrust([hint for hint, _ in hints])
            raise
        for hint, _ in hints:
            live.add(hint.segment_id, hint.facts.live_bytes)
        last = self._last(hints)
        with self._index.writing() as txn:
            self._index.accounts.add(txn, live.by_segment)
            self._index.set_applied(txn, position, last)
            self._index.set_loading(txn, is_loading=False)
        share.end()

    def _share(self, hints: Sequence[Hint]) -> Share:
        """What loading some hints means for the meter."""
        made_bytes = sum(self._made_bytes.pop(hint.segment_id, 0) for hint in hints)
        log_bytes = sum(hint.end for hint in hints) - made_bytes
        records = sum(hint.facts.records for hint in hints)
        return Share(self._meter, log_bytes, records, sum(hint.size_bytes for hint in hints))

    def _last(self, hints: Sequence[tuple[Hint, Segment]]) -> Last | None:
        """The newest record of all; None when all there was is damage."""
        for hint, segment in reversed(hints):
            if hint.facts.last is not None:
                header = self._disk.pread(segment.descriptor, HEADER_BYTES, hint.facts.last)
                return Last(hint.segment_id, hint.facts.last, header)
        return None

    def _load_table(self, number: int, hints: Sequence[Hint], live: Live) -> Iterator[int]:
        """Load one table, a transaction at a time, and yield how much of the hints each took."""
        lost: list[Pair] = []
        blocks = merge([hint.table(number) for hint in hints], lost)
        done_bytes, more = _read_bytes(hints), True
        while more:
            start_bytes = done_bytes
            with self._index.writing() as txn:
                while more and done_bytes - start_bytes < LOAD_BYTES:
                    keys, values = next(blocks, ([], []))
                    lost += self._index.load(txn, number, keys, values)
                    live.lose(number, lost)
                    lost.clear()
                    done_bytes = _read_bytes(hints)
                    more = bool(keys)
            yield done_bytes - start_bytes

    def _open(self, segment: Segment, end: int) -> Hint | None:
        if segment.header.id in self._distrusted:
            return None
        with suppress(OSError, DamagedError):
            return Hint(self._disk, hint_path(self._root, segment.header.id), segment.header, end)
        return None

    def _make(self, segment: Segment, end: int) -> Hint | None:
        """Make a hint; a disk that refuses once is not asked again."""
        share = Share(self._meter, end // 2, 0, end)
        self._made_bytes[segment.header.id] = end // 2
        try:
            for size_bytes in make_hint(self._disk, self._root, segment, end, RUN_BYTES):
                share.spend(size_bytes)
        except OSError:
            self._can_make = False
        except DamagedError:
            return None
        share.end()
        return self._open(segment, end)

    def _distrust(self, hints: list[Hint]) -> None:
        """Find out which hints are bad, and forget them; if none is, all of them are."""
        bad = [hint for hint in hints if not _is_sound(hint)] or hints
        for hint in bad:
            self._distrusted.add(hint.segment_id)
            with suppress(OSError):
                self._disk.unlink(hint.path)


def _read_bytes(hints: Sequence[Hint]) -> int:
    return sum(hint.read_bytes for hint in hints)


def _is_sound(hint: Hint) -> bool:
    try:
        for number in TABLES:
            for _ in hint.table(number):
                pass
    except DamagedError:
        return False
    return True
