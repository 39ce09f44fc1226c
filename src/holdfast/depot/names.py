"""Names: entries in the KV, each change one transaction over the entries that it touches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import BlobRef
from holdfast.core.entry import Entry, Page, Stats
from holdfast.core.errors import (
    NotFoundError,
    PreconditionError,
)
from holdfast.core.kv import Add, Plan, Transaction, Versioned, Write, counters, prefix_end
from holdfast.core.preconditions import NO_CONDITIONS, Conditions, Outcome, Validators, evaluate
from holdfast.depot import catalog
from holdfast.depot.listing import Listing, Query, check_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.kv import KV
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Clock
    from holdfast.core.store import Staged


Values = Sequence[Versioned | None]


class Place(NamedTuple):
    """Which name."""

    bucket: str
    key: str


class Placed(NamedTuple):
    """An entry that is durable now."""

    entry: Entry
    is_new: bool
    """The name did not exist before."""


class Wish(NamedTuple):
    """What a name shall point to."""

    ref: BlobRef
    content_type: str
    metadata: Mapping[str, str]


class Names:
    """The entries of all buckets; safe from any thread."""

    def __init__(self, kv: KV, clock: Clock) -> None:
        self._kv = kv
        self.clock = clock

    def find(self, place: Place) -> Entry | None:
        """Look a name up; bucket and key were checked."""
        return _entry_in(self._kv.get(_key(place)), place)

    def get(self, place: Place) -> Entry:
        """Look a name up that should exist.

        Raises:
            NotFoundError: it does not.
        """
        entry = self.find(place)
        if entry is None:
            raise no_such_key(place)
        return entry

    def assigning(
        self, place: Place, wish: Wish, when: Conditions, blob: Staged | None = None
    ) -> Transaction[Placed]:
        """Point a name to a blob that is stored, or to `blob`, which is stored with it.

        The outcome is PreconditionError when `when` does not hold.
        """

        def planner(values: Values) -> Plan[Placed]:
            old = _entry_in(values[0], place)
            check(when, old)
            entry = self._entry(place, wish, old)
            return Plan(catalog.replacing(old, entry), Placed(entry, old is None))

        return Transaction((_key(place),), planner, blob)

    def removing(self, place: Place, when: Conditions = NO_CONDITIONS) -> Transaction[bool]:
        """Remove a name; False when it was not there.

        The outcome is PreconditionError when `when` does not hold.
        """

        def planner(values: Values) -> Plan[bool]:
            old = _entry_in(values[0], place)
            check(when, old)
            return Plan([] if old is None else catalog.removing(old), old is not None)

        return Transaction((_key(place),), planner, frees=True)

    def copy(
        self, source: Place, target: Place, when: Conditions, *, move: bool
    ) -> Pending[Placed]:
        """Give the source's blob the target's name; a moved source goes in the same commit.

        The future carries NotFoundError when there is no source, and PreconditionError when `when`
        does not hold for the target.
        """
        is_same = source == target

        def planner(values: Values) -> Plan[Placed]:
            origin, old = _entry_in(values[0], source), _entry_in(values[-1], target)
            if origin is None:
                raise no_such_key(source)
            check(when, old)
            wish = Wish(origin.ref, origin.content_type, origin.metadata)
            entry = self._entry(target, wish, old)
            writes = catalog.replacing(old, entry)
            writes += catalog.removing(origin) if move and not is_same else []
            return Plan(merge(writes), Placed(entry, old is None))

        keys = (_key(source),) if is_same else (_key(source), _key(target))
        return self._kv.transact(keys, planner)

    def list(self, bucket: str, query: Query) -> Page:
        """List names in byte order.

        Raises:
            InvalidError: the cursor is none of ours, or the limit is out of bounds.
        """
        check_limit(query.limit)
        listing = Listing(self._kv, bucket, query)
        return listing.page()

    def all_entries(self) -> Iterator[Entry]:
        """Yield the entries of all buckets, in the order of the catalog."""
        start, end = catalog.ENTRY, prefix_end(catalog.ENTRY)
        while page := self._kv.scan(start, end, limit=limits.LIST_LIMIT_MAX):
            for item in page:
                bucket, _, key = item.key[len(catalog.ENTRY) :].partition(b"\x00")
                yield catalog.decode_entry(bucket.decode(), key.decode(), item.value)
            start = page[-1].key + b"\x00"

    def stats(self) -> Stats:
        """Add up the counters of all buckets."""
        entries = size_bytes = 0
        start, end = catalog.USAGE, prefix_end(catalog.USAGE)
        while page := self._kv.scan(start, end, limit=limits.LIST_LIMIT_MAX):
            for item in page:
                count, total = counters(item.value)
                entries += count
                size_bytes += total
            start = page[-1].key + b"\x00"
        return Stats(entries, size_bytes, self._kv.revision())

    def swept(self) -> tuple[int, int]:
        """How many blobs sweeps have removed, and how many bytes."""
        stored = self._kv.get(catalog.SWEPT)
        blobs, size_bytes = counters(stored.value) if stored is not None else (0, 0)
        return blobs, size_bytes

    def _entry(self, place: Place, wish: Wish, old: Entry | None) -> Entry:
        now_us = self.clock.now_us()
        return Entry(
            place.bucket,
            place.key,
            wish.ref.digest,
            wish.ref.size_bytes,
            wish.content_type,
            old.created_us if old else now_us,
            now_us,
            old.version + 1 if old else 0,
            wish.metadata,
        )


def check(when: Conditions, found: Entry | None) -> None:
    """Hold a write to its conditions.

    Raises:
        PreconditionError: they do not hold.
    """
    if when is NO_CONDITIONS:
        return
    stored = None
    if found is not None:
        stored = Validators(found.etag, found.modified_us // 1_000_000)
    if evaluate(when, stored, reading=False) is Outcome.FAILED:
        etag = stored.etag if stored else None
        raise PreconditionError("the condition does not hold", etag=etag)


def merge(writes: list[Write]) -> list[Write]:
    """Join the writes of one commit to one key: counters add up, of others the last wins."""
    merged: dict[bytes, Write] = {}
    for write in writes:
        before = merged.get(write.key)
        if isinstance(write, Add) and isinstance(before, Add):
            sums = (a + b for a, b in zip(before.deltas, write.deltas, strict=True))
            merged[write.key] = Add(write.key, tuple(sums))
        else:
            merged[write.key] = write
    return list(merged.values())


def no_such_key(place: Place) -> NotFoundError:
    """Say that a name does not exist."""
    return NotFoundError("no such key", bucket=place.bucket, key=place.key)


def _key(place: Place) -> bytes:
    return catalog.entry_key(place.bucket, place.key.encode())


def _entry_in(stored: Versioned | None, place: Place) -> Entry | None:
    return None if stored is None else catalog.decode_entry(place.bucket, place.key, stored.value)
