"""What the connections of one event loop share: the way back from threads, the watch on time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from holdfast.core import events, limits
from holdfast.core.errors import BlobError
from holdfast.core.preconditions import format_date
from holdfast.http.message import STATUS_LINES, Answer, defect_answer, error_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.config.settings import Settings
    from holdfast.core.seams import Clock

WATCH_S = 1.0
SECOND_US = 1_000_000
DISK_THREADS = min(32, 4 * (os.cpu_count() or 1) + 4)


Letter = TypeVar("Letter")


class Connection(Protocol):
    """A connection that the loop keeps an eye on."""

    def check_time(self, now_s: float) -> None:
        """End what has waited too long."""


class Mailbox:
    """Calls from other threads into the loop, with one wake-up for all that wait.

    The lock guards the letters and whether a wake-up is under way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._letters: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = False

    def post(self, receiver: Callable[[Letter], None], letter: Letter) -> None:
        """Call `receiver(letter)` on the loop, in the order of posting; safe from any thread."""
        with self._lock:
            self._letters.append((receiver, letter))
            if self._woken:
                return
            self._woken = True
        self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            letters, self._letters = self._letters, deque()
            self._woken = False
        for receiver, letter in letters:
            try:
                receiver(letter)
            except Exception as error:  # noqa: BLE001 - the other letters are not to blame
                events.defect(error, "mailbox")


class Shared:
    """One per event loop; used on its thread only, but for the mailbox."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        clock: Clock,
        on_second: Callable[[], None],
    ) -> None:
        """Begin to watch; `on_second` is called every second."""
        self.loop = loop
        self.settings = settings
        self.small_bytes_max = min(limits.SMALL_BLOB_BYTES_MAX, settings.small_blob_bytes_max)
        """Bodies up to here are gathered in memory and stored in one step."""
        self.mailbox = Mailbox(loop)
        self.disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="holdfast-disk")
        self.connections: set[Connection] = set()
        self.is_stopping = False
        """Answers without an end are to end, and connections behind their next answer."""
        self._clock = clock
        self._on_second = on_second
        self.common_head = self.ok_head = b""
        self._watch()

    def close(self) -> None:
        """Stop the watch and end the threads."""
        self._timer.cancel()
        self.disk.shutdown(wait=True)

    def answer_in_thread(
        self, make: Callable[[], Answer | None], done: Callable[[Answer], None]
    ) -> None:
        """Make an answer in a disk thread and hand it to `done` there, exactly once."""

        def run() -> None:
            try:
                answer = make()
                assert answer is not None
            except BlobError as error:
                answer = error_answer(error)
            except Exception as error:  # noqa: BLE001 - the client waits for an answer
                answer = defect_answer(error, "disk thread")
            done(answer)

        self.disk.submit(run)

    def _watch(self) -> None:
        """Just behind every second: write Date, and let connections look at the time."""
        now_us = self._clock.now_us()
        date = format_date(now_us // SECOND_US).encode()
        self.common_head = b"server: holdfast\r\ndate: %b\r\n" % date
        self.ok_head = STATUS_LINES[200] + self.common_head
        now_s = self.loop.time()
        for connection in list(self.connections):
            self._call(connection.check_time, now_s)
        self._call(self._on_second)
        self._timer = self.loop.call_later(WATCH_S - now_us % SECOND_US / SECOND_US, self._watch)

    def _call(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - the others must be watched all the same
            events.defect(error, "watch")
