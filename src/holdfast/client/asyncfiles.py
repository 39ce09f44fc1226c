"""A remote blob as a file whose reads are awaited."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Self

import httpx

from holdfast.client import transport
from holdfast.client.calls import Call, Head
from holdfast.client.cursor import Cursor, from_start
from holdfast.core.errors import UnavailableError
from holdfast.core.seams import Buffer


class AsyncChunks:
    """The body of an answer, as it arrives."""

    def __init__(
        self,
        address: transport.Address,
        response: httpx.Response,
        give_back: Callable[[], Awaitable[None]],
    ) -> None:
        self._address = address
        self._response = response
        self._give_back: Callable[[], Awaitable[None]] | None = give_back
        self._parts = response.aiter_raw()

    async def next(self) -> bytes:
        """Wait for the next bytes; empty at the end.

        Raises:
            UnavailableError: the connection failed.
        """
        try:
            return await anext(self._parts, b"")
        except httpx.TransportError as error:
            raise transport.lost(self._address, error).error from error

    async def expect(self) -> bytes:
        """Wait for bytes that must come; UnavailableError at the end."""
        chunk = await self.next()
        if not chunk:
            raise UnavailableError("the server ended the body too early")
        return chunk

    async def aclose(self) -> None:
        """Let the connection go; it serves again if the body was read to its end."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            try:
                await self._response.aclose()
            finally:
                await give_back()


AsyncOpen = Callable[[Call[Head]], Awaitable[tuple[Head, AsyncChunks]]]


class AsyncRangeFile:
    """Reads a blob in windows, each one GET; goes on after a lost connection.

    All windows are of one version of the blob. One task at a time. Iterating yields what arrives,
    as it arrives:

        async with await client.open("film.mp4") as film:
            async for chunk in film: ...
    """

    def __init__(self, cursor: Cursor, open_window: AsyncOpen, retries: int) -> None:
        self._cursor = cursor
        self._open_window = open_window
        self._retries = retries
        self._failures = 0
        self._chunks: AsyncChunks | None = None
        self._rest: Buffer = b""
        self._wanted = 0

    @property
    def size_bytes(self) -> int:
        """Size of the blob."""
        return self._cursor.size_bytes

    async def begin(self) -> Self:
        """Open the first window; the client calls this."""
        await self._begin()
        return self

    def tell(self) -> int:
        """Say where the next read begins."""
        return self._wanted

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next read begins; nothing is sent before it."""
        self._wanted = from_start(self._wanted, offset, whence, self._cursor.size_bytes)
        return self._wanted

    async def read(self, size_bytes: int = -1) -> bytes:
        """Read exactly so many bytes, or to the end; fewer only at the end."""
        end = self._cursor.size_bytes
        if size_bytes >= 0:
            end = min(end, self._wanted + size_bytes)
        parts = []
        while self._wanted < end:
            parts.append(await self._read_some(end - self._wanted))
        return b"".join(parts)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterate()

    async def close(self) -> None:
        """Let the connection go."""
        await self._drop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _iterate(self) -> AsyncIterator[bytes]:
        while self._wanted < self._cursor.size_bytes:
            yield await self._read_some(self._cursor.size_bytes)

    async def _read_some(self, limit: int) -> bytes:
        await self._go()
        chunk = await self._take(limit)
        self._wanted += len(chunk)
        return chunk

    async def _go(self) -> None:
        gap = self._cursor.gap(self._wanted)
        if gap is None:
            await self._drop()
            self._cursor.jump(self._wanted)
            return
        while gap > 0:
            gap -= len(await self._take(gap))

    async def _take(self, limit: int) -> bytes:
        while not self._rest:
            await self._receive()
        chunk = bytes(self._rest[:limit])
        self._rest = memoryview(self._rest)[limit:]
        self._cursor.took(chunk)
        if not self._cursor.is_open:
            await self._finish()
        return chunk

    async def _receive(self) -> None:
        if self._chunks is None:
            await self._begin()
            return
        try:
            self._rest = await self._chunks.expect()
        except UnavailableError:
            await self._drop()
            self._failures += 1
            if self._failures > self._retries:
                raise
        else:
            self._failures = 0

    async def _begin(self) -> None:
        head, self._chunks = await self._open_window(self._cursor.next_window())
        skip = self._cursor.opened(head)
        while skip > 0:
            chunk = await self._chunks.expect()
            self._rest = chunk[skip:]
            skip -= len(chunk)
        if not self._cursor.is_open:
            await self._finish()

    async def _finish(self) -> None:
        if self._chunks is not None:
            with suppress(UnavailableError):
                await self._chunks.next()
        await self._drop()

    async def _drop(self) -> None:
        self._rest = b""
        self._cursor.lost()
        if self._chunks is not None:
            await self._chunks.aclose()
            self._chunks = None
