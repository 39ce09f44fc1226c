"""Many threads on one depot: nothing is lost, nothing is there twice, and counters stay exact."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from holdfast.core.bucket import CREATE_ONLY, matches
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, NotFoundError, PreconditionError
from holdfast.core.limits import KIB
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.testing.recount import check_catalog

WRITERS = 64


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    with open_depot(tmp_path / "store", Limits(small_blob_bytes_max=20 * KIB)) as opened:
        yield opened
        check_catalog(opened.engine.kv)
    with open_depot(tmp_path / "store") as again:
        check_catalog(again.engine.kv)
        for entry in again.entries():
            assert Digest.of(again.get(entry.key)) == entry.digest


def test_writers_of_one_name_all_succeed(depot: Depot) -> None:
    def write(number: int) -> int:
        return depot.put("k", b"%d" % number * (1 + number % 3 * 10_000)).version

    with ThreadPoolExecutor(WRITERS) as pool:
        versions = list(pool.map(write, range(4 * WRITERS)))
    assert sorted(versions) == list(range(4 * WRITERS))
    last = versions.index(4 * WRITERS - 1)
    assert depot.get("k").startswith(b"%d" % last)
    assert depot.head("k").version == 4 * WRITERS - 1
    assert depot.stats().entries == 1


def test_one_of_many_creators_wins(depot: Depot) -> None:
    def create(number: int) -> bool:
        try:
            depot.put("k", b"%d" % number, when=CREATE_ONLY)
        except PreconditionError:
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(create, range(WRITERS)))
    assert won.count(True) == 1
    assert depot.get("k") == b"%d" % won.index(True)


def test_a_counter_by_compare_and_swap_loses_nothing(depot: Depot) -> None:
    depot.put("k", b"0")

    def increment(_: int) -> None:
        while True:
            value, etag = depot.get("k"), depot.head("k").etag
            if f'"{Digest.of(value).hex()}"' != etag:
                continue
            try:
                depot.put("k", b"%d" % (int(value) + 1), when=matches(etag))
            except PreconditionError:
                continue
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(40)))
    assert depot.get("k") == b"40"


def test_a_blob_that_is_moved_about_is_never_lost_or_doubled(depot: Depot) -> None:
    depot.put("0", b"the one")
    stop = threading.Event()

    def move(seed: int) -> int:
        dice, moved = random.Random(seed), 0
        for _ in range(60):
            try:
                depot.move(f"{dice.randrange(4)}", f"{dice.randrange(4)}")
                moved += 1
            except NotFoundError:
                pass
        return moved

    def look() -> set[int]:
        seen = set()
        while not stop.is_set():
            seen.add(len(depot.list().entries))
        return seen

    with ThreadPoolExecutor(9) as pool:
        looking = pool.submit(look)
        assert sum(pool.map(move, range(8))) > 60
        stop.set()
        assert looking.result() == {1}, "a listing is of one revision"
    assert depot.stats().entries == 1
    assert [depot.get(entry.key) for entry in depot.list().entries] == [b"the one"]


def test_copies_moves_and_deletes_at_once_keep_the_catalog_exact(depot: Depot) -> None:
    buckets = [depot, depot.bucket("other")]

    def act(seed: int) -> None:
        dice = random.Random(seed)
        for number in range(40):
            bucket, key, to = dice.choice(buckets), f"{dice.randrange(5)}", f"{dice.randrange(5)}"
            data = b"%d" % dice.randrange(6) * dice.choice([10, 10_000])
            target = dice.choice(buckets).name
            verbs: list[tuple[Callable[[], object], bool]] = [
                (partial(bucket.put, key, data), False),
                (partial(bucket.put, to, data), False),
                (partial(bucket.delete, key), False),
                (partial(depot.content.put, data), False),
                (partial(depot.content.delete, Digest.of(data)), False),
                (partial(bucket.get, key), True),
                (partial(bucket.copy, key, to, to_bucket=target), True),
                (partial(bucket.move, key, to, to_bucket=target), True),
            ]
            verb, may_miss = dice.choice(verbs)
            try:
                verb()
            except NotFoundError:
                assert may_miss, number

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(act, range(16)))
    check_catalog(depot.engine.kv)


def test_a_reader_sees_one_version_whole(depot: Depot) -> None:
    versions = [bytes([number]) * size for number, size in enumerate([10, 30_000, 19_000, 500_000])]
    depot.put("k", versions[0])
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            assert depot.get("k") in versions
            with depot.open("k") as file:
                assert file.read() in versions
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(read) for _ in range(3)]
        for number in range(60):
            depot.put("k", versions[number % 4])
        stop.set()
        assert all(each.result() > 0 for each in reading)


def test_closing_under_load_answers_everybody(tmp_path: Path) -> None:
    folder = tmp_path / "closing"
    depot = open_depot(folder, Limits(small_blob_bytes_max=1000))
    begun = threading.Barrier(9)

    def write(thread: int) -> set[str]:
        done: set[str] = set()
        begun.wait()
        for number in range(100_000):
            try:
                depot.put(f"{thread}/{number}", b"%d" % number * (1 + number % 2 * 2000))
                depot.get(f"{thread}/{number}")
            except BlobError:
                return done
            done.add(f"{thread}/{number}")
        return done

    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write, thread) for thread in range(8)]
        begun.wait()
        threading.Event().wait(0.2)
        depot.close()
        done = set().union(*(each.result() for each in writing))
    with open_depot(folder) as again:
        keys = {entry.key for entry in again.entries()}
        assert done <= keys
        assert len(keys - done) <= 8, "one a thread was stored and not read back"
        check_catalog(again.engine.kv)
