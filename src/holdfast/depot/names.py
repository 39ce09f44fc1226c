"""Names: entries in the KV, each change one transaction over the rows that it touches.

Transactions are made here and done by the KV, so that uploads can send theirs with the blob. What a
policy keeps of a change, in graves and versions, is in change.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entry import Entry, Page, Stats
from holdfast.core.errors import ConflictError, GoneError, NotFoundError, PreconditionError
from holdfast.core.kv import Plan, Transaction, Versioned, pages, prefix_end
from holdfast.core.preconditions import NO_CONDITIONS, Conditions, Outcome, Validators, evaluate
from holdfast.depot import catalog
from holdfast.depot.change import Change, Place, Wish
from holdfast.depot.listing import Listing, Query, check_limit
from holdfast.depot.policies import read_used
from holdfast.depot.reservations import Reservations, Room

if TYPE_CHECKING:
    from holdfast.core.kv import KV, Item
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Clock
    from holdfast.core.store import Staged
    from holdfast.depot.policies import Policies

Values = Sequence[Versioned | None]
MICROSECONDS = 1_000_000


class Placed(NamedTuple):
    """An entry that is durable now."""

    entry: Entry
    is_new: bool
    """The name did not exist before."""


class Names:
    """The entries of all buckets; safe from any thread."""

    def __init__(self, kv: KV, clock: Clock, policies: Policies) -> None:
        self._kv = kv
        self.clock = clock
        self.policies = policies
        self._reservations = Reservations(kv)

    def find(self, place: Place) -> Entry | None:
        """Look a name up; bucket and key were checked."""
        stored = self._kv.get(catalog.entry_key(place.bucket, place.key.encode()))
        if stored is None:
            return None
        entry = catalog.decode_entry(place.bucket, place.key, stored.value)
        return entry if is_there(entry, self.clock) else None

    def find_version(self, place: Place, version: int) -> Entry:
        """Look up what a name pointed to, or still does, in one of its versions.

        Raises:
            NotFoundError: no such name, or it never came to that version.
            GoneError: that version is not kept any more.
        """
        found = self.get(place)
        if found.version == version:
            return found
        item = self._version_row(place, version)
        if item is None:
            raise no_such_version(place, version, found)
        return catalog.decode_entry(place.bucket, place.key, item.value)

    def get(self, place: Place) -> Entry:
        """Look a name up that should exist.

        Raises:
            NotFoundError: it does not.
        """
        entry = self.find(place)
        if entry is None:
            raise no_such_key(place)
        return entry

    def room(self, place: Place, size_bytes: int) -> Room | None:
        """Reserve room for an upload that announces this size; None where there is no quota.

        Raises:
            QuotaError: there is none.
        """
        terms = self.policies.of(place.bucket)
        if not terms.quotas:
            return None
        replaced = None if terms.keeps_versions or not place.key else self.find(place)
        replaced_bytes = 0 if replaced is None else replaced.size_bytes
        room = Room(self._reservations, terms.quotas, replaced_bytes)
        room.grow(size_bytes)
        return room

    def assigning(
        self, place: Place, wish: Wish, when: Conditions, blob: Staged | None = None
    ) -> Transaction[Placed]:
        """Point a name to a blob that is stored, or to `blob`, which is stored with it.

        The outcome is PreconditionError when `when` does not hold, and QuotaError.
        """
        change = self._change(place)
        reference = change.reference(wish.ref)  # which is written, and so read, with the others

        def planner(values: Values) -> Plan[Placed]:
            change.read(values[:-1])
            check(when, change.old)
            entry = change.entry(wish)
            return Plan(change.replace(entry), Placed(entry, change.old is None))

        return Transaction((*change.reads, reference), planner, blob)

    def removing(self, place: Place, when: Conditions = NO_CONDITIONS) -> Transaction[bool]:
        """Remove a name; False when it was not there.

        The outcome is PreconditionError when `when` does not hold.
        """
        change = self._change(place)

        def planner(values: Values) -> Plan[bool]:
            change.read(values)
            check(when, change.old)
            return Plan(change.remove(), change.old is not None)

        return Transaction(change.reads, planner, frees=True)

    def copying(
        self, source: Place, target: Place, when: Conditions, *, move: bool
    ) -> Transaction[Placed]:
        """Give the source's blob the target's name; a moved source goes in the same commit.

        The outcome is NotFoundError when there is no source, PreconditionError when `when` does
        not hold for the target, and QuotaError.
        """
        change = self._change(target)
        origin = change if source == target else self._change(source)
        joint = change.reads if origin is change else (*change.reads, *origin.reads)
        reads = tuple(dict.fromkeys(joint))

        def planner(values: Values) -> Plan[Placed]:
            found = dict(zip(reads, values, strict=True))
            change.read([found[key] for key in change.reads])
            origin.read([found[key] for key in origin.reads])
            old = origin.old
            if old is None:
                raise no_such_key(source)
            check(when, change.old)
            is_moved = move and origin is not change
            if is_moved:
                change.relieve(old)
            entry = change.entry(Wish(old.ref, old.content_type, old.metadata))
            entry = entry._replace(expires_us=old.expires_us or entry.expires_us)
            writes = origin.remove(buried=False) if is_moved else []
            writes += change.replace(entry)
            return Plan(catalog.merge(writes), Placed(entry, change.old is None))

        return Transaction(reads, planner)

    def undeleting(self, place: Place) -> Transaction[Entry]:
        """Bring a deleted name back as it was.

        The outcome is NotFoundError when it is too late or was never there, ConflictError when the
        name is in use, and QuotaError.
        """
        change = self._change(place, keeps=True)

        def planner(values: Values) -> Plan[Entry]:
            change.read(values)
            if change.old is not None:
                raise in_use(place)
            found = change.undelete()
            if found is None:
                raise NotFoundError("no such deleted key", bucket=place.bucket, key=place.key)
            entry, writes = found
            return Plan(writes, entry)

        return Transaction(change.reads, planner)

    def restoring(self, place: Place, version: int, when: Conditions) -> Transaction[Placed]:
        """Point a name to what it pointed to in an earlier version; that is a new version.

        The outcome is NotFoundError when there is no such name or version, GoneError when that is
        not kept any more, PreconditionError when `when` does not hold, and QuotaError.
        """
        change = self._change(place)
        item = self._version_row(place, version)
        row = () if item is None else (item.key,)

        def planner(values: Values) -> Plan[Placed]:
            change.read(values[len(row) :])
            check(when, change.old)
            kept = values[0] if row else None
            origin = change.old
            if origin is None:
                raise no_such_key(place)
            if kept is not None:
                origin = catalog.decode_entry(place.bucket, place.key, kept.value)
            elif origin.version != version:
                raise no_such_version(place, version, origin)
            entry = change.entry(Wish(origin.ref, origin.content_type, origin.metadata))
            return Plan(change.replace(entry), Placed(entry, change.old is None))

        return Transaction((*row, *change.reads), planner)

    def copy(
        self, source: Place, target: Place, when: Conditions, *, move: bool
    ) -> Pending[Placed]:
        """Begin to copy or move."""
        transaction = self.copying(source, target, when, move=move)
        return self._kv.transact(transaction.reads, transaction.planner)

    def list(self, bucket: str, query: Query) -> Page:
        """List names in byte order.

        Raises:
            InvalidError: the cursor is none of ours, or the limit is out of bounds.
        """
        check_limit(query.limit)
        listing = Listing(self._kv, bucket, query, self.clock.now_us())
        return listing.page()

    def stats(self, away: str = "") -> Stats:
        """Add up the counters of all buckets; `away` is told with them."""
        entries = size_bytes = 0
        for page in pages(self._kv, catalog.USAGE):
            for item in page:
                used = read_used(Versioned(item.value, item.revision))
                entries += used.entries
                size_bytes += used.entry_bytes
        return Stats(entries, size_bytes, self._kv.revision(), away)

    def swept(self) -> tuple[int, int]:
        """How many blobs sweeps have removed, and how many bytes."""
        used = read_used(self._kv.get(catalog.SWEPT))
        blobs, size_bytes = used.entries, used.entry_bytes
        return blobs, size_bytes

    def moved(self) -> tuple[int, int]:
        """How many blobs went to a cold store, and how many bytes."""
        used = read_used(self._kv.get(catalog.MOVED))
        return used.entries, used.entry_bytes

    def _version_row(self, place: Place, version: int) -> Item | None:
        """The newest replaced entry with this number."""
        start = catalog.version_start(place.bucket, place.key.encode(), version)
        found = self._kv.scan(start, prefix_end(start), limit=1, reverse=True)
        return found[0] if found else None

    def _change(self, place: Place, *, keeps: bool = False) -> Change:
        return Change(place, self.policies.of(place.bucket), self.clock, keeps=keeps)


def is_there(entry: Entry, clock: Clock) -> bool:
    """Whether a name has not expired."""
    return entry.expires_us == 0 or clock.now_us() < entry.expires_us


def check(when: Conditions, found: Entry | None) -> None:
    """Hold a write to its conditions.

    Raises:
        PreconditionError: they do not hold.
    """
    if when is NO_CONDITIONS:
        return
    stored = None
    if found is not None:
        stored = Validators(found.etag, found.modified_us // MICROSECONDS)
    if evaluate(when, stored, reading=False) is Outcome.FAILED:
        etag = stored.etag if stored else None
        raise PreconditionError("the condition does not hold", etag=etag)


def no_such_key(place: Place) -> NotFoundError:
    """Say that a name does not exist."""
    return NotFoundError("no such key", bucket=place.bucket, key=place.key)


def in_use(place: Place) -> ConflictError:
    """Say that a name cannot come back."""
    return ConflictError("the name is in use again", bucket=place.bucket, key=place.key)


def no_such_version(place: Place, version: int, newest: Entry) -> NotFoundError | GoneError:
    """Say that a name has no such version yet, or no more."""
    facts = {"bucket": place.bucket, "key": place.key}
    if version > newest.version:
        return NotFoundError("no such version", **facts, version=version)
    return GoneError("the version is not kept any more", **facts, version=version)
