"""The seams to the world: disk, clock and entropy. Tests put faults here, and nowhere else.

Only this module calls fsync, rename and the clock. `Disk` adds nothing to the calls of the
kernel but the two loops that callers would forget: short writes and whole reads.
"""

import errno
import os
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import sqlite3

IOV_MAX = 1024  # buffers in one pwritev (limits.h)

Buffer = bytes | bytearray | memoryview


class Clock(Protocol):
    """Where time comes from."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never jumps."""


class Entropy(Protocol):
    """Where randomness comes from."""

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes nobody can guess."""


class SystemClock:
    """The clock of the kernel."""

    def now_us(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds since boot."""
        return time.monotonic()


class SystemEntropy:
    """The random numbers of the kernel."""

    def random_bytes(self, count: int) -> bytes:
        """Return `count` bytes nobody can guess."""
        return secrets.token_bytes(count)


class Disk:
    """Every call that changes or reads a disk; a subclass may fail or forget them.

    Paths and descriptors are the kernel's. Errors are OSError, mapped to BlobError by the caller
    that knows what was at stake. Safe from any thread.
    """

    def open(self, path: Path, flags: int) -> int:
        """Open `path`; created files belong to the owner alone."""
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write all of `buffers` at `offset`, however short the kernel writes; return the size."""
        size_bytes = 0
        for start in range(0, len(buffers), IOV_MAX):
            window = buffers[start : start + IOV_MAX]
            expected = sum(map(len, window))
            written = os.pwritev(descriptor, window, offset + size_bytes)
            if written != expected:
                self._write_rest(descriptor, b"".join(window), offset + size_bytes, written)
            size_bytes += expected
        return size_bytes

    def _write_rest(self, descriptor: int, data: bytes, offset: int, written: int) -> None:
        view = memoryview(data)
        while written < len(view):
            step = os.pwrite(descriptor, view[written:], offset + written)
            if step == 0:
                raise OSError(errno.EIO, "the disk takes no bytes")
            written += step

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read `size_bytes`, or fewer at the end of the file."""
        data = os.pread(descriptor, size_bytes, offset)
        if len(data) == size_bytes or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size_bytes:
            data = os.pread(descriptor, size_bytes - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Fill `buffer`, by one call of the kernel; return how much of it, 0 at the end."""
        return os.preadv(descriptor, (buffer,), offset)

    def forget(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Let the next reader ask the disk: drop the synced pages that the page cache has."""
        os.posix_fadvise(descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)

    def pread_cached(self, descriptor: int, size_bytes: int, offset: int) -> bytearray | None:
        """Read only what the page cache holds; None when a disk would be waited for."""
        data = bytearray(size_bytes)
        return data if self.read_cached(descriptor, memoryview(data), offset) else None

    def read_cached(self, descriptor: int, room: memoryview, offset: int) -> bool:
        """Fill `room` with what the page cache holds; False when a disk would be waited for."""
        try:
            return os.preadv(descriptor, (room,), offset, os.RWF_NOWAIT) == len(room)
        except OSError:
            return False

    def is_cached(self, descriptor: int, offset: int) -> bool:
        """Whether the page cache holds the byte at `offset`; True where the kernel cannot say."""
        try:
            return os.preadv(descriptor, (bytearray(1),), offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:
            return True

    def sync_data(self, descriptor: int) -> None:
        """Make the written bytes and the file's size survive a power cut (fdatasync(2))."""
        os.fdatasync(descriptor)

    def sync(self, descriptor: int) -> None:
        """Make the written bytes and all metadata survive a power cut (fsync(2))."""
        os.fsync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make names created, renamed or removed in `path` survive a power cut."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sync(descriptor)
        finally:
            os.close(descriptor)

    def commit(self, database: "sqlite3.Connection") -> None:
        """End a transaction of SQLite, which writes and syncs by itself (sqlite.org/wal.html)."""
        database.execute("COMMIT")

    def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Reserve space that reads as zeros, so that later writes need no new blocks."""
        os.posix_fallocate(descriptor, offset, size_bytes)

    def free_bytes(self, path: Path) -> int:
        """How much the file system of `path` has left for whoever is not root."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        """Cut or extend the file."""
        os.ftruncate(descriptor, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` at once; sync the directory to keep it."""
        source.replace(target)

    def touch(self, path: Path) -> None:
        """Let a file be changed now, which its status says until a power cut at least."""
        os.utime(path, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        """Remove a name."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Make `path` and its missing parents and make them survive a power cut.

        One that is there may have been made by a process that died before it was synced.
        """
        if path.is_dir():
            with suppress(PermissionError):  # who may not read the parent did not make it
                self.sync_directory(path.parent)
            return
        self.make_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        self.sync_directory(path.parent)


def boot_id() -> str:
    """Name the running boot of the machine; empty where the kernel does not say.

    Two equal, non-empty names mean that no power cut lies between them, so that the page cache
    kept what a killed process had written (man 4 random).
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
