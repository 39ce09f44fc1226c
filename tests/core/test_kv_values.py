import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.kv import add_counters, counters, prefix_end

NUMBERS = st.lists(st.integers(-(2**61), 2**61), max_size=4).map(tuple)


@given(NUMBERS, NUMBERS)
def test_counters_add_up_place_by_place(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    value = add_counters(add_counters(None, one), other)
    width = max(len(one), len(other))
    padded = [[*each, *[0] * (width - len(each))] for each in (one, other)]
    assert counters(value) == tuple(a + b for a, b in zip(*padded, strict=True))
    assert value == add_counters(add_counters(None, other), one)
    assert len(value) == 8 * width


def test_counters_begin_as_none() -> None:
    assert counters(None) == ()
    assert add_counters(None, ()) == b""
    assert add_counters(None, (1, -1)) == b"\x01" + bytes(7) + b"\xff" * 8


def test_a_sum_beyond_64_bits_is_a_wrong_program() -> None:
    most = add_counters(None, (2**63 - 1,))
    with pytest.raises(struct.error):
        add_counters(most, (1,))


@given(st.binary(min_size=1, max_size=5), st.binary(max_size=5))
def test_the_end_of_a_prefix_is_behind_all_that_begin_with_it(prefix: bytes, more: bytes) -> None:
    if not prefix.strip(b"\xff"):
        with pytest.raises(AssertionError):
            prefix_end(prefix)
        return
    end = prefix_end(prefix)
    assert prefix <= prefix + more < end
    if not more.startswith(prefix):
        assert not prefix <= more < end


def test_nothing_is_behind_every_key() -> None:
    with pytest.raises(AssertionError):
        prefix_end(b"")
