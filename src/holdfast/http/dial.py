"""Lines to receivers of webhooks: to allowed addresses only, in bounded time and memory.

The name of a receiver is resolved for each connection, every address is looked at, and the
connection is made to the very address that was looked at: what a name stands for a moment later
counts for nothing. httpcore does the rest over that connection, with the certificate and the Host
of the name. Redirects are not followed, proxies are not asked, and of an answer no more than its
status matters: a little of its body is read so that the connection can be used again.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore

from holdfast.core import limits
from holdfast.core.reach import may_reach
from holdfast.core.webhook import Outcome
from holdfast.wire import retry_after_s

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.config.settings import Settings
    from holdfast.core.seams import Clock
    from holdfast.core.webhook import Line

ADDRESSES_MAX = 4  # of one name that are tried
KEEP_S = 30.0  # an idle connection
ALWAYS = (("User-Agent", "holdfast"), ("Content-Type", "application/json"), ("Accept", "*/*"))


class _RefusedError(Exception):
    """No address of the receiver may be connected to."""


FAILURES = (
    _RefusedError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    OSError,
    ValueError,
)


class _Attempt:
    """What bounds the request that is under way: when it must have ended, and its connection."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_s = 0.0
        self.stream: httpcore.NetworkStream | None = None
        """The newest connection."""

    def begin(self, wait_s: float) -> None:
        self._until_s = self._clock.monotonic_s() + wait_s

    def left_s(self) -> float:
        """How long it may still take.

        Raises:
            TimeoutException: no longer.
        """
        left_s = self._until_s - self._clock.monotonic_s()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return left_s

    def abort(self) -> None:
        found = None if self.stream is None else self.stream.get_extra_info("socket")
        if found is not None:
            with suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)


class _Stream(httpcore.NetworkStream):
    """A connection of which no call outlasts the attempt, however slowly bytes trickle."""

    def __init__(self, stream: httpcore.NetworkStream, attempt: _Attempt) -> None:
        self._stream = attempt.stream = stream
        self._attempt = attempt

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._attempt.left_s())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._attempt.left_s())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left_s = self._attempt.left_s()
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._attempt)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's own
        return self._stream.get_extra_info(info)


class _Guard(httpcore.NetworkBackend):
    """Connects to addresses that were looked at."""

    def __init__(self, networks: Sequence[str], attempt: _Attempt) -> None:
        self._networks = networks
        self._attempt = attempt
        self._plain = httpcore.SyncBackend()
        self.asked = 0
        """How often a connection was wanted."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to one of the addresses of a host.

        Raises:
            _RefusedError: none of them is allowed.
            NetworkError, TimeoutException: none of them answers.
        """
        self.asked += 1
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._addresses(host, port):
            try:
                stream = self._plain.connect_tcp(
                    address, port, self._attempt.left_s(), None, socket_options
                )
            except (httpcore.NetworkError, httpcore.TimeoutException) as error:
                failure = error
                continue
            return _Stream(stream, self._attempt)
        raise failure

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name is not known: {error}") from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        allowed = [one for one in addresses if may_reach(one, self._networks)]
        if addresses and not allowed:
            raise _RefusedError
        return allowed[:ADDRESSES_MAX]


class WebLine:
    """A line to receivers over HTTP; for one thread at a time, but for `abort`."""

    def __init__(
        self, networks: Sequence[str], wait_s: float, context: ssl.SSLContext, clock: Clock
    ) -> None:
        """Connect to what is public or in `networks`, and wait no longer than `wait_s`."""
        self._wait_s = wait_s
        self._under_way = _Attempt(clock)
        self._guard = _Guard(networks, self._under_way)
        self._is_aborted = False
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=1,
            keepalive_expiry=KEEP_S,
            network_backend=self._guard,
        )

    def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Outcome:
        """Send once; an idle connection that turns out to be closed is replaced."""
        before = self._guard.asked
        self._under_way.begin(self._wait_s)
        outcome = self._attempt(url, headers, body)
        if outcome.status or self._guard.asked != before or self._is_aborted:
            return outcome
        return self._attempt(url, headers, body)

    def abort(self) -> None:
        """Close the connection, also under the hands of who uses it."""
        self._is_aborted = True
        self._under_way.abort()

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()

    def _attempt(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Outcome:
        if self._is_aborted:
            return Outcome(0, "the server stops")
        try:
            return self._exchange(url, headers, body)
        except FAILURES as error:
            return Outcome(0, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """Why there is no answer; nothing of what a receiver sent."""
        reasons: dict[type[Exception], str] = {
            _RefusedError: "no address of the host is public, or allowed by webhook_networks",
            httpcore.TimeoutException: f"no answer within {self._wait_s:g} s",
            httpcore.LocalProtocolError: "the URL is none that HTTP can ask for",
            httpcore.ProtocolError: "what came back is no HTTP",
        }
        found = (text for kind, text in reasons.items() if isinstance(error, kind))
        return next(found, str(error) or type(error).__name__)

    def _exchange(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> Outcome:
        said = [("Host", urlsplit(url).netloc), *ALWAYS, *headers]
        with self._pool.stream("POST", url, headers=said, content=body) as response:
            answered = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            outcome = Outcome(response.status, "", retry_after_s(answered))
            with suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
                _read_some(response)
            return outcome


def _read_some(response: httpcore.Response) -> None:
    """Read a short body to its end, and no more of a longer one."""
    size_bytes = 0
    for chunk in response.iter_stream():
        size_bytes += len(chunk)
        if size_bytes > limits.WEBHOOK_ANSWER_BYTES_MAX:
            return


def dialing(settings: Settings, clock: Clock) -> Callable[[], Line]:
    """How lines are made; the certificates that are trusted are read when the first is."""
    made: list[ssl.SSLContext] = []

    def dial() -> Line:
        if not made:
            made.append(httpcore.default_ssl_context())
        return WebLine(settings.webhook_networks, settings.webhook_wait_s, made[0], clock)

    return dial
