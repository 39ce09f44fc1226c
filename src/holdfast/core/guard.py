"""The lock on the folder of a store: one process has it open, with those that it forks."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path


class Guard:
    """The lock on a folder; it goes with the process, and with those that were forked from it."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            UnavailableError: another process has it.
            OSError: the disk refuses.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor: int | None = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            self.release()
            message = f"{path.parent} is in use by process {holder or 'unknown'}"
            raise UnavailableError(message) from error
        said = f"{os.getpid()}\n".encode()
        with suppress(OSError):  # nothing but a message depends on it
            os.pwrite(self._descriptor, said, 0)
            os.ftruncate(self._descriptor, len(said))

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None
