"""A cache in front of a store: what it keeps, what it may not do, and what its damage does."""

import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stack_steps import Watched, WatchedSource, open_files, overwrite

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    CorruptError,
    FullError,
    NotFoundError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Buffer
from holdfast.core.store import Keep, Source, Span, Store, Verdict
from holdfast.stores.cached import ENTRY_BYTES, CachedStore
from holdfast.stores.layout import blob_path
from holdfast.stores.memory import MemorySink, MemoryStore
from holdfast.testing.blobs import assert_absent, make, put, read, read_all, read_native, whole
from holdfast.testing.store_expiry import nobody, soon_us
from holdfast.testing.store_suite import StoreSuite


@pytest.mark.slow
class TestCachedInMemory(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return CachedStore(MemoryStore(), MemoryStore(), 32 * MIB)


@pytest.mark.slow
class TestCachedInFiles(StoreSuite):
    """Native files are the cache's, also of a store that has none."""

    def open_store(self, folder: Path) -> Store:
        return CachedStore(MemoryStore(), open_files(folder / "cache"), 32 * MIB)


@pytest.mark.slow
class TestCachedLittle(StoreSuite):
    """Most is too large, and what is not pushes others out."""

    def open_store(self, folder: Path) -> Store:
        return CachedStore(open_files(folder / "inner"), MemoryStore(), 3000)


def test_what_was_read_is_not_read_again() -> None:
    inner = Watched(MemoryStore())
    store = CachedStore(inner, MemoryStore(), MIB)
    digest = put(store, make(1000)).digest
    assert inner.read_bytes == 0
    for _ in range(3):
        assert read(store, digest) == make(1000)
        with whole(store, digest, Span(10, 20)) as source:
            assert read_all(source) == make(1000)[10:30]
    assert inner.read_bytes == 1000
    assert store.cached_bytes == 1000 + ENTRY_BYTES


def test_what_was_read_longest_ago_makes_room() -> None:
    cache = MemoryStore()
    store = CachedStore(MemoryStore(), cache, 10 * (KIB + ENTRY_BYTES))
    digests = [put(store, make(KIB, seed=seed)).digest for seed in range(15)]
    for digest in digests[:10]:
        read(store, digest)
    read(store, digests[0])
    for digest in digests[10:]:
        read(store, digest)
    assert {ref.digest for ref in cache.scan()} == {digests[0], *digests[6:]}
    assert store.cached_bytes == 10 * (KIB + ENTRY_BYTES)
    for seed, digest in enumerate(digests):
        assert read(store, digest) == make(KIB, seed=seed)


def test_what_is_small_stays_outside_and_at_hand() -> None:
    cache = MemoryStore()
    store = CachedStore(MemoryStore(), cache, MIB, KIB)
    small, large = put(store, make(KIB - 1)).digest, put(store, make(KIB)).digest
    with whole(store, small, Span(10, 20)) as source:
        assert read_all(source) == make(KIB - 1)[10:30]
    with pytest.raises(UnsatisfiableError):
        store.open(small, Span(KIB, 1))
    at_hand = store.open(small, wait=False)
    assert at_hand is not None
    assert read_all(at_hand) == make(KIB - 1)
    assert list(cache.scan()) == []
    assert store.open(large, wait=False) is None
    assert read(store, large) == make(KIB)
    assert store.open(large, wait=False) is not None
    assert list(cache.scan()) == [BlobRef(large, KIB)]


def test_what_is_large_stays_outside() -> None:
    cache = MemoryStore()
    store = CachedStore(MemoryStore(), cache, 8 * KIB)
    digest = put(store, make(KIB)).digest
    assert read(store, digest) == make(KIB)
    assert list(cache.scan()) == []


def test_wrong_bytes_do_not_come_in() -> None:
    inner, cache = MemoryStore(), MemoryStore()
    store = CachedStore(inner, cache, MIB)
    digest = put(store, b"right").digest
    overwrite(inner, digest, b"wrong")
    with pytest.raises(CorruptError, match="another digest"):
        store.open(digest)
    assert list(cache.scan()) == []
    overwrite(inner, digest, b"right")
    assert read(store, digest) == b"right"


def test_a_cache_on_disk_is_used_again(tmp_path: Path) -> None:
    inner = Watched(MemoryStore())
    data = make(300 * KIB)
    store = CachedStore(inner, open_files(tmp_path), 10 * MIB)
    digest = put(store, data).digest
    read(store, digest)
    store.close()
    before = inner.read_bytes
    store = CachedStore(inner, open_files(tmp_path), 10 * MIB)
    assert read(store, digest) == data
    assert inner.read_bytes == before
    store.close()
    store = CachedStore(inner, open_files(tmp_path), 100 * KIB)
    assert store.cached_bytes == 0
    store.close()


@pytest.mark.parametrize("place", [5, 1_500_000, -1])
def test_damage_of_the_cache_is_made_good(tmp_path: Path, place: int) -> None:
    """Also while somebody reads."""
    data = make(2 * MIB)
    store = CachedStore(MemoryStore(), open_files(tmp_path), 100 * MIB)
    digest = put(store, data).digest
    read(store, digest)
    with whole(store, digest) as source:
        first = bytes(source.read(3))
        file = blob_path(tmp_path, digest)
        damaged = bytearray(file.read_bytes())
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert first + read_all(source, 100 * KIB) == data
    store.close()
    store = CachedStore(store.inner, open_files(tmp_path), 100 * MIB)
    assert read(store, digest) == data
    assert read(store, digest) == data
    store.close()


def test_damage_of_a_file_that_somebody_sends_is_made_good(tmp_path: Path) -> None:
    """The rest is read from the store, which has no file; the next one gets the cache's again."""
    data = make(2 * MIB)
    store = CachedStore(MemoryStore(), open_files(tmp_path), 100 * MIB)
    digest = put(store, data).digest
    with whole(store, digest) as source:
        assert source.file() is not None
        file = blob_path(tmp_path, digest)
        damaged = bytearray(file.read_bytes())
        damaged[1_500_000] ^= 1
        file.write_bytes(damaged)
        assert source.verify(Span(0, 2 * MIB))
        assert source.file() is None
        assert read_all(source) == data
    with whole(store, digest) as source:
        assert source.verify(Span(0, 2 * MIB))
        assert read_native(source) == data
    store.close()


class FailingSink(MemorySink):
    def write(self, chunk: Buffer) -> None:
        raise FullError("no space")


class FullStore(MemoryStore):
    def sink(self) -> MemorySink:
        return FailingSink(self)


class BrokenStore(MemoryStore):
    def sink(self) -> MemorySink:
        raise UnavailableError("no disk")


@pytest.mark.parametrize("cache", [FullStore, BrokenStore])
def test_a_cache_that_takes_nothing_costs_nothing(cache: type[MemoryStore]) -> None:
    store = CachedStore(MemoryStore(), cache(), MIB)
    digest = put(store, b"bytes").digest
    assert read(store, digest) == b"bytes"
    assert store.cached_bytes == 0


class Refusing(MemoryStore):
    """Removes, and then cannot say so."""

    def remove(self, digests: Collection[Digest]) -> None:
        super().remove(digests)
        raise UnavailableError("the answer was lost")


def test_what_may_be_removed_is_not_read_from_the_cache(tmp_path: Path) -> None:
    store = CachedStore(Refusing(), open_files(tmp_path), MIB)
    digest = put(store, b"bytes").digest
    assert read(store, digest) == b"bytes"
    with pytest.raises(UnavailableError):
        store.remove([digest])
    assert_absent(store, digest)
    assert list(open_files(tmp_path).scan()) == []


def test_the_cache_forgets_before_the_store_does(tmp_path: Path) -> None:
    """So that no cut of the power leaves in the cache what the store has not any more."""
    cached: list[list[BlobRef]] = []

    class Watching(MemoryStore):
        def remove(self, digests: Collection[Digest]) -> None:
            cached.append(list(open_files(tmp_path).scan()))
            super().remove(digests)

        def expire(
            self, digests: Collection[Digest], before_us: int, keep: Keep
        ) -> Mapping[Digest, Verdict]:
            cached.append(list(open_files(tmp_path).scan()))
            return super().expire(digests, before_us, keep)

    store = CachedStore(Watching(), open_files(tmp_path), MIB)
    for remove in (store.remove, lambda digests: store.expire(digests, soon_us(), nobody)):
        digest = put(store, b"bytes").digest
        read(store, digest)
        remove([digest])
        assert_absent(store, digest)
    assert cached == [[], []]
    store.close()


class Slow(MemoryStore):
    """Opens, then lets others go first."""

    def __init__(self) -> None:
        super().__init__()
        self.opened, self.go = threading.Event(), threading.Event()

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source:  # type: ignore[override]
        source = super().open(digest, span, wait=wait)
        self.opened.set()
        self.go.wait(10)
        return source


def test_what_was_removed_during_a_fill_does_not_come_back() -> None:
    inner, cache = Slow(), MemoryStore()
    store = CachedStore(inner, cache, MIB)
    digest = put(store, b"bytes").digest
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store.open, digest)
        inner.opened.wait(10)
        store.remove([digest])
        inner.go.set()
        assert isinstance(reading.exception(), NotFoundError)
    assert_absent(store, digest)
    assert list(cache.scan()) == []
    put(store, b"bytes")
    assert read(store, digest) == b"bytes"
    assert [ref.digest for ref in cache.scan()] == [digest]


class Held(MemoryStore):
    """A cache, and how much comes in while the store does not go on."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks = 0

    def sink(self) -> MemorySink:
        self.sinks += 1
        return super().sink()


class Gated(Watched):
    """Gives out nothing before `go`."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.go = threading.Event()

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        source = self.inner.open(digest, span, wait=wait)
        return None if source is None else GatedSource(self, source)


class GatedSource(WatchedSource):
    def __init__(self, store: Gated, source: Source) -> None:
        super().__init__(store, source)
        self._go = store.go

    def read(self, size_bytes: int) -> Buffer:
        assert self._go.wait(10)
        return super().read(size_bytes)


@pytest.mark.parametrize(("distinct", "sinks"), [(1, 1), (12, 4)])
def test_what_comes_in_at_once_is_bounded(distinct: int, sinks: int) -> None:
    """Who cannot bring a blob in, since another does or too much comes, reads it where it is."""
    inner, cache = Gated(), Held()
    size_bytes = 8 * KIB - ENTRY_BYTES
    store = CachedStore(inner, cache, 64 * KIB)
    digests = [put(inner.inner, make(size_bytes, seed=seed)).digest for seed in range(distinct)]
    asked = [digests[number % distinct] for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        opening = [pool.submit(store.open, digest) for digest in asked]
        until_s = time.monotonic() + 10
        while cache.sinks + sum(each.done() for each in opening) < 12:
            assert time.monotonic() < until_s
            time.sleep(0.001)
        assert cache.sinks == sinks
        inner.go.set()
        for digest, each in zip(asked, opening, strict=True):
            source = each.result()
            assert source is not None
            with source:
                assert Digest.of(read_all(source)) == digest
    assert len(list(cache.scan())) == sinks
    assert store.cached_bytes == sinks * 8 * KIB
