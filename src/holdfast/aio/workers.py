"""Threads that do what blocks, for one event loop; and what is awaited of them."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, ParamSpec, Self, TypeVar

from holdfast.core.limits import CHUNK_BYTES

P = ParamSpec("P")
T = TypeVar("T")
Name = TypeVar("Name")

TAKEN_MAX = 100  # outcomes of a `_many` verb, or events, that one turn of a thread brings


class Workers:
    """The threads behind one or more buckets."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="holdfast")

    async def run(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `verb` in a thread. A cancelled wait leaves it to finish there."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(verb, *args, **kwargs))

    async def iterate(
        self, verb: Callable[[Iterable[Name]], Iterator[T]], names: Iterable[Name]
    ) -> AsyncIterator[T]:
        """Yield what a blocking verb yields; a thread brings some at a time."""
        found = verb(names)
        while some := await self.run(_some, found):
            for each in some:
                yield each

    def close(self) -> None:
        """Let the threads end, after what they still do."""
        self._pool.shutdown(wait=False)


class AsyncFile:
    """A file whose reads are awaited; iterating yields chunks to the end. One task at a time."""

    def __init__(self, file: BinaryIO, workers: Workers) -> None:
        self._file = file
        self._workers = workers

    async def read(self, size_bytes: int = -1) -> bytes:
        """Read so many bytes, or to the end; fewer only at the end."""
        return await self._workers.run(self._file.read, size_bytes)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next read begins."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Say where the next read begins."""
        return self._file.tell()

    async def close(self) -> None:
        """Let go."""
        await self._workers.run(self._file.close)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read(CHUNK_BYTES):
            yield chunk

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


def _some(found: Iterator[T]) -> list[T]:
    """Take a few, with few bytes together."""
    taken: list[T] = []
    size_bytes = 0
    for each in found:
        taken.append(each)
        size_bytes += len(each) if isinstance(each, bytes) else 0
        if len(taken) == TAKEN_MAX or size_bytes >= CHUNK_BYTES:
            break
    return taken
