"""The part of the store suite about calls for many blobs at once."""

# ruff: noqa: D102 - the name of a test is its sentence

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    NotFoundError,
    UnsatisfiableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.many import get_many, get_range
from holdfast.core.seams import Buffer
from holdfast.core.store import FileRef, Span, Store
from holdfast.core.verify import verify, verify_many, verify_steps
from holdfast.testing.blobs import SIZES, make, put, read, read_all, scanned
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
        assert scanned(store) == sorted(name(data) for data in blobs)

    @pytest.mark.parametrize("size_bytes", [0, 10, 300 * KIB, 2 * MIB])
    def test_equal_payloads_of_one_call_are_stored_once(
        self, store: Store, size_bytes: int
    ) -> None:
        same, other = make(size_bytes), make(size_bytes + 1)
        assert store.put_many([same, other, same, same]) == [
            *(name(same), name(other), name(same), name(same)),
        ]
        assert scanned(store) == sorted({name(same), name(other)})

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_put_many_may_be_repeated(self, store: Store, size_bytes: int) -> None:
        blobs = [make(size_bytes, seed=seed) for seed in range(4)]
        put(store, blobs[1])
        for _ in range(2):
            assert store.put_many(blobs) == [name(data) for data in blobs]
        assert [read(store, Digest.of(data)) for data in blobs] == blobs

    def test_put_many_of_nothing_does_nothing(self, store: Store) -> None:
        assert store.put_many([]) == []
        assert scanned(store) == []

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
        assert scanned(store) == []

    def test_put_many_takes_a_full_batch_and_no_more(self, store: Store) -> None:
        blobs = [b"%d" % (number % 20) for number in range(limits.BATCH_REFS_MAX + 1)]
        with pytest.raises(AssertionError):
            store.put_many(blobs)
        assert scanned(store) == []
        assert store.put_many(blobs[1:]) == [name(data) for data in blobs[1:]]
        assert len(scanned(store)) == 20

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
        assert scanned(store) == sorted(name(data) for data in blobs)
        assert [read(store, Digest.of(data)) for data in blobs] == blobs

    # Get.

    def test_open_many_gives_each_blob_in_the_order_asked(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=6) for size_bytes in SIZES]
        store.put_many(blobs)
        wanted = [*blobs[::-1], *blobs, blobs[0], blobs[0]]
        for data, opened in zip(
            wanted, store.open_many([Digest.of(data) for data in wanted]), strict=True
        ):
            assert not isinstance(opened, BlobError)
            with opened:
                assert opened.size_bytes == len(data)
                assert read_all(opened) == data

    def test_what_is_missing_is_said_in_its_place(self, store: Store) -> None:
        blobs = [b"a", make(2 * MIB), b"", make(300 * KIB)]
        store.put_many(blobs)
        missing = Digest.of(b"missing")
        wanted = [each for data in blobs for each in (missing, Digest.of(data))]
        outcomes = list(get_many(store, wanted))
        assert outcomes[1::2] == blobs
        assert [type(each) for each in outcomes[::2]] == [NotFoundError] * len(blobs)

    def test_get_many_gives_bytes_in_the_order_asked_however_often(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=7) for size_bytes in SIZES]
        store.put_many(blobs)
        wanted = [*blobs, *blobs[::-1], blobs[3], blobs[-1], blobs[3]]
        assert list(get_many(store, [Digest.of(data) for data in wanted])) == wanted

    def test_more_than_is_read_ahead_is_read_all_the_same(self, store: Store) -> None:
        blobs = [make(100 * KIB, seed=seed) for seed in range(60)]
        assert sum(map(len, blobs)) > limits.READ_AHEAD_BYTES
        store.put_many(blobs)
        wanted = [*blobs[::-1], *blobs]
        assert list(get_many(store, [Digest.of(data) for data in wanted])) == wanted

    def test_many_calls_take_a_full_batch_and_no_more(self, store: Store) -> None:
        digests = [put(store, b"%d" % number).digest for number in range(5)]
        full = digests * (limits.BATCH_REFS_MAX // 5)
        everyone: list[Callable[[list[Digest]], Iterable[object]]] = [
            *(store.open_many, store.file_refs),
            *(partial(get_many, store), partial(verify_many, store)),
        ]
        for many in everyone:
            assert len(list(map(_close, many(full)))) == limits.BATCH_REFS_MAX
            assert list(many([])) == []
            with pytest.raises(AssertionError):
                many([*full, digests[0]])

    def test_many_calls_may_be_left_half_way(self, store: Store) -> None:
        digests = [ref.digest for ref in map(partial(put, store), [b"a", make(2 * MIB), b"c"])]
        for many in (store.open_many, partial(get_many, store), partial(verify_many, store)):
            _close(next(many(digests)))
        store.remove(digests)
        assert scanned(store) == []

    def test_a_blob_removed_meanwhile_is_whole_or_not_found(self, store: Store) -> None:
        blobs = [b"a", b"b", make(2 * MIB), make(2 * MIB + 1)]
        digests = [put(store, data).digest for data in blobs]
        found = get_many(store, digests)
        assert next(found) == blobs[0]
        store.remove(digests)
        for data, outcome in zip(blobs[1:], found, strict=True):
            assert outcome == data or isinstance(outcome, NotFoundError)

    def test_threads_get_many_at_once(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=8) for size_bytes in SIZES]
        digests = [Digest.of(data) for data in blobs]
        store.put_many(blobs)
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda _: list(get_many(store, digests)), range(8))
            assert all(each == blobs for each in found)

    # Files.

    def test_file_refs_name_the_bytes_where_the_trait_says_so(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=10) for size_bytes in SIZES]
        store.put_many(blobs)
        wanted = [*blobs[::-1], blobs[0]]
        named = store.file_refs([Digest.of(data) for data in wanted])
        for data, found in zip(wanted, named, strict=True):
            if isinstance(found, UnsupportedError):
                assert not store.traits.files
                continue
            assert isinstance(found, FileRef)
            assert found.size_bytes == len(data)
            with found.path.open("rb") as file:
                file.seek(found.offset)
                assert file.read(found.size_bytes) == data
        assert store.traits.files or any(isinstance(each, UnsupportedError) for each in named)

    def test_file_refs_say_in_its_place_what_is_missing(self, store: Store) -> None:
        digests = [put(store, data).digest for data in (b"a", make(2 * MIB))]
        missing = Digest.of(b"missing")
        named = store.file_refs([missing, digests[0], missing, digests[1], missing])
        assert [isinstance(each, NotFoundError) for each in named] == [True, False] * 2 + [True]
        store.remove(digests)
        assert [type(each) for each in store.file_refs(digests)] == [NotFoundError] * 2
        assert store.file_refs([]) == []

    # Ranges.

    @pytest.mark.parametrize("size_bytes", [0, 10, 300 * KIB, 2 * MIB + 7])
    def test_a_range_is_exact_or_an_error(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        digest = put(store, data).digest
        half = size_bytes // 2
        for span in (Span(0, size_bytes), Span(half, half), Span(size_bytes, 0), Span(half, 0)):
            end = span.offset + span.size_bytes
            assert get_range(store, digest, span) == data[span.offset : end]
        for span in (Span(0, size_bytes + 1), Span(size_bytes, 1), Span(size_bytes + 1, 0)):
            with pytest.raises(UnsatisfiableError) as caught:
                get_range(store, digest, span)
            assert caught.value.size_bytes == size_bytes
        with pytest.raises(NotFoundError):
            get_range(store, Digest.of(b"missing"), Span(0, 0))

    # Verify.

    def test_verify_reads_every_blob_and_says_its_size(self, store: Store) -> None:
        blobs = [make(size_bytes, seed=9) for size_bytes in SIZES]
        refs = [put(store, data) for data in blobs]
        digests = [ref.digest for ref in refs]
        assert [verify(store, digest) for digest in digests] == refs
        assert list(verify_many(store, digests)) == refs
        with pytest.raises(NotFoundError):
            verify(store, Digest.of(b"missing"))

    def test_verify_many_sees_duplicates_once_and_goes_on_behind_errors(self, store: Store) -> None:
        seen: list[Digest] = []

        class Picky:
            """Finds fault with blobs that begin with b."""

            def __init__(self, digest: Digest) -> None:
                seen.append(digest)
                self._first = b""

            def update(self, chunk: Buffer) -> None:
                self._first = self._first or bytes(chunk[:1])

            def finish(self) -> None:
                if self._first == b"b":
                    raise CorruptError("I do not like it")

        digests = [put(store, data).digest for data in (b"bad", b"good", b"")]
        wanted = [*digests, Digest.of(b"missing"), *digests]
        outcomes = list(verify_many(store, wanted, Picky))
        kinds = [CorruptError, BlobRef, BlobRef]
        assert [type(each) for each in outcomes] == [*kinds, NotFoundError, *kinds]
        assert seen == digests

    def test_what_is_verified_is_never_held_whole(self, store: Store) -> None:
        digest = put(store, make(3 * MIB + 17)).digest
        steps = list(verify_steps(store, digest))
        assert sum(steps) == 3 * MIB + 17
        assert max(steps) <= limits.CHUNK_BYTES


def _close(outcome: object) -> None:
    if not isinstance(outcome, bytes | BlobRef | FileRef | BlobError):
        outcome.close()  # type: ignore[attr-defined]  # a Source
