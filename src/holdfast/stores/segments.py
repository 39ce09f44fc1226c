"""Small blobs as records of the log: one append and one shared sync each, one read to get back.

A blob is held in memory on its way, so this store takes blobs up to `limits.BATCH_BYTES_MAX` only;
stores.tiered sends larger ones elsewhere. Every read is verified against the record's
checksum before a byte is returned. Removal is a record too; the space comes back with compaction.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Self

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import DIGEST_BYTES, BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, TooLargeError, bare
from holdfast.core.many import grouped, name_all, open_one
from holdfast.core.store import NativeFile, Span, Traits, Verdict, clamp, no_such_blob
from holdfast.log.batch import Batch, Claim, Needs
from holdfast.log.reading import file_refs, read_many, stored_us
from holdfast.log.staged import StagedBlob
from holdfast.log.usage import usage_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.core.store import FileRef, Keep, Source, Usage
    from holdfast.log.index import Location
    from holdfast.log.log import Log


MOVES_MAX = 8  # compactions that one read may meet


class SegmentStore:
    """A store over an open log, which its owner closes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._index = log.index
        self.traits = Traits(durable=True, native_file=False, files=True, log_id=log.id)

    def sink(self) -> SegmentSink:
        """Open a way in for one small blob."""
        return SegmentSink(self._log)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Append as many as a batch takes with one request to the log, which is one sync."""
        named = name_all(payloads)
        outcomes: dict[BlobRef, BlobRef | BlobError] = {}
        fitting = {ref: data for ref, data in named if len(data) <= limits.BATCH_BYTES_MAX}
        groups = [{ref: fitting[ref] for ref in group} for group in grouped(fitting)]
        pending = [(group, self._begin(group)) for group in groups]
        for group, stored in pending:
            error = _error_of(stored)
            outcomes |= {ref: error or ref for ref in group}
        return [outcomes.get(ref) or _too_large() for ref, _ in named]

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> MemorySource | None:
        """Read and verify the whole record, then give out the span."""
        for _ in range(MOVES_MAX):
            place = self._index.locate(digest)
            if place is None:
                raise no_such_blob(digest)
            part = None if span is None else clamp(span, place.content_bytes)
            try:
                payload = self._log.read(digest, place, wait=wait)
            except FileNotFoundError:
                continue  # compaction moved it in between
            break
        else:
            raise CorruptError("the segment of a blob is missing", digest=str(digest))
        if payload is None:
            return None
        if part is not None:
            payload = payload[part.offset : part.offset + part.size_bytes]
        return MemorySource(payload)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Look all of them up at once, then read neighbours together, a window at a time."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return self._open_many(digests, self._index.locate_all(digests))

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name the segments, after a look at the header of each record."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found: dict[Digest, FileRef | BlobError] = {}
        left = self._index.locate_all(digests)
        for _ in range(MOVES_MAX):
            found |= file_refs(self._log, left)
            left = self._index.locate_all([digest for digest in left if digest not in found])
        found |= dict.fromkeys(left, CorruptError("the segment of a blob is missing"))
        return [found.get(digest) or no_such_blob(digest) for digest in digests]

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
            stage = partial(Batch.remove_blobs, digests=gone)
            self._log.submit(stage, DIGEST_BYTES * len(gone), claim=Claim.REMOVE).result()

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Ask `keep` in the batch that removes; a blob that was stored anew meanwhile is young."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        places = self._index.locate_all(list(digests))
        times = stored_us(self._log, places)
        old = {digest: at for digest, at in places.items() if times[digest] < before_us}
        verdicts = dict.fromkeys(places.keys() - old.keys(), Verdict.YOUNG)
        if old:
            needs = Needs(digests=list(old))
            stage = partial(_expire, old, keep)
            verdicts |= self._log.submit(
                stage, DIGEST_BYTES * len(old), needs, claim=Claim.REMOVE
            ).result()
        return verdicts

    def usage(self) -> Usage:
        """Look at the segments and at the accounts of the index."""
        return usage_of(self._log)

    def close(self) -> None:
        """Do nothing: the log belongs to who opened it."""

    def _open_many(
        self, digests: Sequence[Digest], places: Mapping[Digest, Location]
    ) -> Iterator[Source | BlobError]:
        for window in _windows(digests, places):
            wanted = {digest: places[digest] for digest in window if digest in places}
            sound = read_many(self._log, wanted)
            for digest in window:
                if digest in sound:
                    yield MemorySource(sound[digest])
                else:
                    yield open_one(self, digest)  # which says what is wrong, if it still is

    def _begin(self, group: Mapping[BlobRef, bytes]) -> Pending[None] | BlobError:
        try:
            return begin(self._log, [StagedBlob(self._log, *blob) for blob in group.items()])
        except BlobError as error:
            return bare(error)


class SegmentSink(Closing):
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
            raise _too_large()
        self._chunks.append(bytes(chunk))

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Queue the blob for the next batch."""
        return begin(self._log, [self.stage(ref)])

    def stage(self, ref: BlobRef) -> StagedBlob:
        """Leave the blob to the commit that names it: one request to the log for both."""
        assert ref.size_bytes == self._size_bytes
        payload = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        return StagedBlob(self._log, ref, payload)

    def close(self) -> None:
        """Forget what was gathered."""
        self._chunks = []


class MemorySource:
    """Verified bytes in memory."""

    __slots__ = ("_at", "_view", "size_bytes")
    turns = 0

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


def begin(log: Log, blobs: Sequence[StagedBlob]) -> Pending[None]:
    """Queue blobs for the next batch, as one request: all of them or none.

    Raises:
        UnavailableError: the log takes nothing, or too much is waiting for it.
    """

    def stage(batch: Batch) -> None:
        for blob in blobs:
            blob.stage(batch)

    needs = Needs(digests=[blob.ref.digest for blob in blobs])
    return log.submit(stage, sum(blob.ref.size_bytes for blob in blobs), needs)


def _expire(old: Mapping[Digest, Location], keep: Keep, batch: Batch) -> dict[Digest, Verdict]:
    verdicts: dict[Digest, Verdict] = {}
    for digest, place in old.items():
        found = batch.locate(digest)
        if found == place:
            verdicts[digest] = Verdict.KEPT if keep(digest, batch) else Verdict.REMOVED
        elif found is not None:
            verdicts[digest] = Verdict.YOUNG
    gone = [digest for digest, verdict in verdicts.items() if verdict is Verdict.REMOVED]
    if gone:
        batch.remove_blobs(gone)
    return verdicts


def _windows(
    digests: Sequence[Digest], places: Mapping[Digest, Location]
) -> Iterator[Sequence[Digest]]:
    """Cut a list so that the blobs of each part fit into memory together."""
    start, size_bytes, seen = 0, 0, set[Digest]()
    for at, digest in enumerate(digests):
        if digest in seen or digest not in places:
            continue
        more_bytes = places[digest].payload_bytes
        if seen and size_bytes + more_bytes > limits.READ_AHEAD_BYTES:
            yield digests[start:at]
            start, size_bytes, seen = at, 0, set()
        seen.add(digest)
        size_bytes += more_bytes
    yield digests[start:]


def _too_large() -> TooLargeError:
    return TooLargeError("blob in the log", limits.BATCH_BYTES_MAX)


def _error_of(stored: Pending[None] | BlobError) -> BlobError | None:
    if isinstance(stored, BlobError):
        return stored
    error = stored.exception()
    assert error is None or isinstance(error, BlobError)
    return error
