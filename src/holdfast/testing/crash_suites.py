"""What must survive a power cut at any call of the disk, for stores and key-value spaces.

    class TestMineInPowerCuts(StoreCrashSuite):
        def open_store(self, folder: Path, disk: Disk) -> Store:
            return MyStore(folder, disk)

The same life is lived again and again, and the power fails at call 1, then at call 2 and so on
until it does not fail any more. After each cut the folder is what the disk may hold then
(`WORLDS`), is opened again, and must hold all that was acknowledged. Override `power_returns` where
the boot changes something that the disk does not.
"""

# ruff: noqa: D102 - the name of a test is its sentence

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError
from holdfast.core.kv import KV, Add, Committed, Delete, Put, add_counters
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Disk
from holdfast.core.store import Store, Verdict
from holdfast.testing.blobs import assert_absent, make, put, read
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import commit, everything
from holdfast.testing.power_cut import Fate, PowerCutDisk, World
from holdfast.testing.sealed import Sealed
from holdfast.testing.store_expiry import nobody, soon_us

WORLDS = [
    World(Fate.KEPT, Fate.KEPT),
    World(Fate.LOST, Fate.LOST),
    World(Fate.KEPT, Fate.LOST),
    World(Fate.LOST, Fate.KEPT),
    World(Fate.LAST, Fate.LAST, is_stale=True),
    World(Fate.SOME, Fate.SOME, is_stale=True),
]
"""What becomes of that which was not synced."""

MANY_WORLDS = [
    World(Fate.KEPT, Fate.TORN),
    *(World(Fate.SOME, Fate.SOME, seed % 2 == 0, seed) for seed in range(1, 13)),
]
"""More of them, for long runs."""

SMALL, MIDDLE, LARGE = make(1000), make(300 * KIB), make(MIB + 500 * KIB)
MANY = make(2000)
COMMITS = 12
ROUNDS_MAX = 1000

Space = dict[bytes, bytes]


class StoreCrashSuite(Sealed):
    """What every durable store must pass; `open_store` is all that a subclass writes."""

    def open_store(self, folder: Path, disk: Disk) -> Store:
        """Open the store that keeps its bytes in `folder`, through `disk`."""
        raise NotImplementedError

    def close_store(self, store: Store) -> None:
        """Close what `open_store` opened; its disk may be dead."""
        store.close()

    def power_returns(self, folder: Path) -> None:
        """Change what a new boot would change."""

    @pytest.mark.parametrize("world", WORLDS, ids=str)
    def test_a_power_cut_loses_no_blob_that_was_acknowledged(self, world: World) -> None:
        for folder, disk in _cuts():
            there, gone = self.live(folder, disk)
            disk.lose(world)
            self.power_returns(folder)
            store = self.open_store(folder, Disk())
            for digest, data in there.items():
                assert read(store, digest) == data
            for digest in gone:
                assert_absent(store, digest)
            for ref in store.scan():
                assert Digest.of(read(store, ref.digest) or b"") == ref.digest
            put(store, LARGE)
            assert read(store, Digest.of(LARGE)) == LARGE
            self.close_store(store)

    def live(self, folder: Path, disk: Disk) -> tuple[dict[Digest, bytes], set[Digest]]:
        """Put and remove; tell what was acknowledged to be there, and to be gone."""
        there: dict[Digest, bytes] = {}
        gone: set[Digest] = set()
        with contextlib.suppress(BlobError):
            store = self.open_store(folder, disk)
            with contextlib.suppress(BlobError):
                _put_and_remove(store, there, gone)
            self.close_store(store)
        return there, gone


class KVCrashSuite(Sealed):
    """What every durable key-value space must pass; `open_kv` is all that a subclass writes."""

    def open_kv(self, folder: Path, disk: Disk) -> KV:
        """Open the space that keeps its keys in `folder`, through `disk`."""
        raise NotImplementedError

    def close_kv(self, kv: KV) -> None:
        """Close what `open_kv` opened; its disk may be dead."""
        kv.close()

    def power_returns(self, folder: Path) -> None:
        """Change what a new boot would change."""

    @pytest.mark.parametrize("world", WORLDS, ids=str)
    def test_after_a_power_cut_the_space_is_as_after_some_commit_since_the_last_acknowledged(
        self, world: World
    ) -> None:
        for folder, disk in _cuts():
            acknowledged = self.live(folder, disk)
            disk.lose(world)
            self.power_returns(folder)
            kv = self.open_kv(folder, Disk())
            revision = kv.revision()
            assert acknowledged <= revision <= COMMITS
            assert {item.key: item.value for item in everything(kv)} == _after(revision)
            changes = [change.revision for change in kv.watch(b"n", 1, wait_s=0)]
            assert changes == list(range(1, revision + 1))
            assert commit(kv, Put(b"more", b"")) == revision + 1
            self.close_kv(kv)

    def live(self, folder: Path, disk: Disk) -> int:
        """Commit, two at a time, until the power fails; tell how many were acknowledged."""
        acknowledged = 0
        with contextlib.suppress(BlobError):
            kv = self.open_kv(folder, disk)
            with contextlib.suppress(BlobError):
                for number in range(1, COMMITS + 1, 2):
                    pair = [kv.commit([], _writes(number)), kv.commit([], _writes(number + 1))]
                    for each in pair:
                        assert each.result() == Committed(acknowledged + 1)
                        acknowledged += 1
            self.close_kv(kv)
        return acknowledged


def _cuts() -> Iterator[tuple[Path, PowerCutDisk]]:
    """Give a folder and a disk for every call at which the power may fail, then one more."""
    for number in itertools.count(1):
        assert number < ROUNDS_MAX
        with quick_folder() as folder:
            disk = PowerCutDisk(folder / "graves", number)
            yield folder / "data", disk
            if not disk.is_cut:
                return


def _put_and_remove(store: Store, there: dict[Digest, bytes], gone: set[Digest]) -> None:
    def store_it(data: bytes) -> None:
        gone.discard(Digest.of(data))
        put(store, data)
        there[Digest.of(data)] = data

    def remove(data: bytes) -> None:
        there.pop(Digest.of(data))
        store.remove([Digest.of(data)])
        gone.add(Digest.of(data))

    def store_many(blobs: list[bytes]) -> None:
        gone.difference_update(map(Digest.of, blobs))
        outcomes = zip(blobs, store.put_many(blobs), strict=True)
        there.update({Digest.of(data): data for data, ref in outcomes if isinstance(ref, BlobRef)})

    def expire(data: bytes) -> None:
        there.pop(Digest.of(data), None)
        verdicts = store.expire([Digest.of(data)], soon_us(), nobody)
        removed = [each for each, verdict in verdicts.items() if verdict is Verdict.REMOVED]
        gone.update(removed)

    steps: list[tuple[Callable[[bytes], None], bytes]] = [
        *((store_it, data) for data in (SMALL, LARGE, b"", MIDDLE, SMALL)),
        *((remove, data) for data in (LARGE, SMALL, MIDDLE)),
        *((store_it, data) for data in (LARGE, MIDDLE)),
    ]
    for step, data in steps:
        step(data)
    store_many([SMALL, MANY, MIDDLE, SMALL])
    for data in (MIDDLE, SMALL):
        expire(data)


def _writes(number: int) -> list[Put | Delete | Add]:
    """What commit number `number` writes; odd ones delete what the one before last put."""
    value = b"%d" % number * 400
    writes: list[Put | Delete | Add] = [Add(b"n", (1, number)), Put(b"k%d" % number, value)]
    return [*writes, Delete(b"k%d" % (number - 2))] if number % 2 else writes


def _after(revision: int) -> Space:
    """The space after the first `revision` commits, worked out in another way."""
    if revision == 0:
        return {}
    newest_odd = revision - (revision + 1) % 2
    keys = [number for number in range(1, revision + 1) if number % 2 == 0 or number == newest_odd]
    space = {b"k%d" % number: b"%d" % number * 400 for number in keys}
    space[b"n"] = add_counters(None, (revision, revision * (revision + 1) // 2))
    return space
