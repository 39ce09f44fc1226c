"""Epochs over several shards: whole or not at all, whatever fails on the way."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from shard_steps import ask, change, holding, of

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, FullError, UnavailableError
from holdfast.core.kv import KV, Add, Committed, Delete, Plan, Put, Transaction
from holdfast.core.pending import Pending
from holdfast.core.seams import Disk
from holdfast.core.store import Moment
from holdfast.kv.sqlite import SqliteKV
from holdfast.shards.recovery import recover
from holdfast.shards.routing import Routing
from holdfast.shards.shards import Shards
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.blobs import make, put, read
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.kv_steps import commit, everything, history

COUNT = 4
KEYS = [b"%d" % number for number in range(40)]


def spread(kv: KV, value: bytes) -> int:
    """Write keys of all shards in one commit."""
    return commit(kv, *(Put(key, value) for key in KEYS))


def values(kv: KV) -> set[bytes]:
    return {item.value for item in everything(kv)}


def kept(shards: Shards, number: int) -> int:
    """How many rows a shard keeps of what was before its last epoch."""
    return shards.shards[number].ask("SELECT count(*) FROM undo")[0][0]  # type: ignore[no-any-return]


def test_what_was_before_is_kept_until_the_next_epoch_of_a_shard(tmp_path: Path) -> None:
    """Also where that one is alone, and where the shards were closed in between."""
    alone = next(key for key in KEYS if Routing(2).key(key) == 0)
    for _ in range(2):
        with Shards(tmp_path / "data", options=of(2)) as shards:
            kv = SqliteKV(shards)
            spread(kv, b"all")
            assert min(kept(shards, 0), kept(shards, 1)) > 1
            commit(kv, Put(alone, b"one"))
            assert (kept(shards, 0), kept(shards, 1) > 1) == (0, True)
            commit(kv, Put(alone, b"two"))
            assert kept(shards, 0) == 0
            spread(kv, b"all again")
            assert min(kept(shards, 0), kept(shards, 1)) > 1
    with Shards(tmp_path / "data") as shards:
        commit(SqliteKV(shards), Put(alone, b"one"))
        assert kept(shards, 0) == 0


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Shards]:
    with Shards(tmp_path / "data", options=of(COUNT, 64)) as shards:
        yield shards


class Interrupting(Disk):
    """Copies a folder after some commit of a shard, which is what a kill would leave."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source = source
        self.target = target
        self.at = 0
        self._lock = threading.Lock()

    def commit(self, database: object) -> None:
        with self._lock:
            super().commit(database)  # type: ignore[arg-type]  # a connection
            self.at -= 1
            if self.at == 0:
                shutil.copytree(self.source, self.target, ignore=shutil.ignore_patterns("lock"))


@pytest.mark.parametrize("after", range(1, COUNT + 1))
def test_a_kill_between_the_commits_of_an_epoch_undoes_it_unless_all_have_it(
    tmp_path: Path, after: int
) -> None:
    disk = Interrupting(tmp_path / "data", tmp_path / "copy")
    with Shards(tmp_path / "data", disk, options=of(COUNT)) as shards:
        spread(SqliteKV(shards), b"old")
        disk.at = after
        spread(SqliteKV(shards), b"new")
    with Shards(tmp_path / "copy") as shards:
        kv = SqliteKV(shards)
        assert values(kv) == ({b"new"} if after == COUNT else {b"old"})
        assert shards.was_undone == (after < COUNT)
        assert kv.revision() == (2 if after == COUNT else 1)
        assert {each.revision for each in history(kv)} == set(range(1, kv.revision() + 1))
        spread(kv, b"newer")
        assert values(kv) == {b"newer"}


def test_undoing_may_be_interrupted_and_done_again(tmp_path: Path) -> None:
    disk = Interrupting(tmp_path / "data", tmp_path / "copy")
    with Shards(tmp_path / "data", disk, options=of(COUNT)) as shards:
        spread(SqliteKV(shards), b"old")
        disk.at = COUNT - 1
        spread(SqliteKV(shards), b"new")
    again = Interrupting(tmp_path / "copy", tmp_path / "second")
    again.at = 1  # the first shard is undone, the others are not
    Shards(tmp_path / "copy", again).close()
    with Shards(tmp_path / "second") as shards:
        assert values(SqliteKV(shards)) == {b"old"}
        assert not recover(shards.shards)


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_with_any_commit_failing_an_epoch_is_whole_or_refused(
    tmp_path: Path, *, after: bool, lasting: bool
) -> None:
    """What was refused never comes back, unless nobody could say, and then it is whole."""
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        disk = FaultyDisk()
        with Shards(folder, disk, options=of(COUNT)) as shards:
            kv = SqliteKV(shards)
            spread(kv, b"old")
            only = frozenset(("commit",))
            disk.arm(Fault(number, after=after, lasting=lasting, only=only))
            outcome = kv.commit([], [Put(key, b"new") for key in KEYS]).exception()
            assert outcome is None or isinstance(outcome, UnavailableError)
            struck = disk.struck
            disk.arm(None)
            seen = values(kv)
            assert seen == {b"new"} if outcome is None else seen in ({b"old"}, {b"new"})
            if lasting and outcome is not None:
                assert seen == {b"old"}
                assert not shards.planner.healthy
            spread(kv, b"newer")
            assert shards.planner.healthy
        with Shards(folder) as shards:
            assert values(SqliteKV(shards)) == {b"newer"}
        if not struck:
            break


def test_a_refused_epoch_does_not_come_back_by_a_kill(tmp_path: Path) -> None:
    for count, number in itertools.product((1, COUNT), (1, 2, 3)):
        folder, copy = tmp_path / f"{count}-{number}", tmp_path / f"{count}-{number}-copy"
        disk = FaultyDisk()
        with Shards(folder, disk, options=of(count)) as shards:
            kv = SqliteKV(shards)
            spread(kv, b"old")
            disk.arm(Fault(min(number, count), only=frozenset(("commit",))))
            assert kv.commit([], [Put(key, b"new") for key in KEYS]).exception() is not None
            assert disk.struck
            shutil.copytree(folder, copy)
        with Shards(copy) as shards:
            assert values(SqliteKV(shards)) == {b"old"}


def test_nobody_sees_an_epoch_before_all_shards_have_it(tmp_path: Path) -> None:
    """Every commit of a shard is followed by a look at all of them."""
    seen: list[set[bytes]] = []

    class Looking(Disk):
        kv: KV | None = None

        def commit(self, database: object) -> None:
            super().commit(database)  # type: ignore[arg-type]  # a connection
            if self.kv is not None:
                found = [self.kv.get(key) for key in KEYS]
                seen.append(values(self.kv))
                seen.append({each.value for each in found if each is not None})

    disk = Looking()
    with Shards(tmp_path / "data", disk, options=of(COUNT)) as shards:
        kv = SqliteKV(shards)
        spread(kv, b"0")
        disk.kv = kv
        for number in range(1, 6):
            seen.clear()
            spread(kv, b"%d" % number)
            assert len(seen) == 2 * COUNT
            assert all(each == {b"%d" % (number - 1)} for each in seen)
        deleted = kv.commit([], [Delete(key) for key in KEYS])
        seen.clear()
        deleted.result()
        assert values(kv) == set()


def test_a_blob_and_its_name_are_undone_together(tmp_path: Path) -> None:
    only = frozenset(("commit",))
    for number, size_bytes in itertools.product((1, 2, 3), (1000, limits.MIB)):
        disk = FaultyDisk()
        with Shards(tmp_path / f"{number}-{size_bytes}", disk, options=of(COUNT)) as shards:
            kv, store = SqliteKV(shards), SqliteStore(shards)
            data, kept = make(size_bytes), put(store, make(size_bytes, seed=1))
            with store.sink() as sink:
                sink.write(data)
                staged = sink.stage(BlobRef(Digest.of(data), size_bytes))
            disk.arm(Fault(number, only=only))
            writes = [Put(key, b"name") for key in KEYS]
            failed = kv.commit([], writes, blob=staged)
            assert isinstance(failed.exception(), UnavailableError)
            assert values(kv) == set()
            assert list(store.scan()) == [kept]
            del staged, failed, sink
            put(store, data)
            assert read(store, Digest.of(data)) == data


def test_a_removal_that_is_undone_brings_the_blob_back(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Shards(tmp_path / "data", disk, options=of(COUNT)) as shards:
        store = SqliteStore(shards)
        blobs = [make(size_bytes, seed=5) for size_bytes in (10, 1000, limits.MIB, limits.MIB + 1)]
        digests = [put(store, data).digest for data in blobs]
        disk.arm(Fault(2, only=frozenset(("commit",))))
        with pytest.raises(UnavailableError):
            store.remove(digests)
        assert [read(store, digest) for digest in digests] == blobs
        store.remove(digests)
        assert list(store.scan()) == []


# Batches


def test_requests_of_a_batch_share_an_epoch(shards: Shards) -> None:
    kv = SqliteKV(shards)
    before = shards.planner.stats.epochs
    with holding(shards):
        queued: list[Pending[object]] = [
            kv.commit([], [Put(b"%d" % number, b"")]) for number in range(60)
        ]
    for each in queued:
        each.result()
    assert shards.planner.stats.epochs - before <= 2
    assert kv.revision() == 60


def test_a_key_is_gone_for_what_lies_elsewhere_once_an_epoch_cannot_bring_it_back(
    shards: Shards,
) -> None:
    """Whoever removes bytes elsewhere cannot be undone with the epoch that removes the name."""
    kv = SqliteKV(shards)
    commit(kv, Put(b"going", b""))
    found: list[list[bool]] = []

    def look(moment: Moment) -> None:
        found.append([moment.is_empty(key, key + b"\x00") for key in (b"going", b"new", b"none")])

    with ThreadPoolExecutor(1) as pool:
        with holding(shards):
            kv.commit([], [Delete(b"going"), Put(b"new", b"")])
            first = pool.submit(shards.between, look)
            while shards.planner.queue._queue.qsize() < 2:
                time.sleep(0.001)
        first.result()
    shards.between(look)
    assert found == [[False, False, True], [True, False, True]]


def test_what_is_done_between_epochs_fails_with_them(tmp_path: Path) -> None:
    """Its answer then says nothing, and neither does an error of its own commit anything."""
    with Shards(tmp_path / "data", options=of(COUNT, 64)) as shards:
        revision = shards.revision

        def refuse(moment: Moment) -> None:
            raise FullError("no")

        with pytest.raises(FullError, match="no"):
            shards.between(refuse)
        assert shards.revision == revision


def test_a_batch_of_one_is_an_epoch_each(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", options=of(COUNT, 1)) as shards:
        kv = SqliteKV(shards)
        with holding(shards):
            queued = [kv.commit([], [Put(b"%d" % number, b"")]) for number in range(10)]
        for each in queued:
            each.result()
        assert shards.planner.stats.epochs == 10


def test_a_batch_really_waits_for_more(tmp_path: Path) -> None:
    """The second comes while the first waits, and fills the batch, long before the time is up."""
    with Shards(tmp_path / "data", options=of(COUNT, 2, 60.0)) as shards:
        kv = SqliteKV(shards)
        first = kv.commit([], [Put(b"1", b"")])
        with pytest.raises(TimeoutError):
            first.result(0.2)
        kv.commit([], [Put(b"2", b"")]).result(5)
        first.result(5)
        assert shards.planner.stats.epochs == 1


def test_a_batch_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", options=of(COUNT, 100, 0.05)) as shards:
        commit(SqliteKV(shards), Put(b"1", b""))
        assert shards.planner.stats.epochs == 1


def test_one_bad_request_of_a_batch_fails_alone(shards: Shards) -> None:
    """It fails behind its first changes, and leaves nothing of them."""
    kv = SqliteKV(shards)

    def spoil(_: object) -> Plan[None]:
        raise ZeroDivisionError

    with holding(shards):
        good = [kv.commit([], [Put(b"%d" % number, b"good")]) for number in range(5)]
        bad = kv.transact([b"1"], spoil)
        later = kv.commit([], [Put(b"6", b"good")])
    assert isinstance(bad.exception(), ZeroDivisionError)
    assert [each.result().revision for each in (*good, later)] == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]
    assert shards.planner.healthy


def test_a_plan_that_breaks_a_bound_leaves_no_trace(shards: Shards) -> None:
    kv = SqliteKV(shards)
    many = [Put(b"%d" % number, b"") for number in range(limits.WRITES_MAX + 1)]
    with pytest.raises(AssertionError):
        kv.transact([], lambda _: Plan(many, None)).result()
    outcomes = kv.transact_many([Transaction([], lambda _: Plan([Put(b"k", b"")], 1))]).result()
    assert outcomes == [1]
    assert [item.key for item in everything(kv)] == [b"k"]


def test_the_queue_is_bounded(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUEUE_JOBS_MAX", 10)
    kv = SqliteKV(shards)
    with holding(shards):
        queued = [kv.commit([], [Put(b"%d" % number, b"")]) for number in range(10)]
        with pytest.raises(UnavailableError) as caught:
            kv.commit([], [Put(b"more", b"")])
        monkeypatch.undo()
    assert caught.value.retry_after_s > 0
    assert len({each.result() for each in queued}) == 10


def test_history_is_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_REVISIONS_MAX", 50)
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        kv = SqliteKV(shards)
        for number in range(120):
            commit(kv, Put(b"%d" % (number % 7), b"%d" % number))
        assert shards.planner.oldest == 71
        assert [each.revision for each in history(kv, from_revision=71)] == list(range(71, 121))
    with Shards(tmp_path / "data") as shards:
        assert shards.planner.oldest == 71
    monkeypatch.undo()
    with Shards(tmp_path / "data") as shards:
        commit(SqliteKV(shards), Put(b"k", b""))
        assert shards.planner.oldest == 71


# A full disk


@pytest.mark.parametrize("count", [1, COUNT])
def test_a_full_disk_refuses_writes_and_takes_deletes(tmp_path: Path, count: int) -> None:
    full = os.strerror(28)

    class FullDisk(Disk):
        """Full but for the reserve."""

        folder = tmp_path / "data"
        is_full = False

        def commit(self, database: object) -> None:
            if self.is_full and (self.folder / "reserve").exists():
                raise OSError(28, full)
            super().commit(database)  # type: ignore[arg-type]  # a connection

        def allocate(self, descriptor: int, offset: int, size_bytes: int) -> None:
            if self.is_full:
                raise OSError(28, full)
            super().allocate(descriptor, offset, size_bytes)

    disk = FullDisk()
    with Shards(tmp_path / "data", disk, options=of(count, 64)) as shards:
        kv = SqliteKV(shards)
        spread(kv, b"old")
        disk.is_full = True
        with pytest.raises(FullError):
            spread(kv, b"new")
        assert values(kv) == {b"old"}
        with holding(shards):
            written = kv.commit([], [Put(b"more", b"")])
            deleted = kv.commit([], [Delete(KEYS[0])])
        assert isinstance(written.exception(), FullError)
        deleted.result()
        assert kv.get(KEYS[0]) is None
        disk.is_full = False
        spread(kv, b"newer")
        assert values(kv) == {b"newer"}
        assert (tmp_path / "data" / "reserve").stat().st_size == limits.RESERVE_BYTES


def test_a_damaged_row_is_never_served(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", options=of(1)) as shards:
        kv, store = SqliteKV(shards), SqliteStore(shards)
        commit(kv, Put(b"a", b"value"), Put(b"b", b"value"))
        digest = put(store, make(1000)).digest
    path = tmp_path / "data" / "shard_0.db"
    assert change(path, "UPDATE rows SET value = x'00' WHERE key = x'6b61'") == 1
    assert change(path, "UPDATE chunks SET data = zeroblob(1000)") == 1
    assert change(path, "UPDATE history SET value = x'00' WHERE key = x'62'") == 1
    with Shards(tmp_path / "data") as shards:
        kv, store = SqliteKV(shards), SqliteStore(shards)
        for act in (lambda: kv.get(b"a"), lambda: everything(kv), lambda: history(kv)):
            with pytest.raises(CorruptError):
                act()
        with pytest.raises(CorruptError):
            read(store, digest)
        assert kv.get(b"b") is not None
        put(store, make(1000))
        assert read(store, digest) == make(1000)


def test_rows_that_trade_places_are_found_out(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", options=of(1)) as shards:
        kv, store = SqliteKV(shards), SqliteStore(shards)
        commit(kv, Put(b"a", b"of a"), Put(b"b", b"of b"))
        digests = [put(store, data).digest for data in (b"12", b"34")]
    path = tmp_path / "data" / "shard_0.db"
    for moves in (
        ("rows", "key", "x'6b61'", "x'6b62'", "x'6b63'"),
        ("chunks", "place", 1 << 24, 2 << 24, 9 << 24),
    ):
        table, column, one, other, free = moves
        for source, target in ((one, free), (other, one), (free, other)):
            statement = f"UPDATE {table} SET {column} = {target} WHERE {column} = {source}"
            assert change(path, statement) == 1
    with Shards(tmp_path / "data") as shards:
        kv, store = SqliteKV(shards), SqliteStore(shards)
        for key in (b"a", b"b"):
            with pytest.raises(CorruptError):
                kv.get(key)
        for digest in digests:
            with pytest.raises(BlobError):
                read(store, digest)


def test_a_damaged_row_costs_those_who_read_it_and_no_others_of_a_batch(tmp_path: Path) -> None:
    """Whoever replaces it unseen may: what is there then is sound."""
    with Shards(tmp_path / "data", options=of(1)) as shards:
        commit(SqliteKV(shards), Put(b"a", b"value"), Put(b"b", b"value"))
        keys = shards.shards[0].state.keys
    path = tmp_path / "data" / "shard_0.db"
    assert change(path, "UPDATE rows SET value = x'00' WHERE key < x'6b63'") == 2
    with Shards(tmp_path / "data", options=of(1, 64)) as shards:
        kv = SqliteKV(shards)
        with holding(shards):
            reads = kv.commit([], [Add(b"a", (1,))])
            other = kv.commit([], [Put(b"c", b"value")])
            replaces = kv.commit([], [Put(b"b", b"new")])
        assert isinstance(reads.exception(), CorruptError)
        assert isinstance(other.result(), Committed)
        assert isinstance(replaces.result(), Committed)
        assert [item.value for item in kv.scan(b"b", b"d", limit=9)] == [b"new", b"value"]
        assert shards.shards[0].state.keys == keys + 1


def test_an_epoch_that_is_undone_brings_damage_back_as_it_was(tmp_path: Path) -> None:
    """It is not made to look sound."""
    folder = tmp_path / "data"
    with Shards(folder, options=of(2)) as shards:
        kv = SqliteKV(shards)
        commit(kv, *(Put(b"%d" % number, b"old") for number in range(20)))
    for number in range(2):
        assert change(folder / f"shard_{number}.db", "UPDATE rows SET value = x'00'")
    before = [ask(folder / f"shard_{number}.db", "SELECT * FROM rows") for number in range(2)]
    disk = FaultyDisk()
    with Shards(folder, disk) as shards:
        kv = SqliteKV(shards)
        disk.arm(Fault(2, only=frozenset({"commit"})))
        writes = [Put(b"%d" % number, b"new") for number in range(20)]
        assert isinstance(kv.commit([], writes).exception(), UnavailableError)
    assert [
        ask(folder / f"shard_{number}.db", "SELECT * FROM rows") for number in range(2)
    ] == before
