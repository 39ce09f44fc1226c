"""What is kept of names that were replaced or deleted, and what becomes of it in the end.

Reading is for people who want something back. `Expiry` is the other side: rows of the catalog say
what is due when, and each step of it takes a bounded number of them and removes what they speak of,
unless it has changed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entry import Entry, Grave, GravePage, VersionPage
from holdfast.core.kv import (
    Committed,
    Compare,
    Conflict,
    Delete,
    Empty,
    Unchanged,
    pages,
    prefix_end,
)
from holdfast.depot import catalog
from holdfast.depot.change import Place
from holdfast.depot.leaving import leave
from holdfast.depot.listing import Query, check_limit, decode_cursor, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.kv import KV, Item, Write
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Clock
    from holdfast.depot.catalog import Due
    from holdfast.depot.names import Names
    from holdfast.depot.policies import Policies

DUE_STEP = 256  # names that a step removes, with one sync or a few
VERSIONS_STEP = 16  # rows that one commit removes, with as many references


class Kept:
    """Graves and versions, for reading; safe from any thread."""

    def __init__(self, kv: KV, names: Names) -> None:
        self._kv = kv
        self._names = names

    def graves(self, bucket: str, query: Query) -> GravePage:
        """List deleted names that can be restored; a delimiter is not looked at.

        Raises:
            InvalidError: the cursor is none of ours, or the limit is out of bounds.
        """
        check_limit(query.limit)
        base = catalog.name_key(catalog.GRAVE, bucket, b"")
        start = base + max(query.prefix.encode(), decode_cursor(query.cursor))
        end = prefix_end(base + query.prefix.encode())
        now_us = self._names.clock.now_us()
        found: list[Grave] = []
        while start < end:
            items = self._kv.scan(start, end, limit=query.limit + 1)
            for item in items:
                if len(found) == query.limit:
                    return GravePage(found, encode_cursor(item.key[len(base) :]))
                grave = catalog.decode_grave(*catalog.split_name(item.key), item.value)
                if now_us < grave.until_us:
                    found.append(grave)
            if len(items) <= query.limit:
                break
            start = items[-1].key + b"\x00"
        return GravePage(found, None)

    def versions(self, place: Place, cursor: str | None, limit: int) -> VersionPage:
        """List the versions of a name that is not deleted, from the newest on.

        Raises:
            NotFoundError: no such name.
            InvalidError: the cursor is none of ours, or the limit is out of bounds.
        """
        check_limit(limit)
        newest = self._names.get(place)
        base = catalog.versions_of(place.bucket, place.key.encode())
        end = base + decode_cursor(cursor) if cursor else prefix_end(base)
        room = limit if cursor else limit - 1
        items = self._kv.scan(base, end, limit=room + 1, reverse=True)
        found = [catalog.decode_entry(*place, item.value) for item in items[:room]]
        following = encode_cursor(items[room - 1].key[len(base) :]) if len(items) > room else None
        if len(items) > room == 0:
            following = encode_cursor(b"\xff" * catalog.VERSION_BYTES)
        return VersionPage(found if cursor else [newest, *found], following)


class Expired(NamedTuple):
    """What a step has removed."""

    entries: int = 0
    graves: int = 0
    versions: int = 0


class _Going(NamedTuple):
    """An entry that is to go, while this holds."""

    entry: Entry
    condition: Unchanged


class Expiry:
    """Removes what is due; one thread at a time, beside any number that change the same names."""

    def __init__(self, kv: KV, policies: Policies, clock: Clock) -> None:
        self._kv = kv
        self._policies = policies
        self._clock = clock

    def steps(self) -> Iterator[Expired]:
        """Remove all that is due now, in bounded steps; what changes at that moment stays.

        Whoever stops early may begin again.
        """
        end = catalog.DUE + (self._clock.now_us() + 1).to_bytes(catalog.TIME_BYTES, "big")
        for items in pages(self._kv, catalog.DUE, end, DUE_STEP):
            begun = []
            for item in items:
                due = catalog.read_due(item.key)
                if due.table == catalog.VERSION:
                    yield from self._trim(due)
                elif due.table == catalog.OWNER:
                    yield from (Expired(entries=count) for count in leave(self._kv, due.bucket))
                    self._commit((), (_forget(due),))
                else:
                    yield from self._clear(due)
                    begun.append((due.table, self._begin(due)))
            yield _sum(begun)

    def _clear(self, due: Due) -> Iterator[Expired]:
        """Remove the versions of a name that goes."""
        start, end = _versions(due)
        while items := self._kv.scan(start, end, limit=VERSIONS_STEP):
            going = self._going(due)
            if going is None or not self._commit((going.condition,), _dropping(due.bucket, items)):
                return
            yield Expired(versions=len(items))

    def _begin(self, due: Due) -> Pending[Committed | Conflict] | None:
        """Begin to remove a name that has no versions any more."""
        going = self._going(due)
        if going is None:
            self._kv.commit((), (_forget(due),))
            return None
        writes = [*catalog.dropping(going.entry, _row(due)), _forget(due)]
        if due.table == catalog.ENTRY:
            writes += catalog.counting(due.bucket, -1, -going.entry.size_bytes)
        return self._kv.commit((going.condition, Empty(*_versions(due))), writes)

    def _going(self, due: Due) -> _Going | None:
        """The entry that goes, if that is what was due."""
        row = _row(due)
        stored = self._kv.get(row)
        if stored is None:
            return None
        if due.table == catalog.ENTRY:
            entry = catalog.decode_entry(due.bucket, due.key, stored.value)
            at_us = entry.expires_us
        else:
            grave = catalog.decode_grave(due.bucket, due.key, stored.value)
            entry, at_us = grave.entry, grave.until_us
        return _Going(entry, Unchanged(row, stored.revision)) if at_us == due.at_us else None

    def _trim(self, due: Due) -> Iterator[Expired]:
        """Remove the oldest versions of one name, or of each name of a bucket."""
        start = catalog.name_key(catalog.VERSION, due.bucket, due.key.encode())
        start += b"\x00" if due.key else b""
        end = prefix_end(start)
        while items := self._kv.scan(start, end, limit=1):
            versions = items[0].key[: -catalog.VERSION_BYTES]
            yield from self._trim_name(due.bucket, versions)
            start = prefix_end(versions)
        self._commit((), (_forget(due),))

    def _trim_name(self, bucket: str, versions: bytes) -> Iterator[Expired]:
        keep = self._policies.of(bucket).policy.versions
        kept = self._kv.scan(versions, prefix_end(versions), limit=keep + 1, reverse=True)
        if len(kept) <= keep:
            return
        end = kept[-1].key + b"\x00"
        while items := self._kv.scan(versions, end, limit=VERSIONS_STEP):
            conditions = [Unchanged(item.key, item.revision) for item in items]
            if not self._commit(conditions, _dropping(bucket, items)):
                return
            yield Expired(versions=len(items))

    def _commit(self, compares: Sequence[Compare], writes: Sequence[Write]) -> bool:
        outcome = self._kv.commit(compares, catalog.merge(list(writes))).result()
        return isinstance(outcome, Committed)


def _sum(begun: Sequence[tuple[bytes, Pending[Committed | Conflict] | None]]) -> Expired:
    """Wait for names that go, and count them."""
    gone = [
        table
        for table, pending in begun
        if pending is not None and isinstance(pending.result(), Committed)
    ]
    return Expired(entries=gone.count(catalog.ENTRY), graves=gone.count(catalog.GRAVE))


def _row(due: Due) -> bytes:
    return catalog.name_key(due.table, due.bucket, due.key.encode())


def _versions(due: Due) -> tuple[bytes, bytes]:
    """Between which keys the versions of a name are."""
    start = catalog.versions_of(due.bucket, due.key.encode())
    return start, prefix_end(start)


def _dropping(bucket: str, items: Sequence[Item]) -> list[Write]:
    """The writes that remove versions."""
    writes: list[Write] = []
    for item in items:
        entry = catalog.decode_entry(bucket, "", item.value)
        writes += catalog.dropping(entry, item.key)
        writes += catalog.counting_versions(bucket, -1, -entry.size_bytes)
    return writes


def _forget(due: Due) -> Write:
    return Delete(catalog.due_key(due))
