"""Blobs by digest, over all buckets: the content face of a depot."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.entry import HashPage
from holdfast.core.errors import NotFoundError
from holdfast.core.kv import Committed, Conflict, Delete, Plan, Put, Versioned, prefix_end
from holdfast.depot import catalog, media
from holdfast.depot.engine import as_file, chunks, feed, missing, open_blob
from holdfast.depot.ingest import Arrival, Upload, check_size
from holdfast.depot.listing import check_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.bucket import Data
    from holdfast.core.digest import BlobRef
    from holdfast.core.pending import Pending
    from holdfast.core.store import Source, Span, Staged
    from holdfast.depot.catalog import Held
    from holdfast.depot.engine import Engine

HASH_SCAN = 512


class Kept(NamedTuple):
    """A blob that the content face holds now."""

    ref: BlobRef
    is_new: bool


class ContentDepot:
    """The verbs of core.bucket.Content: blobs by digest, over all buckets."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        return Upload(self._engine.ingest, Arrival("", kind, digest, bound), self._keep)

    def put(self, data: Data, *, digest: Digest | None = None) -> Digest:
        """Store `data` and hold it."""
        with self.upload(digest) as upload:
            feed(upload, data)
            return upload.finish().result().ref.digest

    def get(self, digest: Digest, span: Span | None = None) -> bytes:
        """Read a blob, or a part, into memory."""
        with self.source(digest, span) as source:
            return b"".join(chunks(source))

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable file."""
        return as_file(self.source(digest))

    def stat(self, digest: Digest) -> int:
        """Size in bytes."""
        return self.held(digest).size_bytes

    def held(self, digest: Digest) -> Held:
        """What the first holder of a blob says of it.

        Raises:
            NotFoundError: nothing holds it.
        """
        start = catalog.holds(digest)
        found = self._engine.kv.scan(start, prefix_end(start), limit=1)
        if not found:
            raise NotFoundError("no such blob", digest=str(digest))
        return catalog.decode_held(found[0].value)

    def source(self, digest: Digest, span: Span | None = None) -> Source:
        """Open a blob that anything holds."""
        self.held(digest)
        try:
            return open_blob(self._engine.store, digest, span)
        except NotFoundError as error:
            raise missing(digest) from error

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
                if not found or found[-1] != digest:
                    found.append(digest)
            if len(items) < HASH_SCAN:
                break
            start = prefix_end(catalog.holds(found[-1]))
        more = len(found) > limit
        return HashPage(found[:limit], found[limit - 1].hex() if more else None)

    def delete(self, digest: Digest) -> None:
        """Let go, and wait until that is durable."""
        self.release(digest).result()

    def release(self, digest: Digest) -> Pending[Committed | Conflict]:
        """Begin to let go."""
        return self._engine.kv.commit([], [Delete(catalog.held_by_content(digest))])

    def holds(self, digest: Digest) -> bool:
        """Whether the content face itself holds the blob, so that a PUT has nothing to do."""
        return self._engine.kv.get(catalog.held_by_content(digest)) is not None

    def _keep(self, ref: BlobRef, content_type: str, blob: Staged | None) -> Pending[Kept]:
        held = catalog.Held(ref.size_bytes, content_type, self._engine.names.clock.now_us())
        key = catalog.held_by_content(ref.digest)

        def planner(values: Sequence[Versioned | None]) -> Plan[Kept]:
            if values[0] is not None:
                return Plan((), Kept(ref, is_new=False))
            return Plan((Put(key, catalog.encode_held(held)),), Kept(ref, is_new=True))

        return self._engine.kv.transact((key,), planner, blob=blob)
