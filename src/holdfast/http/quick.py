"""Answers that are known when a request has come: what one connection may be told at once.

That is all behind `http/recent`, for whoever asks from the connection itself and may come. What is
counted of an address, a key or an owner is counted here, too; what is too much is left to the long
way, which says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.http import triage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.http.head import HeadReader
    from holdfast.http.recent import Known
    from holdfast.http.site import Site

NOTHING: Mapping[bytes, Known] = {}


class Quick:
    """One connection's; used on the loop's thread only."""

    __slots__ = ("_gate", "_is_plain", "_mark", "_meters", "_recent", "heads")

    def __init__(self, site: Site, peer: str) -> None:
        self._gate = site.gate
        self._mark = site.mark
        self._recent = site.recent
        self._is_plain = site.gate.is_plain(peer)
        self._meters = site.gate.place(peer).meters
        self.heads = site.recent.heads if self._is_plain else NOTHING
        """What whole requests ask for, by their bytes."""

    def find(self, reader: HeadReader) -> Known | None:
        """What is known of the request whose head was read."""
        if self._is_plain and triage.is_plain(reader) and triage.is_ordinary(reader):
            name = self._mark(reader.url, reader.headers)
            return self._recent.find(name, reader.raw)
        return None

    def body(self, known: Known) -> memoryview | None:
        """The bytes, which are good until the next call; None where the long way answers."""
        body = self._recent.body(known)
        if body is not None and (self._meters or known.meters):
            meters = self._meters + known.meters
            return body if self._gate.pay(meters, len(body)) else None
        return body
