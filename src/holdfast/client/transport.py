"""What both clients say to httpx and how they read its errors."""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import TypeVar

import httpx

from holdfast.client.calls import Answer, Call
from holdfast.client.connections import Connections
from holdfast.client.exchange import Lost
from holdfast.client.options import ClientOptions
from holdfast.core.errors import InvalidError, UnavailableError
from holdfast.core.seams import SystemClock
from holdfast.core.urls import shown_url
from holdfast.wire import Presigned, presign

T = TypeVar("T")
H = TypeVar("H")

NEVER_REACHED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
HEADERS = (("Accept-Encoding", "identity"), ("User-Agent", "holdfast"))


class Address:
    """The URL of a server, perhaps with a path in front of ours."""

    def __init__(self, url: str, key: str = "") -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidError("url", shown_url(url), f"http://host:port ({error})") from None
        sane = parsed.host and "%" not in parsed.host and (parsed.port or 1) < 65_536
        if parsed.scheme not in {"http", "https"} or not sane or parsed.query:
            raise InvalidError("url", shown_url(url), "http://host:port or https://host:port")
        self._url = parsed.copy_with(fragment=None, userinfo=b"")
        shown = key or parsed.password or parsed.username
        if not (shown.isascii() and shown.isprintable()):
            raise InvalidError("API key", None, "as it was shown when it was made")
        self.headers = (("Authorization", f"Bearer {shown}"),) if shown else ()
        """What every request says of who sends it."""
        self._key = shown
        self._path = parsed.raw_path.rstrip(b"/")

    def __str__(self) -> str:
        return str(self._url)

    def url(self, target: str) -> httpx.URL:
        """Spell the whole URL of a request."""
        return self._url.copy_with(raw_path=self._path + target.encode())

    def presign(self, target: str, wanted: Presigned) -> str:
        """Spell the URL of a request that anybody may send; no server is asked.

        Raises:
            InvalidError: there is no key to sign with, or no such URL.
        """
        return str(self.url(presign(self._key, target, wanted, SystemClock().now_us())))

    @property
    def trusts_environment(self) -> bool:
        """Whether proxies of the environment apply: never to this machine itself."""
        try:
            return not ip_address(self._url.host).is_loopback
        except ValueError:
            return self._url.host != "localhost"

    @property
    def may_use_tls(self) -> bool:
        """Whether certificates are worth loading, which takes a tenth of a second."""
        return self._url.scheme == "https" or self.trusts_environment


def timeout(options: ClientOptions) -> httpx.Timeout:
    """Spell the time limits."""
    return httpx.Timeout(options.idle_timeout_s, connect=options.connect_timeout_s)


def connections(make: Callable[..., H], address: Address, options: ClientOptions) -> Connections[H]:
    """Say how each is made; what TLS trusts is loaded once, and only where TLS may be needed."""
    new = partial(
        make,
        timeout=timeout(options),
        trust_env=address.trusts_environment,
        verify=httpx.create_ssl_context() if address.may_use_tls else False,
    )
    return Connections(new, options.connections_max)


def request(
    address: Address,
    call: Call[T],
    content: httpx.SyncByteStream | httpx.AsyncByteStream | None = None,
    size_bytes: int | None = None,
) -> httpx.Request:
    """Make the request of a call."""
    url = address.url(call.target)
    headers = httpx.Headers(
        [("Host", url.netloc.decode()), *HEADERS, *address.headers, *call.headers]
    )
    if content is None and call.body:
        content, size_bytes = httpx.ByteStream(call.body), len(call.body)
        headers["Content-Type"] = "application/json"
    if content is not None:
        if size_bytes is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(size_bytes)
    return httpx.Request(call.method, url, headers=headers, stream=content)


def answer(response: httpx.Response, body: bytes = b"") -> Answer:
    """Turn a response into data."""
    return Answer(response.status_code, response.headers, body)


def lost(address: Address, error: httpx.TransportError) -> Lost:
    """Turn a failure of the connection into data.

    Raises:
        InvalidError: the request itself cannot be sent.
    """
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        raise InvalidError("request", str(error), "what HTTP can carry") from error
    reason = str(error) or type(error).__name__
    failure = UnavailableError(f"{address} does not answer: {reason}")
    failure.__cause__ = error
    return Lost(failure, reached=not isinstance(error, NEVER_REACHED))
