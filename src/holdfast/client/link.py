"""How calls are carried out by httpx, by a thread that waits."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar, cast

import httpx

from holdfast.client import transport
from holdfast.client.calls import Answer, Call
from holdfast.client.exchange import Exchange, Lost, Pause, exchange
from holdfast.client.files import Chunks
from holdfast.client.options import ClientOptions
from holdfast.client.upload import Upload

T = TypeVar("T")


class Link:
    """The connections to one server, shared by all buckets of a client; safe from any thread."""

    def __init__(self, url: str, options: ClientOptions) -> None:
        self.address = transport.Address(url, options.key)
        self.options = options
        self._connections = transport.connections(httpx.Client, self.address, options)
        self._gate = threading.BoundedSemaphore(options.connections_max)

    def close(self) -> None:
        """Close all connections."""
        for http in self._connections.take_all():
            http.close()

    def call(self, call: Call[T], upload: Upload | None = None) -> T:
        """Carry a call out."""
        steps = exchange(call, self.options, replayable=upload is None or upload.replayable)
        with self._gate:
            http = self._connections.take()
            try:
                return _drive(steps, lambda: self._attempt(http, call, upload))
            finally:
                self._give_back(http)

    def stream(self, call: Call[T]) -> tuple[T, Chunks]:
        """Carry a call out whose body the caller reads, and closes."""
        opened: list[httpx.Response] = []
        http = self._connections.take()
        try:
            steps = exchange(call, self.options)
            head = _drive(steps, lambda: self._attempt(http, call, None, opened=opened))
        except BaseException:
            self._give_back(http)
            raise
        return head, Chunks(self.address, opened[-1], lambda: self._give_back(http))

    def _give_back(self, http: httpx.Client) -> None:
        if not self._connections.is_kept(http):
            http.close()

    def _attempt(
        self,
        http: httpx.Client,
        call: Call[T],
        upload: Upload | None,
        *,
        opened: list[httpx.Response] | None = None,
    ) -> Answer | Lost:
        try:
            response = http.send(self._request(call, upload), stream=True)
            if opened is not None and response.status_code < 300:
                opened.append(response)
                return transport.answer(response)
            with closing(response):
                return transport.answer(response, self._body(call, response))
        except httpx.TransportError as error:
            return transport.lost(self.address, error)

    def _request(self, call: Call[T], upload: Upload | None) -> httpx.Request:
        if upload is None:
            return transport.request(self.address, call)
        return transport.request(self.address, call, _Stream(upload.chunks), upload.size_bytes)

    def _body(self, call: Call[T], response: httpx.Response) -> bytes:
        parts, done = [], 0
        length = response.headers.get("content-length", "")
        for part in response.iter_raw():
            parts.append(part)
            if call.is_download and response.is_success:
                done += len(part)
                self.options.progress(done, int(length) if length.isdecimal() else None)
        return b"".join(parts)


class _Stream(httpx.SyncByteStream):
    """A body whose chunks are made when they are sent, so that a lost connection costs none."""

    def __init__(self, chunks: Callable[[], Iterator[bytes]]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks()


def _drive(steps: Exchange[T], attempt: Callable[[], Answer | Lost]) -> T:
    outcome: Answer | Lost | None = None
    try:
        while True:
            step = steps.send(outcome)
            outcome = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                outcome = attempt()
    except StopIteration as end:
        return cast(T, end.value)
