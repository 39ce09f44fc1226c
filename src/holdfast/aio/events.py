"""Events of any bucket, awaited."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Self

from holdfast.aio.workers import TAKEN_MAX, Workers
from holdfast.core.stream import Cursor, Event, Events, check_wait

LOOK_S = 0.1  # between two looks for events


class AsyncEvents:
    """A reader of events; waiting for the next ones costs no thread. One task at a time."""

    def __init__(
        self,
        begin: Callable[[Cursor | None], Events],
        from_: Cursor | None,
        wait_s: float,
        workers: Workers,
    ) -> None:
        self._read_from = begin
        self._wait_s = check_wait(wait_s)
        self._workers = workers
        self._ready: deque[Event] = deque()
        self._following = from_
        self._until_s = 0.0
        self._is_closed = False
        self.cursor = from_
        """Where to go on: behind all that was given; None: at the oldest event that is kept."""

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event; see core.bucket.Bucket.events."""
        now = asyncio.get_running_loop().time
        self._until_s = self._until_s or now() + self._wait_s
        while not self._is_closed:
            if self._ready:
                event = self._ready.popleft()
                self.cursor = event.cursor
                self._until_s = now() + self._wait_s
                return event
            self.cursor = self._following
            self._ready += await self._workers.run(self._some)
            if not self._ready and now() >= self._until_s:
                break
            if not self._ready:
                await asyncio.sleep(min(LOOK_S, self._until_s - now()))
        self.cursor = self._following
        raise StopAsyncIteration

    async def close(self) -> None:
        """Read no more."""
        self._is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _some(self) -> list[Event]:
        """Read events that are there; in a thread."""
        with self._read_from(self._following) as events:
            found = list(islice(events, TAKEN_MAX))
            self._following = found[-1].cursor if len(found) == TAKEN_MAX else events.cursor
        return found
