import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import limits
from holdfast.core.errors import UnsatisfiableError
from holdfast.core.ranges import parse_range
from holdfast.core.store import Span, clamp

SIZE = 1000


@pytest.mark.parametrize(
    ("header", "spans"),
    [
        ("bytes=0-0", [(0, 1)]),
        ("bytes=0-", [(0, 1000)]),
        ("bytes=0-999", [(0, 1000)]),
        ("bytes=0-1000", [(0, 1000)]),
        ("bytes=999-", [(999, 1)]),
        ("bytes=999-999999", [(999, 1)]),
        ("bytes=500-599", [(500, 100)]),
        ("bytes=-1", [(999, 1)]),
        ("bytes=-1000", [(0, 1000)]),
        ("bytes=-9999", [(0, 1000)]),
        ("bytes=00000-00001", [(0, 2)]),
        ("BYTES=1-2", [(1, 2)]),
        ("bytes= 1-2", [(1, 2)]),
        ("bytes=1-2 ", [(1, 2)]),
        ("bytes=1-2,5-6", [(1, 2), (5, 2)]),
        ("bytes=5-6 , 1-2", [(5, 2), (1, 2)]),
        ("bytes=1-2,,5-6", [(1, 2), (5, 2)]),
        ("bytes=1-2, , 5-6,", [(1, 2), (5, 2)]),
        ("bytes=0-0,-2", [(0, 1), (998, 2)]),
        ("bytes=1-2,1-2", [(1, 2), (1, 2)]),
        ("bytes=2000-,1-2", [(1, 2)]),
        ("bytes=1-2,-0", [(1, 2)]),
        ("bytes=0-999999999999999999", [(0, 1000)]),
    ],
)
def test_ranges_are_read_in_their_order_and_clamped(
    header: str, spans: list[tuple[int, int]]
) -> None:
    assert parse_range(header, SIZE) == spans


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes= ",
        "bytes=-",
        "bytes=,",
        "bytes=,1-2",
        "bytes=1",
        "bytes=a-b",
        "bytes=1-b",
        "bytes=2-1",
        "bytes=1-2,2-1",
        "bytes=1-2,x",
        "bytes=1--2",
        "bytes=--1",
        "bytes=1-2-3",
        "bytes=1 -2",
        "bytes=1- 2",
        "bytes =1-2",
        " bytes=1-2",
        "bytes:1-2",
        "byte=1-2",
        "lines=1-2",
        "bytes=+1-2",
        "bytes=1-2;3-4",
        "bytes=1.0-2",
        "bytes=0x1-2",
        "bytes=\u0661-\u0662",
        "bytes=1-\u00b2",
        "bytes=1-2\n",
        "bytes=0-9999999999999999999",
        "bytes=1-2=3-4",
    ],
)
def test_a_malformed_range_is_ignored(header: str) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=5000-,-0"])
def test_a_range_outside_the_blob_is_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableError) as caught:
        parse_range(header, SIZE)
    assert caught.value.size_bytes == SIZE


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0", "bytes=5-"])
def test_every_range_of_an_empty_blob_is_ignored(header: str) -> None:
    assert parse_range(header, 0) is None


def test_ranges_that_together_exceed_the_blob_are_ignored() -> None:
    assert parse_range("bytes=0-499,500-999", SIZE) == [(0, 500), (500, 500)]
    assert parse_range("bytes=0-500,500-999", SIZE) is None
    assert parse_range("bytes=0-,0-,0-", SIZE) is None


def test_too_many_ranges_are_ignored() -> None:
    many = ",".join(["0-0"] * limits.RANGES_MAX)
    assert parse_range(f"bytes={many}", SIZE) == [(0, 1)] * limits.RANGES_MAX
    assert parse_range(f"bytes={many},0-0", SIZE) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-0" + ",    " * 2000 + "x",
        "bytes=" + " " * 30_000 + "x",
        "bytes=0-0" + " " * 30_000 + "x",
        "bytes=" + "0" * 30_000 + "-",
        "bytes=" + "-," * 15_000,
        "bytes=0-0" + ",0-0" * 7000,
    ],
    ids=range(6),
)
def test_no_header_takes_long(header: str) -> None:
    begin = time.monotonic()
    assert parse_range(header, SIZE) is None
    assert time.monotonic() - begin < 0.5


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(-1, 60)), min_size=1, max_size=4))
def test_spans_are_what_a_slice_of_the_bytes_gives(pairs: list[tuple[int, int]]) -> None:
    data = bytes(range(50))
    parts = [(f"{first}-{first + more}" if more >= 0 else f"-{first}") for first, more in pairs]
    slices = [(data[a : a + b + 1] if b >= 0 else data[max(0, 50 - a) :]) for a, b in pairs]
    slices = [each for each in slices if each]
    try:
        spans = parse_range("bytes=" + ",".join(parts), 50)
    except UnsatisfiableError:
        assert not slices
        return
    if sum(map(len, slices)) > 50:
        assert spans is None
        return
    assert spans is not None
    assert [data[span.offset : span.offset + span.size_bytes] for span in spans] == slices


@given(st.text("bytes=0123456789-, \t"), st.integers(0, 100))
def test_any_text_gives_spans_within_the_blob_or_none(text: str, size_bytes: int) -> None:
    for header in (text, "bytes=" + text):
        try:
            spans = parse_range(header, size_bytes)
        except UnsatisfiableError:
            assert re.match("bytes=", header)
            continue
        assert spans is None or spans
        for span in spans or ():
            assert span.size_bytes > 0
            assert 0 <= span.offset < span.offset + span.size_bytes <= size_bytes


def test_a_span_is_clamped_to_its_blob() -> None:
    assert clamp(None, 7) == Span(0, 7)
    assert clamp(Span(2, 3), 7) == Span(2, 3)
    assert clamp(Span(2, 99), 7) == Span(2, 5)
    assert clamp(Span(7, 1), 7) == Span(7, 0)
    with pytest.raises(UnsatisfiableError):
        clamp(Span(8, 0), 7)
    with pytest.raises(AssertionError):
        clamp(Span(-1, 0), 7)
    with pytest.raises(AssertionError):
        clamp(Span(0, -1), 7)
