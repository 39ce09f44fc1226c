"""A server that misbehaves as it is told."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Request:
    """What arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.line = first
        pairs = (line.split(": ", 1) for line in lines if line)
        self.headers = {name.lower(): value for name, value in pairs}
        self.body = body


Action = bytes | None | Callable[[socket.socket], None]
"""Bytes to answer, None to close without an answer, or a function that does as it likes."""


class ScriptedServer:
    """A real socket server that answers the n-th request with the n-th action, then closes."""

    def __init__(self, actions: list[Action]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._actions = actions
        self.requests: list[Request] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # a client may have had enough
                connection.settimeout(10)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head, body = _read_message(connection)
        if not head:
            return
        self.requests.append(Request(head, body))
        action = self._actions.pop(0) if self._actions else None
        if callable(action):
            action(connection)
        elif action is not None:
            connection.sendall(action)


def _read_message(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b"", b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65536)
    elif b"content-length: " in lower:
        size = int(lower.partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < size:
            body += connection.recv(65536)
    return head, body


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Spell an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return f"HTTP/1.1 {status} X\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body
