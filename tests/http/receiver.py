"""Programs that are told of events: real servers that behave as badly as tests want."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

LONG_S = 60.0


class Got(NamedTuple):
    """A message as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return str(self.said["data"]["key"])

    def is_signed_by(self, secret: str) -> bool:
        """As the Standard Webhooks specification has it, written without our code."""
        assert secret.startswith("whsec_")
        key = base64.b64decode(secret[6:])
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return expected in self.headers["webhook-signature"].split(" ")


Act = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """One connection of a receiver."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"

    def do_POST(self) -> None:
        size_bytes = int(self.headers["content-length"])
        body = self.rfile.read(size_bytes)
        if len(body) < size_bytes:  # the sender died meanwhile, and will tell it again
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        got = Got(self.path, headers, body, time.monotonic())
        self.server.got.append(got)
        with suppress(OSError):
            self.server.act(self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its own name
        """Say nothing."""


class Receiver(ThreadingHTTPServer):
    """Keeps what it is told, and answers as `act` says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[Got] = []
        self.act: Act = taken
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def keys(self) -> list[str]:
        return [one.key for one in list(self.got)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Senders may hang up."""


@contextmanager
def receiver(act: Act | None = None) -> Iterator[Receiver]:
    """A receiver that lives for a block."""
    with Receiver() as found:
        if act is not None:
            found.act = act
        thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        found.is_over.set()
        found.shutdown()
        thread.join()


def taken(handler: Handler) -> None:
    handler.answer(204)


def taken_slowly(handler: Handler) -> None:
    time.sleep(0.002)
    handler.answer(204)


def status(code: int, **headers: str) -> Act:
    return lambda handler: handler.answer(code, b"no", **headers)


def hang(handler: Handler) -> None:
    """Say nothing."""
    handler.server.is_over.wait(LONG_S)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """Close without an answer."""
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """Begin an answer, and go on with a byte now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.is_over.wait(0.05):
        handler.wfile.write(b"x")


def interim(handler: Handler) -> None:
    """Announce an answer for ever."""
    while not handler.server.is_over.is_set():
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50)


def endless(handler: Handler) -> None:
    """Take the message, and answer with more than anybody wants."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while not handler.server.is_over.is_set():
        handler.wfile.write(bytes(65_536))


def endless_head(handler: Handler) -> None:
    """Answer with a head that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.is_over.is_set():
        handler.wfile.write(b"x-more: " + b"y" * 10_000 + b"\r\n")


def cut(handler: Handler) -> None:
    """Promise a body, and close early."""
    handler.wfile.write(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\nx")
    handler.close_connection = True


def nonsense(handler: Handler) -> None:
    """Answer with what is no HTTP."""
    handler.wfile.write(b"\x00\xff SSH-2.0\r\n\r\n" * 10)
    handler.close_connection = True
