"""The board: a page of memory that all processes with the log open share.

What is there is worth nothing once nobody has the log open, and is wiped by whoever opens it first.
It is written under the index's write lock, and read by anybody.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from holdfast.core.seams import Disk

BOARD_BYTES = 4096
HORIZON, SUSPECT, ROLLING, DROPS = range(4)
TABLES = 256
"""The first of as many slots, one for each byte that a key may begin with."""


class Board:
    """Numbers of 64 bits that change at once; safe from any thread and process."""

    def __init__(self, disk: Disk, path: Path, *, wipe: bool) -> None:
        """Map the file `path`; with `wipe` it is made, full of zeros.

        Raises:
            OSError: the disk refuses.
        """
        flags = os.O_RDWR | (os.O_CREAT if wipe else 0)
        descriptor = disk.open(path, flags)
        try:
            if wipe:
                disk.pwrite_all(descriptor, (bytes(BOARD_BYTES),), 0)
            self._map = mmap.mmap(descriptor, BOARD_BYTES)
        finally:
            disk.close(descriptor)
        self._slots = memoryview(self._map).cast("Q")

    @property
    def horizon(self) -> int:
        """No commit above this revision can be seen; set before one can."""
        return self._slots[HORIZON]

    @horizon.setter
    def horizon(self, revision: int) -> None:
        self._slots[HORIZON] = revision

    def horizon_of(self, table: int) -> int:
        """No commit above this revision that changes a key of a table can be seen."""
        return self._slots[TABLES + table]

    def see(self, revision: int, tables: Iterable[int]) -> None:
        """Announce commits up to a revision, and the tables whose keys they change."""
        self._slots[HORIZON] = revision
        for table in tables:
            self._slots[TABLES + table] = revision

    @property
    def suspect(self) -> int:
        """The segment whose last write or sync failed; it is not written again."""
        return self._slots[SUSPECT]

    @suspect.setter
    def suspect(self, segment_id: int) -> None:
        self._slots[SUSPECT] = segment_id

    @property
    def rolling(self) -> int:
        """The newest segment that anybody began to make, finished or not."""
        return self._slots[ROLLING]

    @rolling.setter
    def rolling(self, segment_id: int) -> None:
        self._slots[ROLLING] = segment_id

    @property
    def drops(self) -> int:
        """How often a segment was dropped, so that others let go of its file."""
        return self._slots[DROPS]

    @drops.setter
    def drops(self, count: int) -> None:
        self._slots[DROPS] = count

    def close(self) -> None:
        """Let go of the page."""
        self._slots.release()
        self._map.close()
