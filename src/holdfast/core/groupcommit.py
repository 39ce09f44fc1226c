"""Group commit: one thread does what waits at one moment together, so that many share one sync.

While a batch is written, requests queue up; the next batch takes them all, or as many as it may.
Where it may wait for more, it really does. On a full disk, what frees space is done by itself, and
then one by one; a request that meets a defect while it is staged leaves the batch, which is done
without it. So each has its own outcome, and one that is wrong costs no other anything but time.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from holdfast.core import limits
from holdfast.core.errors import BlobError, FullError, UnavailableError, bare
from holdfast.core.pending import Promise
from holdfast.core.seams import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.seams import Clock

Space = TypeVar("Space")
Result = TypeVar("Result")


class SpoiltError(Exception):
    """A request met a defect while it was staged, and nobody knows what it left in its batch."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self.job = job


class Job(Generic[Space, Result]):
    """One request: `stage` runs in the thread of the group and changes the space of its batch.

    What it returns becomes the result of `promise` once the batch is durable and visible; an error
    there means that nothing of the request happened. A stage may raise a BlobError before it
    changes anything: that ends this request alone. It may run again, if its batch could not be
    written. One that `frees` space may be done when the disk is full, too.
    """

    __slots__ = ("_error", "_result", "_stage", "frees", "promise", "size_bytes")
    _result: Result

    def __init__(
        self, stage: Callable[[Space], Result], size_bytes: int, *, frees: bool = False
    ) -> None:
        self._stage = stage
        self._error: Exception | None = None
        self.size_bytes = size_bytes
        self.frees = frees
        self.promise: Promise[Result] = Promise()

    def stage(self, space: Space) -> None:
        """Change `space`; nothing is durable or visible yet.

        Raises:
            SpoiltError: it met a defect.
        """
        self._error = None
        try:
            self._result = self._stage(space)
        except BlobError as error:
            self._error = bare(error)
        except Exception as error:
            self._error = error
            raise SpoiltError(self) from error

    def settle(self, error: BlobError | None) -> None:
        """Tell who asked."""
        failure = error or self._error  # which may rest on what the batch did not do
        if failure is None:
            self.promise.set_result(self._result)
        else:
            self.promise.set_exception(failure)


AnyJob = TypeVar("AnyJob", bound=Job[Any, Any])


class Batching(NamedTuple):
    """How many requests share a batch at most, and how long the first of them waits for others."""

    size: int = 1
    wait_s: float = 0.0


class GroupCommit(Generic[AnyJob]):
    """The queue of requests and its thread; `submit` is safe from any thread."""

    def __init__(
        self,
        name: str,
        what: str,
        write: Callable[[list[AnyJob]], BlobError | None],
        batching: Batching,
        clock: Clock | None = None,
    ) -> None:
        """Let `write` stage the requests of a batch and make it durable, or say why it is not.

        Errors name `what` is written.
        """
        self._what = what
        self._write = write
        self._batching = batching
        self._clock = clock or SystemClock()
        self._process = os.getpid()
        self._queue: SimpleQueue[AnyJob | None] = SimpleQueue()
        self.failure = ""
        """Why nothing is taken any more, and nothing done that is queued."""
        self._closing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"holdfast-{name}", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return not (self._closing or self.failure)

    @property
    def is_own(self) -> bool:
        """Whether this process began it; a fork has a copy without the thread."""
        return os.getpid() == self._process

    def submit(self, job: AnyJob) -> None:
        """Queue a request; its `settle` is called by the thread, in order.

        Raises:
            UnavailableError: closed, failed, or more than `limits.QUEUE_JOBS_MAX` are waiting.
        """
        if self._closing or self.failure or not self.is_own:
            raise self.refusal()
        if self._queue.qsize() >= limits.QUEUE_JOBS_MAX:
            raise UnavailableError("too many writes are waiting for the disk")
        self._queue.put(job)
        if self._ended:
            self._refuse_rest()

    def refusal(self) -> UnavailableError:
        """A new error each time: an error that is raised again keeps every frame that it met."""
        if not self.is_own:
            owner = f"process {self._process} has {self._what}"
            return UnavailableError(f"{owner}, which forked this one")
        return UnavailableError(self.failure or f"{self._what} is closed")

    def close(self) -> None:
        """Do what is queued, and end; in a forked process, nothing: the thread is not its own."""
        if not self._closing and self.is_own:
            self._closing = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended and (job := self._queue.get()) is not None:
            jobs, ended = self._gather(job)
            self._do(jobs)
        self._ended = True
        self._refuse_rest()

    def _gather(self, first: AnyJob) -> tuple[list[AnyJob], bool]:
        """Take what waits, or comes in time; and say whether that is the end."""
        jobs, size_bytes = [first], first.size_bytes
        size, wait_s = self._batching
        until_s = self._clock.monotonic_s() + wait_s if wait_s else 0.0
        while size_bytes < limits.BATCH_BYTES_MAX and len(jobs) < size:
            try:
                job = self._next(until_s)
            except Empty:
                return jobs, False
            if job is None:
                return jobs, True
            jobs.append(job)
            size_bytes += job.size_bytes
        return jobs, False

    def _next(self, until_s: float) -> AnyJob | None:
        left_s = until_s - self._clock.monotonic_s() if until_s else 0.0
        return self._queue.get(timeout=left_s) if left_s > 0 else self._queue.get_nowait()

    def _refuse_rest(self) -> None:
        """End requests that slipped in behind the closing."""
        with suppress(Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None:
                    job.settle(self.refusal())

    def _do(self, jobs: list[AnyJob]) -> None:
        """Write a batch, in parts if that is how it goes, and tell who asked."""
        waiting = [jobs]
        while waiting:
            part = waiting.pop(0)
            error, apart = self._try(part)
            again = {job for jobs in apart for job in jobs}
            for job in part:
                if job not in again:
                    job.settle(error)
            waiting[:0] = apart

    def _try(self, jobs: list[AnyJob]) -> tuple[BlobError | None, list[list[AnyJob]]]:
        """Write; the error, and what is to be tried again apart."""
        if self.failure:
            return self.refusal(), []
        try:
            error = self._write(jobs)
        except SpoiltError as spoilt:
            rest = [job for job in jobs if job is not spoilt.job]
            return None, [rest] if rest else []
        return error, _parts(jobs) if isinstance(error, FullError) else []


def _parts(jobs: list[AnyJob]) -> list[list[AnyJob]]:
    """What may still be done of a batch for which the disk was too full."""
    freeing = [job for job in jobs if job.frees]
    if len(freeing) < len(jobs):
        return [freeing] if freeing else []
    return [[job] for job in jobs] if len(jobs) > 1 else []
