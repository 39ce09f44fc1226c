"""File systems that lose their power: real ones, in files. Needs root.

    base/outer.img    a file in memory, on a loop device: an XFS
    base/outer/       where that is mounted
      disk.img        a file in it, on a loop device: the file system under test
      copy.img        a clone of that file, made in one instant
    base/disk/        where disk.img is mounted
    base/copy/        where copy.img is

`FS_IOC_SHUTDOWN` makes a mounted file system forget what it has not written, and refuse everything
from then on. Done to the inner one, it loses what no sync covered; done to the outer one, so does
the disk below the inner one, as a write cache does: all but what was flushed. A clone of the file
is what a power cut in that instant would have left. Everything is undone by leaving, and what a
killed run has left is undone by the next.
"""

import fcntl
import gc
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from holdfast.core.seams import Disk

FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = struct.pack("I", 2)
FICLONE = 0x40049409
MEMORY = Path("/dev/shm")
PREFIX = "holdfast-power-"
OUTER_BYTES = 3 << 30
DISK_BYTES = 512 << 20  # XFS wants 300 MiB; all are sparse
GONE_WAIT_S = 10


class Kind(NamedTuple):
    """A file system under test."""

    name: str
    options: str = "noatime"
    copy_options: str = "noatime"

    @property
    def type(self) -> str:
        """What mount(8) and mkfs(8) call it."""
        return self.name.partition(" ")[0]

    def __str__(self) -> str:
        return self.name


EXT4 = Kind("ext4")
WRITEBACK = Kind("ext4 data=writeback", "noatime,data=writeback", "noatime,data=writeback")
XFS = Kind("xfs", "noatime", "noatime,nouuid")


def run(*command: str | Path) -> str:
    """Run a program to its end."""
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout.strip()


class Mount:
    """A file with a file system, on a loop device, mounted or not."""

    def __init__(self, image: Path, place: Path, type_: str, options: str) -> None:
        self.place = place
        self._type = type_
        self._options = options
        self._device = run("losetup", "--show", "--find", image)
        self._is_mounted = False
        place.mkdir(exist_ok=True)

    def mount(self) -> None:
        """Mount; the file system replays its journal."""
        run("mount", "-t", self._type, "-o", self._options, self._device, self.place)
        self._is_mounted = True

    def unmount(self) -> None:
        """Unmount, and wait until the kernel has forgotten the file system."""
        if not self._is_mounted:
            return
        gc.collect()  # of ours, nobody has a file open any more
        end_s = time.monotonic() + GONE_WAIT_S
        while (known := self._let_go()) is not None:
            assert time.monotonic() < end_s, known
            time.sleep(0.002)

    def _let_go(self) -> str | None:
        """Take one step of unmounting; say what is in the way.

        Whoever looks at all loop devices, as every losetup does, delays their detachment, and with
        it the file system that a device's image is in.
        """
        if self._is_mounted:
            try:
                run("umount", self.place)
            except OSError as error:
                if "busy" not in str(error):
                    raise
                return str(error)
            self._is_mounted = False
        known = Path(f"/sys/fs/{self._type}/{Path(self._device).name}")
        return str(known) if known.exists() else None

    def shut_down(self) -> None:
        """Forget what is not on the device, and refuse everything."""
        descriptor = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Undo everything, also under somebody who has a file open."""
        if self._is_mounted:
            run("umount", "--lazy", self.place)
        run("losetup", "--detach", self._device)


class Machine:
    """A disk with a file system, whose power may fail; `folder` is where it is mounted."""

    def __init__(self, base: Path, kind: Kind) -> None:
        self._base = base
        self._kind = kind
        self.folder = base / "disk"

    @contextmanager
    def running(self) -> Iterator["Machine"]:
        """Make the file systems and mount them, for as long as the block runs."""
        with ExitStack() as undo:
            self._outer = self._make(undo, self._base / "outer.img", OUTER_BYTES, "xfs", "discard")
            self._image = self._outer.place / "disk.img"
            self._insert(undo)
            yield self

    def cut_power(self, *, cache: bool) -> None:
        """Lose what was not synced, and with `cache` what the disk was not told to keep."""
        (self._outer if cache else self._disk).shut_down()
        self._is_outer_dead = cache

    def power_returns(self) -> None:
        """Mount again; nobody may have a file open."""
        self._disk.unmount()
        if self._is_outer_dead:
            self._device.close()
            self._outer.unmount()
            self._outer.mount()
            self._insert(self._undo)
        else:
            self._disk.mount()

    def clone(self) -> None:
        """Make a copy of the disk as it is in one instant, while work goes on."""
        with self._image.open("rb") as source, self._image.with_name("copy.img").open("wb") as copy:
            fcntl.ioctl(copy, FICLONE, source.fileno())

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """Mount the newest clone."""
        image = self._image.with_name("copy.img")
        mount = Mount(image, self._base / "copy", self._kind.type, self._kind.copy_options)
        try:
            mount.mount()
            yield mount.place
        finally:
            mount.free()
            image.unlink()

    def _insert(self, undo: ExitStack) -> None:
        """Put the disk into the machine."""
        self._undo = undo
        self._device = undo.enter_context(ExitStack())
        is_new = not self._image.exists()
        if is_new:
            _make_file_system(self._image, DISK_BYTES, self._kind.type)
        self._disk = Mount(self._image, self.folder, self._kind.type, self._kind.options)
        self._device.callback(self._disk.free)
        self._disk.mount()

    def _make(
        self, undo: ExitStack, image: Path, size_bytes: int, type_: str, options: str
    ) -> Mount:
        _make_file_system(image, size_bytes, type_)
        mount = Mount(image, image.with_suffix(""), type_, options)
        undo.callback(mount.free)
        mount.mount()
        return mount


@contextmanager
def machine(kind: Kind) -> Iterator[Machine]:
    """A machine that is running and will be taken apart."""
    with workshop() as base, Machine(base, kind).running() as running:
        yield running


@contextmanager
def workshop() -> Iterator[Path]:
    """A folder for file systems, locked for as long as it is used."""
    memory = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    with ExitStack() as undo:
        with (memory / f"{PREFIX}lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            _sweep(memory)
            base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=memory))
            undo.callback(shutil.rmtree, base)
            lock = undo.enter_context((base / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield base


@contextmanager
def small_disk(kind: Kind, free_bytes: int) -> Iterator[Path]:
    """A file system of which all but about `free_bytes` is taken."""
    with workshop() as base, ExitStack() as undo:
        image = base / "disk.img"
        _make_file_system(image, DISK_BYTES, kind.type)
        mount = Mount(image, base / "disk", kind.type, kind.options)
        undo.callback(mount.free)
        mount.mount()
        (mount.place / "all").touch()  # a name may need a block
        with (mount.place / "taken").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _free_bytes(mount.place) - free_bytes)
        yield mount.place


def take_all(place: Path) -> None:
    """Take every block that is free, as another program may."""
    with (place / "all").open("r+b", buffering=0) as file:
        for size_bytes in (1 << 20, 1 << 16, 1 << 12, 1 << 12):
            Disk().sync(file.fileno())  # so that what was freed lately is free
            with suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), file.tell(), size_bytes)
                    file.seek(size_bytes, os.SEEK_CUR)


def _free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bfree * found.f_frsize


def why_not() -> str:
    """Why there are no such file systems here; empty when there are."""
    missing = [tool for tool in ("mkfs.ext4", "mkfs.xfs", "losetup") if not shutil.which(tool)]
    if os.geteuid() != 0:
        return "only root may mount file systems"
    if missing:
        return f"{', '.join(missing)} is not installed"
    try:
        with machine(EXT4):
            return ""
    except OSError as error:
        return f"no file systems in files here: {error}"


def _make_file_system(image: Path, size_bytes: int, type_: str) -> None:
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run(f"mkfs.{type_}", "-q", image)


def _sweep(memory: Path) -> None:
    """Undo what runs have left that are dead: nobody has their lock."""
    for base in memory.glob(f"{PREFIX}*"):
        with suppress(OSError), (base / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _take_apart(base)


def _take_apart(base: Path) -> None:
    for place in (base / "copy", base / "disk", base / "outer"):
        for image in (base / "outer" / f"{place.name}.img", base / f"{place.name}.img"):
            devices = run("losetup", "--noheadings", "--output", "NAME", "--associated", image)
            with suppress(OSError):
                run("umount", "--lazy", place)
            for device in devices.split():
                run("losetup", "--detach", device)
    shutil.rmtree(base)
