"""A disk that fails on purpose, to find out what a program makes of it.

`FaultyDisk` lets one call fail, or every call from one on. It works on real folders; run the same
steps with the fault at call 1, 2, 3 ... until a run is clean:

    for number in itertools.count(1):
        disk = FaultyDisk(Fault(number))
        ...
        if not disk.struck:
            break
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from holdfast.core.seams import Buffer, Disk

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Fault:
    """Which call fails, and how."""

    number: int
    """Counted from 1, over the calls that `only` names."""
    error: int = errno.EIO
    after: bool = False
    """The call has its effect, and says that it failed."""
    short: bool = False
    """A write puts half of its bytes down before it fails."""
    lasting: bool = False
    """All later calls fail too."""
    only: frozenset[str] = frozenset()
    """Names of methods of Disk; empty means all but `close`."""


class FaultyDisk(Disk):
    """A disk with a fault; `_lock` guards the count of calls.

    `close` gives the descriptor back whatever else happens, as the kernel does.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self._lock = threading.Lock()
        self.arm(fault)

    def arm(self, fault: Fault | None) -> None:
        """Begin to count again, with another fault."""
        self._fault = fault
        self._count = 0
        self.struck = False
        """Whether any call failed so far."""
        self.calls: list[str] = []
        """The names of all calls so far."""

    def open(self, path: Path, flags: int) -> int:
        """Open, or fail; a file may have been created all the same."""
        if not self._strikes("open"):
            return super().open(path, flags)
        if self._after():
            super().close(super().open(path, flags))
        raise self._error()

    def close(self, descriptor: int) -> None:
        """Close, and fail perhaps."""
        strikes = self._strikes("close")
        super().close(descriptor)
        if strikes:
            raise self._error()

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write all, half or nothing."""
        if not self._strikes("pwrite_all"):
            return super().pwrite_all(descriptor, buffers, offset)
        data = b"".join(buffers)
        size_bytes = len(data) if self._after() else len(data) // 2 if self._short() else 0
        super().pwrite_all(descriptor, (data[:size_bytes],), offset)
        raise self._error()

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read, or fail."""
        return self._call("pread", partial(super().pread, descriptor, size_bytes, offset))

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read, or fail."""
        effect = partial(super().pread_into, descriptor, buffer, offset)
        return self._call("pread_into", effect)

    def sync_data(self, descriptor: int) -> None:
        """Sync, or fail."""
        self._call("sync_data", partial(super().sync_data, descriptor))

    def sync(self, descriptor: int) -> None:
        """Sync, or fail; `sync_directory` calls this too."""
        self._call("sync", partial(super().sync, descriptor))

    def commit(self, database: sqlite3.Connection) -> None:
        """Commit, or fail."""
        self._call("commit", partial(super().commit, database))

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Allocate, or fail."""
        self._call("allocate", partial(super().allocate, descriptor, offset, size_bytes))

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Truncate, or fail."""
        self._call("truncate", partial(super().truncate, descriptor, size_bytes))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        self._call("rename", partial(super().rename, source, target))

    def touch(self, path: Path) -> None:
        """Touch, or fail."""
        self._call("touch", partial(super().touch, path))

    def unlink(self, path: Path) -> None:
        """Unlink, or fail."""
        self._call("unlink", partial(super().unlink, path))

    def make_directory(self, path: Path) -> None:
        """Make a directory, or fail; calls `sync_directory` where it made one."""
        self._call("make_directory", partial(super().make_directory, path))

    def _call(self, name: str, effect: Callable[[], Result]) -> Result:
        if not self._strikes(name):
            return effect()
        if self._after():
            effect()
        raise self._error()

    def _strikes(self, name: str) -> bool:
        fault = self._fault
        with self._lock:
            self.calls.append(name)
            if fault is None or name not in (fault.only or {name} - {"close"}):
                return False
            self._count += 1
            strikes = self._count == fault.number
            strikes = strikes or (fault.lasting and self._count > fault.number)
            self.struck = self.struck or strikes
            return strikes

    def _after(self) -> bool:
        return self._fault is not None and self._fault.after

    def _short(self) -> bool:
        return self._fault is not None and self._fault.short

    def _error(self) -> OSError:
        number = self._fault.error if self._fault is not None else errno.EIO
        return OSError(number, os.strerror(number))
