"""Blobs in the shards of SQLite: small ones with the commit that names them, large ones in chunks.

A blob that grows beyond the largest small one is written to a shard as it comes, a chunk in each
row, and nobody sees it before its commit. Every chunk has a checksum and is read and verified by
itself, so neither way in nor way out holds more than a few of them. Removed chunks go when their
last reader is gone (shards/worker.py).
"""

from __future__ import annotations

import heapq
import weakref
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, UnavailableError, UnsupportedError
from holdfast.core.many import grouped, name_all, open_each, outcome
from holdfast.core.store import NativeFile, Span, Traits, Usage, Verdict, clamp, no_such_blob
from holdfast.shards.rows import BLOB, place_of, read_blob
from holdfast.shards.staged import StagedBytes, StagedStream, Stream, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer
    from holdfast.core.store import FileRef, Keep, Source
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.rows import Blob
    from holdfast.shards.shards import Shards

LOOKS_MAX = 100


class SqliteStore:
    """A store over open shards, which their owner closes."""

    def __init__(self, shards: Shards, small_bytes_max: int = limits.SMALL_BLOB_BYTES_MAX) -> None:
        assert 0 <= small_bytes_max <= limits.BATCH_BYTES_MAX
        self._shards = shards
        self._small_bytes_max = small_bytes_max
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self.traits = Traits(durable=True, native_file=False, log_id=shards.id)

    def sink(self) -> SqliteSink:
        """Open a way in for one blob."""
        return SqliteSink(self._shards, self._small_bytes_max, self._streams)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store small ones with one request for as many as a batch takes, the others one by one."""
        named = name_all(payloads)
        outcomes: dict[BlobRef, BlobRef | BlobError] = {}
        blobs = dict(named)
        small = [ref for ref in blobs if ref.size_bytes <= self._small_bytes_max]
        large = [[ref] for ref in blobs if ref.size_bytes > self._small_bytes_max]
        for group in (*grouped(small), *large):
            error = outcome(self._put_group, {ref: blobs[ref] for ref in group})
            outcomes |= {ref: error or ref for ref in group}
        return [outcomes[ref] for ref, _ in named]

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> SqliteSource | None:
        """Look the blob up; its chunks are read when they are asked for."""
        if not wait:
            return None  # nobody can say whether SQLite would wait for the disk
        for _ in range(LOOKS_MAX):
            blob, first = self._look(digest)
            if first is not None or self._pin(digest, blob):
                return SqliteSource(self._shards, blob, clamp(span, blob.size_bytes), first)
        raise UnavailableError("the blob is removed and stored too fast to be read")

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """There are no files to name: rows lie in pages that change."""
        there = self.stat(digests)
        return [
            UnsupportedError("blobs in SQLite lie in no file of their own")
            if digest in there
            else no_such_blob(digest)
            for digest in digests
        ]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Look the sizes up."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found = ((digest, self._locate(digest)) for digest in digests)
        return {digest: blob.size_bytes for digest, blob in found if blob is not None}

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Merge what the shards have, each a page at a time."""
        numbers = range(self._shards.routing.count)
        return heapq.merge(*(self._scan(number, after or b"") for number in numbers))

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs and wait until that is durable."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        if digests:
            gone = list(digests)
            self._shards.submit(lambda epoch: epoch.remove_blobs(gone), 0, frees=True).result()

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Ask `keep` in the epoch that removes."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        stage = partial(_expire, set(digests), before_us, keep)
        return self._shards.submit(stage, 0, frees=True).result() if digests else {}

    def usage(self) -> Usage:
        """Look at the files, and at what the shards say of themselves."""
        shards = self._shards.shards
        streams = [stream.written_bytes for stream in self._streams]
        unnamed = sum(shard.loose_bytes() for shard in shards)
        dead_bytes = sum(shard.free_bytes() for shard in shards) + unnamed - sum(streams)
        return Usage(
            segments=len(shards),
            segment_bytes=sum(map(self._shards.file_bytes, shards)),
            live_bytes=sum(shard.state.blob_bytes for shard in shards),
            dead_bytes=max(0, dead_bytes),
            temporary_files=len(streams),
            temporary_bytes=sum(streams),
        )

    def close(self) -> None:
        """Do nothing: the shards belong to who opened them."""

    def _look(self, digest: Digest) -> tuple[Blob, bytes | None]:
        """Look a blob up, together with its bytes where it is a single chunk.

        Raises:
            NotFoundError: there is no such blob.
        """
        number = self._shards.routing.digest(digest)
        found = self._shards.reading.blob(number, BLOB + digest)
        if found is None:
            raise no_such_blob(digest)
        return found

    def _pin(self, digest: Digest, blob: Blob) -> bool:
        """Keep the chunks of a blob, unless it was removed meanwhile."""
        worker = self._shards.workers[blob.home]
        if not worker.pins.pin(blob.id):
            return False
        if self._locate(digest) == blob:
            return True
        worker.release(blob.id)
        return False

    def _locate(self, digest: Digest) -> Blob | None:
        number = self._shards.routing.digest(digest)
        row = self._shards.reading.row(number, BLOB + digest)
        return None if row is None else read_blob(row.value)

    def _scan(self, number: int, after: bytes) -> Iterator[BlobRef]:
        while page := self._shards.reading.blobs(number, after):
            for digest, row in page:
                if row is not None:  # else fsck finds it
                    yield BlobRef(Digest(digest), read_blob(row.value).size_bytes)
            after = page[-1][0]

    def _put_group(self, group: Mapping[BlobRef, bytes]) -> None:
        blobs = [self._staged(ref, payload) for ref, payload in group.items()]
        _begin(self._shards, blobs).result()

    def _staged(self, ref: BlobRef, payload: bytes) -> StagedBytes | StagedStream:
        with self.sink() as sink:
            sink.write(payload)
            return sink.stage(ref)


class SqliteSink(Closing):
    """One blob on its way in: in memory while it is small, then in chunks."""

    def __init__(
        self, shards: Shards, small_bytes_max: int, streams: weakref.WeakSet[Stream]
    ) -> None:
        self._shards = shards
        self._small_bytes_max = small_bytes_max
        self._streams = streams
        self._stream: Stream | None = None
        self._buffer = bytearray()
        self._size_bytes = 0

    def write(self, chunk: Buffer) -> None:
        """Copy the next bytes, and write the chunks that are full."""
        view = memoryview(chunk).cast("B")
        self._size_bytes += len(view)
        for at in range(0, len(view), limits.ROW_BYTES_MAX):
            self._buffer += view[at : at + limits.ROW_BYTES_MAX]
            if self._size_bytes > self._small_bytes_max:
                self._write_chunks()

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Queue the blob for the next epoch."""
        return _begin(self._shards, [self.stage(ref)])

    def stage(self, ref: BlobRef) -> StagedBytes | StagedStream:
        """Leave the blob to the commit that names it: one request for both."""
        assert ref.size_bytes == self._size_bytes
        if self._stream is None:
            return StagedBytes(ref, bytes(self._buffer))
        if self._buffer:
            self._stream.add(cut(self._buffer))
        self._stream.finish()
        stream, self._stream = self._stream, None
        return StagedStream(ref, stream)

    def close(self) -> None:
        """Discard unless committed."""
        if self._stream is not None:
            self._stream.discard()
            self._stream = None
        self._buffer = bytearray()

    def _write_chunks(self) -> None:
        if self._stream is None:
            self._stream = Stream(self._shards)
            self._streams.add(self._stream)
        while len(self._buffer) >= limits.ROW_BYTES_MAX:
            self._stream.add(cut(self._buffer))


class SqliteSource(Closing):
    """A span of a blob; holds one chunk.

    The chunks of a blob that has more are pinned until this is closed.
    """

    turns = 0

    def __init__(self, shards: Shards, blob: Blob, span: Span, first: bytes | None) -> None:
        self._shards = shards
        self._blob = blob
        self._span = span
        self._at = 0
        self._number = -1 if first is None else 0
        self._chunk = first or b""
        self._release: Callable[[], object] | None = None
        if first is None:
            release = weakref.finalize(self, shards.workers[blob.home].release, blob.id)
            release.atexit = False
            self._release = release

    @property
    def size_bytes(self) -> int:
        """Size of the opened span."""
        return self._span.size_bytes

    def read(self, size_bytes: int) -> memoryview:
        """Read the next bytes of one chunk."""
        assert size_bytes > 0
        left = self._span.size_bytes - self._at
        if left == 0:
            return memoryview(b"")
        number, offset = divmod(self._span.offset + self._at, limits.ROW_BYTES_MAX)
        self._load(number)
        part = memoryview(self._chunk)[offset : offset + min(size_bytes, left)]
        self._at += len(part)
        return part

    def seek(self, offset: int) -> None:
        """Move within the span."""
        assert 0 <= offset <= self._span.size_bytes
        self._at = offset

    def file(self) -> NativeFile | None:
        """None: rows lie in pages that change."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Read the chunks of `window`."""
        if window.size_bytes == 0:
            return True
        first = self._span.offset + window.offset
        last = first + window.size_bytes - 1
        numbers = range(first // limits.ROW_BYTES_MAX, last // limits.ROW_BYTES_MAX + 1)
        if not wait:
            return list(numbers) == [self._number]
        for number in numbers:
            self._load(number)
        return True

    def close(self) -> None:
        """Let go of the chunks."""
        if self._release is not None:
            self._release()

    def _load(self, number: int) -> None:
        """Read and verify a chunk, unless it is the one that is held.

        Raises:
            CorruptError: it is damaged, or not there.
            UnavailableError: the disk refuses.
        """
        if number == self._number:
            return
        blob = self._blob
        data = self._shards.reading.chunk(blob.home, place_of(blob.id, number))
        size_bytes = min(limits.ROW_BYTES_MAX, blob.size_bytes - number * limits.ROW_BYTES_MAX)
        if data is None or len(data) != size_bytes:
            raise CorruptError("a part of a blob is missing", shard=blob.home, number=number)
        self._chunk, self._number = data, number


def _begin(shards: Shards, blobs: Sequence[StagedBytes | StagedStream]) -> Pending[None]:
    """Queue blobs for the next epoch, as one request: all of them or none.

    Raises:
        UnavailableError: the shards take nothing, or too much is waiting for them.
    """

    def stage(epoch: Epoch) -> None:
        for blob in blobs:
            blob.stage(epoch)

    return shards.submit(stage, sum(blob.size_bytes for blob in blobs))


def _expire(
    digests: Iterable[Digest], before_us: int, keep: Keep, epoch: Epoch
) -> dict[Digest, Verdict]:
    verdicts: dict[Digest, Verdict] = {}
    for digest in digests:
        blob = epoch.locate(digest)
        if blob is None:
            continue
        if blob.stored_us >= before_us:
            verdicts[digest] = Verdict.YOUNG
        else:
            verdicts[digest] = Verdict.KEPT if keep(digest, epoch) else Verdict.REMOVED
    epoch.remove_blobs([each for each, verdict in verdicts.items() if verdict is Verdict.REMOVED])
    return verdicts
