"""Events of a remote store, awaited."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import anyio

from holdfast.client.asyncfiles import AsyncChunks
from holdfast.client.calls import Call
from holdfast.client.exchange import back_off_s
from holdfast.client.follow import Follower, Wanted
from holdfast.client.options import ClientOptions
from holdfast.core.errors import UnavailableError
from holdfast.core.seams import SystemClock
from holdfast.core.stream import Cursor, Event

AsyncOpen = Callable[[Call[None]], Awaitable[tuple[None, AsyncChunks]]]


class AsyncClientEvents:
    """A reader of events; goes on after a lost connection. One task at a time."""

    def __init__(
        self, open_stream: AsyncOpen, wanted: Wanted, from_: Cursor | None, options: ClientOptions
    ) -> None:
        self._open = open_stream
        self._options = options
        self._clock = SystemClock()
        self._follower = Follower(wanted, from_, options.retries, self._clock.monotonic_s())
        self._chunks: AsyncChunks | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Where to go on: behind all that was given; None before anything is known."""
        return self._follower.cursor

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event; see core.bucket.Bucket.events."""
        while (event := self._follower.take()) is None:
            if self._follower.is_over:
                raise StopAsyncIteration
            await self._receive()
        return event

    async def close(self) -> None:
        """Let the connection go."""
        self._follower.is_over = True
        await self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _receive(self) -> None:
        if self._chunks is None:
            _, self._chunks = await self._open(self._follower.call())
        try:
            chunk = await self._chunks.next()
        except UnavailableError as error:
            await self._drop()
            self._follower.broke(error)
            await anyio.sleep(back_off_s(self._follower.failures, self._options))
            return
        if not chunk:
            await self._drop()
            self._follower.ended(self._clock.monotonic_s())
            return
        self._follower.feed(chunk, self._clock.monotonic_s())

    async def _drop(self) -> None:
        if self._chunks is not None:
            await self._chunks.aclose()
            self._chunks = None
