"""Real file systems without a free block: reads go on, and deletes and compaction free space."""

import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from crash_disks import EXT4, XFS, Kind, small_disk, take_all, why_not

from holdfast.core import limits
from holdfast.core.errors import FullError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of

FREE_BYTES = 40 * MIB
TINY = 2500
LOG = Limits()
SHARDS = Limits(shards=2, batch_size=64)
SLOW_WAYS = [pytest.param(how, marks=pytest.mark.slow) for how in ("killed", "closed")]


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let there be several segments."""
    patch.setattr(limits, "SEGMENT_BYTES_MAX", 4 * MIB)
    patch.setattr(limits, "BATCH_BYTES_MAX", MIB)
    patch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 64 * KIB)


@pytest.fixture(params=[EXT4, pytest.param(XFS, marks=pytest.mark.slow)], ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]  # pytest knows no type


@pytest.fixture
def place(kind: Kind) -> Iterator[Path]:
    with small_disk(kind, FREE_BYTES) as place:
        yield place


@pytest.fixture(params=[LOG, SHARDS], ids=["log", "shards"])
def bounds(request: pytest.FixtureRequest) -> Limits:
    return request.param  # type: ignore[no-any-return]  # pytest knows no type


class Tomorrow(SystemClock):
    """All that is stored is old enough to be swept."""

    def now_us(self) -> int:
        return super().now_us() + 86_400_000_000


def data_of(key: str) -> bytes:
    size = 40 if key.startswith("tiny") else 64 * KIB
    return f"{key} ".encode() * (size // len(key))


def put(depot: Depot, key: str) -> str | None:
    try:
        depot.put(key, data_of(key))
    except FullError:
        return None
    return key


def fill(depot: Depot, tiny: int) -> list[str]:
    """Many tiny blobs, then larger ones until the disk is full; and nothing is left for others."""
    with ThreadPoolExecutor(64) as pool:
        found = list(pool.map(lambda n: put(depot, f"tiny/{n}"), range(tiny)))
    keys = [key for key in found if key]
    while key := put(depot, f"more/{len(keys)}"):
        keys.append(key)
    return keys


def free(depot: Depot) -> int:
    """Sweep and compact; returns what that freed, also if there was no room for some of it."""
    work, freed = sweep_of(depot, Manner(clock=Tomorrow())), 0
    while work.step():
        pass
    with suppress(FullError):
        for each in depot.engine.compact(0.0, with_newest=True):
            freed += each.freed_bytes
    return freed


def empty(depot: Depot, keys: list[str]) -> int:
    """Delete name after name, compacting when even that is refused; returns how often it was."""
    left, refused = list(keys), 0
    while left:
        with suppress(FullError):
            while left:
                depot.delete(left[-1])
                left.pop()
        refused += bool(left)
        assert free(depot) > 0, "a full disk stays full for ever"
    return refused


def test_what_is_deleted_frees_space_until_nothing_is_left(
    place: Path, kind: Kind, bounds: Limits, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bounds is LOG:
        monkeypatch.setattr(limits, "RESERVE_BYTES", (256 if kind is EXT4 else 512) * KIB)
    with open_depot(place / "store", bounds) as depot:
        keys = fill(depot, 1200)
        take_all(place)
        assert put(depot, "one more") is None
        assert all(depot.get(key) == data_of(key) for key in keys[::37])
        refused = empty(depot, keys)
        assert refused > 0 or kind is XFS or bounds is SHARDS, "which have blocks for small needs"
        assert put(depot, "again")


@pytest.mark.slow
def test_a_large_index_has_room_for_deletes_and_compaction(place: Path) -> None:
    """Each step of a compaction rewrites a page of it for almost every blob that moves."""
    with open_depot(place / "store") as depot:
        keys = fill(depot, 20_000)
        take_all(place)
        random.Random(3).shuffle(keys)
        for key in keys[:2000]:
            depot.delete(key)
        assert free(depot) > 0
        assert all(depot.get(key) == data_of(key) for key in keys[2000::97])
        empty(depot, keys[2000:])


def fill_and_die(place: Path, bounds: Limits, how: str) -> None:
    """Fill the disk; then close in order, or not."""
    make_small(pytest.MonkeyPatch())
    depot = open_depot(place / "store", bounds)
    keys = fill(depot, TINY)
    (place.parent / "keys").write_text("\n".join(keys))
    take_all(place)
    if how == "killed":
        os._exit(0)
    depot.close()


@pytest.mark.parametrize("how", [*SLOW_WAYS, "power cut"])
def test_a_store_on_a_full_disk_can_be_opened(place: Path, how: str) -> None:
    come_back(place, LOG, how)


@pytest.mark.parametrize("how", SLOW_WAYS)
def test_shards_on_a_full_disk_can_be_opened(place: Path, how: str) -> None:
    come_back(place, SHARDS, how)


def come_back(place: Path, bounds: Limits, how: str) -> None:
    life = (place, bounds, how)
    child = multiprocessing.get_context("spawn").Process(target=fill_and_die, args=life)
    child.start()
    child.join()
    take_all(place)
    keys = (place.parent / "keys").read_text().split("\n")
    if how == "power cut":
        with (place / "store" / "index" / "state").open("r+b") as file:
            file.write(b"another boot")
    with open_depot(place / "store") as depot:
        assert all(depot.get(key) == data_of(key) for key in keys[::37])
        if how != "power cut" and bounds is LOG:  # a new index is smaller, as are merged logs
            assert put(depot, "one more") is None
        empty(depot, keys)
        assert put(depot, "again")
    with open_depot(place / "store") as depot:
        assert [entry.key for entry in depot.entries()] == ["again"]
