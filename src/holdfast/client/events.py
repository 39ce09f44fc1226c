"""Events of a remote store, read by a thread that waits for them."""

import time
from collections.abc import Callable, Iterator

from holdfast.client.calls import Call
from holdfast.client.exchange import back_off_s
from holdfast.client.files import Chunks
from holdfast.client.follow import Follower, Wanted
from holdfast.client.options import ClientOptions
from holdfast.core.closing import Closing
from holdfast.core.errors import UnavailableError
from holdfast.core.seams import SystemClock
from holdfast.core.stream import Cursor, Event

Open = Callable[[Call[None]], tuple[None, Chunks]]


class ClientEvents(Closing):
    """A reader of events; goes on after a lost connection. One thread at a time."""

    def __init__(
        self, open_stream: Open, wanted: Wanted, from_: Cursor | None, options: ClientOptions
    ) -> None:
        self._open = open_stream
        self._options = options
        self._clock = SystemClock()
        self._follower = Follower(wanted, from_, options.retries, self._clock.monotonic_s())
        self._chunks: Chunks | None = None
        self._begin()

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was given."""
        return self._follower.cursor or Cursor(1)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Wait for the next event; see core.bucket.Bucket.events."""
        while (event := self._follower.take()) is None:
            if self._follower.is_over:
                raise StopIteration
            self._receive()
        return event

    def close(self) -> None:
        """Let the connection go."""
        self._follower.is_over = True
        self._drop()

    def _begin(self) -> Chunks:
        _, self._chunks = self._open(self._follower.call())
        return self._chunks

    def _receive(self) -> None:
        chunks = self._chunks or self._begin()
        try:
            chunk = chunks.next()
        except UnavailableError as error:
            self._drop()
            self._follower.broke(error)
            time.sleep(back_off_s(self._follower.failures, self._options))
            return
        if not chunk:
            self._drop()
            self._follower.ended(self._clock.monotonic_s())
            return
        self._follower.feed(chunk, self._clock.monotonic_s())

    def _drop(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None
