"""The part of the store suite about calls for many blobs at once."""

# ruff: noqa: D102 - the name of a test is its sentence

from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.limits import KIB, MIB
from holdfast.core.store import Store
from holdfast.testing.blobs import SIZES, make, put, read
from holdfast.testing.sealed import Sealed


def name(data: bytes) -> BlobRef:
    """The ref of bytes, worked out in another way."""
    return BlobRef(Digest.of(data), len(data))


class BatchSuite(Sealed):
    """Needs the fixture `store`."""

    # Put.

    def test_put_many_gives_refs_in_order(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=4) for size_bytes in reversed(SIZES)]
        assert store.put_many(blobs) == [name(data) for data in blobs]
        assert [read(store, Digest.of(data)) for data in blobs] == blobs
        assert list(store.scan()) == sorted(name(data) for data in blobs)

    @pytest.mark.parametrize("size_bytes", [0, 10, 300 * KIB, 2 * MIB])
    def test_equal_payloads_of_one_call_are_stored_once(
        self, store: Store, size_bytes: int
    ) -> None:
        same, other = make(size_bytes), make(size_bytes + 1)
        assert store.put_many([same, other, same, same]) == [
            *(name(same), name(other), name(same), name(same)),
        ]
        assert list(store.scan()) == sorted({name(same), name(other)})

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_put_many_may_be_repeated(self, store: Store, size_bytes: int) -> None:
        blobs = [make(size_bytes, seed=seed) for seed in range(4)]
        put(store, blobs[1])
        for _ in range(2):
            assert store.put_many(blobs) == [name(data) for data in blobs]
        assert [read(store, Digest.of(data)) for data in blobs] == blobs

    def test_put_many_of_nothing_does_nothing(self, store: Store) -> None:
        assert store.put_many([]) == []
        assert list(store.scan()) == []

    def test_put_many_takes_every_kind_of_buffer_and_leaves_it_alone(self, store: Store) -> None:
        array = bytearray(b"array")
        wide = memoryview(bytes(range(16))).cast("I")
        stored = store.put_many([b"bytes", array, memoryview(b"a view")[2:], wide])
        array[:] = b"other"
        expected = [b"bytes", b"array", b"view", bytes(range(16))]
        assert stored == [name(data) for data in expected]
        assert [read(store, Digest.of(data)) for data in expected] == expected

    @pytest.mark.parametrize("wrong", [None, "text", 5, [b"x"]])
    def test_what_is_no_buffer_is_refused_before_anything_is_stored(
        self, store: Store, wrong: object
    ) -> None:
        with pytest.raises(TypeError):
            store.put_many([b"one", wrong, b"two"])  # type: ignore[list-item]  # a wrong program
        assert list(store.scan()) == []

    def test_put_many_takes_a_full_batch_and_no_more(self, store: Store) -> None:
        blobs = [b"%d" % (number % 20) for number in range(limits.BATCH_REFS_MAX + 1)]
        with pytest.raises(AssertionError):
            store.put_many(blobs)
        assert list(store.scan()) == []
        assert store.put_many(blobs[1:]) == [name(data) for data in blobs[1:]]
        assert len(list(store.scan())) == 20

    def test_more_bytes_than_one_append_takes_are_stored_all_the_same(self, store: Store) -> None:
        count = limits.BATCH_BYTES_MAX // (200 * KIB)
        blobs = [make(250 * KIB, seed=seed) for seed in range(count)]
        assert sum(map(len, blobs)) > limits.BATCH_BYTES_MAX
        assert store.put_many(blobs) == [name(data) for data in blobs]
        assert all(read(store, Digest.of(data)) == data for data in blobs)

    def test_threads_put_many_at_once(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=5) for size_bytes in SIZES]
        turned = [blobs[start:] + blobs[:start] for start in range(len(blobs))]
        with ThreadPoolExecutor(len(turned)) as pool:
            stored = list(pool.map(store.put_many, turned))
        assert stored == [[name(data) for data in each] for each in turned]
        assert list(store.scan()) == sorted(name(data) for data in blobs)
        assert [read(store, Digest.of(data)) for data in blobs] == blobs
