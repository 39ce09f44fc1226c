"""Both clients behind one blocking face, and a server that misbehaves as it is told."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest

from holdfast.client import AsyncClient, Client, ClientOptions

QUICK = ClientOptions(retry_wait_s=0.001, connect_timeout_s=2, idle_timeout_s=5)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Awaited:
    """Calls the awaited verbs of any object from this thread."""

    def __init__(self, inner: Any, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "content":
            return Awaited(value, self._loop)
        return (lambda *a, **k: self._call(value, *a, **k)) if callable(value) else value

    def _call(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = verb(*args, **kwargs)
        if asyncio.iscoroutine(result):
            result = self._loop.wait(result)
        if hasattr(result, "__anext__"):
            return iter(self._loop.wait(_collect(result)))
        has_verbs = hasattr(result, "read") or hasattr(result, "put")
        return Awaited(result, self._loop) if has_verbs else result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Connect]:
    """Make clients of either kind, closed at the end."""
    made: list[Any] = []

    def make(url: str, options: ClientOptions = QUICK) -> Any:
        if request.param == "blocking":
            made.append(Client(url, options=options))
        else:
            made.append(Awaited(AsyncClient(url, options=options), loop))
        return made[-1]

    yield make
    for client in made:
        client.close()


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
            with connection:
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


Serve = Callable[..., ScriptedServer]


@pytest.fixture
def scripted() -> Iterator[Serve]:
    """Start servers that follow a script."""
    servers: list[ScriptedServer] = []

    def start(*actions: Action) -> ScriptedServer:
        servers.append(ScriptedServer(list(actions)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Spell an answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return f"HTTP/1.1 {status} X\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body
