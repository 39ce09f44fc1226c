"""A client that sends what it is told, byte by byte, and shares no code with the server."""

import itertools
import random
import select
import socket
import struct
import threading
from contextlib import suppress
from typing import Any, NamedTuple, Self

import msgspec

BODILESS = {204, 304}


class Reply(NamedTuple):
    """One answer; header names are in lower case, a repeated one is an error of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose shape is checked."""
        error = self.json()["error"]
        assert isinstance(error["message"], str)
        assert isinstance(error["retryable"], bool)
        assert isinstance(error["code"], str)
        return error["code"]

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "") == "close"


class Connection:
    """One TCP connection."""

    def __init__(self, port: int, timeout_s: float = 15, source: str = "") -> None:
        """Connect, from the address `source` if there is one."""
        own = (source, 0) if source else None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s, own)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ahead = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def try_send(self, data: bytes) -> None:
        """Send to a server that may have hung up already."""
        try:
            self.socket.sendall(data)
        except OSError:
            return

    def send_in_pieces(self, data: bytes, chance: random.Random) -> threading.Thread:
        """Send from a thread of its own, in pieces of 1 to 100,000 bytes."""
        edges = [0]
        while edges[-1] < len(data):
            edges.append(min(len(data), edges[-1] + int(10 ** chance.uniform(0, 5))))

        def send() -> None:
            for start, end in itertools.pairwise(edges):
                self.try_send(data[start:end])

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        self.send(spell(method, path, body, headers))
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """Read one final answer; those of 1xx are passed over."""
        while True:
            head = self._until(b"\r\n\r\n")
            status, headers = parse_head(head)
            if status >= 200:
                break
        if method == "HEAD" or status in BODILESS:
            return Reply(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, self._chunks())
        if "content-length" in headers:
            return Reply(status, headers, self.take(int(headers["content-length"])))
        return Reply(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        """Read one head, and leave what is behind it."""
        return parse_head(self._until(b"\r\n\r\n"))

    def interim(self) -> int:
        """Read one head and tell its status."""
        return self.head()[0]

    def all_replies(self) -> list[Reply]:
        """Read whole answers until the server closes."""
        replies = []
        while not self.at_end():
            replies.append(self.reply())
        return replies

    def is_answered(self, wait_s: float) -> bool:
        """Whether something comes within this time."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(self._ahead) or bool(poll.poll(wait_s * 1000))

    def at_end(self) -> bool:
        """Whether the server closed, once it has sent or closed."""
        if not self._ahead:
            try:
                self._ahead = self.socket.recv(65536)
            except ConnectionResetError:
                return True
        return not self._ahead

    def take(self, size_bytes: int) -> bytes:
        parts = [self._ahead[:size_bytes]]
        self._ahead = self._ahead[size_bytes:]
        missing = size_bytes - len(parts[0])
        while missing:
            part = self.socket.recv(min(missing, 1 << 20))
            if not part:
                raise EOFError(f"{missing} of {size_bytes} bytes did not come")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def rest(self) -> bytes:
        parts, self._ahead = [self._ahead], b""
        while part := self.socket.recv(1 << 20):
            parts.append(part)
        return b"".join(parts)

    def everything(self) -> bytes:
        """Read until the connection ends, in whatever way."""
        parts, self._ahead = [self._ahead], b""
        with suppress(ConnectionResetError):
            while part := self.socket.recv(1 << 20):
                parts.append(part)
        return b"".join(parts)

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._ahead:
            part = self.socket.recv(65536)
            if not part:
                raise EOFError(f"the server closed after {self._ahead!r}")
            self._ahead += part
        found, _, self._ahead = self._ahead.partition(mark)
        return found

    def _chunks(self) -> bytes:
        body = b""
        while size_bytes := int(self._until(b"\r\n"), 16):
            body += self.take(size_bytes)
            assert self.take(2) == b"\r\n"
        assert self._until(b"\r\n") == b""
        return body

    def reset(self) -> None:
        """Vanish: the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def try_finish(self) -> None:
        """Stop sending to a server that may have hung up already."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def spell(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    """Write one request; a body, or an upload, gets a Content-Length unless `headers` has it."""
    lines = {"Host": "test"} | (headers or {})
    names = {name.lower() for name in lines}
    if (body or method in {"PUT", "POST"}) and names.isdisjoint(
        {"content-length", "transfer-encoding"}
    ):
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """Write a body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1", first
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(": ")
        assert colon, line
        assert name.lower() not in headers, head
        headers[name.lower()] = value
    return int(status), headers
