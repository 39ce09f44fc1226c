"""A file of zeros that is given up when the disk is full, so that deletes find some space."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk


class Reserve:
    """The file `reserve` in the folder of the shards; used by the planner's thread alone."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path = folder / "reserve"
        self._disk = disk
        self._is_there = False

    def keep(self) -> None:
        """Make sure of it.

        Raises:
            OSError: the disk is full, or refuses.
        """
        if self._is_there:
            return
        descriptor = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            self._disk.allocate(descriptor, 0, limits.RESERVE_BYTES)
        finally:
            self._disk.close(descriptor)
        self._is_there = True

    def give_up(self) -> None:
        """Let the disk have it; the next `keep` takes it back."""
        self._is_there = False
        with suppress(OSError):
            self._disk.unlink(self._path)
