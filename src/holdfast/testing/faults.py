"""Disks that fail on purpose, to find out what a program makes of it.

`FaultyDisk` lets one call fail, or every call from one on. `PowerCutDisk` stops at one call for
good, and then takes back what was not synced: names, bytes, or both. Both work on real folders; run
the same steps with the fault at call 1, 2, 3 ... until a run is clean:

    for number in itertools.count(1):
        disk = FaultyDisk(Fault(number))
        ...
        if not disk.struck:
            break
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

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

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Allocate, or fail."""
        self._call("allocate", partial(super().allocate, descriptor, offset, size_bytes))

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Truncate, or fail."""
        self._call("truncate", partial(super().truncate, descriptor, size_bytes))

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or fail."""
        self._call("rename", partial(super().rename, source, target))

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


class _Write(NamedTuple):
    """How to take one write back."""

    offset: int
    old: bytes
    new_bytes: int
    file_bytes: int
    """Size of the file before."""


class _Name(NamedTuple):
    """How to take one change of a name back: put `grave` there, or nothing."""

    path: Path
    grave: Path | None


@dataclass(slots=True)
class _Unsynced:
    """A file with writes that a power cut would undo, and a descriptor to undo them with."""

    descriptor: int
    writes: list[_Write] = field(default_factory=list)


class PowerCutDisk(Disk):
    """A disk that remembers what was not synced, and whose power fails at call `cut_at`.

    From then on every call fails, as for a process that is no more; `lose` then makes the folder
    what a machine would find after the power came back. What no sync covered may be lost or kept:
    prove a program in all the worlds. Replaced and removed files are kept by hard links in
    `graves`, a folder on the same file system. `_lock` makes each call one step.
    """

    def __init__(self, graves: Path, cut_at: int = 0) -> None:
        self._graves = graves
        self._cut_at = cut_at
        self._count = 0
        self._lock = threading.RLock()
        self._files: dict[tuple[int, int], _Unsynced] = {}
        self._names: dict[Path, list[_Name]] = {}
        self._buried = 0
        graves.mkdir(exist_ok=True)

    @property
    def is_cut(self) -> bool:
        """Whether the power has failed."""
        return 0 < self._cut_at <= self._count

    def lose(self, *, names: bool, data: bool, torn: bool = False) -> None:
        """Take back names, bytes or both; `torn` leaves half of the first write that is lost."""
        for file in self._files.values():
            if data:
                _undo(file, torn=torn)
            os.close(file.descriptor)
        for changes in self._names.values() if names else ():
            for change in reversed(changes):
                self._take_back(change)
        self._files.clear()
        self._names.clear()

    def open(self, path: Path, flags: int) -> int:
        """Open; a new name is not synced."""
        with self._lock:
            self._step(changes=bool(flags & (os.O_CREAT | os.O_TRUNC)))
            is_new = flags & os.O_CREAT and not os.path.lexists(path)
            descriptor = super().open(path, flags & ~os.O_TRUNC)
            if is_new:
                self._changed(path, None)
            elif flags & os.O_TRUNC:
                self._remember(descriptor, 0, os.fstat(descriptor).st_size)
                super().truncate(descriptor, 0)
            return descriptor

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write; the bytes are not synced."""
        with self._lock:
            self._step()
            self._remember(descriptor, offset, sum(map(len, buffers)))
            return super().pwrite_all(descriptor, buffers, offset)

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read while there is power."""
        with self._lock:
            self._step(changes=False)
        return super().pread(descriptor, size_bytes, offset)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read while there is power."""
        with self._lock:
            self._step(changes=False)
        return super().pread_into(descriptor, buffer, offset)

    def sync_data(self, descriptor: int) -> None:
        """Keep the bytes; the calls that this saves are not made."""
        self.sync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Keep the bytes, but not the name."""
        with self._lock:
            self._step()
            file = self._files.pop(_identity(descriptor), None)
            if file is not None:
                os.close(file.descriptor)

    def sync_directory(self, path: Path) -> None:
        """Keep the names in `path`."""
        with self._lock:
            self._step()
            self._names.pop(path, None)

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Allocate; the new size is not synced."""
        with self._lock:
            self._step()
            self._remember(descriptor, offset, 0)
            super().allocate(descriptor, offset, size_bytes)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut; what was cut off may come back."""
        with self._lock:
            self._step()
            self._remember(descriptor, size_bytes, os.fstat(descriptor).st_size - size_bytes)
            super().truncate(descriptor, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        """Rename; until both folders are synced the file may be at either name, or at both."""
        with self._lock:
            self._step()
            self._changed(target, self._bury(target) if os.path.lexists(target) else None)
            self._changed(source, self._bury(source))
            super().rename(source, target)

    def unlink(self, path: Path) -> None:
        """Unlink; the name may come back."""
        with self._lock:
            self._step()
            if os.path.lexists(path):
                self._changed(path, self._bury(path))
            super().unlink(path)

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents, and sync their names."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        with self._lock:
            self._step()
            path.mkdir(mode=0o700)
            self._changed(path, None)
        self.sync_directory(path.parent)

    def _step(self, *, changes: bool = True) -> None:
        if not self.is_cut:
            self._count += changes
        if self.is_cut:
            raise OSError(errno.EIO, "the power is off")

    def _take_back(self, change: _Name) -> None:
        if change.path.is_dir():
            change.path.rename(self._grave())
        elif change.path.parent.is_dir():  # else its folder was lost, and it with it
            change.path.unlink(missing_ok=True)
            if change.grave is not None:
                os.link(change.grave, change.path)

    def _remember(self, descriptor: int, offset: int, size_bytes: int) -> None:
        identity = _identity(descriptor)
        if identity not in self._files:
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
            self._files[identity] = _Unsynced(again)
        file = self._files[identity]
        old = os.pread(file.descriptor, max(0, size_bytes), offset)
        file.writes.append(_Write(offset, old, size_bytes, os.fstat(descriptor).st_size))

    def _changed(self, path: Path, grave: Path | None) -> None:
        self._names.setdefault(path.parent, []).append(_Name(path, grave))

    def _bury(self, path: Path) -> Path:
        grave = self._grave()
        os.link(path, grave)
        return grave

    def _grave(self) -> Path:
        self._buried += 1
        return self._graves / str(self._buried)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _undo(file: _Unsynced, *, torn: bool) -> None:
    for number, write in reversed(list(enumerate(file.writes))):
        keep_bytes = max(0, write.new_bytes) // 2 if torn and number == 0 else 0
        end = write.offset + keep_bytes
        os.pwrite(file.descriptor, write.old[keep_bytes:], end)
        os.ftruncate(file.descriptor, max(write.file_bytes, end if keep_bytes else 0))
