"""The verbs of a program: one bucket, in this process (Depot) or behind a URL (Client).

`holdfast.open` returns one or the other, and a program cannot tell which. All verbs block and are
safe from any thread.

Verbs that end in `_many` take any number of things and give an outcome for each, in their order. An
error of one is a value in its place and stops nothing; only wrong programs raise. Those that read
give an iterator and hold little at a time; those that write begin at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, Self

from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, GravePage, HashPage, Page, Stats, VersionPage
from holdfast.core.errors import BlobError
from holdfast.core.limits import LIST_LIMIT_DEFAULT
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.core.seams import Buffer
from holdfast.core.store import Span
from holdfast.core.stream import Cursor, Events

Data = Buffer | BinaryIO | Path | Iterable[Buffer]
"""What can be stored: bytes, an open binary file, a path, or chunks of bytes."""

CREATE_ONLY = Conditions(if_none_match="*")


class Description(NamedTuple):
    """What a writer says of the bytes; all of it may be left out."""

    content_type: str | None = None
    metadata: Mapping[str, str] | None = None
    digest: Digest | None = None
    """Refuse the bytes unless this is their digest."""
    expire_s: int | None = None
    """After how many seconds the name goes by itself, instead of what the bucket's policy says."""


NO_DESCRIPTION = Description()


class Item(NamedTuple):
    """One of many things to store; `(key, data)` will do."""

    key: str
    data: Data
    about: Description = NO_DESCRIPTION
    when: Conditions = NO_CONDITIONS


def matches(etag: str) -> Conditions:
    """Only while the entry still has this `Entry.etag`."""
    return Conditions(if_match=etag)


class Content(Protocol):
    """Blobs by their digest, over all buckets: the content face."""

    def put(self, data: Data, *, digest: Digest | None = None) -> Digest:
        """Store `data` and keep it until `delete`; storing it again is no error.

        Raises:
            DigestMismatchError: `digest` was given and is not that of `data`.
            TooLargeError: over the limit of the face.
        """

    def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable file."""

    def stat(self, digest: Digest) -> int:
        """Size in bytes; NotFoundError when nothing holds the blob."""

    def verified_at(self, digest: Digest) -> datetime | None:
        """When the stored bytes were last read from the disk and found sound, at the earliest.

        None when that is not known: not yet, since they were stored, or they were found damaged.
        NotFoundError when nothing holds the blob.
        """

    def list(self, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT) -> HashPage:
        """List digests of all blobs that anything holds."""

    def delete(self, digest: Digest) -> None:
        """Let go; entries that hold the same bytes keep them."""

    def put_many(self, blobs: Iterable[Data]) -> Sequence[Digest | BlobError]:
        """Store and keep blobs, small ones together; each outcome is that of `put`."""

    def get_many(self, digests: Iterable[Digest]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time."""

    def stat_many(self, digests: Iterable[Digest]) -> Iterator[int | BlobError]:
        """Sizes in bytes."""

    def delete_many(self, digests: Iterable[Digest]) -> Sequence[bool | BlobError]:
        """Let go of blobs together; False where this face did not hold one."""

    def missing(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Find those that nothing holds, without reading any; each once, in the order asked."""


class Bucket(Protocol):
    """Names for blobs, and the verbs on them."""

    @property
    def name(self) -> str:
        """The bucket's name."""

    @property
    def content(self) -> Content:
        """The same blobs by digest."""

    def bucket(self, name: str) -> "Bucket":
        """Look at another bucket of the same store; it exists with its first entry."""

    def put(
        self,
        key: str,
        data: Data,
        *,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Entry:
        """Store `data` under `key`, replacing what was there; durable when it returns.

        Raises:
            InvalidError: a malformed key, metadata or content type.
            DigestMismatchError: the bytes are not `about.digest`.
            PreconditionError: `when` does not hold.
            TooLargeError: over the size limit.
            FullError, UnavailableError: nothing changed.
        """

    def get(self, key: str, span: Span | None = None, *, version: int | None = None) -> bytes:
        """Read a blob, or a part, into memory; use `open` for large ones.

        Raises:
            NotFoundError: no such name, or it never came to that `version`.
            GoneError: that version is not kept any more.
        """

    def open(self, key: str, *, version: int | None = None) -> BinaryIO:
        """Open a blob as a seekable file that stays readable until closed; raises as `get`."""

    def head(self, key: str, *, version: int | None = None) -> Entry:
        """Describe an entry, or what it was in an earlier version; raises as `get`."""

    def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        cursor: str | None = None,
        limit: int = LIST_LIMIT_DEFAULT,
    ) -> Page:
        """List up to `limit` entries and prefixes; the page is full unless it is the last."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield all entries under `prefix`, page by page."""

    def delete(self, key: str, *, when: Conditions = NO_CONDITIONS) -> bool:
        """Remove a name; False when it was not there, which is no error."""

    def copy(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Give the same bytes a second name, without moving bytes; `when` speaks of the target."""

    def move(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Rename in one commit: no reader ever sees both or neither."""

    def put_many(self, items: Iterable[Item | tuple[str, Data]]) -> Sequence[Entry | BlobError]:
        """Store many things, small ones together; each outcome is that of `put`.

        What an iterator or a file of the caller raises ends the call; items before it may be
        stored then.
        """

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time."""

    def head_many(self, keys: Iterable[str]) -> Iterator[Entry | BlobError]:
        """Describe entries."""

    def delete_many(self, keys: Iterable[str]) -> Sequence[bool | BlobError]:
        """Remove names together; each outcome is that of `delete`."""

    def undelete(self, key: str, *, digest: Digest | None = None) -> Entry:
        """Bring a deleted name back as it was; durable when it returns.

        With a `digest`, give this name to a blob that may have none any more, while a sweep has not
        removed it; that is for who runs the store.

        Raises:
            NotFoundError: it was never there, or is gone for good.
            ConflictError: the name is in use again.
            QuotaError: there is no room.
        """

    def deleted(
        self, *, prefix: str = "", cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> GravePage:
        """List deleted names that can be brought back, in byte order."""

    def versions(
        self, key: str, *, cursor: str | None = None, limit: int = LIST_LIMIT_DEFAULT
    ) -> VersionPage:
        """List what a name points to and what is kept of what it did, the newest first.

        Raises:
            NotFoundError: no such name.
        """

    def restore(self, key: str, version: int, *, when: Conditions = NO_CONDITIONS) -> Entry:
        """Point a name to what it was in an earlier version; that makes a new one.

        Raises:
            NotFoundError, GoneError: as `get`.
            PreconditionError, QuotaError: as `put`.
        """

    def events(
        self,
        from_: Cursor | None = None,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        all_buckets: bool = False,
    ) -> Events:
        """Read what became of names, in the order of commits, from a cursor on.

        Without one it begins at the oldest that is kept, at NOW with what is still to come. It ends
        when there was nothing for `wait_s`; a server waits whole seconds. A reader that raised
        UnavailableError goes on where it was when it is asked again.

        Raises:
            CompactedError: what follows the cursor is not kept any more; also while reading.
            InvalidError: the cursor is none of this store.
        """

    def stats(self) -> Stats:
        """How much is stored, over all buckets."""

    def close(self) -> None:
        """Finish and let go; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
