"""The verbs of a bucket, awaited, each in a thread."""

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Self

from holdfast.aio.content import AsyncContent, AsyncData, blocking
from holdfast.aio.events import AsyncEvents
from holdfast.aio.workers import AsyncFile, Workers
from holdfast.core.bucket import NO_DESCRIPTION, Bucket, Description, Item
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, GravePage, Page, Stats, VersionPage
from holdfast.core.errors import BlobError
from holdfast.core.limits import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.store import Span
from holdfast.core.stream import Cursor, Events

THREADS = 32


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
        ready = blocking(data)
        return await self._workers.run(self._bucket.put, key, ready, about=about, when=when)

    async def get(self, key: str, span: Span | None = None, *, version: int | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return await self._workers.run(self._bucket.get, key, span, version=version)

    async def open(self, key: str, *, version: int | None = None) -> AsyncFile:
        """Open a blob as a seekable file whose reads are awaited."""
        file = await self._workers.run(self._bucket.open, key, version=version)
        return AsyncFile(file, self._workers)

    async def head(self, key: str, *, version: int | None = None) -> Entry:
        """Describe an entry, or what it was in an earlier version."""
        return await self._workers.run(self._bucket.head, key, version=version)

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

    async def undelete(self, key: str, *, digest: Digest | None = None) -> Entry:
        """Bring a deleted name back as it was; see Bucket.undelete."""
        return await self._workers.run(self._bucket.undelete, key, digest=digest)

    async def deleted(
        self, *, prefix: str = "", cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> GravePage:
        """List deleted names that can be brought back."""
        verb = partial(self._bucket.deleted, prefix=prefix)
        return await self._workers.run(verb, cursor=cursor, limit=limit)

    async def versions(
        self, key: str, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> VersionPage:
        """List what a name points to, and did; see Bucket.versions."""
        return await self._workers.run(self._bucket.versions, key, cursor=cursor, limit=limit)

    async def restore(self, key: str, version: int, *, when: Conditions = NO_CONDITIONS) -> Entry:
        """Point a name to what it was in an earlier version; see Bucket.restore."""
        return await self._workers.run(self._bucket.restore, key, version, when=when)

    def events(
        self,
        from_: Cursor | None = None,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        all_buckets: bool = False,
    ) -> AsyncEvents:
        """Read what became of names, in the order of commits; see Bucket.events."""

        def begin(cursor: Cursor | None) -> Events:
            return self._bucket.events(cursor, prefix=prefix, all_buckets=all_buckets)

        return AsyncEvents(begin, from_, wait_s, self._workers)

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


def _ready(item: Item | tuple[str, AsyncData]) -> Item:
    if isinstance(item, Item):
        return item._replace(data=blocking(item.data))
    key, data = item
    return Item(key, blocking(data))
