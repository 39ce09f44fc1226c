"""The sweeper: a sweep of a whole depot from time to time, whose live blobs are those with a name.

That a blob has no name is looked up again in the batch that removes it, so a name that is committed
meanwhile keeps it. A sweep that would find nothing new is left out, and no more than a fiftieth of
the time is spent on sweeping, however large the store is.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.events import event
from holdfast.core.kv import Add
from holdfast.core.seams import SystemClock
from holdfast.depot import catalog
from holdfast.services.caretaker import Done, Steps
from holdfast.services.marks import marks_of
from holdfast.services.sweep import Manner, Sweep

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.core.seams import Clock
    from holdfast.depot.depot import Depot
    from holdfast.services.marks import Marks

FIRST_S = 60.0  # from the start to the first sweep
PAUSE_S = 0.02  # between two steps
SHARE = 50  # the time from one sweep to the next, in times that one took


class Sweeper(Steps):
    """The task of a caretaker."""

    name = "sweep"
    bytes_s_max = 0

    def __init__(
        self,
        depot: Depot,
        every_s: float = limits.SWEEP_EVERY_S,
        grace_s: float = limits.SWEEP_GRACE_S,
        clock: Clock | None = None,
    ) -> None:
        """Sweep `every_s`, keeping what is younger than `grace_s`."""
        self._depot = depot
        self._every_s = every_s
        self._clock = clock or SystemClock()
        self._manner = Manner(grace_s=grace_s, clock=self._clock)
        self._marks = marks_of(depot.engine)
        self._seen = -1
        """The revision of a sweep that left nothing for a later one."""
        self._leftovers_s = 0.0
        """When to look again for what crashes have left in an object store."""
        super().__init__()

    def _run(self) -> Generator[Done, None, None]:
        yield Done(0, min(FIRST_S, self._every_s))
        while True:
            began_s = self._clock.monotonic_s()
            revision = self._depot.engine.kv.revision()
            if revision != self._seen:
                yield from self._sweep(revision)
            if began_s >= self._leftovers_s:
                self._leftovers_s = began_s + max(self._manner.grace_s, self._every_s)
                yield from self._sweep_uploads()
            took_s = self._clock.monotonic_s() - began_s
            yield Done(0, max(self._every_s, SHARE * took_s))

    def _sweep_uploads(self) -> Generator[Done, None, None]:
        uploads = removed_bytes = 0
        for size_bytes in self._depot.engine.sweep_uploads(self._manner.grace_s):
            uploads += size_bytes > 0
            removed_bytes += size_bytes
            yield Done(0, PAUSE_S)
        if uploads:
            event(logging.INFO, "sweep.uploads", uploads=uploads, removed_bytes=removed_bytes)

    def _sweep(self, revision: int) -> Generator[Done, None, None]:
        work = sweep_of(self._depot, self._manner, self._marks)
        while work.step():
            yield Done(0, PAUSE_S)
        report = work.report
        self._seen = -1 if report.young or report.left else revision
        if report.removed:
            counted = Add(catalog.SWEPT, (report.removed, report.removed_bytes))
            self._depot.engine.kv.commit([], [counted]).result()
            event(
                logging.INFO,
                "sweep.removed",
                blobs=report.removed,
                removed_bytes=report.removed_bytes,
                live=report.live,
                young=report.young,
                left=report.left,
            )


def sweep_of(depot: Depot, manner: Manner | None = None, marks: Marks | None = None) -> Sweep:
    """Begin a pass that keeps what any name, or the content face, holds.

    With `marks`, what has lost its name stays for the grace from then on, or a little longer.

    Raises:
        UnsupportedError: names and blobs are in different logs.
    """
    content = depot.content
    return Sweep(depot.engine.store, content.digests(), content.keeper(), manner, marks)
