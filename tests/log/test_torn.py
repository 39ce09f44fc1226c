"""What recovery cuts off is kept for people, within bounds."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from log_steps import newest, put_key, reopened, survive

from holdfast.core import limits
from holdfast.core.seams import Buffer
from holdfast.log.log import Log
from holdfast.log.torn import torn_tails
from holdfast.testing.faults import FaultyDisk
from holdfast.testing.folders import quick_folder


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", limits.KIB)
    with quick_folder() as base:
        yield base / "store"


def tear(folder: Path, tail: bytes) -> None:
    """Leave the folder as a process that was killed while it appended `tail`."""
    with Log(folder) as log:
        put_key(log, b"key", tail)
        place = log.index.applied()
        assert place is not None
    with newest(folder).open("r+b") as file:
        os.pwrite(file.fileno(), tail, place.offset)
    survive(folder)


def test_of_many_the_newest_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TORN_FILES_MAX", 3)
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "of somebody.torn").touch()
    for number in range(8):
        tear(folder, b"tail %d" % number)
    assert reopened(folder)[1] == {b"key": b"tail 7"}
    kept = torn_tails(folder / "log")
    assert [path.read_bytes() for path in kept] == [b"tail 5", b"tail 6", b"tail 7"]


def test_together_they_are_no_larger_than_a_bound(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TORN_BYTES_MAX", 1000)
    for size in (400, 300, 500, 1001):
        tear(folder, b"x" * size)
    assert reopened(folder)[1] == {b"key": b"x" * 1001}
    assert [path.stat().st_size for path in torn_tails(folder / "log")] == [300, 500]


class NarrowDisk(FaultyDisk):
    """Has no room for files of this kind; says so when they are made, or when they are written."""

    def __init__(self, *, at_once: bool) -> None:
        super().__init__()
        self._at_once = at_once
        self._descriptors = set[int]()

    def open(self, path: Path, flags: int) -> int:
        if path.suffix == ".torn" and self._at_once:
            raise OSError(errno.ENOSPC, "no room for a name")
        descriptor = super().open(path, flags)
        if path.suffix == ".torn":
            self._descriptors.add(descriptor)
        return descriptor

    def pwrite_all(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        if descriptor in self._descriptors:
            self._descriptors.clear()
            raise OSError(errno.ENOSPC, "no room for a byte")
        return super().pwrite_all(descriptor, buffers, offset)


@pytest.mark.parametrize("room", ["a name", "nothing"])
def test_a_full_disk_does_not_keep_a_log_from_opening(folder: Path, room: str) -> None:
    tear(folder, b"tail")
    with Log(folder, NarrowDisk(at_once=room == "nothing")) as log:
        assert log.recovery.truncated_bytes == 4
        put_key(log, b"more", b"")
    assert torn_tails(folder / "log") == []
    assert reopened(folder)[1] == {b"key": b"tail", b"more": b""}
