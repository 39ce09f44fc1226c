"""Where a request comes from, out of what proxies and others have written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import DeniedError
from holdfast.core.networks import account
from holdfast.http.address import FORWARDED, FORWARDED_FOR, Way

PROXIES = ("10.0.0.0/8", "2001:db8::/32")
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.2.3.4", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.2.3.4, 2001:db8::1", "192.0.2.7"),
        ("10.5.5.5, 10.2.3.4", "10.5.5.5"),
        ("192.0.2.7:8080", "192.0.2.7"),
        ("[2001:db9::7]:8080", "2001:db9::7"),
        ("2001:db9::7", "2001:db9::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, nonsense", PEER),
        ("192.0.2.7, nonsense, 10.2.3.4", "10.2.3.4"),
        ("192.0.2.7,", PEER),
        ("", PEER),
    ],
)
def test_what_others_have_written_counts_only_behind_trusted_proxies(
    told: str, expected: str
) -> None:
    way = Way((), PROXIES)
    headers = {FORWARDED_FOR: told.encode(), FORWARDED: b"for=6.6.6.6"}
    assert way.address(PEER, headers) == expected
    assert way.address("192.0.2.99", headers) == "192.0.2.99"
    assert Way().address(PEER, headers) == PEER


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("for=192.0.2.7", "192.0.2.7"),
        ('For="192.0.2.7:443";proto=https;by=10.0.0.1', "192.0.2.7"),
        ('proto=https; for="[2001:db9::7]:443"', "2001:db9::7"),
        ("for=6.6.6.6, for=192.0.2.7, for=10.2.3.4", "192.0.2.7"),
        ('for="6.6.6.6, for=192.0.2.7', "192.0.2.7"),
        ("for=unknown", PEER),
        ("for=_hidden", PEER),
        ("by=192.0.2.7", PEER),
    ],
)
def test_the_standard_header_is_read_where_proxies_write_that(told: str, expected: str) -> None:
    way = Way((), PROXIES, FORWARDED)
    headers = {FORWARDED: told.encode(), FORWARDED_FOR: b"6.6.6.6"}
    assert way.address(PEER, headers) == expected


@given(told=st.binary(max_size=200), header=st.sampled_from([FORWARDED, FORWARDED_FOR]))
def test_whatever_is_told_before_it_the_last_one_counts(told: bytes, header: bytes) -> None:
    way = Way((), PROXIES, header)
    ours = b"for=192.0.2.7" if header == FORWARDED else b"192.0.2.7"
    assert way.address(PEER, {header: told + b"," + ours}) == "192.0.2.7"
    way.address(PEER, {header: told})


def test_networks_let_in_only_what_is_in_them() -> None:
    way = Way(("192.0.2.0/24", "::1"))
    for address in ("192.0.2.7", "::1", "::ffff:192.0.2.7"):
        way.check(address)
    for address in ("192.0.3.7", "::2", "", "nonsense"):
        with pytest.raises(DeniedError):
            way.check(address)
    Way().check("")


def test_addresses_of_one_subscriber_are_one() -> None:
    assert account("2001:db8:0:7::1") == account("2001:db8:0:7:ffff::2")
    assert account("2001:db8:0:7::1") != account("2001:db8:0:8::1")
    assert account("fe80::1%eth0") == "fe80::/64"
    assert account("192.0.2.7") != account("192.0.2.8")
    assert account("") == ""
