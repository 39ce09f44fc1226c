"""Events out of the commits: what became of names, in order, each once.

An event is made from the writes of one commit to the rows of names:

    put of `e`                                  uploaded
    delete of `e`                               deleted, with what its grave says
    delete of `g`, without a put of `e`         purged

So the stream is as durable as the commits themselves, says nothing that was not acknowledged or
could not have been, and needs nothing stored for it. It goes back as far as the log does:
compaction drops commits. The last event of a commit has the cursor of the next one, so that its
reader stays clear of that.
"""

from __future__ import annotations

from itertools import groupby, takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.closing import Closing
from holdfast.core.errors import CompactedError, InvalidError
from holdfast.core.policy import NOBODY, OWNER_MARK, bucket_of
from holdfast.core.stream import NOW, Cursor, Event, Kind, check_wait
from holdfast.depot import catalog

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.kv import KV, Change
    from holdfast.core.seams import Clock

MARK = OWNER_MARK.encode()
LOOK_UP_S = 60.0  # a reader that waits for longer looks from time to time


class Where(NamedTuple):
    """Where an event is: the cursor behind it, and its commit."""

    cursor: Cursor
    revision: int


class Scope:
    """Of which names; without a bucket, of all of them, or of all of an owner."""

    def __init__(
        self,
        bucket: str | None = None,
        prefix: str = "",
        *,
        owner: str | None = None,
        names: Collection[str] = (),
    ) -> None:
        """Take a bucket that was checked, or an owner, whose buckets have one of `names` if any.

        Raises:
            InvalidError: the prefix is no text.
        """
        buckets = [bucket_of(owner or NOBODY, name) for name in names]
        buckets += [] if bucket is None else [bucket]
        self._buckets = frozenset(map(str.encode, buckets))
        self._owner = None if owner is None else owner.encode()
        try:
            self._prefix = prefix.encode()
        except UnicodeEncodeError:
            allowed = "text without lone surrogates"
            raise InvalidError("prefix", ascii(prefix[:100]), allowed) from None

    def holds(self, row: bytes) -> bool:
        """Whether the row of an entry or a grave is of such a name."""
        bucket, _, key = row[1:].partition(b"\x00")
        if self._buckets:
            return bucket in self._buckets and key.startswith(self._prefix)
        is_owned = self._owner is None or bucket.rpartition(MARK)[0] == self._owner
        return is_owned and key.startswith(self._prefix)


class EventReader(Closing):
    """The events of a store from a cursor on; for one thread at a time."""

    def __init__(
        self, kv: KV, clock: Clock, scope: Scope, from_: Cursor | None, wait_s: float
    ) -> None:
        """Begin at a cursor; None is the oldest that is kept, NOW what is still to come.

        Raises:
            CompactedError: the cursor is older than that.
            InvalidError: the store has not come so far; the cursor is not one of this store.
        """
        self._kv = kv
        self._clock = clock
        self._scope = scope
        self._wait_s = check_wait(wait_s)
        self.cursor = _begin(kv, from_)
        """Where to go on; also behind events of names that were not asked for."""
        self._events = self._run()

    def __iter__(self) -> Iterator[Event]:
        """Read on."""
        return self

    def __next__(self) -> Event:
        """Wait for the next event; the stream ends when there was none for `wait_s`.

        Raises:
            CompactedError: it is not kept any more; the reader was too slow.
            CorruptError: it is damaged.
        """
        return next(self._events)

    def close(self) -> None:
        """Read no more."""
        self._events = iter(())

    def is_behind(self) -> bool:
        """Whether there are commits that were not read; quick."""
        return self.cursor.revision <= self._kv.revision()

    def some(self, commits_max: int) -> list[Event]:
        """Read so many commits at most, without waiting, and give their events.

        Raises:
            CompactedError, CorruptError: as `__next__` does.
        """
        newest = min(self._kv.revision(), self.cursor.revision + commits_max - 1)
        return list(self._read(newest))

    def _run(self) -> Iterator[Event]:
        until_s = self._clock.monotonic_s() + self._wait_s
        while True:
            for event in self._read(self._kv.revision()):
                self.cursor = event.cursor
                yield event
                until_s = self._clock.monotonic_s() + self._wait_s
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return
            changes = self._kv.watch(b"", self.cursor.revision, wait_s=min(left_s, LOOK_UP_S))
            next(changes, None)

    def _read(self, newest: int) -> Iterator[Event]:
        """Yield the events up to a revision that there is."""
        begin = self.cursor
        if begin.revision > newest:
            return
        changes = self._kv.watch(b"", begin.revision, wait_s=0)
        kept = takewhile(lambda change: change.revision <= newest, changes)
        for revision, commit in groupby(kept, attrgetter("revision")):
            for event in events_of(list(commit), self._scope):
                if event.cursor > begin:
                    yield event
            self.cursor = Cursor(revision + 1)
        self.cursor = Cursor(newest + 1)


def events_of(commit: Sequence[Change], scope: Scope) -> Iterator[Event]:
    """Yield the events of one commit, given whole."""
    rows = {change.key: change.value for change in commit}
    numbers = [number for number, change in enumerate(commit, 1) if _tells(change, rows)]
    for number in numbers:
        revision, row, value = commit[number - 1]
        if not scope.holds(row):
            continue
        cursor = Cursor(revision + 1) if number == numbers[-1] else Cursor(revision, number)
        if value is not None:
            yield _uploaded(Where(cursor, revision), row, value)
        else:
            yield _gone(Where(cursor, revision), row, rows)


def _tells(change: Change, rows: Mapping[bytes, bytes | None]) -> bool:
    """Whether a write makes an event."""
    table = change.key[:1]
    if table == catalog.GRAVE:
        return change.value is None and rows.get(catalog.ENTRY + change.key[1:]) is None
    return table == catalog.ENTRY


def _uploaded(where: Where, row: bytes, value: bytes) -> Event:
    bucket, key = catalog.split_name(row)
    entry = catalog.decode_entry(bucket, key, value)
    return Event(*where, Kind.UPLOADED, bucket, key, entry.digest, entry, entry.modified_us)


def _gone(where: Where, row: bytes, rows: Mapping[bytes, bytes | None]) -> Event:
    """Tell of a name that goes, with what a grave of the same commit says of it."""
    bucket, key = catalog.split_name(row)
    if row.startswith(catalog.GRAVE):
        return Event(*where, Kind.PURGED, bucket, key, _released(row, rows))
    value = rows.get(catalog.GRAVE + row[1:])
    if value is None:
        return Event(*where, Kind.DELETED, bucket, key, _released(row, rows))
    entry, deleted_us, _ = catalog.decode_grave(bucket, key, value)
    return Event(*where, Kind.DELETED, bucket, key, entry.digest, entry, deleted_us)


def _released(row: bytes, rows: Mapping[bytes, bytes | None]) -> Digest | None:
    """The blob whose reference went with a row."""
    for key, value in rows.items():
        is_reference = value is None and key.startswith(catalog.REFERENCE)
        if is_reference and catalog.holder(key) == row:
            return catalog.referenced_digest(key)
    return None


def _begin(kv: KV, from_: Cursor | None) -> Cursor:
    if from_ is not None:
        return latest(kv) if from_ == NOW else _checked(kv, from_)
    try:
        return _checked(kv, Cursor(1))
    except CompactedError as error:
        return Cursor(error.oldest)


def latest(kv: KV) -> Cursor:
    """Behind all events that there are."""
    return Cursor(kv.revision() + 1)


def _checked(kv: KV, cursor: Cursor) -> Cursor:
    end = latest(kv)
    if cursor > end:
        raise InvalidError("cursor", str(cursor), f"at most {end}, where this store stands")
    if cursor < end:
        next(kv.watch(b"", cursor.revision, wait_s=0), None)
    return cursor
