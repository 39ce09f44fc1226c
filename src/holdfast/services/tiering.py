"""Moving old blobs to the cold store, in the background.

A pass looks at what every name holds, and moves what is old enough (depot/cold.py), in steps of a
chunk or of a few small blobs, and no faster than a rate. The next one comes ten minutes later, or
when fifty times as long as the last one took is over, so that a store that is all cold costs
little. A cold store that does not answer ends a pass, which the caretaker begins again, later each
time; it has a caretaker of its own, for it may wait long for an answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.events import event
from holdfast.core.seams import SystemClock
from holdfast.services.caretaker import Done, Steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.core.seams import Clock
    from holdfast.depot.cold import Tier

PAUSE_S = 0.02  # between two steps, at least
SHARE = 50  # the time from one pass to the next, in times that one took


class Tiering(Steps):
    """The task of a caretaker."""

    name = "tier"
    bytes_s_max = limits.COLD_BYTES_S_MAX

    def __init__(
        self, tier: Tier, after_s: float = limits.COLD_AFTER_S, clock: Clock | None = None
    ) -> None:
        """Move what is older than `after_s`."""
        self._tier = tier
        self._after_s = after_s
        self._clock = clock or SystemClock()
        super().__init__()

    def _run(self) -> Generator[Done, None, None]:
        while True:
            began_s = self._clock.monotonic_s()
            yield from self._pass()
            took_s = self._clock.monotonic_s() - began_s
            yield Done(0, max(limits.COLD_EVERY_S, SHARE * took_s))

    def _pass(self) -> Generator[Done, None, None]:
        blobs = size_bytes = 0
        for moved in self._tier.move(self._after_s):
            self._tier.note(moved)
            blobs += moved.blobs
            size_bytes += moved.size_bytes
            for digest in moved.damaged:
                event(logging.ERROR, "tier.damaged", digest=str(digest))
            yield Done(moved.worked_bytes, PAUSE_S)
        if blobs:
            event(logging.INFO, "tier.moved", blobs=blobs, moved_bytes=size_bytes)
