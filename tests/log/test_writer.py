"""Group commit, rotation and a disk that fails: acknowledged is kept, refused stays away.

One case is in doubt by nature. When a batch could not be written *and* what it left could not be
erased either (the disk fails for good), its requests are answered UnavailableError, the log takes
nothing more until it is opened again, and a new opening may find the batch whole. The scripts here
allow that after a lasting fault and nowhere else.
"""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from log_steps import (
    begin_blob,
    contents,
    cut_power,
    dump,
    holding,
    kill,
    newest,
    put_blob,
    put_key,
    reopened,
    segments,
    stage_blob,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, FullError, PreconditionError, UnavailableError
from holdfast.core.kv import Committed, Conflict, Delete, Plan, Put, Unchanged, Versioned
from holdfast.core.pending import Pending
from holdfast.core.seams import SystemClock
from holdfast.depot.local import open_depot
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.accounts import State
from holdfast.log.batch import Batch
from holdfast.log.log import Log
from holdfast.log.manifest import read_manifest
from holdfast.log.record import Kind
from holdfast.log.scan import Record, Scan
from holdfast.log.segment import Segment
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import everything, history


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 500)
    with quick_folder() as base:
        yield base / "store"


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 6000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 2000)


def kinds(folder: Path, number: int) -> list[int]:
    """The kinds of the records of a segment."""
    with Log(folder) as log:
        segment = Segment.open(log.disk, folder / "log", number)
        found = list(Scan(log.disk, segment).records(64))
    assert all(isinstance(each, Record) for each in found)
    return [each.header.kind for each in found if isinstance(each, Record)]


# Group commit.


def test_what_waits_at_one_moment_shares_one_sync(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        put_blob(log, b"first")
        batches, syncs = log.writer.stats.batches, disk.calls.count("sync_data")
        with holding(log):
            waiting = [begin_blob(log, b"%d" % number) for number in range(500)]
            assert not any(each.done() for each in waiting)
        assert all(each.done() for each in waiting)
        assert log.writer.stats.batches - batches <= 3
        assert disk.calls.count("sync_data") - syncs <= 2
        assert len(contents(log)[0]) == 501


def test_a_commit_stands_behind_the_blobs_of_its_batch(folder: Path) -> None:
    with Log(folder) as log, holding(log):
        put = EmbeddedKV(log).commit([], [Put(b"k", b"1")])
        begin_blob(log, b"blob")
        again = EmbeddedKV(log).commit([], [Put(b"k", b"2")])
    assert (put.result(), again.result()) == (Committed(1), Committed(2))
    assert kinds(folder, 1) == [Kind.MANIFEST, Kind.BLOB, Kind.COMMIT]
    assert reopened(folder) == ({Digest.of(b"blob"): b"blob"}, {b"k": b"2"})


def test_one_refused_request_does_not_harm_its_batch(folder: Path) -> None:
    def refuse(_: Batch) -> None:
        raise FullError("no")

    with Log(folder) as log:
        with holding(log):
            good = begin_blob(log, b"good")
            bad = log.submit(refuse, 0)
            more = EmbeddedKV(log).commit([], [Put(b"k", b"v")])
        assert good.exception() is None
        assert isinstance(bad.exception(), FullError)
        assert more.result() == Committed(1)
    assert reopened(folder) == ({Digest.of(b"good"): b"good"}, {b"k": b"v"})


def test_a_defect_of_one_request_leaves_its_batch_without_it(folder: Path) -> None:
    """It fails behind its first record, and nothing of it is in the log."""
    name = Digest.of(b"bad")

    def break_down(batch: Batch) -> None:
        batch.add_blob(name, b"bad", 3, 0)
        raise ZeroDivisionError

    with Log(folder) as log:
        put_blob(log, b"before")
        with holding(log):
            first, bad = begin_blob(log, b"first"), log.submit(break_down, 0)
            worse, last = log.submit(break_down, 0), begin_blob(log, b"last")
        for each in (bad, worse):
            assert isinstance(each.exception(timeout=10), ZeroDivisionError)
        first.result()
        last.result()
        assert log.writer.healthy
        put_blob(log, b"after")
    blobs = (b"before", b"first", b"last", b"after")
    assert set(reopened(folder)[0]) == {Digest.of(each) for each in blobs}


def test_a_defect_elsewhere_ends_everything_with_an_error_and_leaves_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise ZeroDivisionError

    with Log(folder) as log:
        put_blob(log, b"before")
        with suppress(UnavailableError), holding(log):  # it may have ended by then
            queued = [begin_blob(log, b"queued"), begin_blob(log, b"more")]
            log.writer.before_batch = break_down
        for each in queued:
            assert isinstance(each.exception(timeout=10), UnavailableError)
        assert [each.getMessage() for each in caplog.records] == ["defect"]
        assert not log.writer.healthy
        with pytest.raises(UnavailableError, match="reopen"):
            put_blob(log, b"after")
        assert set(contents(log)[0]) == {Digest.of(b"before")}
    assert set(reopened(folder)[0]) == {Digest.of(b"before")}


class _Interrupted(SystemClock):
    """Does something each time it is asked, as long as there is something."""

    def __init__(self) -> None:
        self.deeds: list[Callable[[], None]] = []

    def monotonic_s(self) -> float:
        if self.deeds:
            self.deeds.pop(0)()
        return super().monotonic_s()


def test_a_commit_just_before_somebody_waits_for_it_is_not_missed(folder: Path) -> None:
    """The clock is asked when waiting begins, then between looking for the commit and waiting."""
    clock = _Interrupted()
    with Log(folder, clock=clock) as log:
        clock.deeds = [lambda: None, lambda: put_key(log, b"k", b"v")]
        began_s = time.monotonic()
        assert log.wait_for_commit(1, 5)
        assert time.monotonic() - began_s < 3


def test_a_callback_that_fails_stops_nobody(folder: Path) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    with Log(folder) as log:
        with holding(log):
            first = begin_blob(log, b"first")
            first.add_done_callback(fail)
            seen: list[object] = []
            first.add_done_callback(seen.append)
            second = begin_blob(log, b"second")
        assert second.result(timeout=10) is None
        assert seen == [first]
        put_key(log, b"k", b"v")
    assert len(reopened(folder)[0]) == 2


def test_a_callback_may_write_again(folder: Path) -> None:
    with Log(folder) as log:
        more: list[Pending[None]] = []
        begin_blob(log, b"1").add_done_callback(lambda _: more.append(begin_blob(log, b"2")))
        put_blob(log, b"3")
        more[0].result()
        assert len(contents(log)[0]) == 3


def test_a_full_queue_refuses_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_JOBS_MAX", 10)
    with Log(folder) as log:
        with holding(log):
            waiting = [begin_blob(log, b"%d" % number) for number in range(10)]
            with pytest.raises(UnavailableError, match="too many"):
                begin_blob(log, b"one more")
            monkeypatch.setattr(limits, "QUEUE_JOBS_MAX", 100)
        assert all(each.exception() is None for each in waiting)
        assert len(contents(log)[0]) == 10


def test_a_batch_is_bounded_by_what_its_commits_weigh(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 64 * limits.KIB)
    with Log(folder) as log:
        kv, before = EmbeddedKV(log), log.writer.stats.batches
        with holding(log):
            for number in range(40):
                kv.commit([], [Put(b"%d" % number, bytes(10 * limits.KIB))])
        assert log.writer.stats.batches - before >= 7
        assert len(everything(kv)) == 40


def test_closing_answers_everything_that_was_queued(folder: Path) -> None:
    """Threads write while the log closes: each request ends, in one way or the other."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(30):
            _close_under_writers(folder / f"{number}")
    finally:
        sys.setswitchinterval(interval)


def _close_under_writers(folder: Path) -> None:
    log = Log(folder)
    go = threading.Barrier(5)

    def write(thread: int) -> list[bytes]:
        done = []
        go.wait()
        try:
            for number in range(1000):
                data = b"%d/%d" % (thread, number)
                begin_blob(log, data).result(timeout=10)
                done.append(data)
        except UnavailableError:
            pass
        return done

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, thread) for thread in range(4)]
        go.wait()
        log.close()
        done = {data for each in writing for data in each.result()}
    assert {*map(Digest.of, done)} == set(reopened(folder)[0])


# Rotation.


@pytest.mark.usefixtures("small_segments")
def test_a_full_segment_is_followed_by_another(folder: Path) -> None:
    with Log(folder) as log:
        for number in range(60):
            put_blob(log, b"%d" % number * 200)
            put_key(log, b"%d" % (number % 9), b"%d" % number)
        before, found = contents(log), dump(log)
        assert log.facts()["segments"] == len(segments(folder)) > 5
    ids = [int(path.stem) for path in segments(folder)]
    assert ids == list(range(1, len(ids) + 1))
    sizes = [path.stat().st_size for path in segments(folder)]
    assert max(sizes) <= 6000
    for number in ids:
        assert kinds(folder, number).count(Kind.MANIFEST) == 1
        assert kinds(folder, number)[0] == Kind.MANIFEST
        with Log(folder) as log:
            segment = Segment.open(log.disk, folder / "log", number)
            first = read_manifest(log.disk, segment)
        assert first is not None
        assert first.manifest.segments == list(enumerate(sizes[: number - 1], 1))
    assert reopened(folder) == before
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert dump(log)[:4] == found[:4]
        assert [each.value for each in history(EmbeddedKV(log))] == [
            b"%d" % number for number in range(60)
        ]


@pytest.mark.usefixtures("small_segments")
def test_a_kill_at_any_call_of_a_rotation_loses_nothing(folder: Path) -> None:
    """The folder is copied before every call that the disk gets, as a kill would leave it."""

    class Watching(FaultyDisk):
        def _strikes(self, name: str) -> bool:
            if armed and name != "pread":
                copies.append(kill(folder, folder.with_name(f"killed {len(copies)} {name}")))
            return super()._strikes(name)

    armed, copies, before = False, list[Path](), reopened(folder)
    with Log(folder, Watching()) as log:
        number = 0
        while log.facts()["segments"] == 1:
            before = contents(log)
            armed, copies[:] = True, []
            for copy in folder.parent.glob("killed *"):
                shutil.rmtree(copy)
            data = b"%d" % number * 200
            put_blob(log, data)
            armed, number = False, number + 1
        after = contents(log)
    assert len(copies) >= 8
    for number, copy in enumerate(copies):
        if number % 2:
            cut_power(copy)
        assert reopened(copy) in (before, after)
        with Log(copy) as log:
            put_key(log, b"later", b"")
        ids = [int(path.stem) for path in segments(copy)]
        assert [kinds(copy, each)[0] for each in ids] == [Kind.MANIFEST] * len(ids)
        assert reopened(copy)[1] == {b"later": b""}


@pytest.mark.usefixtures("small_segments")
def test_ids_are_not_used_again(folder: Path) -> None:
    seen: dict[int, bytes] = {}
    for number in range(40):
        with Log(folder) as log:
            for step in range(4):
                put_blob(log, b"%d/%d" % (number, step) * 50)
        for path in segments(folder):
            salt = path.read_bytes()[24:32]
            assert seen.setdefault(int(path.stem), salt) == salt
    assert len(seen) > 5


# A disk that fails.


CHANGES = frozenset({"pwrite_all", "sync_data", "sync", "allocate", "truncate", "rename", "unlink"})
NO_SPACE = frozenset({"pwrite_all", "allocate"})


Change = Callable[["Model"], object]


class Model:
    """What was acknowledged, and the first that was refused."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.keys: dict[bytes, bytes] = {}
        self.refused: list[BlobError] = []
        self.in_doubt: Model | None = None
        """What holds if the first refused request happened."""

    def play(self, log: Log) -> None:
        """Put, commit, remove and delete, over more than one segment."""
        for number in range(9):
            data = b"%d" % number * 700
            self.put_blob(log, data)
            self.put_keys(log, {b"k%d" % (number % 4): data, b"n": b"%d" % number})
        self.remove_blobs(log, [*self.blobs][:1])
        kv = EmbeddedKV(log)
        self.ask(lambda: kv.commit([], [Delete(b"k1")]), lambda it: it.keys.pop(b"k1", None))

    def put_blob(self, log: Log, data: bytes) -> None:
        digest = bytes(Digest.of(data))
        self.ask(lambda: begin_blob(log, data), lambda it: it.blobs.update({digest: data}))

    def put_keys(self, log: Log, keys: dict[bytes, bytes]) -> None:
        writes = [Put(*pair) for pair in keys.items()]
        self.ask(lambda: EmbeddedKV(log).commit([], writes), lambda it: it.keys.update(keys))

    def remove_blobs(self, log: Log, gone: list[bytes]) -> None:
        self.ask(
            lambda: log.submit(lambda batch: batch.remove_blobs(gone), 32),
            lambda it: [it.blobs.pop(each) for each in gone],
        )

    def ask(self, begin: Callable[[], Pending[Any]], change: Change) -> None:
        """Wait for the answer, which always comes."""
        try:
            begin().result(timeout=10)
        except BlobError as error:
            self.refused.append(error)
            if self.in_doubt is None:
                self.in_doubt = Model()
                self.in_doubt.blobs, self.in_doubt.keys = dict(self.blobs), dict(self.keys)
                change(self.in_doubt)
        else:
            change(self)

    def holds(self) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        """As `contents` gives it."""
        return self.blobs, self.keys


def faults(number: int, error: int) -> list[Fault]:
    return [
        Fault(number, error, only=CHANGES),
        Fault(number, error, after=True, only=CHANGES),
        Fault(number, error, short=True, only=CHANGES),
    ]


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_with_any_call_failing_refused_stays_away(folder: Path, error: int) -> None:
    for number in range(1, 200):
        struck = False
        for kind, fault in enumerate(faults(number, error)):
            base = folder / f"{number} {kind}"
            disk, model = FaultyDisk(), Model()
            with Log(base, disk) as log:
                disk.arm(fault)
                model.play(log)
                assert contents(log) == model.holds()
                if not disk.struck:
                    break
                struck = True
                assert log.writer.healthy
                assert len(model.refused) <= 1  # none where it was not needed, or less would do
                expected = FullError if error == errno.ENOSPC else UnavailableError
                assert all(isinstance(each, expected) for each in model.refused)
                assert len(segments(base)) == len(log.index.accounts.rows())
                killed = kill(base, folder / f"{number} {kind} killed")
            cut = kill(killed, folder / f"{number} {kind} cut")
            cut_power(cut)
            assert reopened(base) == reopened(killed) == reopened(cut) == model.holds()
            for each in (base, killed, cut):
                shutil.rmtree(each)
        if not struck:
            assert number > 30
            return
    raise AssertionError


@pytest.mark.usefixtures("small_segments")
def test_a_disk_that_fails_for_good_loses_nothing_acknowledged(folder: Path) -> None:
    """The requests of the one batch in doubt may be there or not; see above."""
    for number in range(1, 200):
        base = folder / f"{number}"
        disk, model = FaultyDisk(), Model()
        with Log(base, disk) as log:
            disk.arm(Fault(number, after=number % 2 == 0, lasting=True, only=CHANGES))
            model.play(log)
            assert contents(log) == model.holds()
            assert log.writer.healthy == (not disk.struck)
            struck = disk.struck
        found = reopened(base)
        if not struck:
            assert found == model.holds()
            return
        assert model.in_doubt is not None
        assert found in (model.holds(), model.in_doubt.holds())
    raise AssertionError


@pytest.mark.parametrize("only", [NO_SPACE, frozenset({"sync_data"})])
def test_a_full_disk_takes_writes_again_when_there_is_space(
    folder: Path, only: frozenset[str]
) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        put_blob(log, b"before")
        disk.arm(Fault(1, errno.ENOSPC, lasting=only is NO_SPACE, only=only))
        for number in range(3 if only is NO_SPACE else 1):
            with pytest.raises(FullError):
                put_blob(log, b"%d" % number * 20_000)
        assert log.writer.healthy
        assert set(contents(log)[0]) == {Digest.of(b"before")}
        disk.arm(None)
        put_blob(log, b"after")
        put_key(log, b"k", b"v")
        expected = contents(log)
        assert set(expected[0]) == {Digest.of(b"before"), Digest.of(b"after")}
        killed = kill(folder, folder.with_name("killed"))
    assert reopened(folder) == reopened(killed) == expected


def test_the_last_space_is_used_although_no_reserve_fits(folder: Path) -> None:
    """Space is reserved in large steps; a disk with less than a step left is not full."""

    class Nearly(FaultyDisk):
        def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
            if size_bytes > 2000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().allocate(descriptor, offset, size_bytes)

    with Log(folder, Nearly()) as log:
        for number in range(20):
            put_blob(log, b"%d" % number * 100)
        with pytest.raises(FullError):
            put_blob(log, bytes(5000))
        put_key(log, b"k", b"v")
    assert len(reopened(folder)[0]) == 20


def test_behind_a_failed_sync_the_log_goes_on_in_a_new_segment(folder: Path) -> None:
    """What was refused does not come back, although its bytes may well be on the disk."""
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        put_blob(log, b"before")
        size_bytes = newest(folder).stat().st_size
        disk.arm(Fault(1, after=True, only=frozenset({"sync_data"})))
        with pytest.raises(UnavailableError):
            put_blob(log, b"refused")
        assert log.facts()["healthy"] == 1
        put_key(log, b"k", b"v")
        expected = contents(log)
        assert expected == ({Digest.of(b"before"): b"before"}, {b"k": b"v"})
        assert log.index.accounts.rows()[1].state == State.SUSPECT
        killed = kill(folder, folder.with_name("killed"))
    assert len(segments(folder)) == 2
    assert segments(folder)[0].stat().st_size < size_bytes
    cut_power(killed)
    assert reopened(folder) == reopened(killed) == expected


def test_bytes_behind_the_end_of_a_segment_that_was_left_never_come_back(folder: Path) -> None:
    """Cutting them off failed, too; the next segment's manifest says where the old one ends."""

    class Stuck(FaultyDisk):
        def truncate(self, descriptor: int, size_bytes: int) -> None:
            if opened:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().truncate(descriptor, size_bytes)

    disk, opened = Stuck(), False
    with Log(folder, disk) as log:
        opened = True
        put_key(log, b"k", b"before")
        disk.arm(Fault(1, after=True, only=frozenset({"sync_data"})))
        with pytest.raises(UnavailableError):
            put_key(log, b"k", b"refused")
        put_key(log, b"other", b"v")
        killed = kill(folder, folder.with_name("killed"))
    assert b"refused" in segments(folder)[0].read_bytes()
    cut_power(killed)
    expected: tuple[Any, Any] = ({}, {b"k": b"before", b"other": b"v"})
    assert reopened(folder) == reopened(killed) == expected


def test_a_disk_that_goes_on_failing_is_not_filled_with_segments(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        disk.arm(Fault(1, lasting=True, only=frozenset({"sync_data"})))
        seen = []
        for number in range(50):
            with pytest.raises(UnavailableError) as caught:
                put_blob(log, b"%d" % number)
            seen.append(len(caught.traceback))
        assert max(seen) <= 6, "errors do not pile up"
        assert log.facts()["healthy"] == 0
        assert len(segments(folder)) <= 4


def test_a_read_that_fails_is_an_error_and_never_wrong(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        digest = put_blob(log, b"blob")
        put_key(log, b"k", b"v")
        for number in range(1, 9):
            disk.arm(Fault(number, only=frozenset({"pread", "open"})))
            try:
                assert read(SegmentStore(log), digest) == b"blob"
                assert len(history(EmbeddedKV(log))) == 1
            except UnavailableError:
                assert disk.struck
        disk.arm(None)
        assert read(SegmentStore(log), digest) == b"blob"


# A commit and the blob that it names.


def refuse(_: Sequence[Versioned | None]) -> Plan[None]:
    raise PreconditionError("no")


def test_a_blob_and_its_name_are_one_request_and_one_sync(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        jobs, syncs = log.writer.stats.jobs, disk.calls.count("sync_data")
        named = EmbeddedKV(log).commit([], [Put(b"name", b"")], blob=stage_blob(log, b"blob"))
        assert named.result() == Committed(1)
        assert log.writer.stats.jobs == jobs + 1
        assert disk.calls.count("sync_data") <= syncs + 2, "one may be for new space"
        assert contents(log) == ({Digest.of(b"blob"): b"blob"}, {b"name": b""})
    assert kinds(folder, 1) == [Kind.MANIFEST, Kind.BLOB, Kind.COMMIT]


def test_a_commit_that_is_refused_stores_no_blob(folder: Path) -> None:
    with Log(folder) as log:
        kv = EmbeddedKV(log)
        put_key(log, b"name", b"")
        size_bytes = newest(folder).stat().st_size
        conflict = kv.commit([Unchanged(b"name", 0)], [], blob=stage_blob(log, b"one"))
        refused = kv.transact([b"name"], refuse, blob=stage_blob(log, b"two"))
        assert conflict.result() == Conflict(0)
        assert isinstance(refused.exception(), PreconditionError)
        assert contents(log) == ({}, {b"name": b""})
        assert newest(folder).stat().st_size == size_bytes
        kept = kv.transact([b"name"], lambda _: Plan([], "as it was"), blob=stage_blob(log, b"3"))
        assert kept.result() == "as it was"
        assert contents(log) == ({Digest.of(b"3"): b"3"}, {b"name": b""})


def test_a_blob_and_its_name_fail_together(folder: Path) -> None:
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        kv = EmbeddedKV(log)
        put_key(log, b"other", b"")
        disk.arm(Fault(1, errno.ENOSPC, only=frozenset({"pwrite_all"})))
        with holding(log):
            name = kv.commit([], [Put(b"name", b"blob")], blob=stage_blob(log, b"blob"))
            plan = kv.transact([], lambda _: Plan([Put(b"k", b"")], 0), blob=stage_blob(log, b"b"))
        assert isinstance(name.exception(), FullError)
        assert isinstance(plan.exception(), FullError)
        assert contents(log) == ({}, {b"other": b""})
    assert reopened(folder) == ({}, {b"other": b""})


@pytest.mark.parametrize("first", ["sweep", "name"])
def test_a_blob_that_is_found_stored_is_not_removed_before_it_has_its_name(
    folder: Path, first: str
) -> None:
    """Who removes what has no name asks in the same batch; the upload saw the blob long before."""
    digest = Digest.of(b"blob")

    def sweep(batch: Batch) -> None:
        if batch.get(b"name") is None:
            batch.remove_blobs([digest])

    with Log(folder) as log:
        put_blob(log, b"blob")
        assert SegmentStore(log).stat([digest])
        blob = stage_blob(log, b"blob")
        with holding(log):
            if first == "sweep":
                log.submit(sweep, 0)
            EmbeddedKV(log).commit([], [Put(b"name", b"")], blob=blob)
            if first == "name":
                log.submit(sweep, 0)
        assert contents(log) == ({digest: b"blob"}, {b"name": b""})
    assert reopened(folder) == ({digest: b"blob"}, {b"name": b""})


def test_a_name_is_never_there_without_its_blob(folder: Path) -> None:
    """Blobs and names by many threads while every tenth write of the disk fails."""

    class Moody(FaultyDisk):
        def pwrite_all(self, *arguments: object) -> int:
            self.writes = getattr(self, "writes", 0) + 1
            if self.writes % 10 == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().pwrite_all(*arguments)  # type: ignore[arg-type]  # passed on

    def write(thread: int) -> set[bytes]:
        named = set()
        for number in range(40):
            data = b"%d/%d" % (thread, number)
            writes = [Put(bytes(Digest.of(data)), data)]
            if kv.commit([], writes, blob=stage_blob(log, data)).exception() is None:
                named.add(data)
        return named

    disk = FaultyDisk()
    Log(folder, disk).close()
    with Log(folder, Moody()) as log, ThreadPoolExecutor(8) as pool:
        kv = EmbeddedKV(log)
        named = set().union(*pool.map(write, range(8)))
        assert 50 < len(named) < 320
        blobs, keys = contents(log)
        assert set(keys.values()) == named
        assert blobs.keys() >= keys.keys()
    assert reopened(folder) == (blobs, keys)


def test_what_a_failed_batch_would_have_done_refuses_nobody(folder: Path) -> None:
    """Two requests create a name in one batch, which fails: the second was no conflict."""
    disk = FaultyDisk()
    with Log(folder, disk) as log:
        kv = EmbeddedKV(log)

        def create(values: Sequence[Versioned | None]) -> Plan[None]:
            if values[0] is not None:
                raise PreconditionError("it exists")
            return Plan([Put(b"name", b"")], None)

        disk.arm(Fault(1, errno.ENOSPC, only=frozenset({"pwrite_all"})))
        with holding(log):
            both = [kv.transact([b"name"], create) for _ in range(2)]
        assert [type(each.exception()) for each in both] == [FullError, FullError]
        with holding(log):
            both = [kv.transact([b"name"], create) for _ in range(2)]
        assert [type(each.exception()) for each in both] == [type(None), PreconditionError]


# Processes.

FORKED = """
import os, sys
from pathlib import Path
from holdfast.core.errors import UnavailableError
from holdfast.depot.local import open_depot

folder = Path(sys.argv[1])
parent = open_depot(folder)
parent.put("before", b"before")
child, go = os.fork(), folder / "go"
if child == 0:
    while not go.exists():
        pass
    try:
        parent.put("child", b"child")
    except UnavailableError as error:
        assert "process" in str(error)
        parent.close()
        os._exit(0)
    os._exit(1)
for number in range(100):
    parent.put(f"{number}", b"%d" % number)
go.touch()
assert os.waitpid(child, 0)[1] == 0
parent.put("after", b"after")
try:
    open_depot(folder)
except UnavailableError:
    assert {entry.key for entry in parent.entries()} >= {"before", "99", "after"}
    os._exit(0)
"""


def test_a_forked_process_can_neither_write_nor_cut_the_log(folder: Path) -> None:
    """It has a copy of everything but the thread that writes, and knows an old end of the log."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stderr) == (0, "")
    with open_depot(folder) as depot:
        assert len(list(depot.entries())) == 102
        assert depot.get("99") == b"99"
        assert depot.engine.facts()["damaged_places"] == 0
