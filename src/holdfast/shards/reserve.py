"""A file of zeros that is given up when the disk is full, so that deletes find some space.

It is also what the write-ahead logs need to be brought into their files, which grow by that: so it
grows with the logs, before these do. Else a disk that is full with logs would stay full for ever.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk


class Reserve:
    """The file `reserve` in the folder of the shards; `_lock` guards its size."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path = folder / "reserve"
        self._disk = disk
        self._lock = threading.Lock()
        self._size_bytes = 0
        self.is_given_up = False

    def keep(self, log_bytes: int = 0) -> None:
        """Make sure of it, while the logs have so much; it never shrinks.

        Raises:
            OSError: the disk is full, or refuses.
        """
        step = limits.RESERVE_BYTES
        more = max(0, log_bytes - step // 2)
        wanted = step + -(-more // step) * step
        if wanted <= self._size_bytes:
            return
        with self._lock:
            descriptor = self._disk.open(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._disk.allocate(descriptor, 0, wanted)
            finally:
                self._disk.close(descriptor)
            self._size_bytes = max(wanted, self._size_bytes)
            self.is_given_up = False

    def give_up(self) -> None:
        """Let the disk have it; the next `keep` takes it back."""
        with self._lock:
            self._size_bytes = 0
            self.is_given_up = True
            with suppress(OSError):
                self._disk.unlink(self._path)
