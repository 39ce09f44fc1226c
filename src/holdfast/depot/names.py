"""Names: entries in the KV, changed by compare-and-commit, again if somebody was faster."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import BlobRef
from holdfast.core.entry import Entry, Page, Stats
from holdfast.core.errors import (
    BlobError,
    NotFoundError,
    PreconditionError,
    UnavailableError,
)
from holdfast.core.kv import Add, Committed, Conflict, Unchanged, Write, counters, prefix_end
from holdfast.core.preconditions import NO_CONDITIONS, Conditions, Outcome, Validators, evaluate
from holdfast.depot import catalog
from holdfast.depot.listing import Listing, Query, check_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.kv import KV, Compare
    from holdfast.core.seams import Clock


class Place(NamedTuple):
    """Which name."""

    bucket: str
    key: str


class Found(NamedTuple):
    """An entry and the revision of the KV that wrote it."""

    entry: Entry
    revision: int


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

    def find(self, bucket: str, key: str) -> Found | None:
        """Look a name up; bucket and key were checked."""
        stored = self._kv.get(catalog.entry_key(bucket, key.encode()))
        if stored is None:
            return None
        return Found(catalog.decode_entry(bucket, key, stored.value), stored.revision)

    def get(self, bucket: str, key: str) -> Found:
        """Look a name up that should exist.

        Raises:
            NotFoundError: it does not.
        """
        found = self.find(bucket, key)
        if found is None:
            raise NotFoundError("no such key", bucket=bucket, key=key)
        return found

    def assign(
        self, place: Place, wish: Wish, when: Conditions, after: Future[None] | None
    ) -> Future[Placed]:
        """Point a name to a blob that is stored, or that `after` is about to store.

        Raises:
            PreconditionError: `when` does not hold now; the future carries the same later.
        """
        return Assignment(self, place, wish, when).start(after)

    def commit(
        self, compares: list[Compare], writes: list[Write], after: Future[None] | None = None
    ) -> Future[Committed | Conflict]:
        """Commit to the KV with at most one write a key."""
        return self._kv.commit(compares, merge(writes), after=after)

    def remove(self, bucket: str, key: str, when: Conditions) -> bool:
        """Remove a name and wait until that is durable; False when it was not there.

        Raises:
            PreconditionError: `when` does not hold.
        """
        for _ in range(limits.CONFLICT_TRIES_MAX):
            found = self.find(bucket, key)
            check(when, found)
            if found is None:
                return False
            compares: list[Compare] = [Unchanged(_kv_key(found.entry), found.revision)]
            if isinstance(self.commit(compares, catalog.removing(found.entry)).result(), Committed):
                return True
        raise contended(bucket, key)

    def copy(self, source: Place, target: Place, when: Conditions, *, move: bool) -> Placed:
        """Give the source's blob the target's name; a moved source goes in the same commit.

        Raises:
            NotFoundError: no such source.
            PreconditionError: `when` does not hold for the target.
        """
        for _ in range(limits.CONFLICT_TRIES_MAX):
            origin, old = self.get(*source), self.find(*target)
            check(when, old)
            entry = self._entry(target, _wish_of(origin.entry), old)
            compares: list[Compare] = [Unchanged(_kv_key(entry), old.revision if old else 0)]
            writes = catalog.replacing(old.entry if old else None, entry)
            if source != target:
                compares.append(Unchanged(_kv_key(origin.entry), origin.revision))
                writes += catalog.removing(origin.entry) if move else []
            if isinstance(self.commit(compares, writes).result(), Committed):
                return Placed(entry, old is None)
        raise contended(*target)

    def list(self, bucket: str, query: Query) -> Page:
        """List names in byte order.

        Raises:
            InvalidError: the cursor is none of ours, or the limit is out of bounds.
        """
        check_limit(query.limit)
        listing = Listing(self._kv, bucket, query)
        return listing.page()

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

    def _entry(self, place: Place, wish: Wish, old: Found | None) -> Entry:
        now_us = self.clock.now_us()
        return Entry(
            place.bucket,
            place.key,
            wish.ref.digest,
            wish.ref.size_bytes,
            wish.content_type,
            old.entry.created_us if old else now_us,
            now_us,
            old.entry.version + 1 if old else 0,
            wish.metadata,
        )


class Assignment:
    """One name on its way to a blob; each try reads, checks, and commits if nothing changed."""

    def __init__(self, names: Names, place: Place, wish: Wish, when: Conditions) -> None:
        self._names = names
        self._place = place
        self._wish = wish
        self._when = when
        self._tries = 0
        self._future: Future[Placed] = Future()
        self._future.set_running_or_notify_cancel()

    def start(self, after: Future[None] | None) -> Future[Placed]:
        """Try for the first time, in the caller's thread."""
        self._try(after)
        return self._future

    def _try(self, after: Future[None] | None) -> None:
        old = self._names.find(*self._place)
        check(self._when, old)
        entry = self._names._entry(self._place, self._wish, old)  # noqa: SLF001 - one module
        compares: list[Compare] = [Unchanged(_kv_key(entry), old.revision if old else 0)]
        writes = catalog.replacing(old.entry if old else None, entry)
        placed = Placed(entry, old is None)
        commit = self._names.commit(compares, writes, after)
        commit.add_done_callback(lambda ended: self._ended(ended, placed, after))

    def _ended(
        self, commit: Future[Committed | Conflict], placed: Placed, after: Future[None] | None
    ) -> None:
        error = commit.exception()
        if error is None and isinstance(commit.result(), Committed):
            self._future.set_result(placed)
            return
        self._tries += 1
        if error is None and self._tries < limits.CONFLICT_TRIES_MAX:
            try:
                self._try(after)
            except BlobError as refused:
                self._future.set_exception(refused)
            return
        self._future.set_exception(error or contended(*self._place))


def check(when: Conditions, found: Found | None) -> None:
    """Hold a write to its conditions.

    Raises:
        PreconditionError: they do not hold.
    """
    if when is NO_CONDITIONS:
        return
    stored = None
    if found is not None:
        stored = Validators(found.entry.etag, found.entry.modified_us // 1_000_000)
    if evaluate(when, stored, reading=False) is Outcome.FAILED:
        etag = stored.etag if stored else None
        raise PreconditionError("the condition does not hold", etag=etag)


def contended(bucket: str, key: str) -> UnavailableError:
    """Give up on a name that others change faster."""
    return UnavailableError(f"too many writers change {bucket}/{key} at once")


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


def _kv_key(entry: Entry) -> bytes:
    return catalog.entry_key(entry.bucket, entry.key.encode())


def _wish_of(entry: Entry) -> Wish:
    return Wish(BlobRef(entry.digest, entry.size_bytes), entry.content_type, entry.metadata)
