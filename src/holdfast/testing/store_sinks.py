"""The part of the store suite about the way in: sinks and commits."""

# ruff: noqa: D102 - the name of a test is its sentence

import contextlib

import pytest

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.limits import KIB, MIB
from holdfast.core.store import Store
from holdfast.testing.blobs import SIZES, assert_absent, make, put, read_all, scanned, whole
from holdfast.testing.sealed import Sealed


class SinkSuite(Sealed):
    """Needs the fixture `store`."""

    # What was put is read back.

    @pytest.mark.parametrize("size_bytes", SIZES)
    def test_what_was_put_is_read_back(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        ref = put(store, data)
        assert ref.size_bytes == size_bytes
        with whole(store, ref.digest) as source:
            assert source.size_bytes == size_bytes
            assert read_all(source) == data

    @pytest.mark.parametrize("step_bytes", [1000, 64 * KIB - 1, 256 * KIB, MIB, MIB + 1, 5 * MIB])
    def test_it_does_not_matter_how_the_bytes_are_cut(self, store: Store, step_bytes: int) -> None:
        data = make(2 * MIB + 5)
        ref = put(store, data, step_bytes)
        with whole(store, ref.digest) as source:
            assert read_all(source, step_bytes) == data

    def test_it_takes_every_kind_of_buffer_and_empty_ones(self, store: Store) -> None:
        with store.sink() as sink:
            for chunk in (b"", b"bytes ", bytearray(b"array "), memoryview(b"view"), bytearray()):
                sink.write(chunk)
            sink.commit(BlobRef(Digest.of(b"bytes array view"), 16)).result()
        with whole(store, Digest.of(b"bytes array view")) as source:
            assert read_all(source) == b"bytes array view"

    @pytest.mark.parametrize("size_bytes", [10, 300 * KIB, 2 * MIB])
    def test_a_buffer_may_be_reused_when_write_returns(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        buffer = bytearray(data)
        with store.sink() as sink:
            sink.write(buffer)
            buffer[:] = bytes(size_bytes)
            sink.commit(BlobRef(Digest.of(data), size_bytes)).result()
        with whole(store, Digest.of(data)) as source:
            assert read_all(source) == data

    def test_thousands_of_tiny_writes_make_one_blob(self, store: Store) -> None:
        data = make(300 * KIB)
        ref = put(store, data, 97)
        with whole(store, ref.digest) as source:
            assert read_all(source) == data

    # A blob is there whole, or it is not there.

    @pytest.mark.parametrize("size_bytes", [0, 10, MIB, 3 * MIB])
    def test_nobody_sees_a_blob_before_its_commit(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        with store.sink() as sink:
            sink.write(data)
            assert_absent(store, Digest.of(data))
            sink.commit(BlobRef(Digest.of(data), size_bytes)).result()
            assert store.stat([Digest.of(data)]) == {Digest.of(data): size_bytes}

    @pytest.mark.parametrize("size_bytes", [0, 10, MIB, 3 * MIB])
    def test_closing_an_uncommitted_sink_discards(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        sink = store.sink()
        sink.write(data)
        sink.close()
        sink.close()
        assert_absent(store, Digest.of(data))

    def test_an_exception_in_a_sink_discards(self, store: Store) -> None:
        data = make(MIB + 1)
        with contextlib.suppress(KeyError), store.sink() as sink:
            sink.write(data)
            raise KeyError
        assert_absent(store, Digest.of(data))
        assert store.stat([put(store, data).digest])

    def test_a_commit_of_another_size_is_a_wrong_program(self, store: Store) -> None:
        with store.sink() as sink:
            sink.write(b"four")
            with pytest.raises(AssertionError):
                sink.commit(BlobRef(Digest.of(b"four"), 5)).result()
        assert_absent(store, Digest.of(b"four"))

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_closing_a_sink_right_after_its_commit_keeps_the_blob(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        with store.sink() as sink:
            sink.write(data)
            future = sink.commit(BlobRef(Digest.of(data), size_bytes))
        future.result()
        with whole(store, Digest.of(data)) as source:
            assert read_all(source) == data

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_a_staged_blob_is_stored_or_waits_for_a_commit_to_its_log(
        self, store: Store, size_bytes: int
    ) -> None:
        """What waits and is not taken along is not there."""
        data = make(size_bytes)
        ref = BlobRef(Digest.of(data), size_bytes)
        with store.sink() as sink:
            sink.write(data)
            staged = sink.stage(ref)
        assert staged is None or staged.ref == ref or store.traits.encodes
        if staged is None or staged.is_stored:
            with whole(store, ref.digest) as source:
                assert read_all(source) == data
        else:
            assert store.traits.log_id
            assert_absent(store, ref.digest)
            assert put(store, data) == ref

    def test_staging_another_size_is_a_wrong_program(self, store: Store) -> None:
        with store.sink() as sink:
            sink.write(b"four")
            with pytest.raises(AssertionError):
                sink.stage(BlobRef(Digest.of(b"four"), 5))
        assert_absent(store, Digest.of(b"four"))

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_committing_a_blob_that_is_there_succeeds(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        assert put(store, data) == put(store, data) == put(store, data, 1000)
        assert scanned(store) == [BlobRef(Digest.of(data), size_bytes)]
        with whole(store, Digest.of(data)) as source:
            assert read_all(source) == data

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_two_open_sinks_may_bring_the_same_blob(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        ref = BlobRef(Digest.of(data), size_bytes)
        with store.sink() as one, store.sink() as other:
            one.write(data)
            other.write(data)
            one.commit(ref).result()
            other.commit(ref).result()
        assert scanned(store) == [ref]

    def test_many_open_sinks_do_not_mix(self, store: Store) -> None:
        blobs = [make(900 * KIB + number, seed=number) for number in range(5)]
        sinks = [store.sink() for _ in blobs]
        for start in range(0, MIB, 100 * KIB):
            for sink, data in zip(sinks, blobs, strict=True):
                sink.write(data[start : start + 100 * KIB])
        for sink, data in zip(sinks, blobs, strict=True):
            sink.commit(BlobRef(Digest.of(data), len(data))).result()
            sink.close()
        for data in blobs:
            with whole(store, Digest.of(data)) as source:
                assert read_all(source) == data
