"""Writes that are answered before they are durable: `async_write`, off unless somebody asks for it.

An upload or a delete of a name is answered 202 as soon as it waits for the log, unless it has
conditions, which only its commit decides, or asks to wait (`Prefer: wait`, RFC 7240 section 4.3).
What waits is done in the order of the answers. Whoever reads the name first waits for its newest
write, and whoever reads more than one name for all of them: nobody sees less than was answered, and
no copy of anything is kept. What cannot be stored after all is told to the log of the server and
counted; a server that is stopped in order finishes what waits.
"""

from __future__ import annotations

import logging
import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from holdfast.core import events, limits
from holdfast.core.errors import BlobError, Fact, UnavailableError
from holdfast.core.pending import settled
from holdfast.core.preconditions import NO_CONDITIONS
from holdfast.depot import catalog
from holdfast.http.message import conditions

if TYPE_CHECKING:
    from holdfast.core.pending import Pending
    from holdfast.depot.change import Place
    from holdfast.http.message import Request

QUEUED: Final = "queued"
"""What a write comes to that nobody waits for."""
RETRY_S = 1
WAIT = re.compile(rb"(?:^|[,;\s])wait\s*=", re.IGNORECASE)


class Queue:
    """What waits, by name; safe from any thread, `_lock` guards all of it."""

    def __init__(self, writes_max: int) -> None:
        """Take up to so many writes; 0 takes none, and every write is waited for."""
        self._writes_max = writes_max
        self._lock = threading.Lock()
        self._newest: dict[bytes, Pending[Any]] = {}
        self.is_on = writes_max > 0
        self.writes = 0
        self.size_bytes = 0
        """Of their blobs, as far as these are in memory."""
        self.failures = 0

    def check(self, size_bytes: int) -> None:
        """See that there is room.

        Raises:
            UnavailableError: what waits is as much as may wait.
        """
        is_full = self.writes >= self._writes_max
        if is_full or self.size_bytes + in_memory(size_bytes) > limits.QUEUED_BYTES_MAX:
            raise UnavailableError("as many writes are queued as may be", RETRY_S)

    def take(self, place: Place, size_bytes: int, write: Pending[Any]) -> Pending[Any]:
        """Let a write wait, and answer that it does."""
        row = row_of(place)
        with self._lock:
            self.writes += 1
            self.size_bytes += in_memory(size_bytes)
            self._newest[row] = write
        write.add_done_callback(partial(self._end, place, size_bytes))
        return settled(QUEUED)

    def holds(self, row: bytes) -> bool:
        """Whether a write waits that a reader of this row has to see; of all rows, without one."""
        return self.writes > 0 and (not row or row in self._newest)

    def settle(self, row: bytes = b"") -> None:
        """Wait for the newest write of a row; without one, for all writes that wait now."""
        with self._lock:
            found = [self._newest.get(row)] if row else list(self._newest.values())
        for write in found:
            if write is not None:
                write.exception()

    def _end(self, place: Place, size_bytes: int, write: Pending[Any]) -> None:
        row, error = row_of(place), write.exception()
        with self._lock:
            self.writes -= 1
            self.size_bytes -= in_memory(size_bytes)
            self.failures += error is not None
            if self._newest.get(row) is write:
                del self._newest[row]
        if isinstance(error, BlobError):
            why: dict[str, Fact] = {"code": error.code, "message": error.message}
            events.event(logging.ERROR, "queue.lost", **place._asdict(), **why)
        elif error is not None:
            events.defect(error, "queue")


def deferred(
    queue: Queue | None, place: Place, size_bytes: int, write: Pending[Any]
) -> Pending[Any]:
    """Let a write wait in the queue, or whoever asked for it where there is none."""
    return write if queue is None else queue.take(place, size_bytes, write)


def wants_end(request: Request) -> bool:
    """Whether a write can only be answered when it has ended."""
    if conditions(request) is not NO_CONDITIONS:
        return True
    preferred = request.headers.get(b"prefer")
    return preferred is not None and WAIT.search(preferred) is not None


def in_memory(size_bytes: int) -> int:
    """What of a blob waits in memory: a large one is on the disk already."""
    return size_bytes if size_bytes <= limits.SMALL_BLOB_BYTES_MAX else 0


def row_of(place: Place) -> bytes:
    """What a name is called here."""
    return catalog.entry_key(place.bucket, place.key.encode())
