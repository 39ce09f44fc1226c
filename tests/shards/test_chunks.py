"""Large blobs in chunks: memory, pins, and the space that comes back."""

import gc
import shutil
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shard_steps import ask, change, of

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import CorruptError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Disk
from holdfast.shards.shard import Shard
from holdfast.shards.shards import Shards
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.blobs import make, put, read, whole
from holdfast.testing.faults import Fault, FaultyDisk

COUNT = 3
SOON_S = 10.0


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Shards]:
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        yield shards


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what happens in another thread."""
    end_s = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def chunks(shards: Shards) -> int:
    """How many there are in all shards, named or not."""
    return sum(shard.ask("SELECT count(*) FROM chunks")[0][0] for shard in shards.shards)


def test_a_large_blob_is_never_held_whole(shards: Shards) -> None:
    store = SqliteStore(shards)
    piece, hasher = make(MIB), Hasher()
    tracemalloc.start()
    try:
        with store.sink() as sink:
            for _ in range(64):
                hasher.update(piece)
                sink.write(piece)
            sink.commit(hasher.ref()).result()
        with whole(store, hasher.ref().digest) as source:
            while source.read(MIB):
                pass
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * MIB


def test_chunks_lie_in_rows_of_bounded_size(shards: Shards) -> None:
    put(SqliteStore(shards), make(2 * MIB + 1))
    sizes = [
        row[0] for shard in shards.shards for row in shard.ask("SELECT length(data) FROM chunks")
    ]
    assert sorted(sizes) == [1, *([limits.ROW_BYTES_MAX] * 8)]


def test_what_is_discarded_or_removed_goes(shards: Shards) -> None:
    store = SqliteStore(shards)
    with store.sink() as sink:
        sink.write(make(5 * MIB))
        until(lambda: chunks(shards) > 0)
    del sink
    until(lambda: chunks(shards) == 0)
    digest = put(store, make(5 * MIB)).digest
    assert chunks(shards) == 20
    store.remove([digest])
    until(lambda: chunks(shards) == 0)


def test_what_is_read_stays_until_its_last_reader_is_gone(shards: Shards) -> None:
    store = SqliteStore(shards)
    data = make(3 * MIB)
    digest = put(store, data).digest
    with whole(store, digest) as one, whole(store, digest) as other:
        store.remove([digest])
        one.close()
        put(store, make(MIB))
        assert bytes(other.read(10)) == data[:10]
        assert chunks(shards) == 12 + 4
    until(lambda: chunks(shards) == 4)


def test_a_staged_blob_that_is_refused_leaves_nothing(shards: Shards) -> None:
    store = SqliteStore(shards)
    data = make(2 * MIB)
    with store.sink() as sink:
        sink.write(data)
        staged = sink.stage(BlobRef(Digest.of(data), len(data)))
    assert chunks(shards) == 8
    del staged, sink
    gc.collect()
    until(lambda: chunks(shards) == 0)


def test_a_damaged_large_blob_is_replaced_by_a_new_copy(tmp_path: Path) -> None:
    data = make(2 * MIB)
    with Shards(tmp_path / "data", options=of(1)) as shards:
        digest = put(SqliteStore(shards), data).digest
    path = tmp_path / "data" / "shard_0.db"
    assert change(path, "UPDATE chunks SET data = zeroblob(length(data)) WHERE place % 8 = 5") == 1
    with Shards(tmp_path / "data") as shards:
        store = SqliteStore(shards)
        with whole(store, digest) as source:
            source.seek(5 * limits.ROW_BYTES_MAX)
            with pytest.raises(CorruptError):
                source.read(1)
        put(store, data)
        assert read(store, digest) == data
        until(lambda: chunks(shards) == 8)


def test_what_a_kill_left_of_an_upload_goes_at_the_next_opening(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", options=of(1)) as shards:
        store = SqliteStore(shards)
        kept = put(store, make(MIB))
        with store.sink() as sink:
            sink.write(make(5 * MIB))
            until(lambda: chunks(shards) > 4)
            ignored = shutil.ignore_patterns("lock")
            shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=ignored)
        del sink
    with Shards(tmp_path / "copy") as shards:
        until(lambda: chunks(shards) == 4)
        assert list(SqliteStore(shards).scan()) == [kept]
        assert read(SqliteStore(shards), kept.digest) == make(MIB)


def test_an_upload_meets_a_failing_disk(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with Shards(tmp_path / "data", disk, options=of(1)) as shards:
        store = SqliteStore(shards)
        disk.arm(Fault(2, only=frozenset(("commit",))))
        with store.sink() as sink, pytest.raises(UnavailableError):
            sink.write(make(5 * MIB))
        disk.arm(None)
        until(lambda: chunks(shards) == 0)
        put(store, make(5 * MIB))


def test_the_reserve_covers_what_is_not_in_the_files_yet(shards: Shards, tmp_path: Path) -> None:
    """On a disk that is full with logs, there would be no room to bring them in."""
    store = SqliteStore(shards)
    for seed in range(3):
        put(store, make(3 * MIB, seed=seed))
        log_bytes = sum(path.stat().st_size for path in (tmp_path / "data").glob("*-wal"))
        assert log_bytes > 3 * MIB * seed
        reserve = (tmp_path / "data" / "reserve").stat()
        assert reserve.st_blocks * 512 >= log_bytes


def test_space_comes_back(shards: Shards, tmp_path: Path) -> None:
    def size_bytes() -> int:
        return sum(path.stat().st_size for path in (tmp_path / "data").glob("shard_*.db"))

    store = SqliteStore(shards)
    digests = [put(store, make(2 * MIB, seed=seed)).digest for seed in range(6)]
    for shard in shards.shards:
        shard.settle()
    full_bytes = size_bytes()
    assert full_bytes > 12 * MIB
    store.remove(digests[1:])
    until(lambda: chunks(shards) == 8)
    assert store.usage().dead_bytes > 9 * MIB
    steps = list(shards.vacuum())
    assert sum(steps) > 9 * MIB
    assert len(steps) < 15
    assert max(steps) <= limits.VACUUM_STEP_BYTES
    for shard in shards.shards:
        shard.settle()
    assert size_bytes() < full_bytes - 9 * MIB
    assert store.usage().dead_bytes < 200 * KIB
    assert read(store, digests[0]) == make(2 * MIB, seed=0)


def test_a_file_passes_sqlites_own_check(tmp_path: Path) -> None:
    with Shards(tmp_path / "data", Disk(), options=of(2)) as shards:
        store = SqliteStore(shards)
        digests = [put(store, make(300 * KIB, seed=seed)).digest for seed in range(8)]
        store.remove(digests[::2])
    for number in range(2):
        path = tmp_path / "data" / f"shard_{number}.db"
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
        assert ask(path, "PRAGMA journal_mode") == [("wal",)]
        assert ask(path, "PRAGMA auto_vacuum") == [(2,)]


def test_the_write_ahead_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECKPOINT_BYTES", MIB)
    with Shards(tmp_path / "data", options=of(2)) as shards:
        store = SqliteStore(shards)
        for seed in range(10):
            put(store, make(2 * MIB, seed=seed))
        logs = [path.stat().st_size for path in (tmp_path / "data").glob("*-wal")]
        assert len(logs) == 2
        assert max(logs) < 8 * MIB


def test_behind_a_failed_checkpoint_everything_is_settled_before_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHECKPOINT_BYTES", MIB)
    settled: list[int] = []
    settle = Shard.settle

    def fail(self: Shard) -> None:
        raise UnavailableError(f"the disk fails under {self.path.name}")

    def counted(self: Shard) -> None:
        settled.append(self.number)
        settle(self)

    monkeypatch.setattr(Shard, "checkpoint", fail)
    monkeypatch.setattr(Shard, "settle", counted)
    with Shards(tmp_path / "data", options=of(2)) as shards:
        store = SqliteStore(shards)
        with store.sink() as sink:
            sink.write(make(4 * MIB))
            until(lambda: not shards.planner.healthy)
            assert settled == []
            sink.commit(BlobRef(Digest.of(make(4 * MIB)), 4 * MIB)).result()
            assert settled == [0, 1]
        assert shards.planner.healthy
        assert read(store, Digest.of(make(4 * MIB))) == make(4 * MIB)


# The threads


def test_whoever_still_writes_to_shards_that_are_closed_is_told(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "data", options=of(COUNT))
    with SqliteStore(shards).sink() as sink:
        sink.write(make(2 * MIB))
        shards.close()
        with pytest.raises(UnavailableError, match="closed"):
            sink.write(make(4 * MIB))
    with pytest.raises(UnavailableError, match="closed"):
        shards.settle()


def test_a_defect_in_the_thread_of_a_shard_does_not_end_it(
    shards: Shards, caplog: pytest.LogCaptureFixture
) -> None:
    for worker in shards.workers:
        worker.collect(-1)  # which no chunks have
    until(lambda: len(caplog.records) == COUNT)
    assert {each.getMessage() for each in caplog.records} == {"defect"}
    shards.settle()
    store, data = SqliteStore(shards), make(2 * MIB)
    assert read(store, put(store, data).digest) == data
