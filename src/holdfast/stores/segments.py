"""Small blobs as records of the log: one append and one shared sync each, one read to get back.

A blob is held in memory on its way, so this store takes blobs up to `limits.BATCH_BYTES_MAX` only;
stores.tiered sends larger ones elsewhere. Every read is verified against the record's
checksum before a byte is returned. Removal is a record too; the space comes back with compaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, NotFoundError, TooLargeError
from holdfast.core.store import NativeFile, Span, Traits, clamp
from holdfast.log.batch import Needs
from holdfast.log.record import RAW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.log.batch import Batch
    from holdfast.log.log import Log


class SegmentStore:
    """A store over an open log, which its owner closes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._index = log.index
        self.traits = Traits(durable=True, native_file=False, log_id=log.id)

    def sink(self) -> SegmentSink:
        """Open a way in for one small blob."""
        return SegmentSink(self._log)

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> MemorySource | None:
        """Read and verify the whole record, then give out the span."""
        place = self._index.locate(digest)
        if place is None:
            raise NotFoundError("no such blob", digest=str(digest))
        offset, size_bytes = clamp(span, place.content_bytes)
        payload = self._log.read(digest, place, wait=wait)
        if payload is None:
            return None
        return MemorySource(payload if span is None else payload[offset : offset + size_bytes])

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Look the sizes up in the index."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        places = ((digest, self._index.locate(digest)) for digest in digests)
        return {digest: place.content_bytes for digest, place in places if place is not None}

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Walk the index, a page at a time."""
        start: bytes = after or b""
        while page := self._index.blobs(start, limits.BATCH_REFS_MAX):
            for digest, place in page:
                yield BlobRef(digest, place.content_bytes)
            start = page[-1][0]

    def remove(self, digests: Collection[Digest]) -> None:
        """Append one removal for all of them and wait until it is durable."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        if digests:
            gone = list(digests)
            self._log.submit(lambda batch: batch.remove_blobs(gone), 32 * len(gone)).result()

    def close(self) -> None:
        """Do nothing: the log belongs to who opened it."""


class SegmentSink:
    """Gathers one small blob."""

    __slots__ = ("_chunks", "_log", "_size_bytes")

    def __init__(self, log: Log) -> None:
        self._log = log
        self._chunks: list[bytes] = []
        self._size_bytes = 0

    def write(self, chunk: Buffer) -> None:
        """Keep a copy (bytes are kept as they are).

        Raises:
            TooLargeError: the blob is too large for the log.
        """
        self._size_bytes += len(chunk)
        if self._size_bytes > limits.BATCH_BYTES_MAX:
            raise TooLargeError("blob in the log", limits.BATCH_BYTES_MAX)
        self._chunks.append(bytes(chunk))

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Queue the blob for the next batch."""
        assert ref.size_bytes == self._size_bytes
        payload = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

        def stage(batch: Batch) -> None:
            if not self._is_stored(ref.digest, batch):
                batch.add_blob(ref.digest, payload, ref.size_bytes, RAW)

        return self._log.submit(stage, len(payload), Needs(digests=(ref.digest,)))

    def _is_stored(self, digest: Digest, batch: Batch) -> bool:
        """Whether a good copy is there; a damaged one is no reason to refuse a new one."""
        place = batch.locate(digest)
        if place is None:
            return False
        if (place.segment_id, place.offset) >= batch.start[:2]:
            return True  # in this very batch
        try:
            return self._log.read(digest, place, wait=True) is not None
        except BlobError:
            return False

    def close(self) -> None:
        """Forget what was gathered."""
        self._chunks = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class MemorySource:
    """Verified bytes in memory."""

    __slots__ = ("_at", "_view", "size_bytes")

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0
        self.size_bytes = len(view)

    def read(self, size_bytes: int) -> memoryview:
        """Give out the next bytes, without a copy."""
        chunk = self._view[self._at : self._at + size_bytes]
        self._at += len(chunk)
        return chunk

    def seek(self, offset: int) -> None:
        """Move within the span."""
        self._at = offset

    def file(self) -> NativeFile | None:
        """None: the bytes are in memory already."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Do nothing: the whole was verified when it was read."""
        del window, wait
        return True

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass
