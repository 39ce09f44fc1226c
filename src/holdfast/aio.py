"""A bucket for asyncio programs: the verbs of any Bucket, awaited, each in a worker thread.

For a store in this process; behind a URL, `AsyncClient` needs no threads. Every bucket that comes
from one `AsyncBucket` shares its threads, of which there are few, so that a thousand waiting puts
cost a thousand small objects and their commits still share one sync of the disk.

    >>> import asyncio, tempfile
    >>> from holdfast.config import open_bucket
    >>> async def main(folder):
    ...     async with AsyncBucket(open_bucket(folder)) as store:
    ...         await store.put("hello", b"world")
    ...         return await store.get("hello")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     asyncio.run(main(folder))
    b'world'
"""

import asyncio
import io
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import BinaryIO, ParamSpec, Self, TypeVar

from holdfast.core.bucket import NO_DESCRIPTION, Bucket, Content, Data, Description, Item
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, HashPage, Page, Stats
from holdfast.core.errors import BlobError
from holdfast.core.limits import CHUNK_BYTES, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.seams import Buffer
from holdfast.core.store import Span

P = ParamSpec("P")
T = TypeVar("T")
Name = TypeVar("Name")

AsyncData = Data | AsyncIterable[Buffer]
"""What can be stored: all that Data is, or chunks that come asynchronously."""

THREADS = 32
TAKEN_MAX = 100  # outcomes of a `_many` verb that one turn of a thread brings


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


class AsyncBucket:
    """The verbs of core.bucket.Bucket, awaited, on one event loop."""

    def __init__(self, bucket: Bucket, *, threads: int = THREADS) -> None:
        self._bucket = bucket
        self._workers = Workers(threads)

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._bucket.name

    @property
    def content(self) -> "AsyncContent":
        """The same blobs by digest."""
        return AsyncContent(self._bucket.content, self._workers)

    def bucket(self, name: str) -> "AsyncBucket":
        """Look at another bucket of the same store, with the same threads."""
        other = object.__new__(type(self))
        other._bucket, other._workers = self._bucket.bucket(name), self._workers
        return other

    async def put(
        self,
        key: str,
        data: AsyncData,
        *,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Entry:
        """Store `data` under `key`; see Bucket.put."""
        ready = _blocking(data)
        return await self._workers.run(self._bucket.put, key, ready, about=about, when=when)

    async def get(self, key: str, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return await self._workers.run(self._bucket.get, key, span)

    async def open(self, key: str) -> AsyncFile:
        """Open a blob as a seekable file whose reads are awaited."""
        return AsyncFile(await self._workers.run(self._bucket.open, key), self._workers)

    async def head(self, key: str) -> Entry:
        """Describe an entry."""
        return await self._workers.run(self._bucket.head, key)

    async def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        cursor: str | None = None,
        limit: int = LIST_LIMIT_DEFAULT,
    ) -> Page:
        """List entries and prefixes."""
        verb = partial(self._bucket.list, prefix=prefix, delimiter=delimiter)
        return await self._workers.run(verb, cursor=cursor, limit=limit)

    async def entries(self, prefix: str = "") -> AsyncIterator[Entry]:
        """Yield all entries under `prefix`, page by page."""
        cursor: str | None = None
        while True:
            page = await self.list(prefix=prefix, cursor=cursor, limit=LIST_LIMIT_MAX)
            for entry in page.entries:
                yield entry
            cursor = page.next
            if cursor is None:
                return

    async def delete(self, key: str, *, when: Conditions = NO_CONDITIONS) -> bool:
        """Remove a name."""
        return await self._workers.run(self._bucket.delete, key, when=when)

    async def copy(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Give the same bytes a second name."""
        return await self._workers.run(self._bucket.copy, key, to, to_bucket=to_bucket, when=when)

    async def move(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Rename in one commit."""
        return await self._workers.run(self._bucket.move, key, to, to_bucket=to_bucket, when=when)

    async def put_many(
        self, items: Iterable[Item | tuple[str, AsyncData]]
    ) -> Sequence[Entry | BlobError]:
        """Store many things, small ones together; see Bucket.put_many."""
        ready = [_ready(item) for item in items]
        return await self._workers.run(self._bucket.put_many, ready)

    def get_many(self, keys: Iterable[str]) -> AsyncIterator[bytes | BlobError]:
        """Read blobs into memory, a few at a time."""
        return self._workers.iterate(self._bucket.get_many, keys)

    def head_many(self, keys: Iterable[str]) -> AsyncIterator[Entry | BlobError]:
        """Describe entries."""
        return self._workers.iterate(self._bucket.head_many, keys)

    async def delete_many(self, keys: Iterable[str]) -> Sequence[bool | BlobError]:
        """Remove names together."""
        return await self._workers.run(self._bucket.delete_many, keys)

    async def stats(self) -> Stats:
        """Ask how much is stored, over all buckets."""
        return await self._workers.run(self._bucket.stats)

    async def close(self) -> None:
        """Finish and let go of the store and the threads."""
        await self._workers.run(self._bucket.close)
        self._workers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncContent:
    """The verbs of core.bucket.Content, awaited."""

    def __init__(self, content: Content, workers: Workers) -> None:
        self._content = content
        self._workers = workers

    async def put(self, data: AsyncData, *, digest: Digest | None = None) -> Digest:
        """Store `data` and keep it until `delete`."""
        return await self._workers.run(self._content.put, _blocking(data), digest=digest)

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
        return await self._workers.run(self._content.put_many, [_blocking(one) for one in blobs])

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


def _ready(item: Item | tuple[str, AsyncData]) -> Item:
    if isinstance(item, Item):
        return item._replace(data=_blocking(item.data))
    key, data = item
    return Item(key, _blocking(data))


def _blocking(data: AsyncData) -> Data:
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
