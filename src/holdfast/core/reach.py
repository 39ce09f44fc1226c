"""Which addresses a server may connect to because somebody asked it to.

Whoever names an address for the server to call could otherwise reach what only the server can: its
own machine, its network, the metadata of its cloud. So everything is refused that is not an address
of the public internet, also where it is wrapped into IPv6 (RFC 4291, 6052, 3056, 4380), unless it
is in one of the networks that the settings allow. What a name stands for may change at any moment:
look at the address that the connection is made to, not at the name.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from holdfast.core.networks import allows

Address = IPv4Address | IPv6Address

REFUSED = tuple(
    map(
        ip_network,
        (
            "168.63.129.16/32",  # Azure answers virtual machines there, at a public address
            "192.0.0.0/24",  # of protocols; Oracle's metadata is there
            "192.88.99.0/24",  # relays of 6to4
            "2001::/32",  # Teredo, which hides its IPv4 address
            "3fff::/20",  # of examples (RFC 9637)
        ),
    )
)
UNICAST = ip_network("2000::/3")  # all of IPv6 that was ever given out
TRANSLATED = ip_network("64:ff9b::/96")  # NAT64: the last 32 bits are an IPv4 address
IPV4_BITS = (1 << 32) - 1


def may_reach(address: str, networks: Sequence[str] = ()) -> bool:
    """Whether a connection to this address is allowed, by itself or by one of `networks`.

    >>> may_reach("93.184.215.14"), may_reach("10.0.0.1"), may_reach("::ffff:127.0.0.1")
    (True, False, False)
    >>> may_reach("10.0.0.1", ("10.0.0.0/8",)), may_reach("not an address")
    (True, False)
    """
    if networks and allows(tuple(networks), address):
        return True
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return all(map(_is_public, _all_of(found)))


def _all_of(address: Address) -> Iterator[Address]:
    """Yield the address, and the IPv4 address that is wrapped in it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
            return
        if address.sixtofour is not None:
            yield address.sixtofour
        if address in TRANSLATED:
            yield IPv4Address(int(address) & IPV4_BITS)
            return
    yield address


def _is_public(address: Address) -> bool:
    is_special = (
        address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_private
    )
    is_given = isinstance(address, IPv4Address) or address in UNICAST
    is_refused = any(address in network for network in REFUSED)
    return address.is_global and is_given and not is_special and not is_refused
