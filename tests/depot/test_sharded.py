"""A depot over shards: whose folder it is, which file has a key, and what looks after it."""

import gc
import itertools
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    DeniedError,
    InvalidError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.marker import LOG, SQLITE
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.depot.stack import Stack
from holdfast.services.check import Check
from holdfast.services.fsck import Fsck, Options
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.shards.routing import fnv1a_64
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.recount import check_catalog

COUNT = 4
SHARDS = Limits(shards=COUNT)


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    with open_depot(tmp_path / "store", SHARDS) as opened:
        yield opened
        check_catalog(opened.engine.kv)


def change(path: Path, statement: str) -> int:
    """Change a shard behind its back."""
    database = sqlite3.connect(path)
    try:
        with database:
            return database.execute(statement).rowcount
    finally:
        database.close()


def rows(path: Path, statement: str) -> list[tuple[bytes, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()


def fsck(folder: Path, *, repair: bool = False) -> Fsck:
    checked = Fsck(folder, lambda: open_depot(folder), Options(repair=repair))
    for _ in checked.run():
        pass
    return checked


# Folders


def test_a_folder_is_opened_by_the_engine_that_made_it(tmp_path: Path) -> None:
    for engine in (LOG, SQLITE):
        folder = tmp_path / engine
        with open_depot(folder, Limits(engine=engine)) as depot:
            depot.put("k", b"value")
        with holdfast.open(folder) as bucket:
            assert bucket.get("k") == b"value"
        with open_depot(folder, Limits(engine=engine)) as depot:
            assert depot.get("k") == b"value"
    assert not (tmp_path / SQLITE / "log").exists()
    assert not list((tmp_path / LOG).glob("shard_*"))


@pytest.mark.parametrize("made", [LOG, SQLITE])
def test_an_engine_refuses_the_folder_of_the_other(tmp_path: Path, made: str) -> None:
    open_depot(tmp_path, Limits(engine=made)).close()
    other = {LOG: SQLITE, SQLITE: LOG}[made]
    with pytest.raises(UnsupportedError, match=f"a store of the engine {made}, not {other}"):
        open_depot(tmp_path, Limits(engine=other))
    with open_depot(tmp_path) as depot:
        depot.put("k", b"")


def test_another_number_of_shards_or_hash_is_refused(tmp_path: Path) -> None:
    open_depot(tmp_path, SHARDS).close()
    for bounds in (Limits(shards=5), Limits(engine=SQLITE, shard_hash="xxh3")):
        with pytest.raises(InvalidError, match="holdfast reshard"):
            open_depot(tmp_path, bounds)


def test_a_store_in_sqlite_has_one_process(tmp_path: Path) -> None:
    for bounds in (SHARDS, Limits()):
        with (
            pytest.raises(UnsupportedError, match="set workers to 1"),
            hold_depot(tmp_path, bounds),
        ):
            pass
        open_depot(tmp_path, SHARDS).close()
    with pytest.raises(UnsupportedError, match="set workers to 1"):
        open_depot(tmp_path, attached=True)


# Where things are


def test_all_that_belongs_to_a_name_is_in_the_shard_of_its_key(tmp_path: Path) -> None:
    keys = [f"photos/{number}.jpg" for number in range(20)]
    with open_depot(tmp_path, Limits(shards=COUNT, undelete_s=100)) as depot:
        for key in keys:
            depot.put(key, key.encode())
            depot.put(key, b"again " + key.encode())
        for key in keys[::2]:
            depot.delete(key)
    for number in range(COUNT):
        found = [key for (key,) in rows(tmp_path / f"shard_{number}.db", "SELECT key FROM rows")]
        expected = {key for key in keys if fnv1a_64(key.encode()) % COUNT == number}
        for key in keys:
            holders = [row for row in found if row.endswith(b"\x00" + key.encode())]
            assert bool(holders) == (key in expected)


def test_a_blob_is_found_by_the_hash_of_its_digest(tmp_path: Path) -> None:
    data = make(1000)
    with open_depot(tmp_path, SHARDS) as depot:
        digest = depot.content.put(data)
    number = fnv1a_64(digest.hex().encode()) % COUNT
    (blob,) = rows(tmp_path / f"shard_{number}.db", "SELECT key FROM rows WHERE key < x'63'")
    assert blob == (b"b" + digest,)
    assert rows(tmp_path / f"shard_{number}.db", "SELECT data FROM chunks") == [(data,)]


def test_a_small_blob_and_its_name_are_one_epoch(depot: Depot) -> None:
    before = depot.engine.facts()["batches"]
    depot.put("small", make(200 * KIB))
    depot.put("large", make(2 * MIB))
    assert depot.engine.facts()["batches"] == before + 2


def test_many_names_are_one_epoch(depot: Depot) -> None:
    before = depot.engine.facts()["batches"]
    outcomes = depot.put_many([(f"{number}", b"%d" % number) for number in range(100)])
    assert len(list(outcomes)) == 100
    assert depot.engine.facts()["batches"] == before + 1


# Looking after it


def test_a_sound_store_is_well(tmp_path: Path) -> None:
    with open_depot(tmp_path, SHARDS) as depot:
        for number, size_bytes in enumerate((0, 10, 1000, 300 * KIB, 2 * MIB)):
            depot.put(f"{number}", make(size_bytes))
            depot.put(f"{number}", make(size_bytes))
    report = fsck(tmp_path).report
    assert (report.found, report.blobs, report.references) == (0, 5, 5)
    assert report.read_bytes > 2 * MIB


@pytest.mark.parametrize("size_bytes", [1000, 2 * MIB])
def test_damaged_bytes_are_found_named_and_given_up(tmp_path: Path, size_bytes: int) -> None:
    data = make(size_bytes)
    with open_depot(tmp_path, SHARDS) as depot:
        depot.put("bad", data)
        depot.put("good", b"good")
    hit = 0
    for number in range(COUNT):
        path = tmp_path / f"shard_{number}.db"
        statement = "UPDATE chunks SET data = zeroblob(length(data)) WHERE length(data) >= 1000"
        hit += change(path, statement)
    assert hit
    digest = str(Digest.of(data))
    report = fsck(tmp_path).report
    assert [found.digest for found in report.findings] == [digest]
    with open_depot(tmp_path) as depot, pytest.raises(CorruptError):
        depot.get("bad")
    fsck(tmp_path, repair=True)
    assert [path.name for path in (tmp_path / "quarantine").iterdir()] == [
        f"{Digest.of(data).file_name}.blob"
    ]
    with open_depot(tmp_path) as depot:
        assert depot.get("good") == b"good"
        depot.put("bad", data)
        assert depot.get("bad") == data
    assert fsck(tmp_path).report.found == 0


def test_a_damaged_row_is_put_back_from_the_history(tmp_path: Path) -> None:
    with open_depot(tmp_path, SHARDS) as depot:
        for number in range(20):
            depot.put(f"{number}", b"%d" % number)
    hit = sum(
        change(tmp_path / f"shard_{number}.db", "UPDATE rows SET sum = sum + 1 WHERE key > x'6b'")
        for number in range(COUNT)
    )
    assert hit > 40
    with open_depot(tmp_path) as depot, pytest.raises(CorruptError):
        depot.get("7")
    assert fsck(tmp_path).report.found >= hit
    assert fsck(tmp_path, repair=True).report.found == 0
    with open_depot(tmp_path) as depot:
        check_catalog(depot.engine.kv)
        assert [depot.get(f"{number}") for number in range(20)] == [
            b"%d" % number for number in range(20)
        ]


def test_a_damaged_row_of_a_blob_is_found(tmp_path: Path) -> None:
    with open_depot(tmp_path, Limits(shards=1)) as depot:
        depot.put("k", b"value")
        depot.put("other", b"other value")
    path = tmp_path / "shard_0.db"
    where = f"key = x'62{Digest.of(b'value').hex()}'"
    assert change(path, f"UPDATE rows SET value = zeroblob(28) WHERE {where}") == 1
    assert fsck(tmp_path).report.found > 0
    fsck(tmp_path, repair=True)
    with open_depot(tmp_path) as depot:
        depot.put("k", b"value")
        assert depot.get("k") == b"value"
        assert depot.get("other") == b"other value"
    assert fsck(tmp_path).report.found == 0


def test_reading_can_go_on_behind_any_blob(depot: Depot) -> None:
    for number in range(30):
        depot.put(f"{number}", b"%d" % number)
    (medium, _) = depot.engine.media
    for region in medium.regions():
        seen = [each for each in medium.inspect(region.name, 0) if each.blobs]
        for at, each in enumerate(seen):
            rest = [one for one in medium.inspect(region.name, each.position + 1) if one.blobs]
            assert rest == seen[at + 1 :]


def test_what_nothing_names_is_swept_and_its_space_given_back(tmp_path: Path) -> None:
    def size_bytes() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("shard_*.db"))

    with open_depot(tmp_path, SHARDS) as depot:
        for number in range(6):
            depot.put(f"{number}", make(MIB, seed=number))
        for number in range(5):
            depot.delete(f"{number}")
        sweep = sweep_of(depot, Manner(grace_s=0.0))
        while sweep.step():
            pass
        assert (sweep.report.removed, sweep.report.live) == (5, 1)
    full_bytes = size_bytes()
    with open_depot(tmp_path) as depot:
        freed = sum(each.freed_bytes for each in depot.engine.compact(0.0, with_newest=True))
        assert freed > 4 * MIB
        assert depot.engine.facts()["freed_bytes"] == freed
        assert depot.get("5") == make(MIB, seed=5)
    assert size_bytes() < full_bytes - 4 * MIB


def test_space_of_a_store_that_is_mostly_live_is_left_alone(depot: Depot) -> None:
    for number in range(4):
        depot.put(f"{number}", make(MIB, seed=number))
    assert list(depot.engine.compact()) == []


def test_facts_and_usage_follow_what_is_stored(depot: Depot) -> None:
    depot.put("a", make(1000))
    depot.put("b", make(2 * MIB))
    facts = depot.engine.facts()
    assert facts["healthy"] == 1
    assert (facts["segments"], facts["blobs"]) == (COUNT, 2)
    assert facts["live_bytes"] == depot.usage().live_bytes == 1000 + 2 * MIB
    assert facts["keys"] == len(depot.engine.kv.scan(b"", b"\xff", limit=1000))
    assert depot.recovery.segments == COUNT


def test_a_commit_that_fails_at_any_shard_leaves_names_whole(tmp_path: Path) -> None:
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        disk = FaultyDisk()
        with open_depot(folder, SHARDS, disk=disk) as depot:
            depot.put("old", b"old")
            disk.arm(Fault(number, only=frozenset(("commit",))))
            acknowledged = {"old": b"old"}
            for key, size_bytes in (("a", 10), ("b", MIB), ("old", 100)):
                try:
                    depot.put(key, make(size_bytes))
                except BlobError:
                    continue
                acknowledged[key] = make(size_bytes)
            disk.arm(None)
            struck = disk.struck
            found = {entry.key: depot.get(entry.key) for entry in depot.list().entries}
            assert found == acknowledged
            check_catalog(depot.engine.kv)
        with open_depot(folder, disk=Disk()) as depot:
            assert {one.key: depot.get(one.key) for one in depot.list().entries} == acknowledged
            assert not any(Check(depot.engine).run())
        if not struck:
            break


def test_wrappers_go_around_shards_too(tmp_path: Path) -> None:
    stack = Stack(compress=True, master=bytes(range(32)))
    bounds = Limits(shards=COUNT, stack=stack)
    blobs = {"text": b"a line\n" * 100_000, "noise": make(MIB), "small": b"small", "empty": b""}
    with open_depot(tmp_path, bounds) as depot:
        for key, data in blobs.items():
            depot.put(key, data)
        assert not any(Check(depot.engine).run())
        assert depot.engine.facts()["live_bytes"] < MIB + 100 * KIB
    with pytest.raises(DeniedError):
        open_depot(tmp_path)
    with open_depot(tmp_path, Limits(stack=stack)) as depot:
        assert {key: depot.get(key) for key in blobs} == blobs
        sweep = sweep_of(depot, Manner(grace_s=0.0))
        while sweep.step():
            pass
        assert (sweep.report.removed, sweep.report.live) == (0, 4)


def test_a_folder_that_cannot_be_one_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for bounds in (Limits(), SHARDS):
        with pytest.raises(UnavailableError):
            open_depot(tmp_path / "file", bounds)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_names_take_no_more_memory_and_are_listed_fast(tmp_path: Path) -> None:
    """In all that walks over them: listings, scans, sweeps, and a check of everything."""
    count = 30_000
    with open_depot(tmp_path, SHARDS) as depot:
        for first in range(0, count, 5000):
            numbers = range(first, first + 5000)
            depot.put_many((f"{number:06}", b"%d" % number) for number in numbers)
        assert depot.stats().entries == count
    with open_depot(tmp_path) as depot:
        walk_over(depot, "000")
        gc.collect()
        tracemalloc.start()
        began_s = time.monotonic()
        assert sum(1 for _ in depot.entries()) == count
        listed_s = time.monotonic() - began_s
        walk_over(depot, "")
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 20 * MIB
    assert listed_s < 60  # with its memory traced, and others beside it


def walk_over(depot: Depot, prefix: str) -> None:
    assert depot.list(prefix=prefix, limit=1000).entries
    assert sum(1 for _ in depot.engine.store.scan()) == depot.stats().entries
    sweep = sweep_of(depot, Manner(grace_s=0.0))
    while sweep.step():
        pass
    assert sweep.report.removed == 0
    assert not any(Check(depot.engine).run())
