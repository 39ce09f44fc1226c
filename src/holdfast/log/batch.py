"""A batch: what one group commit appends, staged in memory and in one index transaction."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast.core.errors import BlobError
from holdfast.log.index import Location, Position
from holdfast.log.record import (
    HEADER_BYTES,
    NO_NAME,
    Header,
    Kind,
    Writes,
    checksum,
    encode_commits,
    pack,
    revision_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.seams import Buffer
    from holdfast.log.index import Index, Txn

Result = TypeVar("Result")


class Job(Generic[Result]):
    """One request to the log: `stage` runs in the writer's thread and appends to its batch.

    What it returns becomes the result of `future` once the batch is durable and visible; an error
    in the future means that nothing of the request happened. A stage may raise a BlobError before
    it appends anything: that ends this request alone.
    """

    __slots__ = ("_refusal", "_result", "_stage", "future", "size_bytes")
    _result: Result

    def __init__(self, stage: Callable[[Batch], Result], size_bytes: int) -> None:
        self._stage = stage
        self._refusal: BlobError | None = None
        self.size_bytes = size_bytes
        self.future: Future[Result] = Future()
        self.future.set_running_or_notify_cancel()  # what is queued cannot be taken back

    def stage(self, batch: Batch) -> None:
        """Append to `batch`; nothing is durable or visible yet."""
        try:
            self._result = self._stage(batch)
        except BlobError as error:
            self._refusal = error

    def settle(self, error: BlobError | None) -> None:
        """Tell who asked."""
        error = self._refusal or error
        if error is None:
            self.future.set_result(self._result)
        else:
            self.future.set_exception(error)


class Batch:
    """Records that are written together behind `start` of one segment."""

    def __init__(self, index: Index, txn: Txn, salt: int, start: Position) -> None:
        self.index = index
        self.txn = txn
        self.start = start
        self.buffers: list[Buffer] = []
        self.end = start.offset
        self.commits: list[Writes] = []
        self._salt = salt

    def add_blob(self, digest: bytes, payload: Buffer, content_bytes: int, codec: int) -> None:
        """Append a blob and index it."""
        location = Location(self.start.segment_id, self.end, len(payload), content_bytes, codec)
        self._append(Kind.BLOB, digest, payload, content_bytes, codec)
        self.index.put_blob(self.txn, digest, location)

    def remove_blobs(self, digests: Sequence[bytes]) -> None:
        """Append the removal of blobs and forget them."""
        self._append(Kind.REMOVE, NO_NAME, b"".join(digests), 0, 0)
        for digest in digests:
            self.index.remove_blob(self.txn, digest)

    def add_commit(self, writes: Writes) -> int:
        """Apply the writes of one commit and return its revision."""
        self.commits.append(writes)
        revision = self.start.revision + len(self.commits)
        self.index.put_keys(self.txn, writes, revision)
        return revision

    def seal(self) -> Position:
        """Append the commits as one record, behind all blobs, and return where the batch ends."""
        if self.commits:
            first = self.start.revision + 1
            self.index.put_batch(self.txn, first, self.start.segment_id, self.end)
            self._append(Kind.COMMIT, revision_name(first), encode_commits(self.commits), 0, 0)
        end = Position(self.start.segment_id, self.end, self.start.revision + len(self.commits))
        self.index.set_applied(self.txn, end)
        return end

    def _append(
        self, kind: Kind, name: bytes, payload: Buffer, content_bytes: int, codec: int
    ) -> None:
        header = Header(
            kind, codec, len(payload), content_bytes, self.start.offset, name, checksum(payload)
        )
        self.buffers.append(pack(header, self._salt, self.end))
        self.buffers.append(payload)
        self.end += HEADER_BYTES + len(payload)
