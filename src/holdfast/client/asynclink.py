"""How calls are carried out by httpx, awaited."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar, cast

import anyio
import httpx

from holdfast.client import transport
from holdfast.client.asyncfiles import AsyncChunks
from holdfast.client.asyncupload import AsyncUpload
from holdfast.client.calls import Answer, Call
from holdfast.client.exchange import Exchange, Lost, Pause, exchange
from holdfast.client.options import ClientOptions

T = TypeVar("T")


class AsyncLink:
    """The connections to one server, shared by all buckets of a client."""

    def __init__(self, url: str, options: ClientOptions) -> None:
        self.address = transport.Address(url, options.key)
        self.options = options
        self._connections = transport.connections(httpx.AsyncClient, self.address, options)
        self._gate = anyio.Semaphore(options.connections_max)

    async def aclose(self) -> None:
        """Close all connections."""
        for http in self._connections.take_all():
            await http.aclose()

    async def call(self, call: Call[T], upload: AsyncUpload | None = None) -> T:
        """Carry a call out."""
        steps = exchange(call, self.options, replayable=upload is None or upload.replayable)
        async with self._gate:
            http = self._connections.take()
            try:
                return await _drive(steps, lambda: self._attempt(http, call, upload))
            finally:
                await self._give_back(http)

    async def stream(self, call: Call[T]) -> tuple[T, AsyncChunks]:
        """Carry a call out whose body the caller reads, and closes."""
        opened: list[httpx.Response] = []
        http = self._connections.take()
        try:
            steps = exchange(call, self.options)
            head = await _drive(steps, lambda: self._attempt(http, call, None, opened=opened))
        except BaseException:
            await self._give_back(http)
            raise
        return head, AsyncChunks(self.address, opened[-1], lambda: self._give_back(http))

    async def _give_back(self, http: httpx.AsyncClient) -> None:
        if not self._connections.is_kept(http):
            await http.aclose()

    async def _attempt(
        self,
        http: httpx.AsyncClient,
        call: Call[T],
        upload: AsyncUpload | None,
        *,
        opened: list[httpx.Response] | None = None,
    ) -> Answer | Lost:
        try:
            response = await http.send(self._request(call, upload), stream=True)
            if opened is not None and response.status_code < 300:
                opened.append(response)
                return transport.answer(response)
            async with aclosing(response):
                return transport.answer(response, await self._body(call, response))
        except httpx.TransportError as error:
            return transport.lost(self.address, error)

    def _request(self, call: Call[T], upload: AsyncUpload | None) -> httpx.Request:
        if upload is None:
            return transport.request(self.address, call)
        return transport.request(self.address, call, _Stream(upload.chunks), upload.size_bytes)

    async def _body(self, call: Call[T], response: httpx.Response) -> bytes:
        parts, done = [], 0
        length = response.headers.get("content-length", "")
        async for part in response.aiter_raw():
            parts.append(part)
            if call.is_download and response.is_success:
                done += len(part)
                self.options.progress(done, int(length) if length.isdecimal() else None)
        return b"".join(parts)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, chunks: Callable[[], AsyncIterator[bytes]]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()


async def _drive(steps: Exchange[T], attempt: Callable[[], Awaitable[Answer | Lost]]) -> T:
    outcome: Answer | Lost | None = None
    try:
        while True:
            step = steps.send(outcome)
            outcome = None
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
            else:
                outcome = await attempt()
    except StopIteration as end:
        return cast(T, end.value)
