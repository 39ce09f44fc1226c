"""The meter: says how far a replay is, to who watches and, from time to time, as an event."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.events import event
from holdfast.core.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.seams import Clock


class Meter:
    """Counts from `begin` on."""

    def __init__(self, clock: Clock, watch: Callable[[Progress], None] | None = None) -> None:
        self._clock = clock
        self._watch = watch
        self._began_s = self._told_s = clock.monotonic_s()
        self._state = Progress(0, 0, 0)

    @property
    def took_s(self) -> float:
        """Seconds since the meter was made."""
        return self._clock.monotonic_s() - self._began_s

    def begin(self, total_bytes: int) -> None:
        """Count again, up to a total."""
        self._state = Progress(0, 0, total_bytes)

    def move(self, size_bytes: int, records: int) -> None:
        """Count bytes and records that have been dealt with."""
        before = self._state
        done_bytes = min(before.done_bytes + size_bytes, before.total_bytes)
        self._state = Progress(before.records + records, done_bytes, before.total_bytes)
        if self._watch is not None:
            self._watch(self._state)
        if self._clock.monotonic_s() >= self._told_s + limits.PROGRESS_S:
            self._told_s = self._clock.monotonic_s()
            event(logging.INFO, "log.replay", **self._state._asdict())

    def end(self) -> None:
        """Count what is left, which is space in reserve; nothing, where there was nothing to do."""
        if self._state.done_bytes:
            self.move(self._state.total_bytes - self._state.done_bytes, 0)


class Share:
    """A share of a meter, spent while a piece of work goes on that has parts of its own."""

    def __init__(self, meter: Meter, size_bytes: int, records: int, parts: int) -> None:
        self._meter = meter
        self._left = (size_bytes, records)
        self._parts_left = parts

    def spend(self, parts: int) -> None:
        """Spend as much as belongs to some parts; when all are done, nothing is left."""
        parts = min(parts, self._parts_left)
        if parts > 0:
            now = [left * parts // self._parts_left for left in self._left]
            self._left = (self._left[0] - now[0], self._left[1] - now[1])
            self._parts_left -= parts
            self._meter.move(*now)

    def end(self) -> None:
        """Spend what is left."""
        self.spend(self._parts_left)
