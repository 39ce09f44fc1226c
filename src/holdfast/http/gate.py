"""The gate: who a request comes from, by the API key that it shows.

`Authorization: Bearer <key>`, or Basic with the key as password and any name (RFC 6750, RFC 7617).
Who shows none is nobody and may read what is public; who shows a wrong one is refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from holdfast.core.access import OPERATOR, Caller, unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.depot.keys import Keys
    from holdfast.http.message import Request

AUTHORIZATION = b"authorization"
NOBODY_KNOWN = Caller(None, is_steady=True)


class Gate:
    """Knows callers; safe from any thread."""

    def __init__(self, keys: Keys, *, is_open: bool) -> None:
        """Ask for keys, or, if it `is_open`, let everybody do anything."""
        self._keys = keys
        self.is_open = is_open

    def enter(self, request: Request) -> Caller:
        """Who sends a request.

        Raises:
            UnauthenticatedError: it shows a key that opens nothing.
        """
        if self.is_open:
            return OPERATOR
        shown = request.headers.get(AUTHORIZATION)
        if shown is None:
            return NOBODY_KNOWN
        caller = self._keys.caller(_token(shown), request.address)
        if caller is None:
            raise unauthenticated()
        return caller

    def mark(self, path: bytes, headers: Mapping[bytes, bytes]) -> bytes:
        """A name for a path as this caller sees it."""
        shown = None if self.is_open else headers.get(AUTHORIZATION)
        return path if shown is None else b"%b %b" % (path, shown)


def _token(shown: bytes) -> str:
    """The key in the header; text that is none if there is none."""
    scheme, _, rest = shown.partition(b" ")
    rest = rest.strip()
    if scheme.lower() == b"basic":
        try:
            rest = base64.b64decode(rest, validate=True).partition(b":")[2]
        except binascii.Error:
            return ""
    elif scheme.lower() != b"bearer":
        return ""
    return rest.decode("latin-1")
