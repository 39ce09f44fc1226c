"""The writer: one thread that turns all waiting requests into one append and one sync.

Group commit (core/groupcommit.py): while a sync runs, requests queue up. A batch is staged in one
index transaction, written behind the end of the log (log/tail.py), synced, and only then does the
transaction commit and do the requests end. An error at any step undoes the transaction, so that
what was refused never comes back, and the next batch begins in good order: behind the same place
or, if the disk cannot be trusted with that segment, in a new one. A defect of ours behind the
staging ends the writer until the log is opened again, which reads everything anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.events import defect
from holdfast.core.groupcommit import Batching, GroupCommit, SpoiltError
from holdfast.log.batch import Batch, Claim, LogJob
from holdfast.log.segment import map_disk_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.log.board import Board
    from holdfast.log.index import Index
    from holdfast.log.room import Room
    from holdfast.log.tail import Tail


class WriterStats:
    """Counters since the log was opened; written by one thread, read by any."""

    __slots__ = ("batches", "bytes", "compacted_bytes", "freed_bytes", "jobs")

    def __init__(self) -> None:
        self.batches = 0
        self.bytes = 0
        self.compacted_bytes = 0
        self.freed_bytes = 0
        self.jobs = 0


class Writer:
    """The one that appends in this process."""

    def __init__(self, index: Index, tail: Tail, board: Board, room: Room) -> None:
        self._index = index
        self._room = room
        self._tail = tail
        self._board = board
        self._is_settled = True
        self.stats = WriterStats()
        self.before_batch: Callable[[], None] = _ignore
        self.on_commit: Callable[[], None] = _ignore
        self.queue: GroupCommit[LogJob[Any]] = GroupCommit(
            "log", "the log", self._write_or_fail, Batching(limits.BATCH_JOBS_MAX)
        )

    @property
    def healthy(self) -> bool:
        """Whether the log is open and its last failure, if any, was overcome."""
        return self._is_settled and self.queue.is_open

    @property
    def healthy_end(self) -> bool:
        """Whether the last batch ended in order, so that the index is worth trusting."""
        return self._is_settled and not self.queue.failure

    def _write_or_fail(self, jobs: list[LogJob[Any]]) -> BlobError | None:
        """Write; a defect of ours ends in an error for everybody, never in silence.

        Raises:
            SpoiltError: one of the requests has met it, before anything was written.
        """
        try:
            return self._write(jobs)
        except SpoiltError:
            raise
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            defect(error, "log")
            self.queue.failure = f"the log met a defect, reopen it: {error!r}"
            return self.queue.refusal()

    def _write(self, jobs: list[LogJob[Any]]) -> BlobError | None:
        self.before_batch()
        try:
            commits = self._commit(jobs)
        except OSError as error:
            self._settle()
            return map_disk_error(error)
        except BlobError as error:
            self._settle()
            return error
        self._is_settled = True
        if commits:
            self.on_commit()
        return None

    def _commit(self, jobs: list[LogJob[Any]]) -> int:
        """Append what the jobs stage, and return the number of commits."""
        claim = max(job.claim for job in jobs)
        frees = claim != Claim.WRITE
        with self._index.writing() as txn:
            if not frees:
                self._room.reserve()
            batch = Batch(self._index, txn, self._tail.begin(txn, frees=frees))
            batch.fetch([job.needs for job in jobs])
            for job in jobs:
                job.stage(batch)
            end = batch.seal()
            if batch.buffers:
                self._tail.append(batch.buffers, batch.start, end.offset, claim.kept_bytes)
                self._board.see(end.revision, batch.tables)
        self.stats.batches += 1
        self.stats.jobs += len(jobs)
        self.stats.bytes += end.offset - batch.start.offset
        return end.revision - batch.start.revision

    def _settle(self) -> None:
        """After a failure: leave a log that others can go on with; else the next batch tries."""
        try:
            with self._index.writing() as txn:
                self._tail.begin(txn, frees=True)
        except (OSError, BlobError):
            self._is_settled = False
        else:
            self._is_settled = True


def _ignore() -> None:
    pass
