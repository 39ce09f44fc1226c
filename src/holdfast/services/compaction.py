"""Compaction in the background: segments of which much is dead are emptied and removed.

Each step moves about a quarter of a MiB in one batch of the log, so that others wait no longer than
for any other batch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.events import event
from holdfast.services.caretaker import Done, Steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.depot.engine import Engine

LOOK_UP_S = 60.0  # between looking for segments that are worth it


class Compaction(Steps):
    """The task of a caretaker."""

    name = "compaction"
    bytes_s_max = limits.COMPACT_BYTES_S_MAX

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__()

    def _run(self) -> Generator[Done, None, None]:
        while True:
            for freed in self._engine.compact():
                if freed.freed_bytes:
                    event(logging.INFO, "store.compacted", freed_bytes=freed.freed_bytes)
                yield Done(freed.moved_bytes, 0.0)
            yield Done(0, LOOK_UP_S)
