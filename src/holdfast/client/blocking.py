"""The blocking client: a Bucket behind a URL."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import BinaryIO, TypeVar

from holdfast import wire
from holdfast.client import calls, many
from holdfast.client.batches import answers, retrieve, together
from holdfast.client.cursor import Cursor
from holdfast.client.events import ClientEvents
from holdfast.client.files import buffered
from holdfast.client.follow import Wanted
from holdfast.client.link import Link
from holdfast.client.many import HASHES, as_deleted, as_entry, as_size, check_key
from holdfast.client.options import ClientOptions
from holdfast.client.upload import Upload
from holdfast.core import stream
from holdfast.core.bucket import NO_DESCRIPTION, Data, Description, Item
from holdfast.core.closing import Closing
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, GravePage, HashPage, Page, Stats, VersionPage
from holdfast.core.errors import BlobError, DigestMismatchError
from holdfast.core.limits import LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, MIB
from holdfast.core.many import outcome, paged
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.store import Span
from holdfast.wire import Found, Presigned

T = TypeVar("T")

ASK_FIRST_BYTES_MIN = (
    MIB  # a blob not known to be smaller is worth the question whether it is there
)


class Client(Closing):
    """A bucket of a holdfast server, `default` unless said.

    All verbs, arguments and errors are those of `holdfast.core.bucket.Bucket`. Bytes are compared
    with their digest at both ends: CorruptError when they changed on their way. Buckets that
    `bucket` returns share the connections, and `close` of any closes them.
    """

    def __init__(self, url: str, *, options: ClientOptions = ClientOptions()) -> None:  # noqa: B008
        self._link = Link(url, options)
        self._name = wire.DEFAULT_BUCKET

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    @property
    def content(self) -> "ClientContent":
        """The same blobs by digest."""
        return ClientContent(self._link)

    def bucket(self, name: str) -> "Client":
        """Look at another bucket of the same server."""
        other = object.__new__(type(self))
        wire.bucket_path(name)
        other._link, other._name = self._link, name
        return other

    def put(
        self,
        key: str,
        data: Data,
        *,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Entry:
        """Store `data` under `key`; see Bucket.put.

        Raises:
            CorruptError: the server stored other bytes than were sent; delete or put again.
        """
        with closing(Upload(data, self._link.options.progress)) as upload:
            digest = agreed(about.digest, upload.digest)
            entry = self._link.call(calls.put(self._name, key, about, when, digest), upload)
            calls.verify_digest(entry.digest, upload.meter.ref().digest)
            return entry

    def get(self, key: str, span: Span | None = None, *, version: int | None = None) -> bytes:
        """Read a blob, or a part, into memory; see Bucket.get."""
        return self._link.call(calls.get(calls.blob(self._name, key, version), span))

    def open(self, key: str, *, version: int | None = None) -> BinaryIO:
        """Open a blob as a seekable file; see Bucket.open.

        PreconditionError or NotFoundError while reading means that the name was replaced or
        removed meanwhile.
        """
        return _open(self._link, calls.blob(self._name, key, version))

    def head(self, key: str, *, version: int | None = None) -> Entry:
        """Describe an entry; see Bucket.head."""
        return self._link.call(calls.head(self._name, key, version))

    def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        cursor: str | None = None,
        limit: int = LIST_LIMIT_DEFAULT,
    ) -> Page:
        """List entries and prefixes; see Bucket.list."""
        return self._link.call(calls.page(self._name, prefix, delimiter, cursor, limit))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield all entries under `prefix`, page by page."""
        cursor: str | None = None
        while True:
            page = self.list(prefix=prefix, cursor=cursor, limit=LIST_LIMIT_MAX)
            yield from page.entries
            cursor = page.next
            if cursor is None:
                return

    def delete(self, key: str, *, when: Conditions = NO_CONDITIONS) -> bool:
        """Remove a name; see Bucket.delete."""
        return self._link.call(calls.delete(self._name, key, when))

    def copy(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Give the same bytes a second name; see Bucket.copy."""
        source, target = (self._name, key), (to_bucket or self._name, to)
        return self._link.call(calls.transfer(wire.COPY_FROM, source, target, when))

    def move(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Rename in one commit; see Bucket.move."""
        source, target = (self._name, key), (to_bucket or self._name, to)
        return self._link.call(calls.transfer(wire.MOVE_FROM, source, target, when))

    def put_many(self, items: Iterable[Item | tuple[str, Data]]) -> Sequence[Entry | BlobError]:
        """Store many things, several at once; see Bucket.put_many."""

        def put(item: Item | tuple[str, Data]) -> Entry:
            key, data, about, when = Item(*item)
            return self.put(key, data, about=about, when=when)

        return together(put, items)

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time, many with each request."""
        names = (outcome(check_key, key) for key in keys)
        return retrieve(self._link, wire.bucket_path(self._name), names)

    def head_many(self, keys: Iterable[str]) -> Iterator[Entry | BlobError]:
        """Describe entries, many with each request."""
        return map(as_entry, self._answers(wire.HEAD, keys))

    def delete_many(self, keys: Iterable[str]) -> Sequence[bool | BlobError]:
        """Remove names, many with each request."""
        return list(map(as_deleted, self._answers(wire.DELETE, keys)))

    def _answers(self, verb: str, keys: Iterable[str]) -> Iterator[Found]:
        names = (outcome(check_key, key) for key in keys)
        return answers(self._link, wire.bucket_path(self._name), verb, names)

    def undelete(self, key: str, *, digest: Digest | None = None) -> Entry:
        """Bring a deleted name back as it was; see Bucket.undelete."""
        return self._link.call(calls.undelete(self._name, key, digest))

    def deleted(
        self, *, prefix: str = "", cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> GravePage:
        """List deleted names that can be brought back."""
        return self._link.call(calls.deleted(self._name, prefix, cursor, limit))

    def versions(
        self, key: str, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> VersionPage:
        """List what a name points to, and did; see Bucket.versions."""
        return self._link.call(calls.versions(self._name, key, cursor, limit))

    def restore(self, key: str, version: int, *, when: Conditions = NO_CONDITIONS) -> Entry:
        """Point a name to what it was in an earlier version; see Bucket.restore."""
        return self._link.call(calls.restore(self._name, key, version, when))

    def events(
        self,
        from_: stream.Cursor | None = None,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        all_buckets: bool = False,
    ) -> ClientEvents:
        """Read what became of names, in the order of commits; see Bucket.events."""
        wanted = Wanted(None if all_buckets else self._name, prefix, wait_s)
        return ClientEvents(self._link.stream, wanted, from_, self._link.options)

    def presign(self, key: str, wanted: Presigned = Presigned()) -> str:  # noqa: B008 - a tuple
        """Sign a URL by which anybody may GET a blob, or PUT one, for a while; asks no server.

        It opens what the API key of this client opens, is good as long as that, and stops with it.

        Raises:
            InvalidError: this client has no key, or there is no such URL.
        """
        return self._link.address.presign(wire.blob_path(self._name, key), wanted)

    def stats(self) -> Stats:
        """Ask how much is stored, over all buckets."""
        return self._link.call(calls.stats())

    def close(self) -> None:
        """Close the connections, for all buckets of this client."""
        self._link.close()


class ClientContent:
    """The blobs of a server by digest; see holdfast.core.bucket.Content."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def put(self, data: Data, *, digest: Digest | None = None) -> Digest:
        """Store `data`; what comes only once and has no `digest` is kept in a file first."""
        with closing(Upload(data, self._link.options.progress)) as upload:
            name = agreed(digest, upload.digest) or upload.hash_first().digest
            asks = upload.size_bytes is None or upload.size_bytes >= ASK_FIRST_BYTES_MIN
            if not (asks and self._link.call(calls.ask_hash(name))):
                self._link.call(calls.put_hash(name), upload)
            return name

    def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        return self._link.call(calls.get(wire.hash_path(digest), span))

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable file."""
        return _open(self._link, wire.hash_path(digest))

    def presign(self, digest: Digest, wanted: Presigned = Presigned()) -> str:  # noqa: B008
        """Sign a URL for a blob by its digest; see Client.presign."""
        return self._link.address.presign(wire.hash_path(digest), wanted)

    def stat(self, digest: Digest) -> int:
        """Size in bytes."""
        return self._link.call(calls.size_of(digest))

    def verified_at(self, digest: Digest) -> datetime | None:
        """When the stored bytes were last found sound on the disk."""
        return self._link.call(calls.verified_at(digest))

    def list(self, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT) -> HashPage:
        """List digests."""
        return self._link.call(calls.hashes(cursor, limit))

    def delete(self, digest: Digest) -> None:
        """Let go."""
        self._link.call(calls.delete_hash(digest))

    def put_many(self, blobs: Iterable[Data]) -> Sequence[Digest | BlobError]:
        """Store and keep blobs, several at once."""
        return together(self.put, blobs)

    def get_many(self, digests: Iterable[Digest]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time, many with each request."""
        return retrieve(self._link, HASHES, map(str, digests))

    def stat_many(self, digests: Iterable[Digest]) -> Iterator[int | BlobError]:
        """Sizes in bytes, many with each request."""
        return map(as_size, answers(self._link, HASHES, wire.HEAD, map(str, digests)))

    def delete_many(self, digests: Iterable[Digest]) -> Sequence[bool | BlobError]:
        """Let go of blobs, many with each request."""
        names = map(str, digests)
        return list(map(as_deleted, answers(self._link, HASHES, wire.DELETE, names)))

    def missing(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Find those that nothing holds, many with each request."""
        pages = paged(dict.fromkeys(digests))
        return [digest for page in pages for digest in self._link.call(many.missing(page))]


def agreed(promised: Digest | None, found: Digest | None) -> Digest | None:
    """The digest to send; DigestMismatchError when the caller's own bytes are not as promised."""
    if promised is not None and found is not None and promised != found:
        raise DigestMismatchError(str(promised), str(found))
    return promised or found


def _open(link: Link, target: str) -> BinaryIO:
    return buffered(Cursor(target, link.options.progress), link.stream, link.options.retries)
