"""Hints: make those that finished segments lack, so that a rebuild of the index is short.

Each step reads a quarter of a MiB of a segment, or writes a block of its hint, and takes a few
milliseconds. Whatever is not made, because the disk refuses or nobody runs this, is made by the
rebuild that misses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.services.caretaker import Done, Steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.depot.engine import Engine

LOOK_UP_S = 30.0  # between looking for segments without a hint


class Hints(Steps):
    """The task of a caretaker."""

    name = "hints"
    bytes_s_max = limits.HINT_BYTES_S_MAX

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__()

    def _run(self) -> Generator[Done, None, None]:
        while True:
            for size_bytes in self._engine.make_hints():
                yield Done(size_bytes, 0.0)
            yield Done(0, LOOK_UP_S)
