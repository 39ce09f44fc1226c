"""Compaction frees the disk and changes nothing that can be read, whatever happens meanwhile."""

import errno
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_steps import (
    begin_blob,
    contents,
    cut_power,
    dump,
    flip,
    kill,
    put_blob,
    put_key,
    reopened,
    segments,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, CompactedError, CorruptError, UnavailableError
from holdfast.core.kv import Delete, Put, Write
from holdfast.core.seams import Disk
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.accounts import Account, State
from holdfast.log.compaction import compact, worst_segment
from holdfast.log.log import Log
from holdfast.log.segment import segment_path
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import history


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_small(monkeypatch)
    with quick_folder() as base:
        yield base / "store"


def make_small(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    patch.setattr(limits, "RESERVE_BYTES", limits.KIB)
    patch.setattr(limits, "SEGMENT_BYTES_MAX", 9000)
    patch.setattr(limits, "BATCH_BYTES_MAX", 3000)
    patch.setattr(limits, "COMPACT_STEP_BYTES", 1500)
    patch.setattr(limits, "COMPACT_DEAD_BYTES_MIN", 100)


def blob(number: int) -> bytes:
    return b"%d " % number * 150


def live_through(log: Log, count: int = 60) -> None:
    """Put, overwrite, delete and remove, so that every segment has some of it."""
    kv, store = EmbeddedKV(log), SegmentStore(log)
    for number in range(count):
        put_blob(log, blob(number))
        put_key(log, b"key %d" % (number % 17), b"%d" % number * 20)
        put_key(log, b"once %d" % number, b"!")
        if number % 3 == 2:
            kv.commit([], [Delete(b"once %d" % (number - 1)), Delete(b"nothing")]).result()
        if number % 4 == 3:
            store.remove([Digest.of(blob(number - 2)), Digest.of(b"never stored")])


def check_history(log: Log) -> None:
    """Every commit is there from where the index says on, and none before can be asked for."""
    kv, oldest = EmbeddedKV(log), log.index.history()
    revisions = [change.revision for change in kv.watch(b"", oldest, wait_s=0)]
    assert sorted(set(revisions)) == list(range(oldest, log.revision + 1))
    if oldest > 1:
        with pytest.raises(CompactedError):
            next(kv.watch(b"", oldest - 1, wait_s=0))


def run(log: Log, dead_share: float = 0.0, *, with_newest: bool = True) -> int:
    return sum(each.freed_bytes for each in compact(log, dead_share, with_newest=with_newest))


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "log").glob("*.seg"))


def test_it_frees_the_disk_and_all_reads_as_before(folder: Path) -> None:
    with Log(folder) as log:
        live_through(log)
        expected, before = contents(log), used_bytes(folder)
        freed = run(log)
        assert freed > before / 4
        assert contents(log) == expected
        live = log.facts()["live_bytes"]
        assert log.facts()["log_bytes"] < 1.6 * live
        killed = kill(folder, folder.with_name("killed"))
        found = dump(log)
    assert reopened(killed) == expected
    cut_power(killed)
    assert reopened(killed) == reopened(folder) == expected
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert log.recovery.damages == ()
        assert contents(log) == expected
        assert dump(log)[:2] == found[:2]
        assert log.revision == EmbeddedKV(log).revision() == found[4].revision


def test_a_log_of_which_nothing_is_live_shrinks_to_almost_nothing(folder: Path) -> None:
    with Log(folder) as log:
        kv, store = EmbeddedKV(log), SegmentStore(log)
        for number in range(100):
            put_blob(log, blob(number))
            put_key(log, b"%d" % number, blob(number))
        for number in range(100):
            kv.commit([], [Delete(b"%d" % number)]).result()
        store.remove([Digest.of(blob(number)) for number in range(100)])
        before, revision = used_bytes(folder), log.revision
        for _ in range(3):
            run(log)
        assert used_bytes(folder) < before / 20
        assert contents(log) == ({}, {})
    cut_power(folder)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert contents(log) == ({}, {})
        assert log.revision == revision
        put_key(log, b"more", b"")
        assert log.revision == revision + 1


def test_keys_that_are_overwritten_for_ever_take_no_more_space_for_ever(folder: Path) -> None:
    with Log(folder) as log:
        sizes = []
        for round_ in range(12):
            for number in range(60):
                put_key(log, b"%d" % number, b"%d" % round_ * 90)
            run(log, 0.3, with_newest=False)
            sizes.append(used_bytes(folder))
        assert max(sizes[4:]) < 4 * sizes[1]
        expected = contents(log)
        assert len(expected[1]) == 60
    shutil.rmtree(folder / "index")
    assert reopened(folder) == expected


def test_a_deleted_key_does_not_come_back_whatever_is_compacted_first(folder: Path) -> None:
    """Its deletion is carried for as long as an older segment may hold what it deletes."""
    with Log(folder) as log:
        put_key(log, b"gone", b"old")
        put_blob(log, b"gone")
        for number in range(40):
            put_blob(log, blob(number))
        EmbeddedKV(log).commit([], [Delete(b"gone")]).result()
        SegmentStore(log).remove([Digest.of(b"gone")])
        doomed = [Digest.of(blob(number)) for number in range(20, 60)]
        for number in range(40, 60):
            put_blob(log, blob(number))
        SegmentStore(log).remove(doomed)
        first = segment_path(folder / "log", 1)
        for _ in range(3):
            run(log, 0.4)
            assert first.exists(), "most of it is live, so it stays"
        expected = contents(log)
    shutil.rmtree(folder / "index")
    found = reopened(folder)
    assert found == expected
    assert b"gone" not in found[1]
    assert Digest.of(b"gone") not in found[0]


def test_readers_and_writers_do_not_notice(folder: Path) -> None:
    """Threads read and write all the while; what they were told stays true."""
    with Log(folder) as log:
        for number in range(60):
            put_blob(log, blob(number))
        SegmentStore(log).remove([Digest.of(blob(number)) for number in range(1, 60, 2)])
        stop = threading.Event()
        with ThreadPoolExecutor(3) as pool:
            works = [read_one, read_one, write_one]
            running = [pool.submit(repeat, work, log, stop) for work in works]
            freed = [run(log) for _ in range(6)]
            stop.set()
        assert all(each.result() > 0 for each in running)
        assert freed[0] > 0
        expected = contents(log)
    cut_power(folder)
    shutil.rmtree(folder / "index")
    assert reopened(folder) == expected


def repeat(work: Callable[[Log, random.Random], None], log: Log, stop: threading.Event) -> int:
    chance, count = random.Random(work.__name__), 0
    while not stop.is_set():
        work(log, chance)
        count += 1
    return count


def read_one(log: Log, chance: random.Random) -> None:
    number = chance.randrange(0, 60, 2)
    assert read(SegmentStore(log), Digest.of(blob(number))) == blob(number)


def write_one(log: Log, chance: random.Random) -> None:
    number = chance.randrange(1000)
    put_key(log, b"mine %d" % number, b"%d" % number * 30)
    found = EmbeddedKV(log).get(b"mine %d" % number)
    assert found is not None
    assert found.value == b"%d" % number * 30


def test_a_blob_that_was_opened_before_is_read_after(folder: Path) -> None:
    with Log(folder) as log:
        live_through(log)
        store = SegmentStore(log)
        digest = Digest.of(blob(0))
        place = log.index.locate(digest)
        assert place is not None
        held = log.read(digest, place, wait=True)
        run(log)
        assert not segment_path(folder / "log", 1).exists()
        assert bytes(held or b"") == blob(0)
        assert log.index.locate(digest) != place
        with pytest.raises(FileNotFoundError):
            log.read(digest, place, wait=True)
        assert read(store, digest) == blob(0)


def test_history_says_where_it_begins_now(folder: Path) -> None:
    with Log(folder) as log:
        live_through(log)
        kv, newest = EmbeddedKV(log), log.revision
        run(log)
        with pytest.raises(CompactedError) as caught:
            history(kv)
        oldest = caught.value.oldest
        assert 1 < oldest <= newest + 1
        put_key(log, b"later", b"")
        found = [each.revision for each in history(kv, from_revision=oldest)]
        assert found[-1] == newest + 1
        assert sorted({*found}) == list(range(oldest, newest + 2))
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert log.index.history() == oldest


def test_a_kill_at_any_call_of_a_compaction_loses_nothing(folder: Path) -> None:
    """The folder is copied before every call that the disk gets; half of them lose power, too."""

    class Watching(FaultyDisk):
        def _strikes(self, name: str) -> bool:
            if armed and name not in {"pread", "open", "close"}:
                copies.append(kill(folder, folder.with_name(f"killed {len(copies)} {name}")))
            return super()._strikes(name)

    armed, copies = False, list[Path]()
    with Log(folder, Watching()) as log:
        live_through(log, 24)
        expected = contents(log)
        armed = True
        assert run(log) > 0
        armed = False
    assert len(copies) > 20
    for number, copy in enumerate(copies):
        if number % 2:
            cut_power(copy)
        assert reopened(copy) == expected
        with Log(copy) as log:
            assert log.recovery.damages == ()
            check_history(log)
            run(log)
            check_history(log)
            assert contents(log) == expected
        shutil.rmtree(copy)


@pytest.mark.parametrize("error", [errno.EIO, pytest.param(errno.ENOSPC, marks=pytest.mark.slow)])
def test_with_any_call_failing_nothing_is_lost(folder: Path, error: int) -> None:
    for number in range(1, 200):
        struck = False
        for after in (False, True):
            base = folder / f"{number} {after}"
            disk = FaultyDisk()
            with Log(base, disk) as log:
                live_through(log, 16)
                expected = contents(log)
                disk.arm(Fault(number, error, after=after))
                try:
                    run(log)
                except BlobError:
                    assert disk.struck
                struck = struck or disk.struck
                disk.arm(None)
                assert contents(log) == expected
                run(log)
                assert contents(log) == expected
            cut_power(base)
            assert reopened(base) == expected
            shutil.rmtree(base)
        if not struck:
            assert number > 15
            return
    raise AssertionError


def test_a_damaged_segment_is_kept_while_anything_in_it_is_live(folder: Path) -> None:
    with Log(folder) as log:
        digests = [put_blob(log, blob(number)) for number in range(60)]
        SegmentStore(log).remove(digests[1::2])
        place = log.index.locate(digests[0])
        assert place is not None
        flip(segment_path(folder / "log", 1), place.offset + 100)
        run(log)
        assert segment_path(folder / "log", 1).exists()
        assert {*map(Digest, contents_but(log, digests[0]))} == {*digests[2::2]}
        put_blob(log, blob(0))
        assert read(SegmentStore(log), digests[0]) == blob(0)
        run(log)
        assert not segment_path(folder / "log", 1).exists()
    assert len(reopened(folder)[0]) == 30


def contents_but(log: Log, damaged: Digest) -> list[bytes]:
    store = SegmentStore(log)
    return [ref.digest for ref in store.scan() if ref.digest != damaged and read(store, ref.digest)]


def test_a_segment_that_cannot_be_read_does_not_keep_others_from_it(folder: Path) -> None:
    with Log(folder) as log:
        live_through(log)
        for offset in (20, 33, 41):
            flip(segment_path(folder / "log", 1), offset)
        before = used_bytes(folder)
        with pytest.raises(CorruptError, match="header is damaged"):
            run(log)
        assert used_bytes(folder) < before * 3 / 4


def test_a_file_that_could_not_be_removed_is_removed_by_the_next_run(folder: Path) -> None:
    """Also one that a worker left which was killed before it could do it."""
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        live_through(log)
        expected = contents(log)
        disk.arm(Fault(1, lasting=True, only=frozenset({"unlink"})))
        with pytest.raises(UnavailableError):
            run(log)
        disk.arm(None)
        left = [id_ for id_, row in log.index.accounts.rows().items() if row.state == State.DROPPED]
        assert left
        run(log, 1.0, with_newest=False)
        assert not [id_ for id_ in left if segment_path(folder / "log", id_).exists()]
        assert not {*left} & log.index.accounts.rows().keys()
        assert contents(log) == expected


def test_a_segment_whose_sync_failed_is_emptied_first(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        digest = put_blob(log, b"before")
        disk.arm(Fault(1, only=frozenset({"sync_data"})))
        with pytest.raises(BlobError):
            put_blob(log, b"refused")
        disk.arm(None)
        assert run(log, 1.0, with_newest=False) > 0
        assert not segment_path(folder / "log", 1).exists()
        assert read(SegmentStore(log), digest) == b"before"


def test_a_missing_segment_is_damage_and_a_dropped_one_is_not(folder: Path) -> None:
    with Log(folder) as log:
        live_through(log)
        run(log)
        left = [int(path.stem) for path in segments(folder)]
        assert left[0] > 1
    lost = segments(folder)[1]
    size_bytes = lost.stat().st_size
    lost.unlink()
    for _ in range(2):
        with Log(folder) as log:
            assert [each[:2] for each in log.recovery.damages] == [(left[1], 0)]
            assert 0 < log.recovery.damages[0].size_bytes <= size_bytes
        shutil.rmtree(folder / "index")


class FullDisk(Disk):
    """Has no block left, and takes all that it is given."""

    is_full = True

    def free_bytes(self, path: Path) -> int:
        return 0 if self.is_full else super().free_bytes(path)


def test_the_newest_segment_is_finished_where_the_disk_is_full(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a small store on a full disk would wait for it to grow."""
    monkeypatch.setattr(limits, "RESERVE_BYTES", 64 * limits.KIB)
    disk = FullDisk()
    with Log(folder, disk) as log:
        digests = [put_blob(log, blob(number)) for number in range(10)]
        assert run(log, 0.5, with_newest=False) == 0, "nothing is dead"
        SegmentStore(log).remove(digests[1:])
        disk.is_full = False
        assert run(log, 0.5, with_newest=False) == 0
        disk.is_full = True
        assert run(log, 0.5, with_newest=False) > 3000
        assert run(log, 0.5, with_newest=False) == 0
        assert contents(log)[0] == {bytes(digests[0]): blob(0)}


def test_the_worst_is_chosen_first() -> None:
    row = Account(100_000_000, 60_000_000, 0, State.WHOLE)
    worst = row._replace(live_bytes=10_000_000)
    rows = {3: row, 4: worst, 5: row, 6: worst._replace(live_bytes=0)}
    assert worst_segment(rows, 6, 0.5) == 4, "the newest is never chosen"
    assert worst_segment(rows, 7, 0.5) == 6
    assert worst_segment(rows, 7, 0.5, {4, 6}) is None
    assert worst_segment(rows, 7, 0.4, {4, 6}) == 3
    assert worst_segment(rows | {5: row._replace(state=State.SUSPECT)}, 7, 0.5) == 5
    dropped = rows | {6: worst._replace(state=State.DROPPED)}
    assert worst_segment(dropped, 7, 0.5) == 6, "its file is still there"
    assert worst_segment(dropped, 7, 0.5, {6}) == 4
    deletions = {number: row._replace(deletion_bytes=40_000_000) for number in rows}
    assert worst_segment(deletions, 7, 0.5) == 3, "only where it is the oldest, they may go"
    assert worst_segment(deletions, 7, 0.5, {3}) is None, "while it is there, no others may"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "blob", "delete", "remove", "compact", "reopen", "rebuild"]),
        st.integers(0, 12),
        st.integers(0, 400),
    ),
    max_size=60,
)


class Model:
    """A log beside two dicts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = Log(folder)
        self.keys = dict[bytes, bytes]()
        self.blobs = dict[bytes, bytes]()

    def put(self, number: int, size: int) -> None:
        self.keys[b"%d" % number] = b"%d" % number * size
        put_key(self.log, b"%d" % number, b"%d" % number * size)

    def blob(self, number: int, size: int) -> None:
        data = b"%d" % number * size
        self.blobs[bytes(Digest.of(data))] = data
        begin_blob(self.log, data).result()

    def delete(self, number: int, _: int) -> None:
        self.keys.pop(b"%d" % number, None)
        self.keys[b"n"] = b"%d" % number
        writes: list[Write] = [Delete(b"%d" % number), Put(b"n", b"%d" % number)]
        EmbeddedKV(self.log).commit([], writes).result()

    def remove(self, number: int, _: int) -> None:
        gone = list(self.blobs)[: number % 3]
        SegmentStore(self.log).remove([Digest(each) for each in gone])
        for each in gone:
            del self.blobs[each]

    def compact(self, number: int, size: int) -> None:
        run(self.log, number / 12, with_newest=size % 2 == 0)

    def reopen(self, *_: int) -> None:
        self.log.close()
        self.log = Log(self.folder)
        assert self.log.recovery.damages == ()

    def rebuild(self, *_: int) -> None:
        self.log.close()
        shutil.rmtree(self.folder / "index")
        self.reopen()


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_it_behaves_as_two_dicts(steps: list[tuple[str, int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch, quick_folder() as base:
        make_small(patch)
        patch.setattr(limits, "SEGMENT_BYTES_MAX", 4500)
        model = Model(base)
        for what, number, size in steps:
            getattr(model, what)(number, size)
            assert contents(model.log) == (model.blobs, model.keys)
        model.rebuild()
        assert contents(model.log) == (model.blobs, model.keys)
        model.log.close()


def test_a_segment_is_closed_from_the_moment_at_which_it_is_dropped(folder: Path) -> None:
    """A process that hears of it may look before the row of the segment is gone."""
    with Log(folder) as log:
        digest = put_blob(log, b"blob")
        SegmentStore(log).remove([digest])
        log.roll()
        assert log.segments.get(1) is log.segments.find(1)
        assert log.submit(lambda batch: batch.drop(1), 0).result()
        log.board.drops += 1
        assert 1 in log.index.accounts.rows()
        assert log.segments.find(1) is None
