"""Where a request comes from: the other end of its connection, or what a trusted proxy says.

A proxy adds the address that it was asked from behind those that others have told it. So the list
is read from its end: as long as an address is that of a trusted proxy, the one before it counts.
What stands further to the left may be anybody's invention. Only one header is read, the one that
the proxies write, because most of them pass the other one on as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import DeniedError
from holdfast.core.networks import allows, parse_address

if TYPE_CHECKING:
    from collections.abc import Mapping

FORWARDED = b"forwarded"
FORWARDED_FOR = b"x-forwarded-for"


class Way(NamedTuple):
    """Who may come, and which way."""

    networks: tuple[str, ...] = ()
    """None: from anywhere."""
    proxies: tuple[str, ...] = ()
    header: bytes = FORWARDED_FOR

    def is_proxy(self, peer: str) -> bool:
        """Whether it is believed what a peer says of others."""
        return bool(self.proxies) and allows(self.proxies, peer)

    def address(self, peer: str, headers: Mapping[bytes, bytes]) -> str:
        """Where a request comes from that a peer has sent."""
        if not self.is_proxy(peer):
            return peer
        address = peer
        for hop in reversed(headers.get(self.header, b"").split(b",")):
            found = _hop(hop, is_pairs=self.header == FORWARDED)
            if found is None:
                break
            address = found
            if not allows(self.proxies, address):
                break
        return address

    def check(self, address: str) -> None:
        """Let an address in.

        Raises:
            DeniedError: it may not.
        """
        if self.networks and not allows(self.networks, address):
            raise DeniedError("this server is not for your address", address=address)


def _hop(text: bytes, *, is_pairs: bool) -> str | None:
    """The address in one part of the header, if there is one (RFC 7239 section 4)."""
    told = text.decode("latin-1").strip()
    if is_pairs:
        pairs = (pair.strip().partition("=") for pair in told.split(";"))
        told = next((value for name, _, value in pairs if name.lower() == "for"), "")
        told = told.strip('"')
    if told.startswith("["):
        told = told[1:].partition("]")[0]
    elif told.count(":") == 1:
        told = told.partition(":")[0]
    found = parse_address(told)
    return None if found is None else str(found)
