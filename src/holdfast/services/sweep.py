"""Sweep: remove blobs that nothing names, once they are old enough.

A pass first walks the store and the digests that are live side by side, both in order, and notes
what is in the one and not in the other; nothing is removed before both ended, so that an error
among the live ones removes nothing. Then it removes, some at a time: only what was stored before
the pass began, less the grace, and what `keep` does not want at that very moment. With marks, the
grace counts from when an earlier pass has found a blob without a name, too (services/marks.py).

Removed blobs leave dead bytes in segments, which compaction gives back; a file is gone at once.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.seams import SystemClock
from holdfast.core.store import Verdict
from holdfast.services.marks import Pile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.protection import Protections
    from holdfast.core.seams import Clock
    from holdfast.core.store import Keep, Moment, Store
    from holdfast.services.marks import Mark, Marks

STEP_REFS = 250  # looked at in one step, a millisecond or two
REMOVE_REFS = 250  # asked about in one batch of the log, which others wait for
SECOND_US = 1_000_000


@dataclass(slots=True)
class Report:
    """What a pass did, or would have done."""

    live: int = 0
    removed: int = 0
    removed_bytes: int = 0
    young: int = 0
    """Not live, but stored, or found so, too lately."""
    protected: int = 0
    """Not live, but wanted when it was to be removed."""
    left: int = 0
    """Not live, and too many for one pass; the next one takes them."""


def _to_nobody(ref: BlobRef, since_us: int) -> None:
    """Tell nobody."""


class Manner:
    """How a pass is done."""

    __slots__ = ("clock", "dry_run", "grace_s", "tell")

    def __init__(
        self,
        *,
        grace_s: float = limits.SWEEP_GRACE_S,
        dry_run: bool = False,
        clock: Clock | None = None,
        tell: Callable[[BlobRef, int], None] = _to_nobody,
    ) -> None:
        """Keep what is younger than `grace_s`; a dry run removes nothing and reports the same.

        Each blob that is not live is told, with the time since when that is known (0: not).
        """
        assert grace_s >= 0
        self.grace_s = grace_s
        self.dry_run = dry_run
        self.clock = clock or SystemClock()
        self.tell = tell


class Sweep:
    """One pass over a store; one thread at a time."""

    def __init__(
        self,
        store: Store,
        live: Iterable[Digest],
        keep: Keep,
        manner: Manner | None = None,
        marks: Marks | None = None,
    ) -> None:
        """Begin a pass; whatever is stored from now on stays.

        `live` is read once, in the order of digests, and lazily. With `marks`, what is not live
        stays also until it was found so for as long as the grace.
        """
        self._store = store
        self._keep = keep
        manner = manner or Manner()
        self._dry_run = manner.dry_run
        self._now_us = manner.clock.now_us()
        self._before_us = self._now_us - int(manner.grace_s * SECOND_US)
        self._tell = manner.tell
        self._marks = marks
        self._known = iter(()) if marks is None else marks.read().pairs()
        self._mark: Mark | None = next(self._known, None)
        self._idle, self._waiting, self._again = Pile(), Pile(), Pile()
        self.report = Report()
        self._work = self._pass(_in_order(live))

    def step(self) -> bool:
        """Look at a few hundred blobs; False when the pass has ended.

        Raises:
            InvalidError: `live` is not in order; nothing was removed.
            BlobError: from `live`, and nothing was removed; or from the store or `keep`.
        """
        return next(self._work, None) is not None

    def _pass(self, live: Iterator[Digest]) -> Iterator[int]:
        yield from self._compare(live)
        for at in range(0, len(self._idle), REMOVE_REFS):
            some = dict(self._idle.pairs(at, at + REMOVE_REFS))
            self._remove(some)
            yield len(some)
        if self._marks is not None and not self._dry_run:
            self._marks.save(heapq.merge(self._waiting.pairs(), self._again.pairs()))

    def _compare(self, live: Iterator[Digest]) -> Iterator[int]:
        """Find what is stored and not live; also what is live behind the last blob is read."""
        current = next(live, None)
        for number, ref in enumerate(self._store.scan(), 1):
            while current is not None and current < ref.digest:
                current = next(live, None)
            if ref.digest == current:
                self.report.live += 1
            else:
                self._judge(ref)
            if number % STEP_REFS == 0:
                yield STEP_REFS
        for number, _ in enumerate(live, 1):
            if number % STEP_REFS == 0:
                yield STEP_REFS

    def _judge(self, ref: BlobRef) -> None:
        """Decide what becomes of a blob that is not live."""
        since_us = self._since(ref.digest)
        self._tell(ref, since_us)
        is_ripe = since_us <= self._before_us
        if is_ripe and len(self._idle) < limits.SWEEP_REFS_MAX:
            self._idle.add(ref.digest, ref.size_bytes)
            return
        if is_ripe:
            self.report.left += 1
        else:
            self.report.young += 1
        if len(self._waiting) < limits.SWEEP_REFS_MAX:
            self._waiting.add(ref.digest, since_us)

    def _since(self, digest: Digest) -> int:
        """Since when a blob is known not to be live; without marks, long enough."""
        while self._mark is not None and self._mark[0] < digest:
            self._mark = next(self._known, None)
        if self._mark is not None and self._mark[0] == digest:
            return self._mark[1]
        return 0 if self._marks is None else self._now_us

    def _remove(self, sizes: dict[Digest, int]) -> None:
        wanted: set[Digest] = set()

        def keep(digest: Digest, moment: Moment | None) -> bool:
            if self._keep(digest, moment):
                wanted.add(digest)
            return self._dry_run or digest in wanted

        verdicts = self._store.expire(sizes.keys(), self._before_us, keep)
        for digest, size_bytes in sizes.items():
            verdict = verdicts.get(digest)
            if verdict is None:  # it went by itself
                continue
            if verdict is Verdict.YOUNG:
                self.report.young += 1
                self._again.add(digest, self._now_us)
            elif digest in wanted:
                self.report.protected += 1
            else:
                self.report.removed += 1
                self.report.removed_bytes += size_bytes


def sweep(store: Store, live: Iterable[Digest], keep: Keep, manner: Manner | None = None) -> Report:
    """Do a whole pass over a store of which the caller knows what is live.

    Raises:
        InvalidError, BlobError: as `Sweep.step` does.
    """
    work = Sweep(store, live, keep, manner)
    while work.step():
        pass
    return work.report


def sweep_unreferenced(
    store: Store,
    live: Callable[[], Iterable[Digest]],
    protections: Protections,
    manner: Manner | None = None,
) -> Report:
    """Do a pass for a program that keeps names of its own, and prepares blobs for them.

    `live` is called once the protections are watched, so it may miss no name that they did.

    Raises:
        InvalidError, BlobError: as `Sweep.step` does.
    """
    with protections.watch() as keep:
        return sweep(store, live(), keep, manner)


def _in_order(live: Iterable[Digest]) -> Iterator[Digest]:
    before: Digest | None = None
    for digest in live:
        if before is not None and digest < before:
            raise InvalidError("live digests", str(digest), "the order of digests")
        before = digest
        yield digest
