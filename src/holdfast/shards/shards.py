"""The shards: files of SQLite that hold names and bytes together, and one order of commits.

They are to `kv/sqlite` and `stores/sqlite` what the log is to the engine with a log: one request
may change keys and blobs in any of them, and happens whole or not at all (shards/planner.py).
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import FullError, UnavailableError
from holdfast.core.groupcommit import Batching, Job
from holdfast.core.guard import Guard
from holdfast.core.seams import Clock, Disk, Entropy, SystemClock, SystemEntropy
from holdfast.shards.connection import world
from holdfast.shards.epoch import Between
from holdfast.shards.folder import Folder, Shape
from holdfast.shards.planner import Planner
from holdfast.shards.reading import Reading
from holdfast.shards.recovery import recover
from holdfast.shards.reserve import Reserve
from holdfast.shards.shard import Shard
from holdfast.shards.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.core.groupcommit import Result
    from holdfast.core.pending import Promise
    from holdfast.shards.epoch import Epoch


class Options(NamedTuple):
    """How shards are made and written."""

    shape: Shape = Shape()
    batching: Batching = Batching()


class Shards(Closing):
    """The open shards of one folder; safe from any thread."""

    def __init__(
        self,
        path: Path,
        disk: Disk | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        options: Options = Options(),  # noqa: B008 - a tuple
    ) -> None:
        """Open or create the shards in `path`.

        Raises:
            InvalidError: they are others than `options` says.
            CorruptError: one is missing, damaged or not the one that was here.
            UnsupportedError: another engine or a newer holdfast wrote what is there.
            FullError, UnavailableError: another process has them open, or the disk refuses.
        """
        self.path = path
        self.disk = disk or Disk()
        self.clock = clock or SystemClock()
        self.freed_bytes = 0
        self._closed = False
        self._committed = threading.Condition()
        self._homes = count()
        with ExitStack() as undo, world("opening", str(path)):
            self.disk.make_directory(path)
            self._guard = Guard(path / "lock")
            undo.callback(self._guard.release)
            reserve, entropy = Reserve(path, self.disk), entropy or SystemEntropy()
            try:
                self._open(options.shape, entropy)
            except (FullError, UnavailableError):
                if self.disk.free_bytes(path) >= limits.RESERVE_BYTES // 4:
                    raise
                reserve.give_up()  # for what SQLite wants beside each file
                self._open(options.shape, entropy)
            undo.callback(_close_all, self.shards)
            self.workers = [Worker(shard) for shard in self.shards]
            seams = (reserve, self.clock)
            self.planner = Planner(self.workers, self.routing, *seams, options.batching)
            self.planner.on_commit = self._announce
            self.reading = Reading(self.shards, self.planner)
            undo.pop_all()

    def _open(self, shape: Shape, entropy: Entropy) -> None:
        """Open the files, and take back what not all of them have."""
        folder = Folder(self.path, self.disk)
        self.shards: list[Shard] = []
        with ExitStack() as undo:
            undo.callback(_close_all, self.shards)
            self.id, self.routing = folder.open(shape, entropy)
            for number in range(self.routing.count):
                self.shards.append(Shard(number, folder.shard_path(number), self.disk))
            self.was_undone = recover(self.shards)
            undo.pop_all()

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        return self.planner.revision

    def submit(
        self, stage: Callable[[Epoch], Result], size_bytes: int, *, frees: bool = False
    ) -> Promise[Result]:
        """Queue a request that writes about `size_bytes` (see `Job`).

        Raises:
            UnavailableError: closed, or too many requests are waiting.
        """

        def attempt(epoch: Epoch) -> Result:
            return epoch.attempt(stage)

        job = Job(attempt, size_bytes, frees=frees)
        self.planner.queue.submit(job)
        return job.promise

    def between(self, act: Callable[[Between], None]) -> None:
        """Do something in the planner's thread, where nobody can commit meanwhile.

        It may be done twice, and its Moment forgets nothing that a failure would bring back.

        Raises:
            BlobError: from `act`.
            UnavailableError: as `submit` does, or the epoch that it shared could not be committed.
        """
        self.submit(lambda epoch: act(Between(epoch)), 0, frees=True).result()

    def home(self) -> Worker:
        """The shard whose turn it is to take the chunks of a large blob."""
        return self.workers[next(self._homes) % len(self.workers)]

    def wait_for_commit(self, revision: int, wait_s: float) -> bool:
        """Wait until there is a revision of at least `revision`; False when time ran out.

        Raises:
            UnavailableError: the shards were closed meanwhile.
        """

        def is_over() -> bool:
            return self.revision >= revision or self._closed

        with self._committed:
            self._committed.wait_for(is_over, wait_s)
        if self._closed and self.revision < revision:
            raise UnavailableError("the store is closed")
        return self.revision >= revision

    def vacuum(self, free_share: float = 0.0, free_bytes_min: int = 0) -> Iterator[int]:
        """Give free space back to the disk, in bounded steps that say how much it was.

        Only of shards in which it is a share of the file, and not too little to be worth it.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        for worker in self.workers:
            free_bytes = worker.shard.free_bytes()
            enough = max(free_bytes_min, free_share * self.file_bytes(worker.shard))
            if free_bytes < enough:
                continue
            while freed := worker.submit(worker.shard.vacuum).result():
                self.planner.reuse_logs()
                self.freed_bytes += freed
                yield freed

    def settle(self) -> None:
        """Bring all that was written into the files themselves, which get their new sizes.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        for worker in self.workers:
            worker.submit(worker.shard.settle).result()

    def file_bytes(self, shard: Shard) -> int:
        """How much the files of a shard have on the disk."""
        sizes = 0
        for end in ("", "-wal"):
            with suppress(FileNotFoundError):
                sizes += shard.path.with_name(shard.path.name + end).stat().st_size
        return sizes

    def close(self) -> None:
        """Finish what is queued and let go; idempotent.

        A forked process lets go of nothing: all that it has belongs to the one it came from.
        """
        if not self.planner.queue.is_own or self._closed:
            return
        self._closed = True
        self.planner.queue.close()
        for worker in self.workers:
            worker.close()
        self.reading.close()
        for shard in self.shards:
            shard.close()
        self._announce()
        self._guard.release()

    def _announce(self) -> None:
        with self._committed:
            self._committed.notify_all()


def _close_all(shards: list[Shard]) -> None:
    for shard in shards:
        shard.close()
