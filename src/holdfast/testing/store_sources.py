"""The part of the store suite about the way out: sources, spans, files and verification."""

# ruff: noqa: D102 - the name of a test is its sentence

import contextlib

import pytest

from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError, UnsatisfiableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.store import Span, Store
from holdfast.testing.blobs import (
    SIZES,
    assert_absent,
    cut,
    make,
    put,
    read_all,
    read_native,
    whole,
)
from holdfast.testing.sealed import Sealed

SPANS = [(0, 0), (0, 1), (0, MIB), (1, MIB), (MIB - 1, 1), (MIB - 1, 2), (MIB, MIB), (7, 2 * MIB)]
SPANS += [(2 * MIB + 16, 1), (2 * MIB + 16, 99), (2 * MIB + 17, 0), (2 * MIB + 17, 5), (0, 1 << 62)]
SPANS_SIZE = 2 * MIB + 17


class SourceSuite(Sealed):
    """Needs the fixture `store`."""

    # Opening and spans.

    def test_a_missing_blob_is_not_found(self, store: Store) -> None:
        put(store, b"another")
        with pytest.raises(NotFoundError):
            store.open(Digest.of(b"missing"))
        with pytest.raises(NotFoundError):
            store.open(Digest.of(b"missing"), Span(5, 5))

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_opening_without_waiting_answers_none_or_the_blob(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        put(store, data)
        for _ in range(2):
            source = store.open(Digest.of(data), wait=False)
            if source is not None:
                with source:
                    assert read_all(source) == data
            whole(store, Digest.of(data)).close()

    def test_opening_a_missing_blob_without_waiting_never_gives_a_source(
        self, store: Store
    ) -> None:
        with contextlib.suppress(NotFoundError):
            assert store.open(Digest.of(b"missing"), wait=False) is None

    @pytest.mark.parametrize("span", SPANS)
    def test_a_span_gives_that_part_clamped(self, store: Store, span: tuple[int, int]) -> None:
        data = make(SPANS_SIZE)
        put(store, data)
        part = data[span[0] : span[0] + span[1]]
        with whole(store, Digest.of(data), Span(*span)) as source:
            assert source.size_bytes == len(part)
            assert read_all(source, 300 * KIB) == part

    def test_spans_of_a_small_blob_give_its_parts(self, store: Store) -> None:
        put(store, b"0123456789")
        for start in range(11):
            for size_bytes in range(12):
                with whole(store, Digest.of(b"0123456789"), Span(start, size_bytes)) as source:
                    assert read_all(source, 3) == b"0123456789"[start : start + size_bytes]

    @pytest.mark.parametrize("size_bytes", [0, 10, MIB, 2 * MIB])
    def test_a_span_behind_the_end_is_unsatisfiable(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        put(store, data)
        for span in (Span(size_bytes + 1, 0), Span(size_bytes + 1, 9), Span(1 << 62, 1)):
            with pytest.raises(UnsatisfiableError) as caught:
                store.open(Digest.of(data), span)
            assert caught.value.size_bytes == size_bytes
        with whole(store, Digest.of(data), Span(size_bytes, 5)) as source:
            assert source.size_bytes == 0
            assert bytes(source.read(1)) == b""

    @pytest.mark.parametrize("size_bytes", [1, 300, 300 * KIB, 2 * MIB + 1])
    def test_read_gives_at_least_one_byte_and_at_most_what_was_asked(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        put(store, data)
        with whole(store, Digest.of(data)) as source:
            position = 0
            for ask_bytes in cut(size_bytes):
                part = bytes(source.read(ask_bytes))
                assert 1 <= len(part) <= ask_bytes
                assert part == data[position : position + len(part)]
                position += len(part)
            assert read_all(source) == data[position:]
            assert bytes(source.read(1)) == bytes(source.read(MIB)) == b""

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB + 5])
    def test_reading_goes_on_where_seek_says(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        put(store, data)
        for span in (Span(0, size_bytes), Span(size_bytes // 3, size_bytes // 2)):
            part = data[span.offset : span.offset + span.size_bytes]
            with whole(store, Digest.of(data), span) as source:
                for offset in (0, len(part), len(part) // 2, 0, max(0, len(part) - 3)):
                    source.seek(offset)
                    assert read_all(source, 700 * KIB) == part[offset:]
                source.seek(len(part) // 2)
                first = bytes(source.read(2))
                source.seek(len(part) // 2)
                assert bytes(source.read(2))[: len(first)] == first

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_sources_of_one_blob_do_not_disturb_each_other(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        put(store, data)
        with whole(store, Digest.of(data)) as one, whole(store, Digest.of(data)) as other:
            first = bytes(one.read(4))
            assert first == data[: len(first)]
            assert read_all(other) == data
            other.close()
            other.close()
            assert first + read_all(one) == data

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB + 3])
    def test_an_open_source_outlives_removal_and_return(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        put(store, data)
        with whole(store, Digest.of(data)) as source, whole(store, Digest.of(data)) as other:
            first = bytes(source.read(5))
            store.remove([Digest.of(data)])
            assert_absent(store, Digest.of(data))
            assert first + read_all(source) == data
            assert source.verify(Span(0, size_bytes))
            assert source.file() is None or read_native(source) == data
            put(store, data)
            assert read_all(other) == data

    # Files and verification.

    @pytest.mark.parametrize("size_bytes", SIZES)
    def test_a_native_file_holds_the_span_where_the_trait_says_so(
        self, store: Store, size_bytes: int
    ) -> None:
        data = make(size_bytes)
        put(store, data)
        for span in (None, Span(0, size_bytes // 2), Span(size_bytes // 3, size_bytes)):
            part = data if span is None else data[span.offset : span.offset + span.size_bytes]
            with whole(store, Digest.of(data), span) as source:
                assert source.verify(Span(0, source.size_bytes))
                if source.file() is None:
                    continue
                assert store.traits.native_file
                assert read_native(source) == part

    def test_the_native_file_trait_is_true_of_large_blobs(self, store: Store) -> None:
        data = make(3 * MIB)
        put(store, data)
        with whole(store, Digest.of(data)) as source:
            assert (source.file() is not None) == store.traits.native_file

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB + 9])
    def test_every_window_of_a_sound_blob_is_verified(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        put(store, data)
        for span in (Span(0, size_bytes), Span(size_bytes // 2, size_bytes)):
            with whole(store, Digest.of(data), span) as source:
                half = source.size_bytes // 2
                for window in (Span(0, 0), Span(half, 0), Span(half, half), Span(0, half)):
                    assert source.verify(window, wait=False) in {True, False}
                    assert source.verify(window) is True
                assert read_all(source) == data[span.offset :]
                assert source.turns == 0
