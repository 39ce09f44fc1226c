"""What became of names, as a stream in the order of commits that a reader can go on with.

Whoever applies the events of a store in their order has its names as they are. A cursor says where
a reader goes on; each event carries the one behind it, so that a reader that keeps the cursor of
the last event that it dealt with misses none and sees none twice.
"""

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import InvalidError

SPELLING = re.compile(r"(\d{1,19})(?:-(\d{1,4}))?", re.ASCII)


class Kind(StrEnum):
    """What became of a name."""

    UPLOADED = "uploaded"
    """It points to these bytes now: stored, copied or moved to it, or restored."""
    DELETED = "deleted"
    """It points to nothing any more: deleted, moved away or expired."""
    PURGED = "purged"
    """It was deleted, and cannot be restored any more."""

    @property
    def topic(self) -> str:
        """How programs for replicated stores know it.

        >>> Kind.UPLOADED.topic
        '_:blob:uploaded'
        """
        return f"_:blob:{self}"


class Cursor(NamedTuple):
    """Where a reader goes on: behind so many writes of the commit `revision`."""

    revision: int
    writes: int = 0

    def __str__(self) -> str:
        """Spell it.

        >>> str(Cursor(17)), str(Cursor(17, 2)), str(NOW)
        ('17', '17-2', 'now')
        """
        if self.revision < 0:
            return "now"
        return f"{self.revision}-{self.writes}" if self.writes else str(self.revision)


NOW = Cursor(-1)
"""Behind all events that there are, wherever that is when a reader begins."""


def parse_cursor(text: str) -> Cursor:
    """Read a cursor.

    >>> parse_cursor("17-2")
    Cursor(revision=17, writes=2)

    Raises:
        InvalidError: it is none.
    """
    found = SPELLING.fullmatch(text)
    if found is None:
        raise InvalidError("cursor", text[:100], "that of an event, or a revision")
    return Cursor(int(found[1]), int(found[2] or 0))


def check_wait(wait_s: float) -> float:
    """Accept for how long a reader waits for events.

    Raises:
        InvalidError: it is no time.
    """
    if not wait_s >= 0:
        raise InvalidError("wait_s", wait_s, "seconds, at least 0")
    return wait_s


class Event(NamedTuple):
    """What became of one name."""

    cursor: Cursor
    """Where a reader goes on that has seen it; no other event has the same."""
    revision: int
    """The commit that it is of."""
    kind: Kind
    bucket: str
    key: str
    digest: Digest | None
    """The blob that the name points to, or did."""
    entry: Entry | None = None
    """What the name points to, or did: of each upload, and of what can still be restored."""
    at_us: int = 0
    """When it happened, in microseconds since 1970 UTC; 0 where the store does not say."""


class Events(Protocol):
    """A reader of events, for one thread at a time."""

    @property
    def cursor(self) -> Cursor:
        """Where to go on: behind all that was given, and what no reader of this kind is given."""

    def __iter__(self) -> Iterator[Event]: ...

    def __next__(self) -> Event: ...

    def close(self) -> None:
        """Read no more; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...
