"""Pages of events that many readers share, so that a commit is read once for all of them.

Readers that keep up are at the same place, and each wants a few of the same events. A page is what
64 commits told; the last few that were read are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.stream import Cursor
from holdfast.depot.events import EventReader, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.kv import KV
    from holdfast.core.seams import Clock
    from holdfast.core.stream import Event

COMMITS = 64  # of one page
PAGES_MAX = 4


class Page(NamedTuple):
    """All events between two cursors."""

    begin: Cursor
    events: Sequence[Event]
    next: Cursor
    """Where to go on."""


class Pages:
    """Reads pages; safe from any thread. `_lock` guards those that are kept."""

    def __init__(self, kv: KV, clock: Clock) -> None:
        self._kv = kv
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Page] = OrderedDict()

    def is_behind(self, cursor: Cursor) -> bool:
        """Whether there are commits behind a cursor; quick."""
        return cursor.revision <= self._kv.horizon() and cursor.revision <= self._kv.revision()

    def read(self, cursor: Cursor) -> Page:
        """Read on from a cursor, to the end of its page or of what there is.

        Raises:
            CompactedError: what follows is not kept any more.
            CorruptError: it is damaged.
        """
        number = cursor.revision // COMMITS
        with self._lock:
            page = self._kept.pop(number, None)
            if page is None or not page.begin <= cursor <= page.next:
                page = Page(cursor, (), cursor)
            if page.next == cursor:
                page = self._extend(page, (number + 1) * COMMITS)
            self._kept[number] = page
            while len(self._kept) > PAGES_MAX:
                self._kept.popitem(last=False)
        return Page(cursor, [event for event in page.events if event.cursor > cursor], page.next)

    def _extend(self, page: Page, end: int) -> Page:
        reader = EventReader(self._kv, self._clock, Scope(), page.next, 0.0)
        events = reader.some(end - page.next.revision)
        return Page(page.begin, [*page.events, *events], reader.cursor)
