"""Where a reader of a remote store's events stands: what to ask next, and what came. No I/O.

An answer of the server is lines; the last one, behind which it ends in order, is a mark. Without
it the connection broke, and the reader asks again from where it was. It asks again, too, where the
server waits for less long than the caller.
"""

import math
from collections import deque
from typing import NamedTuple

from holdfast import wire
from holdfast.client.calls import Answer, Call, query
from holdfast.core import limits
from holdfast.core.errors import BlobError, InvalidError, UnavailableError
from holdfast.core.many import outcome
from holdfast.core.stream import NOW, Cursor, Event, check_wait, parse_cursor

LINE_BYTES_MAX = 256 * limits.KIB
SLACK_S = 1.0  # by which two clocks may differ over one answer


class Wanted(NamedTuple):
    """Which events, and for how long."""

    bucket: str | None
    prefix: str
    wait_s: float


class Follower:
    """The position in one stream of events; knows no socket. One thread at a time."""

    def __init__(self, wanted: Wanted, from_: Cursor | None, retries: int, now_s: float) -> None:
        """Begin at a cursor, or at the oldest event that is kept."""
        check_wait(wanted.wait_s)
        self._wanted = wanted
        self._retries = retries
        self._failures = 0
        self._asked_from = from_
        self._told_s = now_s
        self._held = bytearray()
        self._is_marked = False
        self._lines: deque[Event | Cursor | BlobError] = deque()
        self.cursor = from_
        """Where to go on behind what was taken; None: at the oldest event that is kept."""
        self.is_over = False
        """There is no more to wait for."""

    def call(self) -> Call[None]:
        """Ask for what follows."""
        self._held.clear()
        self._is_marked = False
        asked = {
            "from": str(self._asked_from) if self._asked_from else None,
            "bucket": self._wanted.bucket,
            "prefix": self._wanted.prefix,
            "wait_s": str(math.ceil(min(self._wanted.wait_s, limits.EVENTS_WAIT_S_MAX))),
        }
        return Call("GET", "/events" + query(**asked), self._began)

    def take(self) -> Event | None:
        """The next event that has arrived, if there is one.

        Raises:
            BlobError: what the server said instead.
        """
        while self._lines:
            line = self._lines.popleft()
            if isinstance(line, BlobError):
                raise line
            if isinstance(line, Event):
                self.cursor = line.cursor
                return line
            self.cursor = line
        return None

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Take the next bytes of the answer."""
        self._failures = 0
        *lines, rest = (bytes(self._held) + chunk).split(b"\n")
        self._held = bytearray(rest)
        for line in lines:
            self._read(line, now_s)
        if len(rest) > LINE_BYTES_MAX:
            self._held.clear()
            self._lines.append(UnavailableError("the server's answer is not ours: no line"))

    def _read(self, line: bytes, now_s: float) -> None:
        found = outcome(wire.parse_event, line)
        self._lines.append(found)
        self._is_marked = isinstance(found, Cursor)
        if isinstance(found, Cursor):
            self._asked_from = found
        elif isinstance(found, Event):
            self._asked_from = found.cursor
            self._told_s = now_s

    def ended(self, now_s: float) -> None:
        """Take the end of the answer.

        Raises:
            UnavailableError: it broke too often.
        """
        if not self._is_marked or self._held:
            self.broke(UnavailableError("the server ended the body too early"))
        elif now_s - self._told_s + SLACK_S >= self._wanted.wait_s:
            self.is_over = True

    def broke(self, error: UnavailableError) -> None:
        """Take that the connection failed.

        Raises:
            UnavailableError: it did too often; who asks again may have more luck.
        """
        self._failures += 1
        if self._failures > self._retries:
            self._failures = 0
            raise error

    @property
    def failures(self) -> int:
        """How often in a row the connection failed."""
        return self._failures

    def _began(self, answer: Answer) -> None:
        said = answer.headers.get(wire.CURSOR.lower())
        if said is not None and self._asked_from in (None, NOW):
            try:
                self._asked_from = self.cursor = parse_cursor(said)
            except InvalidError as error:
                raise UnavailableError(f"the server's answer is not ours: {error}") from None
