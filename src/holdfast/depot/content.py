"""Blobs by digest, over all buckets: the content face of a depot."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.entry import HashPage, moment
from holdfast.core.errors import BlobError, NotFoundError, UnsupportedError
from holdfast.core.kv import Delete, Plan, Put, Transaction, Versioned, prefix_end
from holdfast.core.kv import Item as KVItem
from holdfast.core.many import drain, outcome, paged
from holdfast.core.policy import NOBODY, bucket_of
from holdfast.core.store import no_such_blob
from holdfast.depot import catalog, media
from holdfast.depot.change import Place
from holdfast.depot.convoy import Convoy
from holdfast.depot.engine import as_file, feed, open_named, read_rest
from holdfast.depot.ingest import Arrival, Upload, check_size
from holdfast.depot.listing import check_limit
from holdfast.depot.policies import read_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from holdfast.core.bucket import Data
    from holdfast.core.digest import BlobRef
    from holdfast.core.kv import Write
    from holdfast.core.pending import Pending
    from holdfast.core.store import Keep, Moment, Source, Span, Staged
    from holdfast.depot.catalog import Held
    from holdfast.depot.engine import Engine

HASH_SCAN = 512


class Kept(NamedTuple):
    """A blob that the content face holds now."""

    ref: BlobRef
    is_new: bool


class ContentDepot:
    """The verbs of core.bucket.Content: blobs by digest, over all buckets, or those of an owner.

    An owner sees a blob only if one of the own names holds it, or an own `put` here, whoever else
    has the same bytes. What an owner holds here counts for the owner's quota.
    """

    def __init__(self, engine: Engine, owner: str | None = None) -> None:
        self._engine = engine
        self._owner = owner
        self._space = bucket_of(owner or NOBODY, "")

    def upload(
        self, digest: Digest | None, content_type: str | None = None, size_bytes: int = 0
    ) -> Upload[Kept]:
        """Admit an upload before its first byte.

        Raises:
            InvalidError, TooLargeError: as `put` does.
        """
        kind = media.check(content_type) if content_type else None
        bound = self._engine.limits.content_max_bytes
        check_size(size_bytes, bound)
        arrival = Arrival("", kind, digest, bound)
        if not self._space:
            return Upload(self._engine.ingest, arrival, self._keeping)
        arrival.room = self._engine.names.room(Place(self._space, ""), size_bytes)
        policies = self._engine.names.policies
        owner = policies.of(self._space).owner

        def keeping(ref: BlobRef, content_type: str, blob: Staged | None) -> Transaction[Kept]:
            policies.check_same(self._space, owner)
            return self._keeping(ref, content_type, blob)

        return Upload(self._engine.ingest, arrival, keeping)

    def put(self, data: Data, *, digest: Digest | None = None) -> Digest:
        """Store `data` and hold it."""
        with self.upload(digest) as upload:
            feed(upload, data)
            return upload.finish().result().ref.digest

    def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        with self.source(digest, span) as source:
            return read_rest(source)

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable file."""
        return as_file(self.source(digest))

    def stat(self, digest: Digest) -> int:
        """Size in bytes."""
        return self.held(digest).size_bytes

    def verified_at(self, digest: Digest) -> datetime | None:
        """When the stored bytes were last found sound on the disk."""
        self.held(digest)
        at_us = self._engine.stamps.verified_us(self._engine.media, digest)
        return None if at_us is None else moment(at_us)

    def held(self, digest: Digest) -> Held:
        """What the first holder of a blob says of it.

        Raises:
            NotFoundError: nothing holds it.
        """
        found = self._holders(digest)
        if not found:
            raise no_such_blob(digest)
        return catalog.decode_held(found[0].value)

    def _holders(self, digest: Digest) -> Sequence[KVItem]:
        """The first holder that shows a blob, if there is one."""
        if self._owner is not None:
            return self._own_holders(digest, self._owner)
        start = catalog.holds(digest)
        found = self._engine.kv.scan(start, prefix_end(start), limit=1)
        return [item for item in found if catalog.is_visible(item.key)]

    def _own_holders(self, digest: Digest, owner: str) -> Sequence[KVItem]:
        held = catalog.held_by_content(digest, owner)
        stored = self._engine.kv.get(held)
        if stored is not None:
            return [KVItem(held, *stored)]
        start = catalog.held_by_row(digest, catalog.entries_of(owner))
        return self._engine.kv.scan(start, prefix_end(start), limit=1)

    def _shows(self, reference: bytes) -> bool:
        """Whether the holder shows the blob here."""
        is_visible = catalog.is_visible(reference)
        return is_visible and self._owner in (None, catalog.holding_owner(reference))

    def source(self, digest: Digest, span: Span | None = None) -> Source:
        """Open a blob that anything holds.

        Raises:
            NotFoundError: nothing holds it.
            CorruptError: the stored bytes are damaged or missing.
        """

        def look() -> tuple[KVItem, Digest]:
            found = self._holders(digest)
            if not found:
                raise no_such_blob(digest)
            return found[0], digest

        return open_named(self._engine.store, look, span)[1]

    def list(
        self, *, cursor: str | None = None, limit: int = limits.LIST_LIMIT_DEFAULT
    ) -> HashPage:
        """List the digests of all blobs that anything holds, in order."""
        check_limit(limit)
        found: list[Digest] = []
        start = catalog.holds(b"")
        if cursor is not None:
            start = prefix_end(catalog.holds(Digest.parse(cursor)))
        end = prefix_end(catalog.REFERENCE)
        while len(found) <= limit:
            items = self._engine.kv.scan(start, end, limit=HASH_SCAN)
            for item in items:
                digest = catalog.referenced_digest(item.key)
                if (not found or found[-1] != digest) and self._shows(item.key):
                    found.append(digest)
            if len(items) < HASH_SCAN:
                break
            start = prefix_end(catalog.holds(catalog.referenced_digest(items[-1].key)))
        more = len(found) > limit
        return HashPage(found[:limit], found[limit - 1].hex() if more else None)

    def digests(self) -> Iterator[Digest]:
        """Yield the digests of all blobs that anything holds, seen or not, in order."""
        start, end = catalog.REFERENCE, prefix_end(catalog.REFERENCE)
        while items := self._engine.kv.scan(start, end, limit=HASH_SCAN):
            found = dict.fromkeys(catalog.referenced_digest(item.key) for item in items)
            yield from found
            start = prefix_end(catalog.holds(catalog.referenced_digest(items[-1].key)))

    def keeper(self) -> Keep:
        """What `Store.expire` asks: whether anything holds a blob at that very moment.

        Raises:
            UnsupportedError: the store's log is not that of the KV, which no moment unites.
        """
        if self._engine.store.traits.log_id != self._engine.kv.log_id:
            raise UnsupportedError("names and blobs are in different logs")

        def keep(digest: Digest, moment: Moment | None) -> bool:
            assert moment is not None
            start = catalog.holds(digest)
            return not moment.is_empty(start, prefix_end(start))

        return keep

    def delete(self, digest: Digest) -> None:
        """Let go, and wait until that is durable."""
        self.release(digest).result()

    def put_many(self, blobs: Iterable[Data]) -> Sequence[Digest | BlobError]:
        """Store and hold blobs, as many as a batch takes with one sync."""
        convoy: Convoy[Kept] = Convoy(self._engine.kv)
        for data in blobs:
            try:
                with self.upload(None) as upload:
                    feed(upload, data)
                    convoy.add_upload(upload.ready())
            except BlobError as error:
                convoy.refuse(error)
        kept = convoy.arrive()
        return [each if isinstance(each, BlobError) else each.ref.digest for each in kept]

    def get_many(self, digests: Iterable[Digest]) -> Iterator[bytes | BlobError]:
        """Read blobs into memory, one at a time."""
        return map(drain, self.source_many(digests))

    def source_many(self, digests: Iterable[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs that anything holds, a page at a time; whoever gets a Source closes it."""
        for page in paged(digests):
            refused = {
                digest: error
                for digest in dict.fromkeys(page)
                if isinstance(error := outcome(self.held, digest), BlobError)
            }
            opened = self._engine.store.open_many([one for one in page if one not in refused])
            for digest in page:
                found = refused[digest] if digest in refused else next(opened)
                is_gone = isinstance(found, NotFoundError) and digest not in refused
                yield outcome(self.source, digest) if is_gone else found

    def stat_many(self, digests: Iterable[Digest]) -> Iterator[int | BlobError]:
        """Sizes in bytes."""
        return (outcome(self.stat, digest) for digest in digests)

    def delete_many(self, digests: Iterable[Digest]) -> Sequence[bool | BlobError]:
        """Let go of blobs, as many as a batch takes with one sync; False where nothing was held."""
        convoy: Convoy[bool] = Convoy(self._engine.kv)
        for digest in digests:
            convoy.add(self._releasing(digest))
        return convoy.arrive()

    def missing(self, digests: Iterable[Digest]) -> Sequence[Digest]:
        """Find those that nothing holds."""
        return [digest for digest in dict.fromkeys(digests) if not self._holders(digest)]

    def release(self, digest: Digest) -> Pending[bool]:
        """Begin to let go."""
        transaction = self._releasing(digest)
        return self._engine.kv.transact(transaction.reads, transaction.planner, frees=True)

    def holds(self, digest: Digest) -> bool:
        """Whether the content face itself holds the blob, so that a PUT has nothing to do."""
        return self._engine.kv.get(self._row(digest)) is not None

    def _row(self, digest: Digest) -> bytes:
        return catalog.held_by_content(digest, self._owner or NOBODY)

    def _keeping(self, ref: BlobRef, content_type: str, blob: Staged | None) -> Transaction[Kept]:
        held = catalog.Held(ref.size_bytes, content_type, self._engine.names.clock.now_us())
        key = self._row(ref.digest)
        terms = self._engine.names.policies.of(self._space) if self._space else None

        def planner(values: Sequence[Versioned | None]) -> Plan[Kept]:
            if values[0] is not None:
                return Plan((), Kept(ref, is_new=False))
            if terms is not None:
                terms.check_owner(values[1])
                for quota, stored in zip(terms.quotas, values[2:], strict=True):
                    quota.check(read_used(stored), ref.size_bytes, 1)
            writes = [Put(key, catalog.encode_held(held)), *self._counting(1, ref.size_bytes)]
            return Plan(writes, Kept(ref, is_new=True))

        rows = () if terms is None else (terms.guard, *(quota.row for quota in terms.quotas))
        return Transaction((key, *rows), planner, blob)

    def _releasing(self, digest: Digest) -> Transaction[bool]:
        """Let go of a blob; False when the content face did not hold it."""
        key = self._row(digest)

        def planner(values: Sequence[Versioned | None]) -> Plan[bool]:
            if values[0] is None:
                return Plan((), result=False)
            held = catalog.decode_held(values[0].value)
            return Plan([Delete(key), *self._counting(-1, -held.size_bytes)], result=True)

        return Transaction((key,), planner, frees=True)

    def _counting(self, blobs: int, size_bytes: int) -> Sequence[Write]:
        """What an owner holds here counts like entries of a bucket without a name."""
        return catalog.counting(self._space, blobs, size_bytes) if self._space else ()
