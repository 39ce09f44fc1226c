"""Blobs by their digests, awaited; and data that comes on a loop, for threads."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime

from holdfast.aio.workers import AsyncFile, Workers
from holdfast.core.bucket import Content, Data
from holdfast.core.digest import Digest
from holdfast.core.entry import HashPage
from holdfast.core.errors import BlobError
from holdfast.core.limits import LIST_LIMIT_DEFAULT
from holdfast.core.seams import Buffer
from holdfast.core.store import Span

AsyncData = Data | AsyncIterable[Buffer]
"""What can be stored: all that Data is, or chunks that come asynchronously."""


class AsyncContent:
    """The verbs of core.bucket.Content, awaited."""

    def __init__(self, content: Content, workers: Workers) -> None:
        self._content = content
        self._workers = workers

    async def put(self, data: AsyncData, *, digest: Digest | None = None) -> Digest:
        """Store `data` and keep it until `delete`."""
        return await self._workers.run(self._content.put, blocking(data), digest=digest)

    async def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return await self._workers.run(self._content.get, digest, span)

    async def open(self, digest: Digest) -> AsyncFile:
        """Open a blob as a seekable file whose reads are awaited."""
        return AsyncFile(await self._workers.run(self._content.open, digest), self._workers)

    async def stat(self, digest: Digest) -> int:
        """Size in bytes."""
        return await self._workers.run(self._content.stat, digest)

    async def verified_at(self, digest: Digest) -> datetime | None:
        """When the stored bytes were last found sound on the disk."""
        return await self._workers.run(self._content.verified_at, digest)

    async def list(self, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT) -> HashPage:
        """List digests."""
        return await self._workers.run(self._content.list, cursor=cursor, limit=limit)

    async def delete(self, digest: Digest) -> None:
        """Let go."""
        await self._workers.run(self._content.delete, digest)

    async def put_many(self, blobs: Iterable[AsyncData]) -> Sequence[Digest | BlobError]:
        """Store and keep blobs, small ones together."""
        return await self._workers.run(self._content.put_many, [blocking(one) for one in blobs])

    def get_many(self, digests: Iterable[Digest]) -> AsyncIterator[bytes | BlobError]:
        """Read blobs into memory, a few at a time."""
        return self._workers.iterate(self._content.get_many, digests)

    def stat_many(self, digests: Iterable[Digest]) -> AsyncIterator[int | BlobError]:
        """Sizes in bytes."""
        return self._workers.iterate(self._content.stat_many, digests)

    async def delete_many(self, digests: Iterable[Digest]) -> Sequence[bool | BlobError]:
        """Let go of blobs together."""
        return await self._workers.run(self._content.delete_many, digests)

    async def missing(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Find those that nothing holds."""
        return await self._workers.run(self._content.missing, digests)


def blocking(data: AsyncData) -> Data:
    """Let a thread iterate over chunks that come on this loop."""
    if not isinstance(data, AsyncIterable):
        return data
    loop = asyncio.get_running_loop()
    return _from_loop(data, loop)


def _from_loop(chunks: AsyncIterable[Buffer], loop: asyncio.AbstractEventLoop) -> Iterator[Buffer]:
    iterator = aiter(chunks)

    async def following() -> Buffer | None:
        return await anext(iterator, None)

    while True:
        chunk = asyncio.run_coroutine_threadsafe(following(), loop).result()
        if chunk is None:
            return
        yield chunk
