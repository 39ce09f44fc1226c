"""The planner: one thread that turns waiting requests into epochs, one after the other.

A batch is what waits (core/groupcommit.py). Each of its requests is planned by itself
(shards/epoch.py), then all shards that take part commit at once, and only when all have does
anybody hear of it. If one of them fails, the epoch is taken back in the others; while that fails,
too, no write is taken. What became of it, the files say, so a defect of ours is no more than that.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core import limits
from holdfast.core.errors import BlobError, FullError, UnavailableError
from holdfast.core.events import defect
from holdfast.core.groupcommit import Batching, GroupCommit, Job, SpoiltError
from holdfast.shards.connection import blob_error
from holdfast.shards.epoch import About, Epoch, next_state
from holdfast.shards.recovery import recover

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.seams import Clock
    from holdfast.shards.reserve import Reserve
    from holdfast.shards.routing import Routing
    from holdfast.shards.shard import Part
    from holdfast.shards.worker import Worker


class PlannerStats:
    """Counters since the shards were opened; written by one thread, read by any."""

    __slots__ = ("bytes", "epochs", "jobs", "undone")

    def __init__(self) -> None:
        self.bytes = 0
        """About, before SQLite made pages of them."""
        self.epochs = 0
        self.jobs = 0
        self.undone = 0


class Planner:
    """The one that plans in this process."""

    def __init__(
        self,
        workers: Sequence[Worker],
        routing: Routing,
        reserve: Reserve,
        clock: Clock,
        batching: Batching,
    ) -> None:
        self._workers = workers
        self._shards = [worker.shard for worker in workers]
        self._routing = routing
        self._reserve = reserve
        self._clock = clock
        self._in_doubt = False
        """Nobody knows what became of the last epoch."""
        self.completed = self.revision = self.horizon = self.oldest = 0
        """The newest epoch that all have who take part; its revision; the oldest that is kept."""
        self.horizons = [0] * 256
        """For each byte that a key may begin with, as `KV.horizon` says of a table."""
        self._adopt()
        self.gate = threading.Lock()
        """Held while an epoch is committed."""
        self.on_commit: Callable[[], None] = _ignore
        self.stats = PlannerStats()
        self.queue: GroupCommit[Job[Epoch, Any]] = GroupCommit(
            "planner", "the store", self._write, batching, clock
        )

    @property
    def healthy(self) -> bool:
        """Whether writes are taken."""
        is_settled = not any(worker.is_unsettled for worker in self._workers)
        return is_settled and not self._in_doubt and self.queue.is_open

    def _write(self, jobs: list[Job[Epoch, Any]]) -> BlobError | None:
        """Do it; on a full disk once more, in the space that the reserve had or the logs have."""
        error = self._try(jobs)
        if not isinstance(error, FullError) or not self._reserve.is_given_up or self._in_doubt:
            return error
        try:
            if not all(job.frees for job in jobs):
                self.make_room()  # before others take what bringing the logs in has freed
        except OSError:
            return error
        return self._try(jobs)

    def _try(self, jobs: list[Job[Epoch, Any]]) -> BlobError | None:
        try:
            if self._in_doubt or any(worker.is_unsettled for worker in self._workers):
                self._resolve()
            if not all(job.frees for job in jobs):
                self._find_room()
            self._plan(jobs)
            self.reuse_logs()
        except OSError as error:
            return blob_error("writing", "the reserve", error)
        except BlobError as error:
            return error
        except SpoiltError:
            raise
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            defect(error, "shards")
            return UnavailableError(f"the store met a defect: {error!r}")
        return None

    def make_room(self) -> None:
        """See to it that all write-ahead logs could be brought into their files, and more.

        Safe from any thread.

        Raises:
            OSError: the disk is full, or refuses.
        """
        self._reserve.keep(self._log_bytes())

    def _log_bytes(self) -> int:
        return sum(shard.log_bytes() for shard in self._shards)

    def _find_room(self) -> None:
        """Make room; on a full disk in what the logs have, once they are brought in.

        Raises:
            OSError, BlobError: the disk is full, or refuses.
        """
        try:
            self.make_room()
        except OSError:
            if self._log_bytes() < limits.RESERVE_BYTES:
                raise
            self._reserve.give_up()
            self._in_doubt = True  # until it is done
            self._resolve()
            self.make_room()

    def reuse_logs(self) -> None:
        """Let the logs begin anew in the space that they have, while the reserve is given up."""
        for shard in self._shards if self._reserve.is_given_up else ():
            with suppress(FullError):
                shard.checkpoint()

    def _plan(self, jobs: list[Job[Epoch, Any]]) -> None:
        epoch = Epoch(self._shards, self._routing, self.revision, self._clock.now_us())
        for job in jobs:
            job.stage(epoch)
        self.stats.jobs += len(jobs)
        self.stats.bytes += sum(job.size_bytes for job in jobs)
        parts = epoch.parts()
        if not parts:
            return
        self.horizon = epoch.revision
        for table in epoch.tables():
            self.horizons[table] = epoch.revision
        with self.gate:
            self._commit(epoch, parts)
        for number, blob_id in epoch.loosened():
            self._workers[number].collect(blob_id)
        self.on_commit()

    def _commit(self, epoch: Epoch, parts: dict[int, Part]) -> None:
        number = self.completed + 1
        oldest = max(self.oldest, epoch.oldest, epoch.revision - limits.HISTORY_REVISIONS_MAX + 1)
        members = sorted(parts)
        about = About(number, epoch.revision, oldest, members, list(self._last))
        try:
            self._apply(parts, about)
        except BaseException as error:
            self._in_doubt = True
            if isinstance(error, FullError):
                self._reserve.give_up()
            if not isinstance(error, BlobError) or not self._resolve():
                raise
        self._adopt()
        self.stats.epochs += 1

    def _apply(self, parts: dict[int, Part], about: About) -> None:
        """Commit in all shards that take part, at once; in one of them by this thread."""
        calls = []
        for number, part in parts.items():
            shard = self._shards[number]
            state = next_state(shard.state, part, about)
            call = partial(shard.apply, part, state, alone=len(parts) == 1)
            calls.append((self._workers[number], call))
        worker, own = calls.pop()
        begun = [each.submit(call) for each, call in calls]
        try:
            own()
        finally:
            errors = [error for each in begun if (error := each.exception()) is not None]
        for error in errors:
            raise error
        worker.checkpoint()

    def _resolve(self) -> bool:
        """Find out what became of the last epoch, and take it back unless all have it.

        Says whether it stays.

        Raises:
            FullError, CorruptError, UnavailableError: the disk refuses; the doubt stays.
        """
        before = self.completed
        self._let_collect(may=False)
        for worker in self._workers:
            worker.is_unsettled = False
            try:
                worker.shard.settle()
            except BaseException:
                worker.is_unsettled = True
                raise
        if recover(self._shards):
            self.stats.undone += 1
            self._shards[0].skip(self.horizon)
        self._adopt()
        self._in_doubt = False
        self._let_collect(may=True)
        return self.completed > before

    def _adopt(self) -> None:
        """Go by what the shards say, which agree."""
        states = [shard.state for shard in self._shards]
        self._last = [state.epoch for state in states]
        self.revision = max(state.revision for state in states)
        self.oldest = max(state.oldest for state in states)
        self.completed = max(self._last)
        self.horizon = max(self.horizon, self.revision)
        for worker in self._workers:
            worker.completed = self.completed

    def _let_collect(self, *, may: bool) -> None:
        for worker in self._workers:
            worker.may_collect = may


def _ignore() -> None:
    pass
