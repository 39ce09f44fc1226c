"""The contract of a store as tests: every sentence of holdfast.core.store, on any implementation.

    class TestMine(StoreSuite):
        def open_store(self, folder: Path) -> Store:
            return MyStore(folder)

`open_store` is called with a new folder for a new store and with the same folder again to reopen
it; override `close_store` where more than the store has to be closed. The tests themselves cannot
be overridden: what differs between stores is a trait, and both sides of it are asserted here.
"""

# ruff: noqa: D102 - the name of a test is its sentence

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.limits import MIB
from holdfast.core.store import Store
from holdfast.testing.blobs import (
    SIZES,
    assert_absent,
    make,
    put,
    read,
    read_all,
    scanned,
    whole,
)
from holdfast.testing.store_batches import BatchSuite
from holdfast.testing.store_expiry import ExpirySuite
from holdfast.testing.store_machine import check_against_a_dict
from holdfast.testing.store_sinks import SinkSuite
from holdfast.testing.store_sources import SourceSuite

THREADS = 8


class StoreSuite(SinkSuite, SourceSuite, BatchSuite, ExpirySuite):
    """What every store must pass; `open_store` is all that a subclass writes."""

    def open_store(self, folder: Path) -> Store:
        """Open the store that keeps its bytes in `folder`, if it keeps them at all."""
        raise NotImplementedError

    def close_store(self, store: Store) -> None:
        """Close what `open_store` opened."""
        store.close()

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """Open an empty store."""
        store = self.open_store(tmp_path / "store")
        yield store
        self.close_store(store)

    # Stat.

    def test_stat_tells_the_sizes_of_those_that_exist(self, store: Store) -> None:
        refs = [put(store, make(size_bytes)) for size_bytes in SIZES]
        missing = Digest.of(b"missing")
        digests = [ref.digest for ref in refs]
        assert store.stat([*digests, missing, digests[0]]) == dict(refs)
        assert store.stat(set(digests)) == dict(refs)
        assert store.stat([missing]) == store.stat([]) == {}

    def test_stat_takes_a_full_batch_and_no_more(self, store: Store) -> None:
        ref = put(store, b"x")
        batch = [Digest.of(b"%d" % number) for number in range(limits.BATCH_REFS_MAX - 1)]
        assert store.stat([*batch, ref.digest]) == {ref.digest: 1}
        with pytest.raises(AssertionError):
            store.stat([*batch, ref.digest, Digest.of(b"more")])

    # Scan.

    def test_scan_yields_every_blob_in_order_and_resumes_anywhere(self, store: Store) -> None:
        refs = [put(store, make(size_bytes, seed=1)) for size_bytes in SIZES]
        refs += [put(store, b"%d" % number) for number in range(50)]
        refs.sort()
        assert scanned(store) == refs
        for at, ref in enumerate(refs):
            assert scanned(store, ref.digest) == refs[at + 1 :]
        assert scanned(store, Digest(bytes(32))) == refs
        assert scanned(store, Digest(b"\xff" * 32)) == []

    def test_scan_resumes_behind_a_blob_that_is_gone(self, store: Store) -> None:
        refs = sorted(put(store, b"%d" % number) for number in range(20))
        store.remove([refs[7].digest])
        assert scanned(store, refs[7].digest) == refs[8:]
        assert scanned(store, refs[6].digest) == refs[8:]

    def test_a_store_may_change_during_a_scan(self, store: Store) -> None:
        stay = {put(store, b"stay %d" % number).digest for number in range(30)}
        leave = [put(store, b"leave %d" % number).digest for number in range(30)]
        seen = []
        for number, ref in enumerate(store.scan()):
            seen.append(ref.digest)
            if number < 30:
                put(store, b"come %d" % number)
                store.remove([leave[number]])
        assert seen == sorted(set(seen))
        assert stay <= set(seen)

    def test_an_abandoned_scan_holds_nothing_up(self, store: Store) -> None:
        refs = sorted(put(store, b"%d" % number) for number in range(10))
        scan = store.scan()
        assert next(scan).digest == refs[0].digest
        store.remove([ref.digest for ref in refs])
        put(store, b"more")
        del scan
        assert [ref.digest for ref in store.scan()] == [Digest.of(b"more")]

    def test_an_empty_store_scans_to_nothing(self, store: Store) -> None:
        assert scanned(store) == []

    # Remove.

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_a_removed_blob_is_gone_and_may_come_back(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        kept = put(store, b"kept")
        for _ in range(2):
            put(store, data)
            whole(store, Digest.of(data)).close()
            store.remove([Digest.of(data)])
            assert_absent(store, Digest.of(data))
        put(store, data)
        with whole(store, Digest.of(data)) as source:
            assert read_all(source) == data
        assert store.stat([kept.digest]) == {kept.digest: 4}

    def test_removing_what_is_not_there_is_no_error(self, store: Store) -> None:
        ref = put(store, b"x")
        store.remove([])
        store.remove([Digest.of(b"missing")])
        store.remove([Digest.of(b"missing"), ref.digest, ref.digest])
        store.remove({ref.digest})
        assert scanned(store) == []

    def test_remove_takes_a_full_batch_and_no_more(self, store: Store) -> None:
        ref = put(store, b"x")
        batch = [Digest.of(b"%d" % number) for number in range(limits.BATCH_REFS_MAX)]
        with pytest.raises(AssertionError):
            store.remove([*batch, ref.digest])
        assert store.stat([ref.digest])
        store.remove([*batch[1:], ref.digest])
        assert not store.stat([ref.digest])

    # Threads.

    def test_threads_put_different_blobs_at_once(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=2) for size_bytes in SIZES] * 3
        with ThreadPoolExecutor(THREADS) as pool:
            refs = list(pool.map(lambda data: put(store, data), blobs))
            assert list(pool.map(lambda ref: read(store, ref.digest), refs)) == blobs
        assert scanned(store) == sorted(set(refs))

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_threads_put_one_blob_at_once(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        with ThreadPoolExecutor(THREADS) as pool:
            refs = set(pool.map(lambda _: put(store, data), range(2 * THREADS)))
        assert scanned(store) == list(refs)
        assert read(store, Digest.of(data)) == data

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_a_reader_meets_the_whole_blob_or_none(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        stop = threading.Event()

        def read_on() -> set[bytes | None]:
            seen = set()
            while not stop.is_set():
                seen.add(read(store, Digest.of(data)))
            return seen

        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read_on) for _ in range(3)]
            for _ in range(15):
                put(store, data)
                store.remove([Digest.of(data)])
            stop.set()
            assert set[bytes | None]().union(*(each.result() for each in readers)) <= {data, None}
        assert_absent(store, Digest.of(data))

    # Traits and closing.

    def test_traits_never_change(self, store: Store) -> None:
        before = store.traits
        put(store, make(MIB))
        assert store.traits == before
        assert before.durable or not before.log_id

    def test_a_durable_store_reopens_with_everything_committed(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path / "store")
        durable = store.traits.durable
        refs = [put(store, make(size_bytes)) for size_bytes in SIZES]
        store.remove([refs[1].digest, refs[-1].digest])
        with store.sink() as sink:
            sink.write(make(MIB, seed=9))
        self.close_store(store)
        store = self.open_store(tmp_path / "store")
        found = scanned(store)
        expected = sorted(refs[:1] + refs[2:-1])
        assert found == expected if durable else set(found) <= set(expected)
        for ref in found:
            assert read(store, ref.digest) == make(ref.size_bytes)
        self.close_store(store)

    def test_closing_finishes_what_was_committed(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path / "store")
        durable = store.traits.durable
        blobs = [make(size_bytes) for size_bytes in (0, 10, 2 * MIB)]
        for data in blobs:
            with store.sink() as sink:
                sink.write(data)
                sink.commit(BlobRef(Digest.of(data), len(data)))
        self.close_store(store)
        self.close_store(store)
        store = self.open_store(tmp_path / "store")
        found = len(scanned(store))
        assert found == len(blobs) if durable else found <= len(blobs)
        self.close_store(store)

    def test_it_behaves_as_a_dict(self) -> None:
        """Hypothesis plays random calls against a dict, reopening on the way."""
        check_against_a_dict(self.open_store, self.close_store)
