"""Sweeps: what nothing names goes once it is old, and nothing else ever does."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    CorruptError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.kv import Plan
from holdfast.core.limits import KIB, MIB
from holdfast.core.policy import Policy
from holdfast.core.protection import Protections
from holdfast.core.store import Moment, Store, Verdict
from holdfast.depot.change import Place
from holdfast.depot.depot import DEFAULT_BUCKET, Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.kv.memory import MemoryKV
from holdfast.log.log import Log
from holdfast.log.reading import stored_us
from holdfast.log.segment import Segment, segment_ids
from holdfast.services import sweep as sweeps
from holdfast.services.sweep import Manner, Report, sweep, sweep_unreferenced
from holdfast.services.sweeper import Sweeper, sweep_of
from holdfast.stores.memory import MemoryStore
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import make, put, read
from holdfast.testing.buckets import insist
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.recount import check_catalog
from holdfast.testing.store_expiry import soon_us

NO_GRACE = Manner(grace_s=0)
LATER_S = 3.0  # in which everything becomes old, by the seconds of the log


def nobody(digest: Digest, moment: Moment | None) -> bool:
    del digest, moment
    return False


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(params=["memory", "segments"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: StillClock) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    with Log(tmp_path, clock=clock) as log:
        yield SegmentStore(log)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, if there is such a thing."""
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def depot(folder: Path) -> Iterator[Depot]:
    with open_depot(folder) as depot:
        yield depot
        check_catalog(depot.engine.kv)


def fill(store: Store, count: int) -> list[Digest]:
    return sorted(put(store, b"%d" % number).digest for number in range(count))


# A store whose caller knows what is live.


def test_what_is_dead_goes_and_what_is_live_stays(store: Store, clock: StillClock) -> None:
    digests = fill(store, 100)
    clock.moved_s += LATER_S
    live = digests[::3]
    size_bytes = sum(store.stat(digests).values()) - sum(store.stat(live).values())
    report = sweep(store, live, nobody, Manner(grace_s=0, clock=clock))
    assert report == Report(live=34, removed=66, removed_bytes=size_bytes)
    assert [ref.digest for ref in store.scan()] == live
    assert sweep(store, live, nobody, Manner(grace_s=0, clock=clock)) == Report(live=34)


def test_what_is_fresh_stays_until_the_grace_is_over(store: Store, clock: StillClock) -> None:
    digests = fill(store, 10)
    manner = Manner(grace_s=60, clock=clock)
    assert sweep(store, [], nobody, manner) == Report(young=10)
    clock.moved_s += 58
    assert sweep(store, [], nobody, manner) == Report(young=10)
    clock.moved_s += LATER_S + 1
    fresh = put(store, b"fresh").digest
    report = sweep(store, [], nobody, manner)
    assert (report.removed, report.young) == (10, 1)
    assert [ref.digest for ref in store.scan()] == [fresh]
    assert set(store.stat(digests)) == set()


def test_what_was_stored_since_the_pass_began_stays(store: Store, clock: StillClock) -> None:
    """Also without any grace, and also when the pass takes long."""
    old = fill(store, 10)
    clock.moved_s += LATER_S

    def live() -> Iterator[Digest]:
        fresh.append(put(store, b"written while the live are listed").digest)
        clock.moved_s += 1000
        yield from ()

    fresh: list[Digest] = []
    report = sweep(store, live(), nobody, Manner(grace_s=0, clock=clock))
    assert (report.removed, report.young) == (10, 1)
    assert [ref.digest for ref in store.scan()] == fresh
    assert set(old).isdisjoint(fresh)


def test_a_dry_run_reports_the_same_and_removes_nothing(store: Store, clock: StillClock) -> None:
    digests = fill(store, 50)
    clock.moved_s += LATER_S
    fresh = put(store, b"fresh").digest
    wanted = digests[5]

    def keep(digest: Digest, _: Moment | None) -> bool:
        return digest == wanted

    live = digests[10:]
    dry = sweep(store, live, keep, Manner(grace_s=0, dry_run=True, clock=clock))
    assert (dry.live, dry.removed, dry.young, dry.protected) == (40, 9, 1, 1)
    assert len(list(store.scan())) == 51
    assert sweep(store, live, keep, Manner(grace_s=0, clock=clock)) == dry
    assert {ref.digest for ref in store.scan()} == {*live, wanted, fresh}


@pytest.mark.parametrize("at", [0, 3, 20])
def test_an_error_among_the_live_removes_nothing(store: Store, clock: StillClock, at: int) -> None:
    digests = fill(store, 10)
    clock.moved_s += LATER_S

    def live() -> Iterator[Digest]:
        yield from digests[:at]
        raise UnavailableError("the names cannot be read")

    with pytest.raises(UnavailableError):
        sweep(store, live(), nobody, Manner(grace_s=0, clock=clock))
    assert [ref.digest for ref in store.scan()] == digests


def test_live_digests_out_of_order_remove_nothing(store: Store, clock: StillClock) -> None:
    digests = fill(store, 10)
    clock.moved_s += LATER_S
    for live in (digests[::-1], [*digests, digests[0]], [digests[9], digests[3]]):
        with pytest.raises(InvalidError):
            sweep(store, live, nobody, Manner(grace_s=0, clock=clock))
    assert [ref.digest for ref in store.scan()] == digests


def test_live_digests_may_repeat_and_name_what_is_not_there(
    store: Store, clock: StillClock
) -> None:
    digests = fill(store, 10)
    clock.moved_s += LATER_S
    ends = [Digest(bytes(32)), Digest(b"\xff" * 32)]
    live = sorted([*digests[:5], *digests[:5], *ends, Digest.of(b"missing")])
    assert sweep(store, live, nobody, Manner(grace_s=0, clock=clock)).live == 5
    assert [ref.digest for ref in store.scan()] == digests[:5]


def test_prepared_blobs_stay_until_their_names_are_known(store: Store, clock: StillClock) -> None:
    protections = Protections(clock)
    found = put(store, b"found there").digest
    clock.moved_s += LATER_S
    token = protections.prepare(60)
    refs = token.put_many(store, [b"found there", b"new"])
    clock.moved_s += LATER_S
    manner = Manner(grace_s=0, clock=clock)
    with protections.watch() as keep:
        assert sweep(store, [], keep, manner) == Report(protected=2)
        token.release()
        assert sweep(store, [], keep, manner) == Report(protected=2)
    assert [ref.digest for ref in store.scan()] == sorted(ref.digest for ref in refs)  # type: ignore[union-attr]  # no errors here
    report = sweep_unreferenced(store, lambda: [found], protections, manner)
    assert report == Report(live=1, removed=1, removed_bytes=3)


def test_a_name_that_is_committed_while_the_live_are_listed_keeps_its_blob(
    store: Store, clock: StillClock
) -> None:
    """It was let go of before the list came to it, or behind."""
    old = put(store, b"old").digest
    clock.moved_s += LATER_S
    protections = Protections(clock)
    token = protections.prepare()
    token.protect([old])

    def live() -> Iterator[Digest]:
        yield from ()
        token.release()

    manner = Manner(grace_s=0, clock=clock)
    assert sweep_unreferenced(store, live, protections, manner) == Report(protected=1)
    report = sweep_unreferenced(store, lambda: (), protections, manner)
    assert report == Report(removed=1, removed_bytes=3)


def test_too_many_for_one_pass_are_left_for_the_next(
    store: Store, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SWEEP_REFS_MAX", 30)
    monkeypatch.setattr(sweeps, "REMOVE_REFS", 7)
    fill(store, 100)
    clock.moved_s += LATER_S
    manner = Manner(grace_s=0, clock=clock)
    reports = [sweep(store, [], nobody, manner) for _ in range(4)]
    assert [(each.removed, each.left) for each in reports] == [
        (30, 70),
        (30, 40),
        (30, 10),
        (10, 0),
    ]


def test_blobs_of_format_1_are_as_young_as_the_segment_behind_theirs(tmp_path: Path) -> None:
    """Their records have no age of their own."""
    shutil.copytree(Path(__file__).parents[1] / "data" / "golden-1", tmp_path / "store")
    with Log(tmp_path / "store") as log:
        old = [ref.digest for ref in SegmentStore(log).scan()]
        new = put(SegmentStore(log), b"of this format").digest
        places = log.index.locate_all([*old, new])
        made_us = {
            each: Segment.open(log.disk, log.root, each).header.created_us
            for each in segment_ids(log.root)
        }
        times = stored_us(log, places)
        assert len(old) > 5
        for digest in old:
            assert times[digest] == made_us[places[digest].segment_id + 1]
        assert 0 < times[new] - made_us[places[new].segment_id] <= 5_000_000


# A depot, whose catalog knows.


def all_of(depot: Depot, manner: Manner = NO_GRACE) -> Report:
    work = sweep_of(depot, manner)
    while work.step():
        pass
    return work.report


def age(seconds: float = 2.1) -> None:
    """Let what was stored become old, by the seconds of the log."""
    threading.Event().wait(seconds)


def test_a_depot_keeps_what_has_a_name_or_is_held(depot: Depot) -> None:
    large = make(2 * MIB)
    depot.put_many([("a", b"a"), ("b", b"b"), ("same", b"a"), ("large", large), ("x", b"x")])
    held = depot.content.put(b"held")
    dropped = depot.content.put(make(2 * MIB + 1))
    depot.delete("a")
    depot.delete("b")
    depot.put("x", b"y")
    depot.content.delete(dropped)
    age()
    report = all_of(depot)
    assert (report.live, report.removed) == (4, 3)
    assert report.removed_bytes == 1 + 1 + 2 * MIB + 1
    assert list(depot.get_many(["same", "large", "x"])) == [b"a", large, b"y"]
    assert depot.content.get(held) == b"held"
    stored = {ref.digest for ref in depot.engine.store.scan()}
    assert stored == set(depot.content.digests())


def test_what_graves_and_versions_hold_takes_nobodys_turn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known to be held before it is asked about; else it would come first each time."""
    with open_depot(folder, Limits(undelete_s=3600)) as depot:
        depot.set_policy(Policy(versions=10))
        for number in range(8):
            depot.put("k", b"%d" % number)
        depot.put("deleted", b"a grave holds it")
        depot.delete("deleted")
        depot.engine.store.put_many([b"%d without a name" % number for number in range(30)])
        monkeypatch.setattr(limits, "SWEEP_REFS_MAX", 30)
        assert len(list(depot.content.digests())) == 9
        report = all_of(depot, run_ahead())
        assert (report.live, report.removed, report.protected) == (9, 30, 0)


def test_a_name_that_is_committed_during_a_sweep_keeps_its_blob(depot: Depot) -> None:
    """The blob was old and dead when the sweep looked, and has a name when it removes."""
    for data in (b"small", make(2 * MIB)):
        depot.put("k", data)
        depot.delete("k")
    age()

    def live() -> Iterator[Digest]:
        yield from depot.content.digests()
        depot.put("again", b"small")
        depot.put("large again", make(2 * MIB))

    report = sweep(depot.engine.store, live(), depot.content.keeper(), NO_GRACE)
    assert (report.removed, report.protected, report.young) == (0, 1, 1)
    assert depot.get("again") == b"small"
    assert depot.get("large again") == make(2 * MIB)


def run_ahead() -> Manner:
    """A pass for which everything is old: then only the look at the last moment protects."""
    clock = StillClock()
    clock.moved_s += 3600
    return Manner(grace_s=0, clock=clock)


@pytest.mark.parametrize("size_bytes", [10, 300 * KIB])
def test_nobody_loses_a_name_to_sweeps_that_never_stop(depot: Depot, size_bytes: int) -> None:
    """Names come and go for a few contents; an upload often finds bytes that are about to go."""
    blobs = [make(size_bytes, seed=number) for number in range(4)]
    manner = run_ahead()
    stop = threading.Event()

    def sweep_on() -> int:
        removed = 0
        while not stop.is_set():
            removed += all_of(depot, manner).removed
            age(0.005)
        return removed

    def write_on(thread: int) -> None:
        for number in range(40):
            data = blobs[(thread + number) % len(blobs)]
            key = f"{thread}-{number % 3}"
            insist(partial(depot.put, key, data))
            assert depot.get(key) == data
            if number % 2:
                depot.delete(key)
            else:
                insist(partial(depot.put_many, [(key, blobs[number % len(blobs)])]))

    with ThreadPoolExecutor(5) as pool:
        sweeping = [pool.submit(sweep_on) for _ in range(2)]
        writing = [pool.submit(write_on, thread) for thread in range(3)]
        try:
            for each in writing:
                each.result()
        finally:
            stop.set()
        removed = sum(each.result() for each in sweeping)
    assert removed > 0
    for entry in depot.entries():
        assert Digest.of(depot.get(entry.key)) == entry.digest


def test_bytes_that_go_before_their_name_comes_are_refused_one(folder: Path, depot: Depot) -> None:
    """A large blob is stored, or found there, before the commit that names it."""
    data = make(300 * KIB)
    depot.put("k", data)
    depot.delete("k")
    for content in (data, make(300 * KIB, seed=1)):
        with depot.upload("again") as upload:
            upload.write(content)
            reads, planner, blob, _ = upload.ready()
            assert all_of(depot, Manner()).young > 0
            assert all_of(depot, run_ahead()).removed > 0
            with pytest.raises(UnavailableError, match="send them again"):
                depot.engine.kv.transact(reads, planner, blob=blob).result()
        assert list(depot.entries()) == []
        depot.put("again", content)
        assert all_of(depot, run_ahead()) == Report(live=1)
        assert depot.get("again") == content
        depot.delete("again")
    assert list((folder / "files" / "tmp").iterdir()) == []


@pytest.mark.parametrize("size_bytes", [10, 300 * KIB])
@pytest.mark.parametrize("call", ["pwrite_all", "sync_data"])
def test_a_delete_that_fails_in_the_batch_of_a_sweep_loses_nothing(
    folder: Path, size_bytes: int, call: str
) -> None:
    """The sweep meets the delete staged before it, whose failure brings the name back."""
    disk, data = FaultyDisk(), make(size_bytes)
    held, gate = threading.Event(), threading.Event()

    def hold(_: object) -> Plan[None]:
        held.set()
        gate.wait(10)
        return Plan([], None)

    with open_depot(folder, disk=disk) as depot, ThreadPoolExecutor(1) as pool:
        depot.put("k", data)
        holding = depot.engine.kv.transact([], hold)
        held.wait(10)
        reads, planner, *_ = depot.engine.names.removing(Place(DEFAULT_BUCKET, "k"))
        deleting = depot.engine.kv.transact(reads, planner)
        sweeping = pool.submit(
            depot.engine.store.expire, [Digest.of(data)], soon_us(), depot.content.keeper()
        )
        age(0.3)  # until that waits, too
        disk.arm(Fault(1, only=frozenset({call})))
        gate.set()
        holding.result()
        with pytest.raises(UnavailableError):
            deleting.result()
        with suppress(UnavailableError):
            assert sweeping.result() == {Digest.of(data): Verdict.KEPT}
        assert disk.struck
        assert depot.get("k") == data
        depot.delete("k")
        assert all_of(depot, run_ahead()).removed == 1


def test_readers_meet_the_blob_or_nothing_but_never_damage(depot: Depot) -> None:
    digest = Digest.of(b"comes and goes")
    stop = threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            for outcome in (*depot.get_many(["k"]), *depot.content.get_many([digest])):
                assert not isinstance(outcome, CorruptError)
            for verb in (partial(depot.get, "k"), partial(depot.content.get, digest)):
                with suppress(NotFoundError):
                    assert verb() == b"comes and goes"

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_on) for _ in range(3)]
        try:
            for _ in range(60):
                depot.put("k", b"comes and goes")
                depot.delete("k")
                assert all_of(depot, run_ahead()).removed == 1
        finally:
            stop.set()
        for each in readers:
            each.result()


def test_names_in_another_log_are_refused(tmp_path: Path) -> None:
    with open_depot(tmp_path, Limits()) as depot:
        other = Depot(depot.engine._replace(kv=MemoryKV()))
        with pytest.raises(UnsupportedError):
            sweep_of(other)


def test_a_sweeper_sweeps_now_and_then_and_only_when_something_changed(
    depot: Depot, clock: StillClock
) -> None:
    sweeper = Sweeper(depot, every_s=600, grace_s=10, clock=clock)
    depot.put("k", b"1")
    depot.put("k", b"2")
    assert sweeper.step().wait_s == 60
    waits = [sweeper.step().wait_s for _ in range(2)]
    assert waits[-1] == 600
    assert len(list(depot.engine.store.scan())) == 2
    clock.moved_s += 13
    waits = [sweeper.step().wait_s for _ in range(3)]
    assert waits[-1] == 600
    assert len(list(depot.engine.store.scan())) == 1
    clock.moved_s += 600
    depot.engine.store.put_many([b"without a name"])
    assert [sweeper.step().wait_s for _ in range(2)] == [600, 600]
    sweeper.close()


def test_a_sweeper_begins_again_behind_an_error(
    depot: Depot, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.put("k", b"1")
    depot.delete("k")
    sweeper = Sweeper(depot, every_s=600, grace_s=0, clock=clock)
    sweeper.step()
    clock.moved_s += LATER_S

    def broken(*_: object) -> Iterator[Digest]:
        raise UnavailableError("not now")

    monkeypatch.setattr(type(depot.content), "digests", broken)
    with pytest.raises(UnavailableError):
        sweeper.step()
    monkeypatch.undo()
    for _ in range(4):
        sweeper.step()
    assert list(depot.engine.store.scan()) == []


def test_the_file_of_a_large_blob_that_nobody_names_is_gone(depot: Depot, folder: Path) -> None:
    depot.put("k", make(2 * MIB))
    depot.delete("k")
    assert all_of(depot, Manner()).young == 1
    assert all_of(depot).removed == 1
    assert list((folder / "files").rglob("*.blob")) == []
    assert read(depot.engine.store, Digest.of(make(2 * MIB))) is None
