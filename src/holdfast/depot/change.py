"""One name that is about to change, under the terms of its bucket.

Made before its transaction; the transaction's planner calls `read` with what it found and then
takes the writes. Everything that follows from a change is decided here and nowhere else: what a
quota says, whether the old entry becomes a version or goes, what a deleted name leaves in its grave
and when that is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entry import Entry, Grave
from holdfast.core.kv import Delete, Put, counters
from holdfast.depot import catalog
from holdfast.depot.catalog import Due

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.core.digest import BlobRef
    from holdfast.core.kv import Versioned, Write
    from holdfast.core.seams import Clock
    from holdfast.depot.policies import Quota, Terms

MICROSECONDS = 1_000_000


class Place(NamedTuple):
    """Which name."""

    bucket: str
    key: str


class Wish(NamedTuple):
    """What a name shall point to."""

    ref: BlobRef
    content_type: str
    metadata: Mapping[str, str]
    expire_s: int | None = None


class Change:
    """One name, its rows, and the writes that change it; for one transaction."""

    def __init__(self, place: Place, terms: Terms, clock: Clock, *, keeps: bool = False) -> None:
        raw = place.key.encode()
        self.place = place
        self._terms = terms
        self._clock = clock
        self._row = catalog.entry_key(place.bucket, raw)
        self._grave_row = b""
        self._has_grave = keeps or terms.undelete_s > 0 or terms.keeps_versions
        rows: tuple[bytes, ...] = (self._row,)
        if self._has_grave:
            self._grave_row = catalog.name_key(catalog.GRAVE, place.bucket, raw)
            rows = (self._row, self._grave_row)
        self.reads: Sequence[bytes] = rows + terms.rows
        self._now_us = 0
        self._stored: Entry | None = None
        self._guard: Versioned | None = None
        self._quotas: list[tuple[Quota, Versioned | None]] = []
        self._relief: Entry | None = None
        self.old: Entry | None = None
        """What the name pointed to, unless that has expired."""
        self.grave: Grave | None = None

    def read(self, values: Sequence[Versioned | None]) -> None:
        """Take what the transaction read.

        Raises:
            CorruptError: a row is damaged.
        """
        self._now_us = self._clock.now_us()
        rest = iter(values)
        stored, bucket, key = next(rest), *self.place
        self._stored = None if stored is None else catalog.decode_entry(bucket, key, stored.value)
        grave = next(rest) if self._has_grave else None
        self.grave = None if grave is None else catalog.decode_grave(bucket, key, grave.value)
        if self._terms.guard:
            self._guard = next(rest)
        if self._terms.quotas:
            self._quotas = list(zip(self._terms.quotas, rest, strict=True))
        self._relief = None
        expires_us = 0 if self._stored is None else self._stored.expires_us
        self.old = None if 0 < expires_us <= self._now_us else self._stored

    def entry(self, wish: Wish) -> Entry:
        """What the name will point to."""
        before = self._stored
        if before is None and self.grave is not None and self._terms.keeps_versions:
            before = self.grave.entry
        expire_s = self._terms.policy.expire_s if wish.expire_s is None else wish.expire_s
        return Entry(
            self.place.bucket,
            self.place.key,
            wish.ref.digest,
            wish.ref.size_bytes,
            wish.content_type,
            self.old.created_us if self.old is not None else self._now_us,
            self._now_us,
            0 if before is None else before.version + 1,
            wish.metadata,
            0 if expire_s is None else self._now_us + expire_s * MICROSECONDS,
        )

    def reference(self, ref: BlobRef) -> bytes:
        """The row that says that the name holds a blob."""
        return catalog.held_by_row(ref.digest, self._row)

    def relieve(self, entry: Entry) -> None:
        """Count on an entry that goes in the same commit, where that is under the same quota."""
        self._relief = entry

    def replace(self, entry: Entry) -> list[Write]:
        """The writes that put `entry` in the place of whatever is there.

        Raises:
            QuotaError: there is no room.
            DeniedError, UnavailableError: the owner was removed.
        """
        writes: list[Write] = []
        size_bytes, entries = entry.size_bytes, 1
        if self._stored is not None:
            size_bytes -= self._stored.size_bytes
            entries -= 1
            writes += self._unname(self._stored)
        if self.grave is not None:
            writes += self._close_grave(self.grave)
        replaced = self._stored or (self.grave.entry if self.grave is not None else None)
        kept_bytes = 0
        if self._terms.keeps_versions and replaced is not None:
            kept_bytes = replaced.size_bytes
            writes += self._keep(replaced)
        self._check_terms(size_bytes + kept_bytes, entries)
        writes += catalog.counting(self.place.bucket, entries, size_bytes)
        is_first = self._stored is None and self.grave is None
        writes += self._name(entry)
        return writes if is_first else catalog.merge(writes)

    def remove(self, *, buried: bool = True) -> list[Write]:
        """The writes that remove the name.

        It can be restored for a while. One that is not `buried` lives on elsewhere, and leaves a
        grave only for its versions. One that has expired is left to the janitor, who takes its
        versions, too.
        """
        entry = self.old
        if entry is None:
            return []
        writes = self._unname(entry)
        writes += catalog.counting(self.place.bucket, -1, -entry.size_bytes)
        keeps_versions = self._terms.keeps_versions
        is_kept = keeps_versions or (buried and self._terms.undelete_s > 0)
        if not is_kept:
            return writes
        if self.grave is not None:
            writes += self._close_grave(self.grave)
        return catalog.merge(writes + self._bury(entry))

    def undelete(self) -> tuple[Entry, list[Write]] | None:
        """What comes back out of the grave, and the writes for it; None when it is too late.

        Raises:
            QuotaError: there is no room.
            DeniedError, UnavailableError: the owner was removed.
        """
        grave = self.grave
        if grave is None or grave.until_us <= self._now_us:
            return None
        entry = grave.entry
        if 0 < entry.expires_us <= self._now_us:
            entry = entry._replace(expires_us=0)
        size_bytes, entries = entry.size_bytes, 1
        writes = self._close_grave(grave)
        if self._stored is not None:  # it has expired
            writes += self._unname(self._stored)
            size_bytes -= self._stored.size_bytes
            entries -= 1
        self._check_terms(size_bytes, entries)
        writes += catalog.counting(self.place.bucket, entries, size_bytes)
        return entry, catalog.merge(writes + self._name(entry))

    def _check_terms(self, size_bytes: int, entries: int) -> None:
        """See that the owner is still there, and that there is room."""
        if self._terms.guard:
            self._terms.check_owner(self._guard)
        relief = self._relief
        relieved = () if relief is None else catalog.usage_rows(relief.bucket)
        for quota, stored in self._quotas:
            used = () if stored is None else counters(stored.value)
            if relief is not None and quota.row in relieved:
                quota.check(used, size_bytes - relief.size_bytes, entries - 1)
            else:
                quota.check(used, size_bytes, entries)

    def _name(self, entry: Entry) -> list[Write]:
        writes = catalog.storing(entry, self._row, catalog.encode_entry(entry))
        if entry.expires_us:
            writes.append(Put(self._due(catalog.ENTRY, entry.expires_us), b""))
        return writes

    def _unname(self, entry: Entry) -> list[Write]:
        writes = catalog.dropping(entry, self._row)
        if entry.expires_us:
            writes.append(Delete(self._due(catalog.ENTRY, entry.expires_us)))
        return writes

    def _bury(self, entry: Entry) -> list[Write]:
        until_us = self._now_us + self._terms.undelete_s * MICROSECONDS
        grave = Grave(entry, self._now_us, until_us)
        writes = catalog.storing(entry, self._grave_row, catalog.encode_grave(grave))
        return [*writes, Put(self._due(catalog.GRAVE, until_us), b"")]

    def _close_grave(self, grave: Grave) -> list[Write]:
        writes = catalog.dropping(grave.entry, self._grave_row)
        return [*writes, Delete(self._due(catalog.GRAVE, grave.until_us))]

    def _keep(self, entry: Entry) -> list[Write]:
        """Make an entry that goes a version; those that are too many by it are due at once."""
        row = catalog.version_key(entry)
        writes = catalog.storing(entry, row, catalog.encode_entry(entry))
        writes += catalog.counting_versions(self.place.bucket, 1, entry.size_bytes)
        if entry.version >= self._terms.policy.versions:
            writes.append(Put(self._due(catalog.VERSION, 0), b""))
        return writes

    def _due(self, table: bytes, at_us: int) -> bytes:
        return catalog.due_key(Due(at_us, table, *self.place))
