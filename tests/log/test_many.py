"""Many blobs in one call: one append, one sync, and every outcome its own."""

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_steps import flip, newest, segments

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, TooLargeError, UnavailableError
from holdfast.core.many import get_many
from holdfast.core.store import FileRef
from holdfast.log.log import Log
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import make, read
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder

BLOBS = [b"%d" % number * 50 for number in range(300)]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * limits.KIB)
    with quick_folder() as base:
        yield base / "store"


def refs(blobs: list[bytes]) -> list[BlobRef]:
    return [BlobRef(Digest.of(data), len(data)) for data in blobs]


def test_many_blobs_are_one_append_and_one_sync(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        store = SegmentStore(log)
        store.put_many([b"one"])  # makes room
        disk.arm(None)
        assert store.put_many(BLOBS[:50]) == refs(BLOBS[:50])
        assert disk.calls == ["pwrite_all", "sync_data"]
        assert log.facts()["batches"] == 2


def test_what_is_stored_already_is_not_written_again(folder: Path) -> None:
    with Log(folder) as log:
        store = SegmentStore(log)
        store.put_many(BLOBS)
        size_bytes = log.facts()["appended_bytes"]
        store.put_many(BLOBS * 3)
        assert log.facts()["appended_bytes"] == size_bytes


def test_what_no_batch_takes_is_refused_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1000)
    with Log(folder) as log:
        store = SegmentStore(log)
        blobs = [b"small", bytes(1001), bytes(1000), bytes(1001)]
        outcomes = store.put_many(blobs)
        assert [outcomes[0], outcomes[2]] == refs([blobs[0], blobs[2]])
        for refused in (outcomes[1], outcomes[3]):
            assert isinstance(refused, TooLargeError)
            assert refused.limit == 1000
        assert [ref.digest for ref in store.scan()] == sorted(map(Digest.of, blobs[::2]))


def test_a_log_that_takes_nothing_says_so_for_each(folder: Path) -> None:
    log = Log(folder)
    store = SegmentStore(log)
    log.close()
    outcomes = store.put_many(BLOBS[:3])
    assert [type(each) for each in outcomes] == [UnavailableError] * 3


def test_a_full_queue_refuses_what_came_too_late(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1000)
    with Log(folder) as log:
        store = SegmentStore(log)
        monkeypatch.setattr(limits, "QUEUE_JOBS_MAX", 0)
        outcomes = store.put_many([make(600), make(601)])
        assert [type(each) for each in outcomes] == [UnavailableError] * 2
        monkeypatch.undo()
        assert store.put_many([make(600)]) == refs([make(600)])


@pytest.mark.parametrize("kind", [{}, {"after": True}, {"short": True}], ids=str)
def test_every_call_that_fails_refuses_and_stores_nothing_wrong(
    folder: Path, kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three appends, and the fault at call 1, 2, 3 ... until a run is clean."""
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 4000)
    blobs = BLOBS[:100]
    for number in itertools.count(1):
        disk = FaultyDisk()
        place = folder / str(number)
        with Log(place, disk) as log:
            store = SegmentStore(log)
            disk.arm(replace(Fault(number), **kind))
            outcomes = store.put_many(blobs)
            struck = disk.struck
            disk.arm(None)
        check(place, blobs, outcomes)
        if not struck:
            assert outcomes == refs(blobs)
            return
        assert any(isinstance(each, BlobError) for each in outcomes)


def check(place: Path, blobs: list[bytes], outcomes: list[BlobRef | BlobError]) -> None:
    with Log(place) as log:
        store = SegmentStore(log)
        for data, outcome in zip(blobs, outcomes, strict=True):
            found = read(store, Digest.of(data))
            assert found == (None if isinstance(outcome, BlobError) else data)


# Reading.


def test_neighbours_are_read_at_once_and_each_once(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        store = SegmentStore(log)
        store.put_many(BLOBS)
        digests = [Digest.of(data) for data in BLOBS]
        assert read(store, digests[0]) == BLOBS[0]  # which opens the segment
        disk.arm(None)
        assert list(get_many(store, [*digests[::-1], *digests])) == [*BLOBS[::-1], *BLOBS]
        assert disk.calls == ["pread"]


def test_segments_are_opened_once_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 20_000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 2000)
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        SegmentStore(log).put_many(BLOBS)
    with Log(folder, disk) as log:
        store = SegmentStore(log)
        shuffled = random.Random(1).sample(BLOBS, len(BLOBS))
        disk.arm(None)
        assert list(get_many(store, [Digest.of(data) for data in shuffled])) == shuffled
        count = len(segments(folder))
        assert count > 2
        assert disk.calls.count("open") <= count


def test_every_damaged_byte_is_said_where_it_is_and_nowhere_else(folder: Path) -> None:
    blobs = BLOBS[:3]
    digests = [Digest.of(data) for data in blobs]
    with Log(folder) as log:
        store = SegmentStore(log)
        store.put_many(blobs)
        start = log.index.locate_all(digests[1:2])[digests[1]].offset
        for offset in range(start, start + 72 + len(blobs[1])):
            flip(newest(folder), offset)
            outcomes = list(get_many(store, digests))
            assert outcomes[::2] == blobs[::2]
            assert isinstance(outcomes[1], CorruptError) or (
                outcomes[1] == blobs[1] and offset < start + 72  # of the header, only hints matter
            )
            flip(newest(folder), offset)
        assert list(get_many(store, digests)) == blobs


def test_every_read_that_fails_is_said_or_done_again(folder: Path) -> None:
    blobs = [BLOBS[0], make(9000), *BLOBS[1:3], make(9001)]  # too far apart for one read
    digests = [Digest.of(data) for data in blobs]
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        store = SegmentStore(log)
        for data in blobs:
            store.put_many([data])
        disk.struck, outcomes = True, []
        for number in itertools.takewhile(lambda _: disk.struck, itertools.count(1)):
            disk.arm(Fault(number, only=frozenset(["pread"])))
            outcomes = list(get_many(store, digests))
            for data, outcome in zip(blobs, outcomes, strict=True):
                assert outcome == data or isinstance(outcome, UnavailableError)
        assert outcomes == blobs
        disk.arm(Fault(1, lasting=True))
        outcomes = list(get_many(store, digests))
        assert [type(each) for each in outcomes] == [UnavailableError] * len(blobs)


# Where they lie.


@pytest.fixture
def placed(folder: Path) -> Iterator[SegmentStore]:
    """A store with three blobs, and records for which a name must be opened again."""
    with Log(folder) as log:
        SegmentStore(log).put_many(BLOBS[:3])
    with Log(folder) as log:
        yield SegmentStore(log)


DIGESTS = [Digest.of(data) for data in BLOBS[:3]]


def test_file_refs_look_at_headers_and_at_no_payload(folder: Path, placed: SegmentStore) -> None:
    before = placed.file_refs(DIGESTS)
    assert isinstance(before[1], FileRef)
    flip(newest(folder), before[1].offset)
    assert placed.file_refs(DIGESTS) == before
    for offset in range(before[1].offset - 72, before[1].offset):
        flip(newest(folder), offset)
        found = placed.file_refs(DIGESTS)
        assert found[::2] == before[::2]
        assert isinstance(found[1], CorruptError)
        flip(newest(folder), offset)


def test_file_refs_are_one_look_at_each_header(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        store = SegmentStore(log)
        store.put_many(BLOBS[:3])
        store.file_refs(DIGESTS[:1])
        disk.arm(None)
        store.file_refs(DIGESTS * 5)
        assert disk.calls == ["pread"] * 3
        disk.arm(Fault(2, lasting=True))
        assert [type(each) for each in store.file_refs(DIGESTS)] == [UnavailableError] * 3


@pytest.mark.parametrize("swap", ["link", "copy", "pipe", "nothing"])
@pytest.mark.parametrize("opened", ["before", ""])
def test_a_file_ref_never_names_another_file(
    folder: Path, placed: SegmentStore, swap: str, opened: str
) -> None:
    if opened:
        assert isinstance(placed.file_refs(DIGESTS)[0], FileRef)
    path = newest(folder)
    copy = path.rename(folder / "copy")
    if swap == "link":
        path.symlink_to(copy)
    elif swap == "copy":
        shutil.copy(copy, path)
    elif swap == "pipe":
        os.mkfifo(path)
    outcomes = placed.file_refs(DIGESTS)
    if swap == "copy" and not opened:
        assert all(isinstance(each, FileRef) for each in outcomes)  # it is the segment now
        return
    assert all(isinstance(each, BlobError) for each in outcomes)
    path.unlink(missing_ok=True)
    copy.rename(path)
    assert all(isinstance(each, FileRef) for each in placed.file_refs(DIGESTS))


def test_a_cut_segment_has_no_file_refs_behind_the_cut(folder: Path, placed: SegmentStore) -> None:
    last = placed.file_refs(DIGESTS)[2]
    assert isinstance(last, FileRef)
    os.truncate(newest(folder), last.offset + last.size_bytes - 1)
    outcomes = placed.file_refs(DIGESTS)
    assert [type(each) for each in outcomes] == [FileRef, FileRef, CorruptError]
