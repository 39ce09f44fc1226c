"""One lock for each folder of a store of files, which processes may share."""

import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.core.seams import Disk

FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, process (fcntl(2))


class FolderLocks:
    """Locks by number: one of `_locks` in this process, and a byte of a file between processes.

    The byte belongs to the open file, not to the process (F_OFD_SETLKW), because the kernel would
    take what two threads of one process hold for a deadlock. It is free when its holder is killed.
    """

    def __init__(self, count: int, file: Path | None, disk: Disk) -> None:
        """Make `count` locks; with a `file`, those of all processes that name it.

        Raises:
            OSError: the disk refuses.
        """
        self._locks = [threading.Lock() for _ in range(count)]
        self._disk = disk
        self._descriptor = None if file is None else disk.open(file, os.O_RDWR | os.O_CREAT)

    @contextmanager
    def hold(self, number: int) -> Iterator[None]:
        """Hold one lock for the length of a block."""
        with self._locks[number]:
            if self._descriptor is None:
                yield
                return
            self._lock(fcntl.F_WRLCK, number)
            try:
                yield
            finally:
                self._lock(fcntl.F_UNLCK, number)

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def _lock(self, kind: int, number: int) -> None:
        assert self._descriptor is not None
        whole = FLOCK.pack(kind, os.SEEK_SET, number, 1, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLKW, whole)
