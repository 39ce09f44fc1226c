"""Blobs on their way into an epoch, with the commit that names them."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.shards.rows import Chunk, chunk_of, place_of

if TYPE_CHECKING:
    from holdfast.core.digest import BlobRef
    from holdfast.core.pending import Pending
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.shards import Shards
    from holdfast.shards.worker import Worker

WRITE_CHUNKS = 4  # in one transaction


class StagedBytes:
    """A small blob; its `stage` runs in the planner's thread."""

    __slots__ = ("_payload", "ref")
    is_stored = False

    def __init__(self, ref: BlobRef, payload: bytes) -> None:
        self._payload = payload
        self.ref = ref

    @property
    def size_bytes(self) -> int:
        """What the epoch takes along."""
        return self.ref.size_bytes

    def stage(self, epoch: Epoch) -> None:
        """Store the blob unless a good copy is there."""
        epoch.add_blob(self.ref, self._payload)


class Stream:
    """Chunks of a large blob that are written as they come, and that no blob has yet.

    They go when nobody refers to this any more and no epoch has named them.
    """

    def __init__(self, shards: Shards) -> None:
        self._worker = shards.home()
        self._shards = shards
        self._chunks: list[Chunk] = []
        self._count = 0
        self._is_begun = False
        self._pending: Pending[None] | None = None
        self.id = self._worker.shard.new_id()
        self.written_bytes = 0
        assert self._worker.pins.pin(self.id)
        self.discard = weakref.finalize(self, _let_go, self._worker, self.id)
        """Let the chunks go, unless an epoch has named them; a second call does nothing."""
        self.discard.atexit = False

    @property
    def home(self) -> int:
        """The shard with the chunks."""
        return self._worker.shard.number

    def add(self, data: bytes) -> None:
        """Take the next chunk, `limits.ROW_BYTES_MAX` of bytes unless it is the last.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        self._chunks.append(chunk_of(place_of(self.id, self._count), data))
        self._count += 1
        if len(self._chunks) == WRITE_CHUNKS:
            self._write()

    def finish(self) -> None:
        """Write what is left, and wait for all of it.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        self._write()
        self._wait()

    def _write(self) -> None:
        """Write while the next ones come, and no more than that ahead."""
        self._wait()
        if self._chunks:
            self._make_room()
            chunks, self._chunks = self._chunks, []
            loose = None if self._is_begun else self.id
            self._is_begun = True
            write = partial(self._worker.shard.write_chunks, chunks, loose)
            self._pending = self._worker.submit(write)
            self.written_bytes += sum(len(chunk.data) for chunk in chunks)

    def _make_room(self) -> None:
        """Make room for what is not in the files yet, or let the planner find some.

        Raises:
            FullError, UnavailableError: there is none.
        """
        try:
            self._shards.planner.make_room()
        except OSError:
            self._shards.submit(lambda _: None, 0).result()

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()


def _let_go(worker: Worker, blob_id: int) -> None:
    worker.pins.release(blob_id)
    worker.collect(blob_id)


class StagedStream:
    """A large blob whose chunks are written, and which an epoch names."""

    __slots__ = ("_stream", "ref")
    is_stored = False
    size_bytes = 0

    def __init__(self, ref: BlobRef, stream: Stream) -> None:
        self._stream = stream
        self.ref = ref

    def stage(self, epoch: Epoch) -> None:
        """Name the chunks."""
        epoch.take(self.ref, self._stream.home, self._stream.id)


def cut(buffer: bytearray) -> bytes:
    """Take one chunk from the front of a buffer."""
    data = bytes(buffer[: limits.ROW_BYTES_MAX])
    del buffer[: limits.ROW_BYTES_MAX]
    return data
