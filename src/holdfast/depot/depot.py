"""The depot: one bucket of a store in this process.

A Depot holds no state of its own but the bucket's name; `bucket` gives another view of the same
store. It validates once what every face hands in and leaves engines to assume it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from holdfast.core import limits
from holdfast.core.bucket import CREATE_ONLY, NO_DESCRIPTION, Description, Item
from holdfast.core.closing import Closing
from holdfast.core.errors import BlobError, NotFoundError, PreconditionError
from holdfast.core.many import drain, outcome, paged
from holdfast.core.policy import check_bucket
from holdfast.core.preconditions import NO_CONDITIONS, Conditions
from holdfast.depot import media
from holdfast.depot.admission import check_expiry, check_key, check_metadata, check_version
from holdfast.depot.change import Place, Wish
from holdfast.depot.content import ContentDepot
from holdfast.depot.convoy import Convoy
from holdfast.depot.engine import Engine, as_file, chunks, feed, open_blob, open_named, read_rest
from holdfast.depot.events import EventReader, Scope
from holdfast.depot.ingest import Arrival, Placing, Upload, check_size, smaller
from holdfast.depot.listing import Query
from holdfast.depot.names import Placed, check, in_use

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.core.bucket import Data
    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.entry import Entry, GravePage, Page, Stats, VersionPage
    from holdfast.core.kv import Transaction
    from holdfast.core.pending import Pending
    from holdfast.core.policy import Policy
    from holdfast.core.store import Source, Span, Staged, Usage
    from holdfast.core.stream import Cursor
    from holdfast.log.report import Recovery

DEFAULT_BUCKET = "default"


class Depot(Closing):
    """The verbs of core.bucket.Bucket on an engine in this process.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from holdfast.depot.local import open_depot
    >>> folder = tempfile.TemporaryDirectory()
    >>> depot = open_depot(Path(folder.name))
    >>> entry = depot.put("notes/today.txt", b"Buy milk.")
    >>> entry.size_bytes, entry.content_type, entry.version
    (9, 'text/plain', 0)
    >>> depot.get("notes/today.txt")
    b'Buy milk.'
    >>> with depot.open("notes/today.txt") as file:
    ...     file.seek(4), file.read()
    (4, b'milk.')
    >>> depot.move("notes/today.txt", "notes/friday.txt").key
    'notes/friday.txt'
    >>> [entry.key for entry in depot.list(prefix="notes/").entries]
    ['notes/friday.txt']
    >>> depot.content.get(entry.digest)
    b'Buy milk.'
    >>> depot.delete("notes/friday.txt"), depot.delete("notes/friday.txt")
    (True, False)
    >>> depot.close()
    >>> folder.cleanup()
    """

    def __init__(self, engine: Engine, name: str = DEFAULT_BUCKET) -> None:
        self.engine = engine
        self._name = check_bucket(name)
        self.content = ContentDepot(engine)

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    def bucket(self, name: str) -> Depot:
        """Look at another bucket."""
        return Depot(self.engine, name)

    def content_of(self, owner: str | None) -> ContentDepot:
        """Look at blobs by their hashes as an owner may; None sees those of everybody."""
        return self.content if owner is None else ContentDepot(self.engine, owner)

    def upload(
        self,
        key: str,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
        size_bytes: int = 0,
        *,
        is_known: bool = True,
    ) -> Upload[Placed]:
        """Admit an upload before its first byte; `size_bytes` is what was announced, if anything.

        Conditions are left to its end where it is not known yet what the name will be by then.

        Raises:
            InvalidError, TooLargeError, UnsupportedTypeError, QuotaError, PreconditionError: as
                `put` does.
        """
        arrival, placing = self._admit(key, about, when)
        check_size(size_bytes, arrival.max_bytes)
        place = Place(self._name, key)
        if is_known and when is not NO_CONDITIONS:
            check(when, self.engine.names.find(place))
        arrival.room = self.engine.names.room(place, size_bytes)
        return Upload(self.engine.ingest, arrival, placing)

    def begin(
        self,
        key: str,
        data: Data,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Pending[Placed]:
        """Begin to store `data`; what is large is on the disk when this returns.

        Raises:
            InvalidError, TooLargeError, DigestMismatchError, FullError, UnavailableError: at once.
        """
        reads, planner, blob, _ = self._storing(key, data, about, when)
        return self.engine.kv.transact(reads, planner, blob=blob)

    def put(
        self,
        key: str,
        data: Data,
        *,
        about: Description = NO_DESCRIPTION,
        when: Conditions = NO_CONDITIONS,
    ) -> Entry:
        """Store `data` under `key`; see core.bucket.Bucket.put."""
        return self.begin(key, data, about, when).result().entry

    def get(self, key: str, span: Span | None = None, *, version: int | None = None) -> bytes:
        """Read a blob, or a part, into memory; or what the name was in an earlier version."""
        _, source = self.source(key, span, version)
        with source:
            return read_rest(source)

    def open(self, key: str, *, version: int | None = None) -> BinaryIO:
        """Open a blob as a seekable file."""
        return as_file(self.source(key, version=version)[1])

    def head(self, key: str, *, version: int | None = None) -> Entry:
        """Describe an entry, or what it was in an earlier version."""
        check_key(key)
        place = Place(self._name, key)
        if version is None:
            return self.engine.names.get(place)
        return self.engine.names.find_version(place, check_version(version))

    def source(
        self, key: str, span: Span | None = None, version: int | None = None
    ) -> tuple[Entry, Source]:
        """Open what a name points to, again if it is replaced at that very moment.

        Raises:
            NotFoundError, GoneError: no such name or version; it is not kept any more.
            CorruptError: the stored bytes are damaged or missing.
        """

        def look() -> tuple[Entry, Digest]:
            entry = self.head(key, version=version)
            return entry, entry.digest

        return open_named(self.engine.store, look, span)

    def list(
        self,
        *,
        prefix: str = "",
        delimiter: str = "",
        cursor: str | None = None,
        limit: int = limits.LIST_LIMIT_DEFAULT,
    ) -> Page:
        """List entries and prefixes."""
        return self.engine.names.list(self._name, Query(prefix, delimiter, cursor, limit))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Yield all entries under `prefix`, page by page."""
        cursor = None
        while True:
            page = self.list(prefix=prefix, cursor=cursor, limit=limits.LIST_LIMIT_MAX)
            yield from page.entries
            if page.next is None:
                return
            cursor = page.next

    def delete(self, key: str, *, when: Conditions = NO_CONDITIONS) -> bool:
        """Remove a name."""
        return self.remove(key, when).result()

    def remove(self, key: str, when: Conditions = NO_CONDITIONS) -> Pending[bool]:
        """Begin to remove a name."""
        transaction = self._removing(key, when)
        return self.engine.kv.transact(transaction.reads, transaction.planner, frees=True)

    def undelete(self, key: str, *, digest: Digest | None = None) -> Entry:
        """Bring a deleted name back as it was; see core.bucket.Bucket.undelete."""
        check_key(key)
        if digest is not None:
            return self._name_again(key, digest)
        transaction = self.engine.names.undeleting(Place(self._name, key))
        return self.engine.kv.transact(transaction.reads, transaction.planner).result()

    def deleted(
        self,
        *,
        prefix: str = "",
        cursor: str | None = None,
        limit: int = limits.LIST_LIMIT_DEFAULT,
    ) -> GravePage:
        """List deleted names that can be brought back, in byte order."""
        return self.engine.kept.graves(self._name, Query(prefix, "", cursor, limit))

    def versions(
        self, key: str, *, cursor: str | None = None, limit: int = limits.LIST_LIMIT_DEFAULT
    ) -> VersionPage:
        """List what a name points to, and did; see core.bucket.Bucket.versions."""
        check_key(key)
        return self.engine.kept.versions(Place(self._name, key), cursor, limit)

    def restore(self, key: str, version: int, *, when: Conditions = NO_CONDITIONS) -> Entry:
        """Point a name to what it was in an earlier version; see core.bucket.Bucket.restore."""
        check_key(key)
        place = Place(self._name, key)
        transaction = self.engine.names.restoring(place, check_version(version), when)
        return self.engine.kv.transact(transaction.reads, transaction.planner).result().entry

    @property
    def policy(self) -> Policy:
        """What this bucket takes and keeps."""
        return self.engine.names.policies.policy(self._name)

    def set_policy(self, policy: Policy) -> None:
        """Change what this bucket takes and keeps; durable when it returns.

        Uploads that began before are held to the policy that holds when they are named.
        """
        self.engine.names.policies.set_policy(self._name, policy)

    def copy(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Give the same bytes a second name."""
        return (
            self.transfer(key, Place(to_bucket or self._name, to), when, move=False).result().entry
        )

    def move(
        self, key: str, to: str, *, to_bucket: str | None = None, when: Conditions = NO_CONDITIONS
    ) -> Entry:
        """Rename in one commit."""
        return (
            self.transfer(key, Place(to_bucket or self._name, to), when, move=True).result().entry
        )

    def transfer(self, key: str, target: Place, when: Conditions, *, move: bool) -> Pending[Placed]:
        """Begin to copy or move."""
        check_bucket(target.bucket)
        check_key(key)
        check_key(target.key)
        return self.engine.names.copy(Place(self._name, key), target, when, move=move)

    def put_many(self, items: Iterable[Item | tuple[str, Data]]) -> Sequence[Entry | BlobError]:
        """Store many things: blobs and entries of as many as a batch takes with one sync."""
        convoy: Convoy[Placed] = Convoy(self.engine.kv)
        for item in items:
            key, data, about, when = Item(*item)
            try:
                convoy.add_upload(self._storing(key, data, about, when))
            except BlobError as error:
                convoy.refuse(error)
        return [each if isinstance(each, BlobError) else each.entry for each in convoy.arrive()]

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time."""
        return (
            drain(each if isinstance(each, BlobError) else each[1])
            for each in self.source_many(keys)
        )

    def head_many(self, keys: Iterable[str]) -> Iterator[Entry | BlobError]:
        """Describe entries."""
        return (outcome(self.head, key) for key in keys)

    def source_many(self, keys: Iterable[str]) -> Iterator[tuple[Entry, Source] | BlobError]:
        """Open what names point to, a page at a time; whoever gets a Source closes it."""
        for page in paged(keys):
            entries = list(self.head_many(page))
            opened = self.engine.store.open_many(
                [each.digest for each in entries if not isinstance(each, BlobError)]
            )
            for key, entry in zip(page, entries, strict=True):
                if isinstance(entry, BlobError):
                    yield entry
                    continue
                found = next(opened)
                if isinstance(found, NotFoundError):
                    yield outcome(self.source, key)  # replaced at this very moment, or missing
                else:
                    yield found if isinstance(found, BlobError) else (entry, found)

    def delete_many(self, keys: Iterable[str]) -> Sequence[bool | BlobError]:
        """Remove names, as many as a batch takes with one sync."""
        convoy: Convoy[bool] = Convoy(self.engine.kv)
        for key in keys:
            try:
                convoy.add(self._removing(key))
            except BlobError as error:
                convoy.refuse(error)
        return convoy.arrive()

    def events(
        self,
        from_: Cursor | None = None,
        *,
        prefix: str = "",
        wait_s: float = 0.0,
        all_buckets: bool = False,
    ) -> EventReader:
        """Read what became of names, in the order of commits; see core.bucket.Bucket.events."""
        scope = Scope(None if all_buckets else self._name, prefix)
        return EventReader(self.engine.kv, self.engine.names.clock, scope, from_, wait_s)

    def stats(self) -> Stats:
        """How much is stored, over all buckets."""
        return self.engine.names.stats(self.engine.away)

    def usage(self) -> Usage:
        """What the store takes on its disk, after a look at each file; the index not counted."""
        return self.engine.store.usage()

    @property
    def recovery(self) -> Recovery:
        """What opening the store found and did."""
        return self.engine.recovery

    def close(self) -> None:
        """Finish what was committed and close the store under all views of it."""
        self.engine.ingest.close()
        self.engine.close()

    def _admit(
        self, key: str, about: Description, when: Conditions
    ) -> tuple[Arrival, Placing[Placed]]:
        """Check what is known before the bytes, and say what will be done with them."""
        check_key(key)
        metadata = check_metadata(dict(about.metadata)) if about.metadata else {}
        content_type = media.check(about.content_type) if about.content_type else None
        names, place = self.engine.names, Place(self._name, key)
        policy, owner = names.policies.of(self._name)[:2]
        max_bytes = smaller(self.engine.limits.max_bytes, policy.blob_bytes_max)
        arrival = Arrival(key, content_type, about.digest, max_bytes, policy)
        expire_s = check_expiry(about.expire_s)

        def placing(ref: BlobRef, kind: str, blob: Staged | None) -> Transaction[Placed]:
            names.policies.check_same(self._name, owner)
            return names.assigning(place, Wish(ref, kind, metadata, expire_s), when, blob)

        return arrival, placing

    def _storing(
        self, key: str, data: Data, about: Description, when: Conditions
    ) -> Transaction[Placed]:
        """Take bytes in; the transaction names them."""
        if isinstance(data, bytes) and len(data) <= limits.SMALL_BLOB_BYTES_MAX:
            return self.engine.ingest.ready(*self._admit(key, about, when), data)
        with self.upload(key, about, when) as upload:
            feed(upload, data)
            return upload.ready()

    def _name_again(self, key: str, digest: Digest) -> Entry:
        """Store what is stored under a name, again: a sweep may be about to remove it."""
        place = Place(self._name, key)
        with open_blob(self.engine.store, digest, None) as source:
            try:
                about = Description(digest=digest)
                return self.put(key, chunks(source), about=about, when=CREATE_ONLY)
            except PreconditionError as error:
                raise in_use(place) from error

    def _removing(self, key: str, when: Conditions = NO_CONDITIONS) -> Transaction[bool]:
        check_key(key)
        return self.engine.names.removing(Place(self._name, key), when)
