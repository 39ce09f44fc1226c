"""Fresh reads give the same bytes as others, and leave the page cache as they found it."""

import ctypes
import errno
import mmap
import os
import random
from pathlib import Path

import pytest

from holdfast.core.fresh import ALIGNED_BYTES, UNREADABLE, WINDOW_BYTES, FreshDisk
from holdfast.core.seams import Disk
from holdfast.testing.faults import Fault, FaultyDisk

SIZE = 2 * WINDOW_BYTES + 3 * ALIGNED_BYTES + 77
ALL_PAGES = -(-SIZE // mmap.PAGESIZE)
DATA = random.Random(7).randbytes(SIZE)


class IndirectDisk(Disk):
    """A file system without direct reads."""

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct reads here")
        return super().open(path, flags)


class BadBlocks(Disk):
    """A disk that cannot read some of its blocks."""

    def __init__(self, blocks: set[int]) -> None:
        self._blocks = blocks

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        first = offset // ALIGNED_BYTES
        if self._blocks & set(range(first, first + len(buffer) // ALIGNED_BYTES)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread_into(descriptor, buffer, offset)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    descriptor = os.open(path, os.O_RDWR)
    Disk().sync(descriptor)
    os.close(descriptor)
    return path


@pytest.mark.parametrize("disk", [Disk(), IndirectDisk()])
def test_every_part_of_a_file_is_what_it_is(file: Path, disk: Disk) -> None:
    dice, fresh = random.Random(11), FreshDisk(disk)
    descriptor = fresh.open(file, os.O_RDONLY)
    edges = [0, 1, ALIGNED_BYTES, WINDOW_BYTES, 2 * WINDOW_BYTES, SIZE - 1, SIZE, SIZE + 9000]
    for _ in range(300):
        offset = max(0, dice.choice(edges) + dice.randint(-3, 3))
        size_bytes = max(0, dice.choice(edges) + dice.randint(-3, 3))
        assert fresh.pread(descriptor, size_bytes, offset) == DATA[offset : offset + size_bytes]
    fresh.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def resident_pages(path: Path) -> int:
    """How many pages of a file are in memory (man 2 mincore)."""
    with path.open("rb") as file:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        pages = (ctypes.c_ubyte * (-(-SIZE // mmap.PAGESIZE)))()
        address = libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        assert libc.mincore(ctypes.c_void_p(address), SIZE, pages) == 0
        libc.munmap(ctypes.c_void_p(address), SIZE)
    return sum(page & 1 for page in pages)


def test_what_others_have_in_memory_stays_there_and_nothing_comes_to_it(file: Path) -> None:
    disk, fresh = Disk(), FreshDisk(Disk())
    reader = os.open(file, os.O_RDONLY)
    descriptor = fresh.open(file, os.O_RDONLY)
    disk.forget(reader, 0, 0)
    assert resident_pages(file) == 0
    assert fresh.pread(descriptor, SIZE, 0) == DATA
    assert resident_pages(file) == 0
    disk.pread(reader, SIZE, 0)
    assert fresh.pread(descriptor, SIZE, 0) == DATA
    assert resident_pages(file) == ALL_PAGES
    os.close(reader)
    fresh.close(descriptor)


def test_without_direct_reads_the_page_cache_is_dropped_before_and_behind(file: Path) -> None:
    disk, fresh = Disk(), FreshDisk(IndirectDisk())
    reader = os.open(file, os.O_RDONLY)
    disk.pread(reader, SIZE, 0)
    assert resident_pages(file) == ALL_PAGES
    descriptor = fresh.open(file, os.O_RDONLY)
    assert resident_pages(file) == 0
    assert fresh.pread(descriptor, SIZE, 0) == DATA
    fresh.close(descriptor)
    assert resident_pages(file) == 0
    os.close(reader)


def test_blocks_that_cannot_be_read_hide_nothing_else(file: Path) -> None:
    last = SIZE // ALIGNED_BYTES
    blocks = {0, 5, WINDOW_BYTES // ALIGNED_BYTES, last}
    fresh = FreshDisk(BadBlocks(blocks))
    descriptor = fresh.open(file, os.O_RDONLY)
    expected = bytearray(DATA)
    for block in blocks:
        expected[block * ALIGNED_BYTES : (block + 1) * ALIGNED_BYTES] = UNREADABLE * ALIGNED_BYTES
    assert fresh.pread(descriptor, SIZE + 10, 0) == expected[:SIZE]
    assert fresh.pread(descriptor, 10, SIZE + ALIGNED_BYTES) == b""
    fresh.close(descriptor)


@pytest.mark.parametrize("call", ["open", "pread_into"])
def test_other_errors_are_those_of_the_disk(file: Path, call: str) -> None:
    fault = Fault(1, errno.EACCES, only=frozenset({call}))
    fresh = FreshDisk(FaultyDisk(fault))
    with pytest.raises(PermissionError):
        fresh.pread(fresh.open(file, os.O_RDONLY), 10, 0)
