"""Draining: what a client still sends behind a refusal is read and dropped for a while.

Closing at once would make the kernel tear the answer away from a client that is still sending
(RFC 9112 section 9.6).
"""

from __future__ import annotations

PAUSE_S_MAX = 5.0


class Drain:
    """One refused request's rest."""

    __slots__ = ("_left_bytes", "_since_s")

    def __init__(self, size_bytes: int, now_s: float) -> None:
        self._left_bytes = size_bytes
        self._since_s = now_s

    def take(self, size_bytes: int) -> bool:
        """Drop bytes; say whether that was the rest."""
        self._left_bytes -= size_bytes
        return self._left_bytes <= 0

    def is_over(self, now_s: float, waited_s: float, wait_s_max: float) -> bool:
        """Whether the client has had enough time: in all, or since its last byte."""
        return waited_s > PAUSE_S_MAX or now_s - self._since_s > wait_s_max
