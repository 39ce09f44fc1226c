"""The thread of one shard: its parts of epochs, chunks on their way in, and those on their way out.

When nothing else is to be done, it removes chunks that no blob has, a few at a time. Those that
somebody reads, or is about to name, are pinned and stay.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NoReturn, TypeVar

from holdfast.core import limits
from holdfast.core.errors import BlobError, UnavailableError
from holdfast.core.events import defect, event
from holdfast.core.pending import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.shards.shard import Shard

T = TypeVar("T")


class Pins:
    """Ids of chunks in one shard that must stay for now; `_lock` guards everything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[int] = Counter()
        self._dying: set[int] = set()

    def pin(self, blob_id: int) -> bool:
        """Keep chunks until `release`; False when they are on their way out."""
        with self._lock:
            if blob_id in self._dying:
                return False
            self._counts[blob_id] += 1
            return True

    def release(self, blob_id: int) -> None:
        """Let go of what was pinned."""
        with self._lock:
            self._counts[blob_id] -= 1
            if not self._counts[blob_id]:
                del self._counts[blob_id]

    def doom(self, blob_id: int) -> bool:
        """Let nobody pin chunks any more; False when somebody has."""
        with self._lock:
            if blob_id in self._counts:
                return False
            self._dying.add(blob_id)
            return True

    def bury(self, blob_id: int) -> None:
        """Forget what is gone."""
        with self._lock:
            self._dying.discard(blob_id)


class Worker:
    """The thread of a shard; `submit` and `collect` are safe from any thread."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.pins = Pins()
        self.may_collect = True
        self.is_unsettled = False
        """A checkpoint failed, and with it maybe syncs of what was written before."""
        self._is_due = False
        self.completed = shard.state.epoch
        """The newest epoch that all have who take part, as far as this one was told."""
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._loose: dict[int, None] = dict.fromkeys(shard.loose())
        self._held: set[int] = set()
        """Those that could not be removed because somebody had them."""
        self._is_closed = False
        self._is_ended = False
        name = f"holdfast-shard-{shard.number}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, task: Callable[[], T]) -> Promise[T]:
        """Do something in the thread of the shard; a BlobError is the error of the future."""
        promise: Promise[T] = Promise()

        def run() -> None:
            try:
                result = self._refuse() if self._is_ended else task()
            except Exception as error:  # noqa: BLE001 - whoever waits hears of it
                promise.set_exception(error)
            else:
                promise.set_result(result)
            self.checkpoint()

        self._put(run)
        return promise

    def collect(self, blob_id: int) -> None:
        """Remove chunks, unless a blob has them, once nobody reads them."""
        self._put(lambda: self._loose.update({blob_id: None}))

    def checkpoint(self) -> None:
        """See to it that the write-ahead log does not grow without bound."""
        if self._is_due or self.is_unsettled:
            return
        if self.shard.log_bytes() > limits.CHECKPOINT_BYTES:
            self._is_due = True
            self._put(self._checkpoint)

    def release(self, blob_id: int) -> None:
        """Let go of pinned chunks."""
        self.pins.release(blob_id)
        if blob_id in self._held:
            self.collect(blob_id)

    def close(self) -> None:
        """Do what is queued, and end."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
            self._thread.join()

    def _put(self, task: Callable[[], None]) -> None:
        self._queue.put(task)
        if self._is_ended:
            self._do_rest()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
                defect(error, "shards")
        self._is_ended = True
        self._do_rest()

    def _next(self) -> Callable[[], None] | None:
        """What is to be done, or else what may be; None is the end."""
        try:
            return self._queue.get(block=not self._loose or not self.may_collect)
        except Empty:
            return self._collect_some

    def _do_rest(self) -> None:
        """Refuse what slipped in behind the end."""
        with suppress(Empty):
            while True:
                if (task := self._queue.get_nowait()) is not None:
                    task()

    def _refuse(self) -> NoReturn:
        raise UnavailableError("the store is closed")

    def _checkpoint(self) -> None:
        self._is_due = False
        if self._is_ended:
            return  # whoever closes the file does it
        try:
            self.shard.checkpoint()
        except BlobError as error:
            self.is_unsettled = True
            event(logging.ERROR, "shards.unsettled", shard=self.shard.number, error=str(error))

    def _collect_some(self) -> None:
        """Do a step for one id; no epoch changes the shard meanwhile."""
        blob_id = next(iter(self._loose))
        left = False
        try:
            with self.shard.lock:
                left = self._may_go(blob_id) and self.shard.collect(blob_id)
        except BlobError as error:  # the next opening finds them
            event(logging.WARNING, "shards.uncollected", shard=self.shard.number, error=str(error))
        finally:
            if not left:
                del self._loose[blob_id]
                self.pins.bury(blob_id)

    def _may_go(self, blob_id: int) -> bool:
        """Whether no blob has these chunks, and nobody reads them; from then on, nobody will."""
        if not self.shard.is_loose(blob_id, self.completed):
            return False
        self._held.add(blob_id)  # first: who lets go of them may do so now
        if not self.pins.doom(blob_id):
            return False
        self._held.discard(blob_id)
        return True
