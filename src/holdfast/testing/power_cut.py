"""A disk whose power fails, and the worlds in which a program may wake up then.

`PowerCutDisk` works on a real folder and remembers what no sync covered. At call `cut_at` the power
fails: that call happens, unsynced, and says that it failed; all later ones fail. `lose` then makes
of the folder what a machine may find when the power is back. Prove a program for every call and
every world:

    for number in itertools.count(1):
        disk = PowerCutDisk(graves, number)
        ...
        disk.lose(world)
        ...
        if not disk.is_cut:
            break

Nothing is promised without a sync: of one write some sectors may be there and others not, a later
write without an earlier one, a new size without the bytes, a cut that comes back, each name without
the other. A sync covers one file or one folder, and no other. Only a rename is whole, unless one of
its folders was synced.
"""

import errno
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from holdfast.core.seams import Buffer, Disk

SECTOR_BYTES = 512
KEEP_ODDS = 0.5

Keeps = Callable[[], bool]


class Fate(Enum):
    """What becomes of changes that no sync covered."""

    KEPT = "kept"
    LOST = "lost"
    TORN = "torn"
    """Half of the first write is kept, and nothing else."""
    LAST = "last"
    """The last change is kept, and those before are lost."""
    SOME = "some"
    """Each sector, size and name is kept or lost by the dice."""


class World(NamedTuple):
    """What is there when the power comes back; `seed` is that of the dice."""

    names: Fate
    data: Fate
    is_stale: bool = False
    """Bytes that were lost are old bytes of the disk, where the file has kept its new size."""
    seed: int = 0

    def __str__(self) -> str:
        stale = " stale" if self.is_stale else ""
        return f"names {self.names.value}, data {self.data.value}{stale} {self.seed or ''}".strip()


@dataclass(slots=True, eq=False)
class _Change:
    """A write, or a change of a file's size: how to undo it and to do it again."""

    offset: int
    old: bytes
    new: bytes
    before_bytes: int
    """Size of the file."""
    after_bytes: int
    is_synced: bool = False
    is_doomed: bool = False
    """A sync that should have covered it has failed; no later one does."""


@dataclass(slots=True)
class _Unsynced:
    """A file that a power cut would change, and a descriptor to change it with."""

    descriptor: int
    changes: list[_Change] = field(default_factory=list)


class _Folder:
    """What a name is that names a folder."""


FOLDER: Final = _Folder()
Grave = Path | _Folder | None
"""What a name is or was: a file, kept by a hard link; a folder; or nothing."""


@dataclass(slots=True)
class _Rename:
    """Names that change at once: what each was, and what it is now."""

    names: dict[Path, tuple[Grave, Grave]]


class PowerCutDisk(Disk):
    """A disk whose power fails at call `cut_at`, if that is not 0.

    At sync number `lost_sync`, if that is not 0, the disk fails to write: the call says so, and
    what it should have covered is lost in a power cut whatever else is synced, although reads
    still show it (lwn.net/Articles/752063). Files that are replaced or removed live on in `graves`,
    a folder on the same file system. `_lock` makes each call one step.
    """

    def __init__(self, graves: Path, cut_at: int = 0, *, lost_sync: int = 0) -> None:
        self._graves = graves
        self._cut_at = cut_at
        self._lost_sync = lost_sync
        self._count = 0
        self._syncs = 0
        self._lock = threading.RLock()
        self._files: dict[tuple[int, int], _Unsynced] = {}
        self._names: list[_Rename] = []
        self._buried = 0
        graves.mkdir(exist_ok=True)

    @property
    def is_cut(self) -> bool:
        """Whether the power has failed."""
        return 0 < self._cut_at <= self._count

    @property
    def has_failed(self) -> bool:
        """Whether a sync has failed."""
        return 0 < self._lost_sync <= self._syncs

    def go_on(self, calls: int) -> None:
        """Serve another process: the last one died at the cut, and the power fails later.

        What the dead one has written is still in the page cache, synced or not.
        """
        with self._lock:
            self._cut_at = self._count + calls

    def lose(self, world: World) -> None:
        """Change the folder into what a machine may find after the power cut."""
        dice = random.Random(f"{world.seed}/{self._count}")
        for file in self._files.values():
            _lose_data(file, world, dice)
            os.close(file.descriptor)
        self._lose_names(world.names, dice)
        self._files.clear()
        self._names.clear()

    def open(self, path: Path, flags: int) -> int:
        """Open; a new name is not synced."""
        with self._lock:
            self._begin(changes=bool(flags & (os.O_CREAT | os.O_TRUNC)))
            is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            descriptor = super().open(path, flags & ~os.O_TRUNC)
            if is_new:
                self._names.append(_Rename({path: (None, self._bury(path))}))
            elif flags & os.O_TRUNC:
                self._resize(descriptor, 0)
            if self.is_cut:
                os.close(descriptor)
            self._end()
            return descriptor

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write; the bytes are not synced."""
        with self._lock:
            self._begin()
            new = b"".join(buffers)
            file, size_bytes = self._file(descriptor)
            old = os.pread(file.descriptor, len(new), offset)
            after_bytes = max(size_bytes, offset + len(new))
            file.changes.append(_Change(offset, old, new, size_bytes, after_bytes))
            super().pwrite_all(descriptor, (new,), offset)
            self._end()
            return len(new)

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read while there is power."""
        with self._lock:
            self._begin(changes=False)
        return super().pread(descriptor, size_bytes, offset)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read while there is power."""
        with self._lock:
            self._begin(changes=False)
        return super().pread_into(descriptor, buffer, offset)

    def sync_data(self, descriptor: int) -> None:
        """Keep the bytes and the size; the calls that this saves are not made."""
        self.sync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Keep the bytes and the size, but not the name; a power cut comes before that."""
        with self._lock:
            self._begin()
            self._end()
            self._syncs += 1
            identity = _identity(descriptor)
            changes = self._files[identity].changes if identity in self._files else []
            if self._syncs == self._lost_sync:
                for change in changes:
                    change.is_doomed = not change.is_synced
                raise OSError(errno.EIO, "the disk fails")
            for change in changes:
                change.is_synced = not change.is_doomed
            if identity in self._files and all(change.is_synced for change in changes):
                os.close(self._files.pop(identity).descriptor)

    def sync_directory(self, path: Path) -> None:
        """Keep the names in `path`; a power cut comes before that."""
        with self._lock:
            self._begin()
            self._end()
            for change in self._names:
                for name in [name for name in change.names if name.parent == path]:
                    del change.names[name]

    def commit(self, database: sqlite3.Connection) -> None:
        """Commit, which SQLite makes durable by itself: it happened whole, or not at all."""
        with self._lock:
            self._begin()
            super().commit(database)
            self._end()

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Allocate; the new size is not synced."""
        with self._lock:
            self._begin()
            file, before_bytes = self._file(descriptor)
            super().allocate(descriptor, offset, size_bytes)
            after_bytes = os.fstat(descriptor).st_size
            file.changes.append(_Change(before_bytes, b"", b"", before_bytes, after_bytes))
            self._end()

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut; what was cut off may come back."""
        with self._lock:
            self._begin()
            self._resize(descriptor, size_bytes)
            self._end()

    def rename(self, source: Path, target: Path) -> None:
        """Rename; unsynced, the file is at one of both names, at both if one folder was synced."""
        with self._lock:
            self._begin()
            before = self._bury(target) if os.path.lexists(target) else None
            now = self._bury(source)
            self._names.append(_Rename({target: (before, now), source: (now, None)}))
            super().rename(source, target)
            self._end()

    def touch(self, path: Path) -> None:
        """Touch while there is power; nothing relies on it afterwards."""
        with self._lock:
            self._begin(changes=False)
        super().touch(path)

    def unlink(self, path: Path) -> None:
        """Unlink; the name may come back."""
        with self._lock:
            self._begin()
            if os.path.lexists(path):
                self._names.append(_Rename({path: (self._bury(path), None)}))
            super().unlink(path)
            self._end()

    def make_directory(self, path: Path) -> None:
        """Make a directory and its parents, and sync their names."""
        if path.is_dir():
            self.sync_directory(path.parent)
            return
        self.make_directory(path.parent)
        with self._lock:
            self._begin()
            path.mkdir(mode=0o700)
            self._names.append(_Rename({path: (None, FOLDER)}))
            self._end()
        self.sync_directory(path.parent)

    def _begin(self, *, changes: bool = True) -> None:
        if self.is_cut:
            raise OSError(errno.EIO, "the power is off")
        self._count += changes

    def _end(self) -> None:
        if self.is_cut:
            raise OSError(errno.EIO, "the power fails")

    def _file(self, descriptor: int) -> tuple[_Unsynced, int]:
        """The file behind a descriptor, and its size."""
        identity = _identity(descriptor)
        if identity not in self._files:
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
            self._files[identity] = _Unsynced(again)
        return self._files[identity], os.fstat(descriptor).st_size

    def _resize(self, descriptor: int, size_bytes: int) -> None:
        file, before_bytes = self._file(descriptor)
        old = os.pread(file.descriptor, max(0, before_bytes - size_bytes), size_bytes)
        file.changes.append(_Change(size_bytes, old, b"", before_bytes, size_bytes))
        super().truncate(descriptor, size_bytes)

    def _lose_names(self, fate: Fate, dice: random.Random) -> None:
        unsynced = [change for change in self._names if change.names]
        now: dict[Path, Grave] = {}
        for number, change in enumerate(unsynced):
            is_kept = _fate(fate, number, len(unsynced), dice)()
            for path, (before, after) in change.names.items():
                now.setdefault(path, before)
                if is_kept:
                    now[path] = after
        for path, grave in now.items():
            self._name(path, grave)

    def _name(self, path: Path, grave: Grave) -> None:
        if grave is FOLDER or not path.parent.is_dir():  # else its folder was lost, and it with it
            return
        if path.is_dir():
            path.rename(self._grave())
            return
        path.unlink(missing_ok=True)
        if isinstance(grave, Path):
            os.link(grave, path)

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


def _fate(fate: Fate, number: int, count: int, dice: random.Random) -> Keeps:
    """What says of each part of change `number` of `count` whether it is kept."""
    if fate is Fate.SOME:
        return lambda: dice.random() < KEEP_ODDS
    is_kept = fate is Fate.KEPT or (fate is Fate.LAST and number == count - 1)
    return lambda: is_kept


def _lose_data(file: _Unsynced, world: World, dice: random.Random) -> None:
    """Undo all changes, then do those again that were synced or are kept."""
    for change in reversed(file.changes):
        os.pwrite(file.descriptor, change.old, change.offset)
        os.ftruncate(file.descriptor, change.before_bytes)
    unsynced = [change for change in file.changes if not change.is_synced]
    written = [change for change in unsynced if change.new]
    for change in file.changes:
        if change.is_synced:
            _redo(file.descriptor, change, lambda: True, None)
        elif world.data is Fate.TORN:
            half = change.new[: len(change.new) // 2] if written[:1] == [change] else b""
            os.pwrite(file.descriptor, half, change.offset)
        else:
            keeps = _fate(world.data, unsynced.index(change), len(unsynced), dice)
            _redo(file.descriptor, change, keeps, dice if world.is_stale else None)


def _redo(descriptor: int, change: _Change, keeps: Keeps, stale: random.Random | None) -> None:
    """Do the kept parts of a change again; a new size may come without the bytes."""
    size_bytes = os.fstat(descriptor).st_size
    if keeps() and (not change.new or change.after_bytes > size_bytes):
        os.ftruncate(descriptor, change.after_bytes)
        size_bytes = change.after_bytes
    at = 0
    while at < len(change.new):
        place = change.offset + at
        step = SECTOR_BYTES - place % SECTOR_BYTES
        sector = change.new[at : at + step]
        if keeps():
            os.pwrite(descriptor, sector, place)
        elif stale is not None and change.before_bytes <= place < size_bytes:
            os.pwrite(descriptor, stale.randbytes(min(len(sector), size_bytes - place)), place)
        at += step
