"""Addresses and networks as people write them: 10.0.0.7, 10.0.0.0/8, 2001:db8::/32."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from holdfast.core.errors import InvalidError

Network = IPv4Network | IPv6Network

KEPT = 4096  # addresses whose answers are remembered
SITE_BITS = 64  # of an IPv6 address, that one subscriber has at least (RFC 6177)


def check_network(text: str) -> None:
    """Accept a network.

    Raises:
        InvalidError: it is none, or has bits behind its length.
    """
    try:
        ip_network(text)
    except ValueError:
        raise InvalidError("networks", text[:100], "10.0.0.0/8, ::1 and the like") from None


@lru_cache(maxsize=KEPT)
def allows(networks: tuple[str, ...], address: str) -> bool:
    """Whether an address is in one of the networks; anything is if there are none.

    >>> allows(("10.0.0.0/8",), "10.1.2.3"), allows(("10.0.0.0/8",), "::1"), allows((), "")
    (True, False, True)
    >>> allows(("10.0.0.0/8",), "::ffff:10.1.2.3")
    True
    """
    if not networks:
        return True
    found = parse_address(address)
    return found is not None and any(found in one for one in _parsed(networks))


def covers(networks: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether one of the first allows whatever one of the others does.

    >>> covers(("10.0.0.0/8", "::1"), ("10.1.0.0/16",)), covers(("10.0.0.0/8",), ()), covers((), ())
    (True, False, True)
    """
    if not networks:
        return True
    return bool(others) and all(
        any(_is_within(other, network) for network in _parsed(networks))
        for other in _parsed(others)
    )


@lru_cache(maxsize=KEPT)
def account(address: str) -> str:
    """Whose an address is, as far as can be told: itself, or the network of one IPv6 subscriber.

    >>> account("10.1.2.3"), account("2001:db8:0:7:a:b:c:d"), account("::ffff:10.1.2.3")
    ('10.1.2.3', '2001:db8:0:7::/64', '10.1.2.3')
    """
    found = parse_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((int(found) >> SITE_BITS << SITE_BITS, SITE_BITS)))
    return address if found is None else str(found)


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, of IPv4 also where it is spelled as one of IPv6; None if it is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_within(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return one.subnet_of(other)
    return isinstance(one, IPv6Network) and isinstance(other, IPv6Network) and one.subnet_of(other)


@lru_cache(maxsize=KEPT)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(ip_network, networks))
