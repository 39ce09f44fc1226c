import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.preconditions import (
    NO_CONDITIONS,
    Conditions,
    Outcome,
    Validators,
    evaluate,
    format_date,
    parse_date,
    range_applies,
)

ETAG = '"abc"'
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
SECONDS = 784111777
STORED = Validators(ETAG, SECONDS)
LATER = format_date(SECONDS + 1)
EARLIER = format_date(SECONDS - 1)
GO, SAME, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.FAILED


OURS = [ETAG, '"x", "abc"', '"x","abc"', '"abc" , "x"', '"a,b", "abc"', "*", " * ", '"x",, "abc",']
OTHERS = ['"other"', "abc", "", '"ABC"', '"abc', '""', '"x", "y"', "**"]


@pytest.mark.parametrize("header", OURS)
def test_a_list_with_our_tag_matches(header: str) -> None:
    for reading in (True, False):
        assert evaluate(Conditions(if_match=header), STORED, reading=reading) == GO
    assert evaluate(Conditions(if_none_match=header), STORED, reading=True) == SAME
    assert evaluate(Conditions(if_none_match=header), STORED, reading=False) == FAILED


@pytest.mark.parametrize("header", OTHERS)
def test_a_list_without_our_tag_does_not_match(header: str) -> None:
    for reading in (True, False):
        assert evaluate(Conditions(if_match=header), STORED, reading=reading) == FAILED
        assert evaluate(Conditions(if_none_match=header), STORED, reading=reading) == GO


def test_a_weak_tag_matches_for_reading_only() -> None:
    """RFC 9110 §13.1.1 compares strongly, §13.1.2 weakly."""
    assert evaluate(Conditions(if_match='W/"abc"'), STORED, reading=True) == FAILED
    assert evaluate(Conditions(if_match='W/"abc", "abc"'), STORED, reading=True) == GO
    assert evaluate(Conditions(if_none_match='W/"abc"'), STORED, reading=True) == SAME
    assert evaluate(Conditions(if_none_match='W/"abc"'), STORED, reading=False) == FAILED


def test_what_is_not_there_matches_nothing() -> None:
    for header in (ETAG, "*"):
        for reading in (True, False):
            match, none_match = Conditions(if_match=header), Conditions(if_none_match=header)
            assert evaluate(match, None, reading=reading) == FAILED
            assert evaluate(none_match, None, reading=reading) == GO
    dates = Conditions(if_modified_since=DATE, if_unmodified_since=DATE)
    assert evaluate(dates, None, reading=True) == GO


def test_dates_compare_whole_seconds() -> None:
    for date, since, unmodified in [(EARLIER, GO, FAILED), (DATE, SAME, GO), (LATER, SAME, GO)]:
        assert evaluate(Conditions(if_modified_since=date), STORED, reading=True) == since
        assert evaluate(Conditions(if_modified_since=date), STORED, reading=False) == GO
        for reading in (True, False):
            conditions = Conditions(if_unmodified_since=date)
            assert evaluate(conditions, STORED, reading=reading) == unmodified


def test_a_date_that_is_none_is_ignored() -> None:
    for text in ("", "yesterday", "784111777", "1994-11-06", "Sun, 06 Nov 1994 08:49:37 CET"):
        conditions = Conditions(if_modified_since=text, if_unmodified_since=text)
        assert evaluate(conditions, STORED, reading=True) == GO


def test_tags_take_precedence_over_dates() -> None:
    """RFC 9110 §13.2.2."""
    match = Conditions(if_match=ETAG, if_unmodified_since=EARLIER)
    assert evaluate(match, STORED, reading=True) == GO
    none_match = Conditions(if_none_match='"other"', if_modified_since=LATER)
    assert evaluate(none_match, STORED, reading=True) == GO
    both = Conditions(if_match=ETAG, if_none_match=ETAG)
    assert evaluate(both, STORED, reading=True) == SAME
    neither = Conditions(if_match='"other"', if_none_match=ETAG)
    assert evaluate(neither, STORED, reading=True) == FAILED
    assert evaluate(NO_CONDITIONS, None, reading=True) == GO
    assert evaluate(NO_CONDITIONS, STORED, reading=False) == GO
    assert evaluate(Conditions(if_range=ETAG), STORED, reading=True) == GO


@pytest.mark.parametrize("header", [None, ETAG, f" {ETAG} ", DATE])
def test_a_range_applies_to_our_strong_tag_or_the_exact_date(header: str | None) -> None:
    assert range_applies(header, STORED)


@pytest.mark.parametrize(
    "header", ['"other"', 'W/"abc"', '"abc", "abc"', EARLIER, LATER, "rubbish", "", "*"]
)
def test_a_range_applies_to_nothing_else(header: str) -> None:
    assert not range_applies(header, STORED)


def test_the_three_forms_of_a_date_are_read() -> None:
    """RFC 9110 §5.6.7 with its own examples."""
    for text in (DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", f" {DATE} "):
        assert parse_date(text) == SECONDS
    assert format_date(SECONDS) == DATE


@given(st.integers(0, 4_000_000_000))
def test_dates_survive_a_round_trip(seconds: int) -> None:
    assert parse_date(format_date(seconds)) == seconds


@given(st.text(max_size=60))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert parse_date(text) is None or parse_date(text.strip()) is not None


@given(st.lists(st.sampled_from(['"abc"', 'W/"abc"', '"x"', 'W/"x,y"', '""']), min_size=1))
def test_a_list_matches_when_one_of_it_does(tags: list[str]) -> None:
    header = ", ".join(tags)
    weak = any(tag.endswith(ETAG) for tag in tags)
    found = evaluate(Conditions(if_none_match=header), STORED, reading=True)
    assert found == (SAME if weak else GO)
    found = evaluate(Conditions(if_match=header), STORED, reading=True)
    assert found == (GO if ETAG in tags else FAILED)


@pytest.mark.parametrize(
    "header",
    [
        " " * 30_000 + "x",
        ETAG + " " * 30_000 + "x",
        '"' * 30_000,
        '"a" ' * 7000,
        "W/" * 15_000,
        '"' + "a" * 30_000,
        "Sun, " + " " * 30_000,
    ],
    ids=range(7),
)
def test_no_header_takes_long(header: str) -> None:
    begin = time.monotonic()
    evaluate(Conditions(if_none_match=header), STORED, reading=True)
    evaluate(Conditions(header, None, header, header, header), STORED, reading=True)
    evaluate(Conditions(if_modified_since=header), STORED, reading=True)
    range_applies(header, STORED)
    parse_date(header)
    assert time.monotonic() - begin < 0.5
