"""The asynchronous client: the same calls as the blocking one, carried out without blocking.

Works on asyncio and trio. Hashing of large bodies, files and plain iterators run in threads.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Self, TypeVar

from holdfast import wire
from holdfast.client import calls, many
from holdfast.client.asyncbatches import answers, retrieve, together
from holdfast.client.asyncevents import AsyncClientEvents
from holdfast.client.asyncfiles import AsyncRangeFile
from holdfast.client.asynclink import AsyncLink
from holdfast.client.asyncupload import AsyncData, uploading
from holdfast.client.blocking import ASK_FIRST_BYTES_MIN, agreed
from holdfast.client.cursor import Cursor
from holdfast.client.follow import Wanted
from holdfast.client.many import HASHES, as_deleted, as_entry, as_size, check_key
from holdfast.client.options import ClientOptions
from holdfast.core import stream
from holdfast.core.bucket import NO_DESCRIPTION, Description, Item
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, GravePage, HashPage, Page, Stats, VersionPage
from holdfast.core.errors import BlobError
from holdfast.core.limits import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX
from holdfast.core.many import outcome, paged
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.store import Span
from holdfast.wire import Found, Presigned

T = TypeVar("T")


class AsyncClient:
    """A bucket of a holdfast server, `default` unless said; the verbs of Client, awaited.

    async with AsyncClient("http://127.0.0.1:3000") as store:
        await store.put("hello", b"world")
    """

    def __init__(self, url: str, *, options: ClientOptions = ClientOptions()) -> None:  # noqa: B008
        self._link = AsyncLink(url, options)
        self._name = wire.DEFAULT_BUCKET

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    @property
    def content(self) -> "AsyncClientContent":
        """The same blobs by digest."""
        return AsyncClientContent(self._link)

    def bucket(self, name: str) -> "AsyncClient":
        """Look at another bucket of the same server, over the same connections."""
        other = object.__new__(type(self))
        wire.bucket_path(name)
        other._link, other._name = self._link, name
        return other

    async def put(
        self,
        key: str,
        data: AsyncData,
        *,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Entry:
        """Store `data` under `key`; see Client.put."""
        async with uploading(data, self._link.options.progress) as upload:
            digest = agreed(about.digest, upload.digest)
            entry = await self._link.call(calls.put(self._name, key, about, when, digest), upload)
            calls.verify_digest(entry.digest, upload.ref().digest)
            return entry

    async def get(self, key: str, span: Span | None = None, *, version: int | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return await self._link.call(calls.get(calls.blob(self._name, key, version), span))

    async def open(self, key: str, *, version: int | None = None) -> AsyncRangeFile:
        """Open a blob as a seekable file whose reads are awaited."""
        return await _open(self._link, calls.blob(self._name, key, version))

    async def head(self, key: str, *, version: int | None = None) -> Entry:
        """Describe an entry, or what it was in an earlier version."""
        return await self._link.call(calls.head(self._name, key, version))

    async def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        cursor: str | None = None,
        limit: int = LIST_LIMIT_DEFAULT,
    ) -> Page:
        """List entries and prefixes."""
        return await self._link.call(calls.page(self._name, prefix, delimiter, cursor, limit))

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
        return await self._link.call(calls.delete(self._name, key, when))

    async def copy(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Give the same bytes a second name."""
        source, target = (self._name, key), (to_bucket or self._name, to)
        return await self._link.call(calls.transfer(wire.COPY_FROM, source, target, when))

    async def move(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Rename in one commit."""
        source, target = (self._name, key), (to_bucket or self._name, to)
        return await self._link.call(calls.transfer(wire.MOVE_FROM, source, target, when))

    async def put_many(
        self, items: Iterable[Item | tuple[str, AsyncData]]
    ) -> Sequence[Entry | BlobError]:
        """Store many things, several at once; see Bucket.put_many."""

        async def put(item: Item | tuple[str, AsyncData]) -> Entry:
            if isinstance(item, Item):
                return await self.put(item.key, item.data, about=item.about, when=item.when)
            return await self.put(*item)

        return await together(put, items)

    def get_many(self, keys: Iterable[str]) -> AsyncIterator[bytes | BlobError]:
        """Read blobs into memory, one at a time, many with each request."""
        names = (outcome(check_key, key) for key in keys)
        return retrieve(self._link, wire.bucket_path(self._name), names)

    async def head_many(self, keys: Iterable[str]) -> AsyncIterator[Entry | BlobError]:
        """Describe entries, many with each request."""
        async for found in self._answers(wire.HEAD, keys):
            yield as_entry(found)

    async def delete_many(self, keys: Iterable[str]) -> Sequence[bool | BlobError]:
        """Remove names, many with each request."""
        return [as_deleted(found) async for found in self._answers(wire.DELETE, keys)]

    def _answers(self, verb: str, keys: Iterable[str]) -> AsyncIterator[Found]:
        names = (outcome(check_key, key) for key in keys)
        return answers(self._link, wire.bucket_path(self._name), verb, names)

    async def undelete(self, key: str, *, digest: Digest | None = None) -> Entry:
        """Bring a deleted name back as it was; see Bucket.undelete."""
        return await self._link.call(calls.undelete(self._name, key, digest))

    async def deleted(
        self, *, prefix: str = "", cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> GravePage:
        """List deleted names that can be brought back."""
        return await self._link.call(calls.deleted(self._name, prefix, cursor, limit))

    async def versions(
        self, key: str, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> VersionPage:
        """List what a name points to, and did; see Bucket.versions."""
        return await self._link.call(calls.versions(self._name, key, cursor, limit))

    async def restore(self, key: str, version: int, *, when: Conditions = NO_CONDITIONS) -> Entry:
        """Point a name to what it was in an earlier version; see Bucket.restore."""
        return await self._link.call(calls.restore(self._name, key, version, when))

    def events(
        self,
        from_: stream.Cursor | None = None,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        all_buckets: bool = False,
    ) -> AsyncClientEvents:
        """Read what became of names, in the order of commits; see Bucket.events.

        Nothing is asked before the first event is awaited.
        """
        wanted = Wanted(None if all_buckets else self._name, prefix, wait_s)
        return AsyncClientEvents(self._link.stream, wanted, from_, self._link.options)

    def presign(self, key: str, wanted: Presigned = Presigned()) -> str:  # noqa: B008 - a tuple
        """Sign a URL for somebody without a key; see Client.presign. There is nothing to await."""
        return self._link.address.presign(wire.blob_path(self._name, key), wanted)

    async def stats(self) -> Stats:
        """Ask how much is stored, over all buckets."""
        return await self._link.call(calls.stats())

    async def close(self) -> None:
        """Close the connections, for all buckets of this client."""
        await self._link.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class AsyncClientContent:
    """The blobs of a server by digest; see holdfast.core.bucket.Content."""

    def __init__(self, link: AsyncLink) -> None:
        self._link = link

    async def put(self, data: AsyncData, *, digest: Digest | None = None) -> Digest:
        """Store `data`; what comes only once and has no `digest` is kept in a file first."""
        async with uploading(data, self._link.options.progress) as upload:
            name = agreed(digest, upload.digest) or (await upload.hash_first()).digest
            asks = upload.size_bytes is None or upload.size_bytes >= ASK_FIRST_BYTES_MIN
            if not (asks and await self._link.call(calls.ask_hash(name))):
                await self._link.call(calls.put_hash(name), upload)
            return name

    async def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return await self._link.call(calls.get(wire.hash_path(digest), span))

    async def open(self, digest: Digest) -> AsyncRangeFile:
        """Open a blob as a seekable file whose reads are awaited."""
        return await _open(self._link, wire.hash_path(digest))

    def presign(self, digest: Digest, wanted: Presigned = Presigned()) -> str:  # noqa: B008
        """Sign a URL for a blob by its digest; see AsyncClient.presign."""
        return self._link.address.presign(wire.hash_path(digest), wanted)

    async def stat(self, digest: Digest) -> int:
        """Size in bytes."""
        return await self._link.call(calls.size_of(digest))

    async def verified_at(self, digest: Digest) -> datetime | None:
        """When the stored bytes were last found sound on the disk."""
        return await self._link.call(calls.verified_at(digest))

    async def list(self, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT) -> HashPage:
        """List digests."""
        return await self._link.call(calls.hashes(cursor, limit))

    async def delete(self, digest: Digest) -> None:
        """Let go."""
        await self._link.call(calls.delete_hash(digest))

    async def put_many(self, blobs: Iterable[AsyncData]) -> Sequence[Digest | BlobError]:
        """Store and keep blobs, several at once."""
        return await together(self.put, blobs)

    def get_many(self, digests: Iterable[Digest]) -> AsyncIterator[bytes | BlobError]:
        """Read blobs into memory, one at a time, many with each request."""
        return retrieve(self._link, HASHES, map(str, digests))

    async def stat_many(self, digests: Iterable[Digest]) -> AsyncIterator[int | BlobError]:
        """Sizes in bytes, many with each request."""
        async for found in answers(self._link, HASHES, wire.HEAD, map(str, digests)):
            yield as_size(found)

    async def delete_many(self, digests: Iterable[Digest]) -> Sequence[bool | BlobError]:
        """Let go of blobs, many with each request."""
        found = answers(self._link, HASHES, wire.DELETE, map(str, digests))
        return [as_deleted(each) async for each in found]

    async def missing(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Find those that nothing holds, many with each request."""
        pages = paged(dict.fromkeys(digests))
        found = [await self._link.call(many.missing(page)) for page in pages]
        return [digest for page in found for digest in page]


async def _open(link: AsyncLink, target: str) -> AsyncRangeFile:
    cursor = Cursor(target, link.options.progress)
    return await AsyncRangeFile(cursor, link.stream, link.options.retries).begin()
