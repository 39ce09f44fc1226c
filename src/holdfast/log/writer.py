"""The writer: one thread that turns all waiting requests into one append and one sync.

Group commit: while a sync runs, requests queue up; the next batch takes them all. The batch is
staged in one index transaction, written behind the end of the active segment, synced, and only
then does the transaction commit and do the requests end. An error at any step undoes the
transaction and cuts the segment back, so that what was refused never comes back. If even that is
in doubt (a failed sync leaves the page cache lying about the disk, lwn.net/Articles/752063), the
writer takes nothing more until the log is opened again; reads go on.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from holdfast.core import limits
from holdfast.core.errors import BlobError, FullError, UnavailableError
from holdfast.log.batch import Batch, Job
from holdfast.log.index import Position
from holdfast.log.record import NO_NAME, Header, Kind, checksum, pack
from holdfast.log.segment import HEADER_BYTES, Segment, SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.core.seams import Clock, Disk, Entropy
    from holdfast.log.index import Index

FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class WriterStats:
    """Counters since the log was opened; written by one thread, read by any."""

    __slots__ = ("batches", "bytes", "jobs", "segments")

    def __init__(self) -> None:
        self.batches = 0
        self.bytes = 0
        self.jobs = 0
        self.segments = 0


class Writer:
    """Owns the active segment and its end; `submit` is safe from any thread."""

    def __init__(
        self,
        root: Path,
        index: Index,
        seams: tuple[Disk, Clock, Entropy],
        active: Segment,
        end: Position,
    ) -> None:
        self._root = root
        self._index = index
        self._disk, self._clock, self._entropy = seams
        self._active = active
        self._allocated = active.size_bytes
        self._end = end
        self._process = os.getpid()
        self._queue: SimpleQueue[Job[Any] | None] = SimpleQueue()
        self._failure: BlobError | None = None
        self._closing = False
        self._ended = False
        self.stats = WriterStats()
        self.on_commit: Callable[[int], None] = _ignore
        self._thread = threading.Thread(target=self._run, name="holdfast-log", daemon=True)
        self._thread.start()

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        return self._end.revision

    @property
    def end(self) -> Position:
        """Where the log ends: all before it is durable."""
        return self._end

    @property
    def healthy(self) -> bool:
        """Whether writes are taken."""
        return self._failure is None and not self._closing

    @property
    def is_own(self) -> bool:
        """Whether this process opened the log; a fork has a copy without the thread."""
        return os.getpid() == self._process

    @property
    def healthy_end(self) -> bool:
        """Whether every batch ended in order, so that the index is worth trusting."""
        return self._failure is None

    def submit(self, job: Job[Any]) -> None:
        """Queue a request; its `settle` is called by the writer's thread, in order.

        Raises:
            UnavailableError: closed, failed, or more than `limits.QUEUE_JOBS_MAX` are waiting.
        """
        if not self.healthy or not self.is_own:
            raise self._refusal()
        if self._queue.qsize() >= limits.QUEUE_JOBS_MAX:
            raise UnavailableError("too many writes are waiting for the disk")
        self._queue.put(job)
        if self._ended:
            self._refuse_rest()

    def close(self) -> Position:
        """Finish what is queued, give reserved space back, and return where the log ends.

        In a forked process it does nothing: neither the thread nor the end of the log are its own.
        """
        if not self._closing and self.is_own:
            self._closing = True
            self._queue.put(None)
            self._thread.join()
            try:
                if self._failure is None:
                    self._disk.truncate(self._active.descriptor, self._end.offset)
                    self._disk.sync(self._active.descriptor)
            finally:
                del self._active  # whose descriptor goes with the last reference
        return self._end

    def _run(self) -> None:
        ended = False
        while not ended and (job := self._queue.get()) is not None:
            jobs, ended = self._take(job)
            error = self._write_or_fail(jobs)
            for each in jobs:
                each.settle(error)
        self._ended = True
        self._refuse_rest()

    def _write_or_fail(self, jobs: list[Job[Any]]) -> BlobError | None:
        """Write; a defect of ours ends in an error for everybody, never in silence."""
        try:
            return self._write(jobs)
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            self._cut_back(self._end)
            self._failure = UnavailableError(f"the log met a defect, reopen it: {error!r}")
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
        return UnavailableError(self._failure.message if self._failure else "the log is closed")

    def _write(self, jobs: list[Job[Any]]) -> BlobError | None:
        if self._failure is not None:
            return self._refusal()
        before = self._end
        try:
            self._rotate_if_full()
            before = self._end
            self._commit(jobs)
        except OSError as error:
            self._cut_back(before)
            refused = _map(error)
            if not isinstance(refused, FullError):
                self._failure = refused
            return refused
        except BlobError as error:
            self._cut_back(before)
            return error
        if self._end.revision != before.revision:
            self.on_commit(self._end.revision)
        return None

    def _commit(self, jobs: list[Job[Any]]) -> None:
        with self._index.writing() as txn:
            batch = Batch(self._index, txn, self._active.header.salt, self._end)
            batch.fetch([job.needs for job in jobs])
            for job in jobs:
                job.stage(batch)
            end = batch.seal()
            if batch.buffers:
                self._allocated = self._active.reserve(self._allocated, end.offset)
                self._disk.pwrite_all(self._active.descriptor, batch.buffers, batch.start.offset)
                self._disk.sync_data(self._active.descriptor)
        self.stats.batches += 1
        self.stats.jobs += len(jobs)
        self.stats.bytes += end.offset - self._end.offset
        self._end = end

    def _cut_back(self, end: Position) -> None:
        """Erase what a failed batch left behind `end`; in doubt, take nothing more."""
        self._end = end
        try:
            self._disk.truncate(self._active.descriptor, end.offset)
            self._disk.sync_data(self._active.descriptor)
            self._allocated = end.offset
        except OSError as error:
            self._failure = UnavailableError(f"the log's disk failed ({error.strerror}): reopen it")

    def _rotate_if_full(self) -> None:
        if self._end.offset + limits.BATCH_BYTES_MAX <= limits.SEGMENT_BYTES_MAX:
            return
        self._seal_active()
        header = SegmentHeader(
            self._active.header.id + 1,
            int.from_bytes(self._entropy.random_bytes(8), "little"),
            self._clock.now_us(),
        )
        self._active = Segment.create(self._disk, self._root, header)
        self._allocated = self._active.size_bytes
        self._end = Position(header.id, HEADER_BYTES, self._end.revision)
        self.stats.segments += 1

    def _seal_active(self) -> None:
        """End the segment with a seal, behind which nothing may follow."""
        offset = self._end.offset
        header = Header(Kind.SEAL, 0, 0, 0, offset, NO_NAME, checksum(b""))
        seal = pack(header, self._active.header.salt, offset)
        self._disk.pwrite_all(self._active.descriptor, (seal,), offset)
        self._disk.truncate(self._active.descriptor, offset + len(seal))
        self._disk.sync(self._active.descriptor)


def _map(error: OSError) -> BlobError:
    if error.errno in FULL:
        return FullError("the disk of the log is full")
    return UnavailableError(f"the disk of the log refuses: {error.strerror}")


def _ignore(revision: int) -> None:
    del revision
