"""Which addresses a server may connect to: every special network, however it is spelled."""

import pytest

from holdfast.core.reach import may_reach

PUBLIC = ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808")
PRIVATE = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    *("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
    *("2001:db8::1", "2001::1", "2001:10::1", "100::1", "3fff::1", "5f00::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1"),
    *("", "localhost", "1.2.3", "1.2.3.4.5", "::g"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_reached(address: str) -> None:
    assert may_reach(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_nothing_else_may(address: str) -> None:
    assert not may_reach(address)


def test_networks_are_allowed_by_name_and_no_others() -> None:
    networks = ("127.0.0.0/8", "fd00::/8")
    assert may_reach("127.0.0.1", networks)
    assert may_reach("::ffff:127.0.0.1", networks)
    assert may_reach("fd12::1", networks)
    assert may_reach("8.8.8.8", networks)
    assert not may_reach("10.0.0.1", networks)
    assert not may_reach("169.254.169.254", networks)
