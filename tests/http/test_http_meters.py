"""Meters by themselves: against a bucket of tokens, over processes, and when there are too many."""

import os
import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core import limits
from holdfast.core.errors import RateError
from holdfast.core.rates import NO_RATES, Rates
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.http.meters import Meter, Meters

PROCESSES = 4


class HandClock(SystemClock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def monotonic_s(self) -> float:
        return self.now_ns / 1_000_000_000


def is_let_in(meters: Meters, meter: Meter, size_bytes: int = 0) -> bool:
    try:
        meters.take((meter,), size_bytes)
    except RateError:
        return False
    return True


@given(
    requests_s=st.sampled_from([1, 4, 10, 50]),
    burst_s=st.sampled_from([1, 2, 5]),
    steps=st.lists(st.integers(0, 3000), max_size=200),
)
def test_a_meter_lets_in_what_a_bucket_of_tokens_would(
    requests_s: int, burst_s: int, steps: list[int]
) -> None:
    """The bucket is the textbook's, in fractions; steps are milliseconds between requests."""
    clock = HandClock()
    meters = Meters(clock, SystemEntropy())
    (meter,) = meters.of("key", "a", Rates(requests_s, 0, burst_s))
    full = Fraction(requests_s * burst_s)
    tokens, seen = full, []
    expected = []
    for step_ms in steps:
        clock.now_ns += step_ms * 1_000_000
        tokens = min(full, tokens + Fraction(step_ms * requests_s, 1000))
        left = meters.standing(meter).left
        assert abs(left - tokens) < 1.01
        expected.append(tokens >= 1)
        tokens -= expected[-1]
        seen.append(is_let_in(meters, meter))
    assert seen == expected


def test_a_request_is_taken_from_all_meters_or_from_none() -> None:
    meters = Meters(HandClock(), SystemEntropy())
    (wide,) = meters.of("owner", "o", Rates(10, 0, 1))
    (narrow,) = meters.of("key", "k", Rates(3, 0, 1))
    ends = []
    for _ in range(5):
        try:
            meters.take((wide, narrow), 0)
        except RateError as error:
            ends.append(error.policy)
    assert ends == ["key", "key"]
    assert (meters.standing(wide).left, meters.standing(narrow).left) == (7, 0)


def test_what_one_request_takes_beyond_the_burst_is_paid_but_for_a_bound() -> None:
    clock = HandClock()
    meters = Meters(clock, SystemEntropy())
    (meter,) = meters.of("key", "k", Rates(0, 10, 1))
    assert is_let_in(meters, meter, 1000)
    clock.now_ns += 98_000_000_000
    assert not is_let_in(meters, meter)
    clock.now_ns += 1_200_000_000
    assert is_let_in(meters, meter, 1 << 62)
    assert meters.standing(meter).full_in_s == limits.RATE_DEBT_S_MAX + 1


def test_no_limit_is_no_meter() -> None:
    meters = Meters(HandClock(), SystemEntropy())
    assert meters.of("key", "k", NO_RATES) == ()
    assert meters.of("key", "k", Rates(0, 0, 1)) == ()


def test_the_slowest_rate_lets_one_in_at_least() -> None:
    meters = Meters(HandClock(), SystemEntropy())
    (meter,) = meters.of("key", "k", Rates(limits.RATE_S_MIN, 0, limits.RATE_S_MIN))
    assert [is_let_in(meters, meter) for _ in range(3)] == [True, False, False]


def test_more_meters_than_places_are_bounded_and_nobody_waits_for_others() -> None:
    clock = HandClock()
    meters = Meters(clock, SystemEntropy())
    count = limits.METERS_MAX + 5000
    for number in range(count):
        (meter,) = meters.of("address", str(number), Rates(1, 0, 1))
        assert is_let_in(meters, meter)
    kept = 0
    for number in range(count):
        (meter,) = meters.of("address", str(number), Rates(1, 0, 1))
        kept += meters.standing(meter).left == 0
    assert count / 2 < kept <= limits.METERS_MAX


def test_who_failed_too_often_is_barred_and_only_who_did() -> None:
    clock = HandClock()
    meters = Meters(clock, SystemEntropy())
    (bad,) = meters.of("failures", "bad", Rates(1, 0, 3))
    (good,) = meters.of("failures", "good", Rates(1, 0, 3))
    for _ in range(3):
        meters.check(bad)
        meters.fail(bad)
    with pytest.raises(RateError):
        meters.check(bad)
    meters.check(good)
    clock.now_ns += 1_100_000_000
    meters.check(bad)


def forked(work: Callable[[], int]) -> list[int]:
    """What the work of processes comes to, each a number up to 255."""
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            os._exit(work())
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def test_processes_take_no_more_together_than_one_alone() -> None:
    """All at once, as fast as they can, and exactly."""
    meters = Meters(SystemClock(), SystemEntropy(), shared=True)
    (meter,) = meters.of("key", "k", Rates(0.001, 0, 200_000))
    assert meter.limit == 200
    begin_s = time.monotonic() + 0.2

    def work() -> int:
        while time.monotonic() < begin_s:
            pass
        return sum(is_let_in(meters, meter) for _ in range(5000))

    assert sum(forked(work)) == 200


def test_a_process_that_dies_in_its_turn_keeps_nobody_waiting() -> None:
    meters = Meters(SystemClock(), SystemEntropy(), shared=True)
    (meter,) = meters.of("key", "k", Rates(1, 0, 1))

    def work() -> int:
        meters._begin_turn()
        os._exit(7)

    assert forked(work) == [7] * PROCESSES
    assert is_let_in(meters, meter)
