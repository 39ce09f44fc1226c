"""Events for one client that listens: as lines of JSON, or as server-sent events for browsers.

Reading waits for a disk, in bounded steps, each in a thread; waiting for the next commit is a look
at a number from time to time, so that one who listens costs no thread. Server-sent events are those
of the WHATWG (html.spec.whatwg.org, "Server-sent events"): a browser that lost its connection sends
the id of the last event, which is its cursor.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from holdfast import wire
from holdfast.core import limits
from holdfast.core.errors import BlobError, InvalidError, UnavailableError
from holdfast.core.stream import NOW, parse_cursor
from holdfast.depot.events import EventReader
from holdfast.http.message import SERVER_ERROR, Answer, log_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from holdfast.core.stream import Cursor, Event
    from holdfast.depot.depot import Depot
    from holdfast.depot.events import Scope
    from holdfast.http.counts import Counts
    from holdfast.http.message import Request

    Enter = Callable[[], Scope]

LINES_HEAD = b"content-type: application/x-ndjson\r\n"
BROWSER_TYPE = "text/event-stream"
BROWSER_HEAD = b"content-type: text/event-stream\r\n"
COMMON_HEAD = b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
LAST_EVENT_ID = b"last-event-id"
STEP_COMMITS = 256  # read at once
LOOK_S = 0.1  # between two looks for commits
RETRY_MS = 1000  # until a browser comes again
DIGITS_MAX = 9


class Way(NamedTuple):
    """How a client is told."""

    is_browser: bool
    wait_s: float
    """After how long without events the answer ends."""


class Feed:
    """The events for one client, spelled; for one thread at a time."""

    def __init__(self, reader: EventReader, way: Way, enter: Enter) -> None:
        self._reader = reader
        self._enter = enter
        self.way = way
        self.is_broken = False
        """No more events can be read."""

    def is_ready(self) -> bool:
        """Whether there is something to read; quick."""
        return self._reader.is_behind()

    def step(self) -> bytes:
        """Spell the events of the next commits, of which there may be none.

        Whatever takes a right away is a commit, so the next step finds out.
        """
        try:
            self._enter()
            return b"".join(map(self._spell, self._reader.some(STEP_COMMITS)))
        except BlobError as error:
            if error.status >= SERVER_ERROR:
                log_failure(error)
            self.is_broken = True
            return b": over\n\n" if self.way.is_browser else wire.event_error_json(error) + b"\n"

    def begin(self) -> bytes:
        """Say how soon to come again."""
        return b"retry: %d\n\n" % RETRY_MS if self.way.is_browser else b""

    def mark(self) -> bytes:
        """Say where the client goes on; a browser remembers it and tells its page nothing."""
        cursor = self._reader.cursor
        if self.way.is_browser:
            return b"id: %b\n\n" % str(cursor).encode()
        return wire.mark_json(cursor) + b"\n"

    def _spell(self, event: Event) -> bytes:
        data = wire.event_json(event)
        if not self.way.is_browser:
            return data + b"\n"
        names = (str(event.cursor).encode(), event.kind.encode(), data)
        return b"id: %b\nevent: %b\ndata: %b\n\n" % names


def answer(depot: Depot, request: Request, asked: Mapping[str, str], enter: Enter) -> Answer:
    """Begin to tell a client what it asked for, of the names that it may hear of when it enters.

    Raises:
        UnauthenticatedError, DeniedError, NotFoundError: it may not.
        InvalidError: the request is none.
        CompactedError: what follows its cursor is not kept any more.
    """
    scope = enter()
    engine = depot.engine
    reader = EventReader(engine.kv, engine.names.clock, scope, _cursor(request, asked), 0.0)
    is_browser = BROWSER_TYPE in (request.header(b"accept") or "")
    feed = Feed(reader, Way(is_browser, _wait_s(asked, is_browser=is_browser)), enter)
    head = (BROWSER_HEAD if is_browser else LINES_HEAD) + COMMON_HEAD
    head += b"%b: %b\r\n" % (wire.CURSOR.lower().encode(), str(reader.cursor).encode())
    return Answer(200, head, length=-1, feed=feed)


class Listeners:
    """Sends feeds to those who listen, a bounded number of them; on the loop's thread."""

    def __init__(
        self, in_thread: Callable[[Callable[[], bytes]], Awaitable[bytes]], counts: Counts
    ) -> None:
        self._in_thread = in_thread
        self._counts = counts
        self._count = 0

    def check(self) -> None:
        """Refuse one more when there are enough.

        Raises:
            UnavailableError: there are.
        """
        if self._count >= limits.LISTENERS_MAX:
            raise UnavailableError("too many listen to events here")

    async def tell(
        self,
        feed: Feed,
        give: Callable[[bytes], Awaitable[None]],
        is_over: Callable[[], Awaitable[bool]],
    ) -> None:
        """Give events until nobody wants them, none came for as long as was asked, or it is over.

        Raises:
            SlowError: from `give`.
        """
        self._change(1)
        try:
            await self._tell(feed, give, is_over)
        finally:
            self._change(-1)

    def _change(self, change: int) -> None:
        self._count += change
        self._counts.listen(change)

    async def _tell(
        self,
        feed: Feed,
        give: Callable[[bytes], Awaitable[None]],
        is_over: Callable[[], Awaitable[bool]],
    ) -> None:
        now = asyncio.get_running_loop().time
        told_s = given_s = now()
        await give(feed.begin())
        while not await is_over():
            data = b""
            if is_ready := feed.is_ready():
                data = await self._in_thread(feed.step)
            if data:
                await give(data)
                told_s = given_s = now()
                if feed.is_broken:
                    return
            elif now() - given_s >= limits.EVENTS_MARK_S:
                await give(feed.mark())
                given_s = now()
            left_s = told_s + feed.way.wait_s - now()
            if not is_ready:
                if left_s <= 0:
                    break
                await asyncio.sleep(min(LOOK_S, left_s))
        await give(feed.mark())


def _cursor(request: Request, asked: Mapping[str, str]) -> Cursor | None:
    """Where to begin: a browser that comes again knows better than its page."""
    text = request.header(LAST_EVENT_ID) or asked.get("from")
    if text is None:
        return None
    return NOW if text == str(NOW) else parse_cursor(text)


def _wait_s(asked: Mapping[str, str], *, is_browser: bool) -> float:
    text = asked.get("wait_s")
    if text is None:
        return float("inf") if is_browser else 0.0
    is_number = text.isascii() and text.isdigit() and len(text) < DIGITS_MAX
    if not is_number or int(text) > limits.EVENTS_WAIT_S_MAX:
        raise InvalidError("wait_s", text[:100], f"0 to {limits.EVENTS_WAIT_S_MAX}")
    return float(text)
