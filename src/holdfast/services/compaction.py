"""Compaction in the background: segments of which much is dead are emptied and removed.

Each step moves about a quarter of a MiB in one batch of the log, so that others wait no longer than
for any other batch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.events import event
from holdfast.services.caretaker import Done

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.depot.engine import Engine

LOOK_UP_S = 60.0  # between looking for segments that are worth it


class Compaction:
    """The task of a caretaker."""

    name = "compaction"
    bytes_s_max = limits.COMPACT_BYTES_S_MAX

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._work = self._run()

    def step(self) -> Done:
        """Move some, or remove a segment.

        Raises:
            FullError, UnavailableError: the disk refuses; the next step begins the segment again.
        """
        try:
            return next(self._work)
        except BaseException:
            self._work = self._run()
            raise

    def close(self) -> None:
        """Stop; what was moved stays moved."""
        self._work.close()

    def _run(self) -> Generator[Done, None, None]:
        while True:
            for freed in self._engine.compact():
                if freed.freed_bytes:
                    event(logging.INFO, "store.compacted", freed_bytes=freed.freed_bytes)
                yield Done(freed.moved_bytes, 0.0)
            yield Done(0, LOOK_UP_S)
