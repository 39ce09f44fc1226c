"""References to places that compaction empties meanwhile."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_steps import put_blob

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError
from holdfast.core.seams import Disk
from holdfast.core.store import FileRef
from holdfast.log.compaction import compact
from holdfast.log.log import Log
from holdfast.log.segment import segment_path
from holdfast.stores.segments import SegmentStore
from holdfast.testing.folders import quick_folder

BLOBS = [b"%d" % number * 50 for number in range(40)]
DIGESTS = [Digest.of(data) for data in BLOBS]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", limits.KIB)
    monkeypatch.setattr(limits, "COMPACT_DEAD_BYTES_MIN", 100)
    with quick_folder() as base:
        yield base / "store"


def fill(log: Log) -> SegmentStore:
    for data in BLOBS:
        put_blob(log, data)
    store = SegmentStore(log)
    store.remove(DIGESTS[1::2])
    return store


def empty(log: Log) -> None:
    for _ in compact(log, 0.1, with_newest=True):
        pass
    assert not segment_path(log.root, 1).exists()


def follow(outcome: object) -> bytes:
    """Read as another program does."""
    assert isinstance(outcome, FileRef)
    descriptor = os.open(outcome.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return os.pread(descriptor, outcome.size_bytes, outcome.offset)
    finally:
        os.close(descriptor)


def test_a_file_ref_that_leads_nowhere_is_asked_for_again(folder: Path) -> None:
    with Log(folder) as log:
        store = fill(log)
        before = store.file_refs(DIGESTS)
        first = before[0]
        assert isinstance(first, FileRef)
        opened = first.path.open("rb")
        empty(log)
        for outcome in before[::2]:
            with pytest.raises(FileNotFoundError):
                follow(outcome)
        with opened:
            assert os.pread(opened.fileno(), first.size_bytes, first.offset) == BLOBS[0]
        again = store.file_refs(DIGESTS)
        assert [follow(outcome) for outcome in again[::2]] == BLOBS[::2]
        assert all(isinstance(outcome, NotFoundError) for outcome in again[1::2])


class BusyDisk(Disk):
    """Has its log compacted when somebody is about to open the first segment, once."""

    log: Log | None = None

    def open(self, path: Path, flags: int) -> int:
        log, self.log = self.log, None
        if log is not None:
            assert path == segment_path(log.root, 1)
            empty(log)
        return super().open(path, flags)


def test_a_place_that_moves_between_the_look_up_and_the_file_is_looked_up_again(
    folder: Path,
) -> None:
    disk = BusyDisk()
    with Log(folder, disk) as log:
        store = fill(log)
        disk.log = log
        found = store.file_refs(DIGESTS[::2])
        assert not vars(disk)["log"]
        assert [follow(outcome) for outcome in found] == BLOBS[::2]
