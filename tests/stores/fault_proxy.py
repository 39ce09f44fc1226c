"""A proxy before a real server that fails when asked to: before the effect or behind it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

SLOW_S = 3.0


class Fault(Enum):
    """What becomes of one request."""

    ERROR = "500"
    BUSY = "503"
    THROTTLED = "429"
    FULL = "507"
    LOST = "done, and the connection ends without an answer"
    DROPPED = "not done, and the connection ends without an answer"
    SLOW = "done, and answered too late"
    WRONG = "one byte of the answer is another"
    CUT = "half of the answer"


class Request(NamedTuple):
    """What came in."""

    method: str
    path: str


class Letter(NamedTuple):
    """A request as the server behind is to have it."""

    path: str
    headers: dict[str, str]


def _as_it_is(letter: Letter) -> Letter | None:
    return letter


class Planned(NamedTuple):
    """What is to become of requests of a method, whose paths have this in them."""

    method: str
    path: str
    fault: Fault


def _is_about(planned: Planned, request: Request) -> bool:
    return planned.method == request.method and planned.path in request.path


class FaultProxy:
    """Passes requests on; `_lock` guards what is to fail and what was asked."""

    def __init__(
        self, backend_port: int, adapt: Callable[[Letter], Letter | None] = _as_it_is
    ) -> None:
        """Pass on what `adapt` makes of a request; None is refused as unauthorized."""
        self.backend_port = backend_port
        self.adapt = adapt
        self._lock = threading.Lock()
        self._faults: deque[Planned] = deque()
        self._always: Planned | None = None
        self._from: tuple[int, Fault] | None = None
        self.requests: list[Request] = []
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def fail(self, method: str, *faults: Fault, path: str = "") -> None:
        """Let the next requests of a method, whose paths have this in them, fail in this order."""
        with self._lock:
            self._faults.extend(Planned(method, path, fault) for fault in faults)

    def fail_always(self, method: str, fault: Fault, path: str = "") -> None:
        """Let all such requests fail."""
        with self._lock:
            self._always = Planned(method, path, fault)

    def fail_from(self, number: int, fault: Fault) -> None:
        """Let the request `number` from now on fail, and all behind it."""
        with self._lock:
            self._from = (len(self.requests) + number, fault)

    def heal(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self._faults.clear()
            self._always = self._from = None

    def next_fault(self, request: Request) -> Fault | None:
        """Note a request and take what is to become of it."""
        with self._lock:
            self.requests.append(request)
            for planned in self._faults:
                if _is_about(planned, request):
                    self._faults.remove(planned)
                    return planned.fault
            if self._from is not None and len(self.requests) >= self._from[0]:
                return self._from[1]
            if self._always is not None and _is_about(self._always, request):
                return self._always.fault
        return None

    @contextmanager
    def running(self) -> Iterator[FaultProxy]:
        """Serve for the length of a block."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Say nothing."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.next_fault(Request(self.command, self.path))
        if fault is Fault.DROPPED:
            self.close_connection = True
            return
        if fault in {Fault.ERROR, Fault.BUSY, Fault.THROTTLED, Fault.FULL}:
            self._refuse(int(fault.value))
            return
        letter = self.proxy.adapt(Letter(self.path, dict(self.headers.items())))
        if letter is None:
            self._refuse(401)
            return
        answer, data = self._ask(letter, body)
        if fault is Fault.LOST:
            self.close_connection = True
            return
        if fault is Fault.SLOW:
            time.sleep(SLOW_S)
        if fault is Fault.WRONG and data:
            middle = len(data) // 2
            data = data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]
        self._answer(answer, data, is_cut=fault is Fault.CUT)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass  # noqa: N815 - as the base has it

    def _ask(self, letter: Letter, body: bytes) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.proxy.backend_port)
        try:
            connection.request(self.command, letter.path, body, letter.headers)
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def _refuse(self, status: int) -> None:
        data = b"<Error><Code>SlowDown</Code><Message>not now</Message></Error>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _answer(self, answer: HTTPResponse, data: bytes, *, is_cut: bool) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        if answer.status not in {204, 304}:
            self.send_header("Content-Length", size or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if is_cut else data)
        if is_cut:
            self.close_connection = True
