"""Names: entries in the KV, changed by compare-and-commit, again if somebody was faster."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

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
    from collections.abc import Callable, Mapping

    from holdfast.core.kv import KV, Compare
    from holdfast.core.seams import Clock


Result = TypeVar("Result")


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
        self, place: Place, wish: Wish, when: Conditions, after: Future[None] | None = None
    ) -> Future[Placed]:
        """Point a name to a blob that is stored, or that `after` is about to store.

        Raises:
            PreconditionError: `when` does not hold now; the future carries the same later.
        """

        def plan() -> Plan[Placed]:
            old = self.find(*place)
            check(when, old)
            entry = self._entry(place, wish, old)
            writes = catalog.replacing(old.entry if old else None, entry)
            return Plan([unchanged(place, old)], writes, Placed(entry, old is None))

        return Attempt(self._kv, place, plan, after).start()

    def remove(self, place: Place, when: Conditions) -> Future[bool]:
        """Remove a name; False when it was not there.

        Raises:
            PreconditionError: `when` does not hold now; the future carries the same later.
        """

        def plan() -> Plan[bool]:
            old = self.find(*place)
            check(when, old)
            if old is None:
                return Plan([], [], result=False)
            return Plan([unchanged(place, old)], catalog.removing(old.entry), result=True)

        return Attempt(self._kv, place, plan, None).start()

    def copy(self, source: Place, target: Place, when: Conditions, *, move: bool) -> Future[Placed]:
        """Give the source's blob the target's name; a moved source goes in the same commit.

        Raises:
            NotFoundError: no such source.
            PreconditionError: `when` does not hold for the target.
        """

        def plan() -> Plan[Placed]:
            origin, old = self.get(*source), self.find(*target)
            check(when, old)
            entry = self._entry(target, _wish_of(origin.entry), old)
            compares = [unchanged(target, old)]
            writes = catalog.replacing(old.entry if old else None, entry)
            if source != target:
                compares.append(unchanged(source, origin))
                writes += catalog.removing(origin.entry) if move else []
            return Plan(compares, writes, Placed(entry, old is None))

        return Attempt(self._kv, target, plan, None).start()

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


class Plan(NamedTuple, Generic[Result]):
    """What one try commits, and what it comes to; without writes, nothing is committed."""

    compares: list[Compare]
    writes: list[Write]
    result: Result


class Attempt(Generic[Result]):
    """One change on its way: each try reads, checks and commits, again if somebody was faster.

    The first try runs in the caller's thread, later ones in the thread that ends commits.
    """

    def __init__(
        self,
        kv: KV,
        place: Place,
        plan: Callable[[], Plan[Result]],
        after: Future[None] | None,
    ) -> None:
        self._kv = kv
        self._place = place
        self._plan = plan
        self._after = after
        self._tries = 0
        self._future: Future[Result] = Future()
        self._future.set_running_or_notify_cancel()

    def start(self) -> Future[Result]:
        """Try for the first time; what refuses it raises here."""
        self._try()
        return self._future

    def _try(self) -> None:
        compares, writes, result = self._plan()
        if not writes:
            self._future.set_result(result)
            return
        commit = self._kv.commit(compares, merge(writes), after=self._after)
        commit.add_done_callback(lambda ended: self._end(ended, result))

    def _end(self, commit: Future[Committed | Conflict], result: Result) -> None:
        error = commit.exception()
        if error is not None:
            self._future.set_exception(error)
        elif isinstance(commit.result(), Committed):
            self._future.set_result(result)
        else:
            self._try_again()

    def _try_again(self) -> None:
        self._tries += 1
        if self._tries == limits.CONFLICT_TRIES_MAX:
            message = f"too many writers change {self._place.bucket}/{self._place.key} at once"
            self._future.set_exception(UnavailableError(message))
            return
        try:
            self._try()
        except BlobError as error:
            self._future.set_exception(error)


def unchanged(place: Place, found: Found | None) -> Compare:
    """Hold while a name is as it was found."""
    key = catalog.entry_key(place.bucket, place.key.encode())
    return Unchanged(key, 0 if found is None else found.revision)


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


def _wish_of(entry: Entry) -> Wish:
    return Wish(BlobRef(entry.digest, entry.size_bytes), entry.content_type, entry.metadata)
