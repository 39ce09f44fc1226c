"""Sockets to listen on: one, or one for each worker on the same address.

With several, the kernel spreads new connections evenly over them (socket(7), SO_REUSEPORT).
"""

from __future__ import annotations

import socket
from contextlib import ExitStack

from holdfast.core.errors import UnavailableError

BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Bind one socket, before anything is printed; whoever serves begins to listen.

    Raises:
        UnavailableError: the address is taken or not ours.
    """
    return _bind(host, port, share=False)


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """Bind `count` sockets to one address and let connections come.

    Raises:
        UnavailableError: the address is taken, also by a server that would share it, or not ours.
    """
    with _bind(host, port, share=False) as probe:
        port = probe.getsockname()[1]
    with ExitStack() as undo:
        listeners = [undo.enter_context(_bind(host, port, share=True)) for _ in range(count)]
        for listener in listeners:
            listener.listen(BACKLOG)
        undo.pop_all()
    return listeners


def _bind(host: str, port: int, *, share: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise UnavailableError(message) from error
    return listener
