"""A mirror: the rows of one KV made those of another, which may go on changing.

A comparison reads both side by side and writes what differs; then the commits since it began are
done again, until nothing is left. Nobody else writes to the new KV, and nobody will read what these
commits were: history begins anew behind them. Where webhooks stand is each store's own: these rows
come last, and then stand at the end of the new one.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CompactedError, ConflictError
from holdfast.core.kv import Conflict, Delete, Item, Put, pages, prefix_end
from holdfast.depot import catalog
from holdfast.depot.events import latest
from holdfast.depot.webhooks import STANDING
from holdfast.services.resettling import begin_behind, standing_moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.kv import KV, Committed
    from holdfast.core.pending import Pending
    from holdfast.depot.engine import Engine

PAGE = 256  # rows read at once
AHEAD = 64  # commits on their way at once
OWN = (catalog.COLD, catalog.MOVED)
"""Rows that say where a store has its bytes, which another one has elsewhere."""
APART = (STANDING, *OWN)
START, END = b"\x00", b"\xff" * 8  # of all rows of a catalog
UNKNOWN = -1


class Mirror:
    """From the KV of one engine to that of another; for one thread."""

    def __init__(self, old: Engine, new: Engine) -> None:
        self._engine, self._into = old, new
        self._old = old.kv
        self._new = new.kv
        self._waiting: deque[Pending[Committed | Conflict]] = deque()
        self._rows: dict[bytes, bytes | None] = {}
        self._revision = UNKNOWN
        """Up to here, the new KV has what the old one had."""

    @property
    def behind(self) -> int:
        """How many commits the new KV lacks; all, before they were compared."""
        newest = self._old.revision()
        return newest - self._revision if self._revision != UNKNOWN else newest + 1

    def run(self) -> Iterator[int]:
        """Bring the new KV to where the old one is when this begins; yield what is about done.

        Raises:
            BlobError: a KV refuses; begin again.
        """
        until = self._old.revision()
        self._forget()
        try:
            if self._revision != UNKNOWN:
                yield from self._follow(until)
        except CompactedError:
            self._flush()  # or what was done again comes behind what is compared
            self._revision = UNKNOWN
        if self._revision == UNKNOWN:
            yield from self._compare()
        self._flush()
        self._revision = until

    def settle(self, now_us: int) -> None:
        """Let history begin anew, and webhooks stand there; then both are the same.

        Raises:
            BlobError: a KV refuses; begin again.
        """
        self._forget()
        begin_behind(self._engine, self._into)
        end = latest(self._new)
        for old, new in pairs(self._old, self._new, STANDING, prefix_end(STANDING)):
            if old is not None:
                self._add(old.key, standing_moved(self._engine, old, end, now_us))
            elif new is not None:
                self._add(new.key, None)
        self._flush()

    def _compare(self) -> Iterator[int]:
        for number, (old, new) in enumerate(pairs(self._old, self._new)):
            if old is None:
                assert new is not None
                self._take(new.key, None)
            elif new is None or old.value != new.value:
                self._take(old.key, old.value)
            if number % PAGE == 0:
                yield PAGE

    def _follow(self, until: int) -> Iterator[int]:
        """Do again what the commits did behind what is known.

        Raises:
            CompactedError: they are not kept any more.
        """
        watched = self._old.watch(b"", self._revision + 1, wait_s=0)
        changes = takewhile(lambda change: change.revision <= until, watched)
        for number, change in enumerate(changes):
            self._take(change.key, change.value)
            if number % PAGE == 0:
                yield PAGE

    def _take(self, key: bytes, value: bytes | None) -> None:
        if not key.startswith(APART):
            self._add(key, value)

    def _add(self, key: bytes, value: bytes | None) -> None:
        """Write a row with the next commit; without a value it goes."""
        self._rows[key] = value
        if len(self._rows) == limits.WRITES_MAX:
            self._commit()

    def _commit(self) -> None:
        writes = [
            Delete(key) if value is None else Put(key, value) for key, value in self._rows.items()
        ]
        self._rows = {}
        self._waiting.append(self._new.commit([], writes))
        if len(self._waiting) == AHEAD:
            settle(self._waiting.popleft())

    def _forget(self) -> None:
        """Begin behind an error: what waits is written before all that follows, or not at all."""
        self._waiting.clear()
        self._rows = {}

    def _flush(self) -> None:
        if self._rows:
            self._commit()
        while self._waiting:
            settle(self._waiting.popleft())


def settle(pending: Pending[Committed | Conflict]) -> None:
    """Wait for a commit.

    Raises:
        ConflictError: a compare did not hold.
    """
    if isinstance(pending.result(), Conflict):
        raise ConflictError("somebody else writes to the new store")


def pairs(
    old: KV, new: KV, start: bytes = START, end: bytes = END
) -> Iterator[tuple[Item | None, Item | None]]:
    """Rows with equal keys side by side; None for a row that is missing."""
    olds, news = _read(old, start, end), _read(new, start, end)
    left, right = next(olds, None), next(news, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.key < right.key):
            yield left, None
            left = next(olds, None)
        elif left is None or right.key < left.key:
            yield None, right
            right = next(news, None)
        else:
            yield left, right
            left, right = next(olds, None), next(news, None)


def _read(kv: KV, start: bytes, end: bytes) -> Iterator[Item]:
    """All rows in order that may be those of another store, too, a page at a time."""
    for page in pages(kv, start, end, PAGE):
        yield from (item for item in page if not item.key.startswith(OWN))
