"""The pure parts of the bench: medians, turns, verdicts and the table."""

import zlib
from pathlib import Path

import pytest

from bench.contenders import CONTENDERS, TEXT_BYTES, noise, text
from bench.table import (
    Bar,
    Line,
    draw,
    faced,
    in_turn,
    median,
    paired,
    ratio,
    spell,
    spell_us,
    spread,
    summary,
)
from bench.together import blob

OTHERS = {"rocksdb", "diskcache"}  # which `make bench` fetches


def test_a_median_is_the_middle_or_the_mean_of_the_middle_two() -> None:
    assert median([5, 1, 3]) == 3
    assert median([4, 1, 3, 2]) == 2.5


def test_a_ratio_divides_medians_and_not_means() -> None:
    assert ratio([2, 2, 100], [1, 1, 1]) == 2


def test_neighbours_are_compared_before_the_median_is_taken() -> None:
    assert paired([10, 1, 5], [10, 2, 5]) == 1
    assert ratio([10, 1, 5], [10, 2, 4]) == 1.25


def test_a_line_faces_ours_with_theirs() -> None:
    line = faced("r", {"ours": [2, 4], "theirs": [1, 1]}, Bar(2, "x"), "theirs", figure=paired)
    assert line.noted("dear", "").cells == ("r", "3/s", "1/s theirs", "3 x", ">= 2 x", "met")
    assert line.noted("dear", "").note == "dear; unsteady turns: ours 2 4"
    times = faced("r", {"ours": [1, 2], "theirs": [1, 1]}, None, text=spell_us)
    assert (times.value, times.ours, times.peer, times.verdict) == (1.5, "1.5 us", "1 us", "info")
    assert times.note == "unsteady turns: ours 1 2 us"


def test_runs_take_turns_there_and_back() -> None:
    calls: list[str] = []

    def run(name: str) -> int:
        calls.append(name)
        return len(calls)

    results = in_turn({"a": lambda: run("a"), "b": lambda: run("b")}, 2)
    assert "".join(calls) == "abbaabba"
    assert results == {"a": [1, 4, 5, 8], "b": [2, 3, 6, 7]}


def test_a_bar_says_in_which_direction_it_is_met() -> None:
    assert Bar(0.9, "x").met(0.9)
    assert not Bar(0.9, "x").met(0.89)
    assert Bar(60, "MB", at_least=False).met(59)
    assert not Bar(60, "MB", at_least=False).met(61)
    assert Bar(50_000, "/s").text == ">= 50 k/s"


def test_a_line_that_was_not_measured_stays_in_the_table_with_its_reason() -> None:
    line = Line("GET 1 KiB", None, Bar(0.9, "x"), note="not run: no nginx")
    assert line.verdict == "not run"
    text = draw([line, Line("idle", 50, Bar(60, "MB", at_least=False), ours="50 MB")])
    assert "GET 1 KiB" in text
    assert "not run: no nginx" in text
    assert "<= 60 MB" in text
    assert summary([line]) == "1 not run"


def test_numbers_are_short_and_honest() -> None:
    assert [spell(value) for value in (0.8512, 9.994, 123.4, 9994, 10_040, 1_234_567)] == [
        "0.851",
        "9.99",
        "123",
        "9994",
        "10 k",
        "1.23 M",
    ]
    assert [spell_us(value) for value in (12.3, 1500, 2_500_000)] == ["12 us", "1.5 ms", "2.5 s"]


def test_turns_that_differ_much_are_shown_one_by_one() -> None:
    assert spread({"a": [100, 110], "b": [50, 60]}) == ""
    assert spread({"a": [100, 110], "b": [50, 90]}) == "unsteady turns: b 50 90"


def test_what_contenders_store_is_of_one_size_and_no_two_are_alike() -> None:
    for data in (text, noise):
        found = [data(number) for number in range(20)]
        assert {len(one) for one in found} == {TEXT_BYTES}
        assert len(set(found)) == 20
    assert len(zlib.compress(text(1))) < TEXT_BYTES / 2
    assert len(zlib.compress(noise(1))) >= TEXT_BYTES


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name.lower() not in OTHERS])
def test_a_contender_gives_what_it_was_given(tmp_path: Path, name: str) -> None:
    """Also to one that opens it again, as each turn does."""
    with CONTENDERS[name](tmp_path / name) as contender:
        for number in range(3):
            contender.put(number)
    with CONTENDERS[name](tmp_path / name) as contender:
        data = {"text": text, "noise": noise}.get(name.partition(" ")[2], blob)
        assert [contender.get(number) for number in (2, 0, 1)] == [data(2), data(0), data(1)]
