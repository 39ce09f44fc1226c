"""The writer: one thread that turns all waiting requests into one append and one sync.

Group commit: while a sync runs, requests queue up; the next batch takes them all. The batch is
staged in one index transaction, written behind the end of the log (log/tail.py), synced, and only
then does the transaction commit and do the requests end. An error at any step undoes the
transaction, so that what was refused never comes back, and the next batch begins in good order:
behind the same place or, if the disk cannot be trusted with that segment, in a new one.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from holdfast.core import limits
from holdfast.core.errors import BlobError, FullError, UnavailableError
from holdfast.log.batch import Batch, Claim, Job
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
    """The one that appends in this process; `submit` is safe from any thread."""

    def __init__(self, index: Index, tail: Tail, board: Board, room: Room) -> None:
        self._index = index
        self._room = room
        self._tail = tail
        self._board = board
        self._process = os.getpid()
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._defect: BlobError | None = None
        self._is_settled = True
        self._closing = False
        self._ended = False
        self.stats = WriterStats()
        self.before_batch: Callable[[], None] = _ignore
        self.on_commit: Callable[[], None] = _ignore
        self._thread = threading.Thread(target=self._run, name="holdfast-log", daemon=True)
        self._thread.start()

    @property
    def healthy(self) -> bool:
        """Whether the log is open and its last failure, if any, was overcome."""
        return self._is_settled and self._defect is None and not self._closing

    @property
    def healthy_end(self) -> bool:
        """Whether the last batch ended in order, so that the index is worth trusting."""
        return self._is_settled and self._defect is None

    @property
    def is_own(self) -> bool:
        """Whether this process opened the log; a fork has a copy without the thread."""
        return os.getpid() == self._process

    def submit(self, job: Job[Any]) -> None:
        """Queue a request; its `settle` is called by the writer's thread, in order.

        Raises:
            UnavailableError: closed, or more than `limits.QUEUE_JOBS_MAX` are waiting.
        """
        if self._closing or self._defect is not None or not self.is_own:
            raise self._refusal()
        if self._queue.qsize() >= limits.QUEUE_JOBS_MAX:
            raise UnavailableError("too many writes are waiting for the disk")
        self._queue.put(job)
        if self._ended:
            self._refuse_rest()

    def close(self) -> None:
        """Finish what is queued.

        In a forked process it does nothing: the thread is not its own.
        """
        if not self._closing and self.is_own:
            self._closing = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended and (job := self._queue.get()) is not None:
            jobs, ended = self._take(job)
            self._end(jobs)
        self._ended = True
        self._refuse_rest()

    def _end(self, jobs: list[Job[Any]]) -> None:
        """Write and tell who asked; on a full disk, what frees space by itself, then one by one."""
        error = self._write_or_fail(jobs)
        parts = _parts(jobs) if isinstance(error, FullError) else []
        left = {job for part in parts for job in part}
        for job in jobs:
            if job not in left:
                job.settle(error)
        for part in parts:
            self._end(part)

    def _write_or_fail(self, jobs: list[Job[Any]]) -> BlobError | None:
        """Write; a defect of ours ends in an error for everybody, never in silence."""
        if self._defect is not None:
            return self._refusal()
        try:
            return self._write(jobs)
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            self._defect = UnavailableError(f"the log met a defect, reopen it: {error!r}")
            return self._refusal()

    def _take(self, first: Job[Any]) -> tuple[list[Job[Any]], bool]:
        jobs = [first]
        size_bytes = first.size_bytes
        while size_bytes < limits.BATCH_BYTES_MAX and len(jobs) < limits.BATCH_JOBS_MAX:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, False
            if job is None:
                return jobs, True
            jobs.append(job)
            size_bytes += job.size_bytes
        return jobs, False

    def _refuse_rest(self) -> None:
        """End requests that slipped in behind the closing."""
        with suppress(Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    job.settle(self._refusal())

    def _refusal(self) -> UnavailableError:
        """A new error each time: an error that is raised again keeps every frame that it met."""
        if not self.is_own:
            return UnavailableError(f"process {self._process} has the log, which forked this one")
        return UnavailableError(self._defect.message if self._defect else "the log is closed")

    def _write(self, jobs: list[Job[Any]]) -> BlobError | None:
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

    def _commit(self, jobs: list[Job[Any]]) -> int:
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


def _parts(jobs: list[Job[Any]]) -> list[list[Job[Any]]]:
    """What may still be done of a batch for which the disk was too full."""
    freeing = [job for job in jobs if job.claim != Claim.WRITE]
    if len(freeing) < len(jobs):
        return [freeing] if freeing else []
    return [[job] for job in jobs] if len(jobs) > 1 else []


def _ignore() -> None:
    pass
