"""Blobs spread over stores: who gets what, and what a full or broken one does."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from stack_steps import open_files

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, FullError, NotFoundError, UnavailableError
from holdfast.core.limits import KIB, MIB, PASS_OVER_S
from holdfast.core.many import put_each
from holdfast.core.seams import Buffer, SystemClock
from holdfast.core.store import Source, Span, Store
from holdfast.log.batch import Batch
from holdfast.log.staged import StoredBlob
from holdfast.stores.memory import MemorySink, MemoryStore
from holdfast.stores.spread import Member, SpreadStore
from holdfast.testing.blobs import make, put, read
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.store_suite import StoreSuite

NO_BATCH = cast(Batch, None)
"""For what is staged outside of the log, which has no use for one."""


class TestSpreadMemory(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return spread(*(MemoryStore() for _ in range(3)))


@pytest.mark.slow
class TestSpreadFiles(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return spread(*(open_files(folder / name) for name in "ab"))


def spread(*stores: Store, weights: tuple[float, ...] = (1, 1, 1)) -> SpreadStore:
    members = [
        Member(f"disk{number}", store, weight)
        for number, (store, weight) in enumerate(zip(stores, weights, strict=False))
    ]
    return SpreadStore(members, SystemClock())


def digests(store: Store) -> set[Digest]:
    return {ref.digest for ref in store.scan()}


def test_each_gets_its_share() -> None:
    store = spread(*(MemoryStore() for _ in range(3)), weights=(3, 1, 0))
    won = Counter(store.ranked(Digest.of(b"%d" % number))[0].name for number in range(4000))
    assert 2880 < won["disk0"] < 3120
    assert won["disk0"] + won["disk1"] == 4000


def test_a_new_member_takes_from_all_and_nothing_else_moves() -> None:
    stores = [MemoryStore() for _ in range(3)]
    two, three = spread(*stores[:2]), spread(*stores)
    moves = Counter(
        (two.ranked(key)[0].name, three.ranked(key)[0].name)
        for key in (Digest.of(b"%d" % number) for number in range(3000))
    )
    assert moves["disk0", "disk1"] == moves["disk1", "disk0"] == 0
    assert 400 < moves["disk0", "disk2"] < 600
    assert 400 < moves["disk1", "disk2"] < 600


@pytest.mark.parametrize("size_bytes", [1000, 3 * MIB])
def test_a_blob_that_is_stored_twice_is_stored_once(size_bytes: int) -> None:
    stores = [MemoryStore() for _ in range(3)]
    store = spread(*stores)
    for step_bytes in (MIB, 1000, 700 * KIB):
        put(store, make(size_bytes), step_bytes)
    assert sum(len(digests(each)) for each in stores) == 1


def test_what_lies_where_it_would_not_be_now_is_found() -> None:
    stores = [MemoryStore() for _ in range(3)]
    blobs = [make(1000, seed=seed) for seed in range(30)]
    put_each(spread(*stores, weights=(1, 1, 1)), blobs)
    store = spread(*stores, weights=(0, 1, 9))
    assert [read(store, Digest.of(data)) for data in blobs] == blobs
    before = digests(stores[0])
    assert before
    put_each(store, [make(1000, seed=seed) for seed in range(30, 60)])
    assert digests(stores[0]) == before
    store.remove([Digest.of(data) for data in blobs])
    assert not digests(stores[0])


class FullSink(MemorySink):
    taken = 0

    def write(self, chunk: Buffer) -> None:
        FullSink.taken += len(chunk)
        if FullSink.taken > 2 * MIB:
            raise FullError("no space")
        super().write(chunk)


class FullStore(MemoryStore):
    """Has room for 2 MiB more."""

    def sink(self) -> MemorySink:
        FullSink.taken = 2 * MIB
        return FullSink(self)


class BrokenStore(MemoryStore):
    def sink(self) -> MemorySink:
        raise UnavailableError("no disk")

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source:  # type: ignore[override]
        raise UnavailableError("no disk")

    def stat(self, digests: object) -> Mapping[Digest, int]:
        raise UnavailableError("no disk")

    def remove(self, digests: object) -> None:
        raise UnavailableError("no disk")


@pytest.mark.parametrize("bad", [FullStore, BrokenStore])
@pytest.mark.parametrize("size_bytes", [10, 3 * MIB])
def test_a_full_or_broken_member_is_passed_over(bad: type[MemoryStore], size_bytes: int) -> None:
    broken, good = bad(), MemoryStore()
    store = spread(broken, good)
    blobs = [make(size_bytes, seed=seed) for seed in range(12)]
    refs = [put(store, data) for data in blobs]
    assert digests(good) == {ref.digest for ref in refs}
    assert [read(store, ref.digest) for ref in refs] == blobs


def test_an_upload_that_fills_a_member_fails_and_the_next_goes_elsewhere() -> None:
    class NearlyFull(MemoryStore):
        def sink(self) -> MemorySink:
            FullSink.taken = 0
            return FullSink(self)

    clock = StillClock()
    nearly, good = NearlyFull(), MemoryStore()
    store = SpreadStore([Member("a", nearly, 1000), Member("b", good, 0.001)], clock)
    data = make(5 * MIB)
    with pytest.raises(FullError):
        put(store, data)
    assert put(store, data) == BlobRef(Digest.of(data), len(data))
    assert digests(good) == {Digest.of(data)}
    clock.moved_s += PASS_OVER_S + 1
    put(store, b"small again")
    assert digests(nearly) == {Digest.of(b"small again")}


def test_when_all_refuse_it_is_said_why() -> None:
    store = spread(FullStore(), FullStore())
    for size_bytes in (10, 3 * MIB):
        with pytest.raises(FullError):
            put(store, make(size_bytes))
    with pytest.raises(UnavailableError, match="takes new blobs"):
        put(spread(MemoryStore(), weights=(0,)), b"x")


def test_what_may_be_in_a_broken_member_is_not_called_missing() -> None:
    broken, good = BrokenStore(), MemoryStore()
    store = spread(broken, good)
    with pytest.raises(UnavailableError):
        store.open(Digest.of(b"anything"))
    with pytest.raises(UnavailableError):
        store.remove([Digest.of(b"anything")])
    with pytest.raises(NotFoundError):
        spread(good).open(Digest.of(b"anything"))


def test_what_the_others_have_is_counted_without_a_broken_member() -> None:
    good = MemoryStore()
    ref = put(good, b"here")
    store = spread(BrokenStore(), good)
    assert store.stat([ref.digest]) == dict([ref])
    with pytest.raises(UnavailableError):
        store.stat([ref.digest, Digest.of(b"anything")])


def test_what_is_open_anywhere_needs_no_wait(tmp_path: Path) -> None:
    members = [Member(name, open_files(tmp_path / name), 1) for name in "abc"]
    store = SpreadStore(members, SystemClock())
    blobs = [make(size, seed=seed) for size in (1000, MIB + 1) for seed in range(6)]
    stored = [put(store, data).digest for data in blobs]
    assert [store.open(digest, wait=False) for digest in stored] == [None] * len(blobs)
    for digest, data in zip(stored, blobs, strict=True):
        assert read(store, digest) == data
        source = store.open(digest, wait=False)
        assert source is not None
        source.close()
    assert store.open(Digest.of(b"nowhere"), wait=False) is None
    with pytest.raises(NotFoundError):
        store.open(Digest.of(b"nowhere"))
    store.close()


@pytest.mark.parametrize("size_bytes", [10, 3 * MIB])
def test_a_name_hears_when_its_staged_blob_goes(tmp_path: Path, size_bytes: int) -> None:
    """As of files alone: the commit that names a blob looks whether its file is still there."""
    store = spread(*(open_files(tmp_path / name) for name in "ab"))
    ref = BlobRef(Digest.of(make(size_bytes)), size_bytes)
    with store.sink() as sink:
        sink.write(make(size_bytes))
        staged = sink.stage(ref)
    assert isinstance(staged, StoredBlob)
    staged.stage(NO_BATCH)
    store.remove([ref.digest])
    with pytest.raises(UnavailableError, match="send them again"):
        staged.stage(NO_BATCH)
    store.close()


def test_of_two_copies_the_sound_one_is_read(tmp_path: Path) -> None:
    one, other = open_files(tmp_path / "a"), open_files(tmp_path / "b")
    for each in (one, other):
        put(each, make(2000))
    store = spread(one, other)
    assert list(store.scan()) == [BlobRef(Digest.of(make(2000)), 2000)]
    for file in tmp_path.glob("*/??/*.blob"):
        data = file.read_bytes()
        file.write_bytes(data[:-1])
        assert read(store, Digest.of(make(2000))) == make(2000)
        file.write_bytes(data)
        store.close()
        store = spread(open_files(tmp_path / "a"), open_files(tmp_path / "b"))
    for file in tmp_path.glob("*/??/*.blob"):
        file.write_bytes(b"")
    with pytest.raises(CorruptError):
        store.open(Digest.of(make(2000)))
    store.close()
