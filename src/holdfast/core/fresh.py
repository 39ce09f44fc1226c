"""Reading what the disk has now, not what the page cache remembers of it.

Rot shows only where bytes really come from the disk, and a pass over everything must not push out
of memory what others read. Direct reads (O_DIRECT, man 2 open) do both: they leave the page cache
as it is. Where a file system has none, what is cached of a file is dropped before it is read, and
again behind the reading. What the disk keeps in memory of its own is out of reach.
"""

import errno
import mmap
import os
from pathlib import Path

from holdfast.core.limits import MIB
from holdfast.core.seams import Disk

ALIGNED_BYTES = 4096  # offsets, sizes and memory of direct reads are multiples of this
WINDOW_BYTES = MIB
WHOLE_FILE = 0  # as a size that is forgotten (man 2 posix_fadvise)
UNREADABLE = b"\xee"  # stands for every byte that the disk cannot read


class FreshDisk(Disk):
    """A disk whose `pread` goes past the page cache; for one thread, and for reading only.

    A block that cannot be read (EIO) reads as 0xEE, which fits no checksum, so that whoever reads
    on finds the damage and its extent.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._memory = memoryview(mmap.mmap(-1, WINDOW_BYTES))  # which begins with a page
        self._cached: set[int] = set()
        """Descriptors on file systems without direct reads."""

    def open(self, path: Path, flags: int) -> int:
        """Open for direct reads where that is possible."""
        try:
            return self._disk.open(path, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        descriptor = self._disk.open(path, flags)
        self._cached.add(descriptor)
        self._forget(descriptor, WHOLE_FILE)
        return descriptor

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        self._forget(descriptor, WHOLE_FILE)
        self._cached.discard(descriptor)
        self._disk.close(descriptor)

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        """Read `size_bytes` from the disk, or fewer at the end of the file."""
        start = offset - offset % ALIGNED_BYTES
        parts = []
        while start < offset + size_bytes:
            window = self._window(descriptor, start, offset + size_bytes - start)
            parts.append(bytes(window[max(0, offset - start) : offset + size_bytes - start]))
            start += len(window)
            if len(window) % ALIGNED_BYTES or not window:
                break
        return b"".join(parts)

    def _window(self, descriptor: int, start: int, size_bytes: int) -> memoryview:
        """Read up to a window of whole blocks at `start`; less at the end of the file."""
        blocks = -(-min(size_bytes, WINDOW_BYTES) // ALIGNED_BYTES)
        window = self._memory[: blocks * ALIGNED_BYTES]
        try:
            got = self._disk.pread_into(descriptor, window, start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            got = self._read_blocks(descriptor, window, start)
        self._forget(descriptor, start + len(window))
        return window[:got]

    def _forget(self, descriptor: int, end: int) -> None:
        """Drop what is cached before `end`: all of it, for the kernel drops no halves of units."""
        if descriptor in self._cached:
            self._disk.forget(descriptor, 0, end)

    def _read_blocks(self, descriptor: int, window: memoryview, start: int) -> int:
        """Read what can be read of a window, block by block."""
        for at in range(0, len(window), ALIGNED_BYTES):
            block = window[at : at + ALIGNED_BYTES]
            try:
                got = self._disk.pread_into(descriptor, block, start + at)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                block[:] = UNREADABLE * len(block)
                got = max(0, min(len(block), os.fstat(descriptor).st_size - start - at))
            if got < len(block):
                return at + got
        return len(window)
