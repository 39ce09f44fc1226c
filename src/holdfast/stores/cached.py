"""Blobs that are read often, kept in a nearer store: in memory, or on another disk.

    from holdfast.stores.cached import CachedStore

    CachedStore(inner, MemoryStore(), 256 * MIB)

What is read goes into the cache, where its SHA-256 is right, and what was read longest ago makes
room for it. Blobs larger than an eighth of the cache stay outside, and so do small ones, if the
inner store has those as near. A blob comes in once, however many read it, and all that come in at
one time take half of the cache at most; who cannot bring one in reads it where it is. The cache can
only help: when it fails, is full or is damaged, the inner store is asked. It may be emptied at any
time, and one that outlives the program (stores/files) is used again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Hasher
from holdfast.core.errors import LOST, BlobError, CorruptError
from holdfast.core.many import open_each, outcome, paged
from holdfast.core.store import clamp
from holdfast.stores.continued import ContinuedSource, instead
from holdfast.stores.framed import PartSource, UnfiledSource
from holdfast.stores.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.store import Keep, Source, Span, Store, Traits, Verdict

SHARE = 8  # a blob may take one of so many parts of the cache
INCOMING_SHARE = 2  # and so may all together that are on their way in
ENTRY_BYTES = 512  # that a blob counts for besides its own


class CachedStore(Wrapper):
    """A store around another, and a cache; it owns and closes both.

    `_lock` guards what is cached, oldest first, and what is on its way in.
    """

    def __init__(self, inner: Store, cache: Store, bytes_max: int, blob_bytes_min: int = 0) -> None:
        """Keep up to `bytes_max` of blobs in `cache`, of which nobody else may use anything.

        Blobs of less than `blob_bytes_min` are read where they are.
        """
        super().__init__(inner)
        self._cache = cache
        self._bytes_max = bytes_max
        self._blob_bytes_min = blob_bytes_min
        self._traits = replace(inner.traits, native_file=cache.traits.native_file)
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Digest, int] = OrderedDict()
        self._bytes = 0
        self._incoming_bytes = 0
        self._fills: dict[Digest, bool] = {}
        """Blobs on their way in, and whether they stay: those do not that are removed meanwhile."""
        with suppress(BlobError):  # what cannot be listed is not used, and counted another time
            for ref in cache.scan():
                self._count(ref.digest, ref.size_bytes + ENTRY_BYTES)
        self._make_room()

    @property
    def traits(self) -> Traits:
        """Those of the inner store, but that native files are the cache's."""
        return self._traits

    @property
    def cached_bytes(self) -> int:
        """How much is in the cache."""
        return self._bytes

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob in the cache, filling it first where that may wait."""
        with self._lock:
            is_cached = digest in self._sizes
            if is_cached:
                self._sizes.move_to_end(digest)
        if not is_cached and not wait:
            return self._at_hand(digest, span)
        if not is_cached and (source := self._fill(digest, span)) is not None:
            return source
        return self._inside(digest, span, wait=wait)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs, in the cache first: a power cut must not leave there what is gone."""
        self._drop(digests)
        try:
            self.inner.remove(digests)
        finally:
            self._drop(digests)  # what came in meanwhile

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget old blobs that nobody wants; whatever became of them, the cache can do without."""
        self._drop(digests)
        try:
            return self.inner.expire(digests, before_us, keep)
        finally:
            self._drop(digests)

    def close(self) -> None:
        """Close both."""
        self.inner.close()
        self._cache.close()

    def _inside(self, digest: Digest, span: Span | None, *, wait: bool) -> Source | None:
        try:
            source = self._cache.open(digest, span, wait=wait)
        except LOST as error:
            self._drop([digest])
            return instead(self._outside(digest, span), error) if wait else None
        if source is None:
            return None
        return ContinuedSource(source, self._copy_outside(digest, span))

    def _outside(self, digest: Digest, span: Span | None) -> Source:
        """Open a blob of the inner store.

        Raises:
            NotFoundError, CorruptError, UnavailableError: as that has it.
        """
        source = self.inner.open(digest, span)
        assert source is not None
        return source if self._traits.native_file else UnfiledSource(source)

    def _copy_outside(self, digest: Digest, span: Span | None) -> Iterator[Source | BlobError]:
        """Where a reader goes on that met damage in the cache, which forgets the blob."""
        self._drop([digest])
        yield outcome(self._outside, digest, span)

    def _at_hand(self, digest: Digest, span: Span | None) -> Source | None:
        """Open a small blob of the inner store, if that need not wait."""
        source = self.inner.open(digest, wait=False) if self._blob_bytes_min else None
        if source is not None and source.size_bytes >= self._blob_bytes_min:
            source.close()
            return None
        return None if source is None else self._part(source, span)

    def _fill(self, digest: Digest, span: Span | None) -> Source | None:
        """Copy a blob into the cache; what is not to be there, or cannot, is opened where it is.

        Raises:
            NotFoundError, CorruptError, UnavailableError: from the inner store.
        """
        if not self._begin_fill(digest):
            return self._outside(digest, span)
        room_bytes = 0
        is_there = False
        try:
            source = self.inner.open(digest)
            assert source is not None
            room_bytes = self._take_room(source.size_bytes)
            if not room_bytes:
                return self._part(source, span)
            with source:
                is_there = self._copy(source, digest)
        finally:
            is_kept = self._end_fill(digest, room_bytes, is_there=is_there)
        return None if is_kept else self._outside(digest, span)

    def _begin_fill(self, digest: Digest) -> bool:
        """Bring a blob in; False if somebody is about to."""
        with self._lock:
            is_new = digest not in self._fills
            if is_new:
                self._fills[digest] = True
            return is_new

    def _take_room(self, size_bytes: int) -> int:
        """Make room for a blob before it comes in; 0 where it is not wanted, or too much comes."""
        room_bytes = size_bytes + ENTRY_BYTES
        with self._lock:
            incoming_bytes = self._incoming_bytes + room_bytes
            is_much = incoming_bytes * INCOMING_SHARE > self._bytes_max
            if is_much or not self._is_wanted(size_bytes):
                return 0
            self._incoming_bytes = incoming_bytes
        self._make_room()
        return room_bytes

    def _is_wanted(self, size_bytes: int) -> bool:
        is_small = size_bytes < self._blob_bytes_min
        return not is_small and (size_bytes + ENTRY_BYTES) * SHARE <= self._bytes_max

    def _part(self, source: Source, span: Span | None) -> Source:
        """The wanted part of a blob of the inner store that was opened whole."""
        try:
            part = source if span is None else PartSource(source, clamp(span, source.size_bytes))
        except BaseException:
            source.close()
            raise
        return part if self._traits.native_file else UnfiledSource(part)

    def _copy(self, source: Source, digest: Digest) -> bool:
        """Copy and verify; an error of the cache is none of the reader's."""
        hasher = Hasher()
        try:
            sink = self._cache.sink()
        except BlobError:
            return False
        with sink:
            while chunk := source.read(limits.CHUNK_BYTES):
                hasher.update(chunk)
                try:
                    sink.write(chunk)
                except BlobError:
                    return False
            if hasher.ref().digest != digest:
                raise CorruptError("the stored bytes have another digest", digest=str(digest))
            try:
                sink.commit(BlobRef(digest, source.size_bytes)).result()
            except BlobError:
                return False
        return True

    def _count(self, digest: Digest, room_bytes: int) -> None:
        self._bytes += room_bytes - self._sizes.pop(digest, 0)
        self._sizes[digest] = room_bytes

    def _end_fill(self, digest: Digest, room_bytes: int, *, is_there: bool) -> bool:
        """Count a blob that came in, unless it was removed meanwhile; whether it is to be used."""
        with self._lock:
            self._incoming_bytes -= room_bytes
            is_kept = self._fills.pop(digest) and is_there
            if is_kept:
                self._count(digest, room_bytes)
        if is_there and not is_kept:
            self._drop([digest])
        return is_kept

    def _drop(self, digests: Collection[Digest]) -> None:
        """Let the cache forget blobs, and fills that have read them already."""
        with self._lock:
            for digest in digests:
                self._bytes -= self._sizes.pop(digest, 0)
                if digest in self._fills:
                    self._fills[digest] = False
        with suppress(BlobError):
            self._cache.remove(digests)

    def _make_room(self) -> None:
        with self._lock:
            leaving = []
            while self._sizes and self._bytes + self._incoming_bytes > self._bytes_max:
                digest, size_bytes = self._sizes.popitem(last=False)
                self._bytes -= size_bytes
                leaving.append(digest)
        for page in paged(leaving):
            with suppress(BlobError):
                self._cache.remove(page)
