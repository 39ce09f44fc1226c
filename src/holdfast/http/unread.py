"""Clients that do not read: for how long the same bytes have waited for one.

What the kernel still holds counts too, because it asks for more only when a third of its buffer is
free, which may be megabytes and minutes for a slow client.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Transport

    from holdfast.http.sender import Sender


class Unread:
    """Watches what one transport still has for its client; looked at once a second."""

    __slots__ = ("_left_bytes", "_since_s", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._left_bytes = 0
        self._since_s = 0.0

    def wait_s(self, now_s: float, sender: Sender | None) -> float:
        """For how long the client has taken nothing; 0 when there is nothing for it."""
        left_bytes = self._transport.get_write_buffer_size()
        if left_bytes or sender is not None:
            left_bytes += self._kernel_bytes()
        if left_bytes == 0 or left_bytes != self._left_bytes:
            self._left_bytes = left_bytes
            self._since_s = now_s
        wait_s = now_s - self._since_s
        return wait_s if sender is None else min(wait_s, sender.stalled_s(now_s))

    def _kernel_bytes(self) -> int:
        """Sent, but not yet acknowledged by the client's kernel (man 7 tcp, SIOCOUTQ)."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        if descriptor < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
