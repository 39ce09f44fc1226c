"""The cold store of a folder: which blobs are old, and what remembers that they may lie there.

    m <digest>   -> how many bytes it takes there, under the name that it has there
    n            -> counters: blobs and bytes that were moved

A blob is as old as the newest of all names that hold it, deleted and replaced ones, too: since that
name was given these bytes, or the content face holds them. When a blob was last read, nothing
writes down. The rows are this store's own, and `holdfast migrate` leaves them behind.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError
from holdfast.core.kv import Add, Delete, Item, Plan, Put, pages, prefix_end
from holdfast.core.many import grouped, paged
from holdfast.core.store import Verdict
from holdfast.core.verify import check_content
from holdfast.depot import catalog
from holdfast.depot.large import COLD
from holdfast.depot.ownership import check_there
from holdfast.depot.recount import decode
from holdfast.stores.cooled import CooledStore
from holdfast.stores.moving import Moved, Mover

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from holdfast.core.kv import KV
    from holdfast.core.seams import Clock
    from holdfast.core.store import Moment, Store
    from holdfast.depot.large import Elsewhere
    from holdfast.stores.through import Codecs

SECOND_US = 1_000_000
SIZE_BYTES = 8
LOOK_REFS = 250  # looked for here at once
FAR_AHEAD_US = 1 << 62


def cool(here: Store, elsewhere: Elsewhere | None, kv: KV, clock: Clock) -> CooledStore | None:
    """Let what is here have the cold store of the folder; None when there is none.

    Raises:
        CorruptError: blobs went to a cold store that the folder names no more.
    """
    rows = Rows(kv)
    if elsewhere is not None and elsewhere.what == COLD:
        return CooledStore(here, elsewhere.store, rows, clock)
    if next(rows.between(None, None), None) is not None:
        raise CorruptError(f"the file `{COLD}` is gone, and with it where old blobs lie")
    return None


def tier_of(
    cooled: CooledStore | None, elsewhere: Elsewhere | None, kv: KV, clock: Clock, codecs: Codecs
) -> Tier | None:
    """What moves blobs to the cold store of a folder; None when there is none."""
    if cooled is None or elsewhere is None:
        return None
    return Tier(kv, clock, cooled, codecs, partial(check_there, elsewhere.remote))


class Rows:
    """The register of a cooled store, in the catalog."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv

    def has(self, digest: Digest) -> bool:
        """Look it up in the index."""
        return self._kv.get(catalog.COLD + digest) is not None

    def between(self, after: Digest | None, last: Digest | None) -> Iterator[BlobRef]:
        """Read the rows, a page at a time."""
        start = catalog.COLD if after is None else catalog.COLD + after + b"\x00"
        end = prefix_end(catalog.COLD) if last is None else catalog.COLD + last + b"\x00"
        for page in pages(self._kv, start, end):
            for item in page:
                yield BlobRef(Digest(item.key[1:]), int.from_bytes(item.value, "little"))

    def add(self, refs: Collection[BlobRef]) -> None:
        """Write them in one commit, also when the disk is full: moving them frees it."""
        writes = [
            Put(catalog.COLD + digest, size_bytes.to_bytes(SIZE_BYTES, "little"))
            for digest, size_bytes in refs
        ]
        if writes:
            plan = Plan(writes, None)
            self._kv.transact((), lambda _: plan, frees=True).result()

    def remove(self, digests: Collection[Digest]) -> None:
        """Delete them in as few commits as it takes."""
        writes = [Delete(catalog.COLD + digest) for digest in digests]
        begun = [self._kv.commit([], some) for some in paged(writes, limits.WRITES_MAX)]
        for each in begun:
            each.result()


class Tier:
    """Moves what is old to the cold store of a depot; for one thread at a time."""

    def __init__(
        self,
        kv: KV,
        clock: Clock,
        store: CooledStore,
        codecs: Codecs,
        check_there: Callable[[], None],
    ) -> None:
        """Move to the cold store of `store`, once `check_there` has found it to be in its place."""
        self._kv = kv
        self._clock = clock
        self._store = store
        self._check_there = check_there
        self._damaged: set[Digest] = set()
        """Those that were not moved, by the names that they have here; until this is opened again
        they are left to scrub, and to whoever stores them anew."""
        self._codecs = codecs
        self._mover = Mover(self._store, codecs.check if codecs.each else check_content)

    def move(self, after_s: float, *, dry_run: bool = False) -> Iterator[Moved]:
        """Move all that is older than `after_s`, in bounded steps; it may be ended behind each.

        A dry run tells what would be moved, and moves nothing.

        Raises:
            FullError, UnavailableError: the cold store or the disk refuses; nothing is lost.
        """
        now_us = self._clock.now_us()
        grace_s = min(after_s, limits.SWEEP_GRACE_S)  # for uploads that found it here
        stored_us = now_us - int(grace_s * SECOND_US)
        before_us = now_us - int(after_s * SECOND_US)
        for page in paged(self._old(before_us), LOOK_REFS):
            yield Moved()
            old = self._here(page, before_us, stored_us)
            for group in grouped(old, limits.COLD_BATCH_BYTES, limits.WRITES_MAX):
                if dry_run:
                    yield Moved(0, len(group), sum(ref.size_bytes for ref in group))
                    continue
                self._check_there()
                for moved in self._mover.move(group, stored_us):
                    self._damaged.update(moved.damaged[: limits.FINDINGS_MAX - len(self._damaged)])
                    yield moved._replace(damaged=tuple(map(self._codecs.show, moved.damaged)))

    def sweep(self, grace_s: float) -> Iterator[int]:
        """Remove uploads that a crash has left, and register blobs that no row names.

        Such a row was lost: with a damaged log, or because the folder comes from a backup.

        Raises:
            UnavailableError: no answer; a part is done.
        """
        yield from self._store.cold.sweep(grace_s)
        for some in paged(self._store.cold.scan(), limits.WRITES_MAX):
            rows = self._store.register
            rows.add([ref for ref in some if not rows.has(ref.digest)])
            yield 0

    def note(self, moved: Moved) -> None:
        """Count what was moved."""
        if moved.blobs:
            counted = Add(catalog.MOVED, (moved.blobs, moved.size_bytes))
            self._kv.commit([], [counted]).result()

    def _old(self, before_us: int) -> Iterator[Digest]:
        """Yield what is held by names older than a time alone, and what only seems so."""
        items = (item for page in pages(self._kv, catalog.REFERENCE) for item in page)
        for digest, holders in groupby(items, lambda item: catalog.referenced_digest(item.key)):
            if all(_since_us(item) < before_us for item in holders):
                yield digest

    def _here(self, digests: Sequence[Digest], before_us: int, stored_us: int) -> list[BlobRef]:
        """Find those that are old, and here, and were not found here lately."""
        by_name = {self._codecs.hide(digest): digest for digest in digests}
        sizes = self._store.here.stat(by_name)
        left = [name for name in sizes if name not in self._damaged]
        old = [name for name in left if self._newest_us(by_name[name]) < before_us]
        verdicts = self._store.here.expire(old, stored_us, _wanted)
        return [BlobRef(name, sizes[name]) for name in old if verdicts.get(name) is Verdict.KEPT]

    def _newest_us(self, digest: Digest) -> int:
        """Since when the newest name has these bytes."""
        held = (item for page in pages(self._kv, catalog.holds(digest)) for item in page)
        return max(map(self._given_us, held), default=FAR_AHEAD_US)

    def _given_us(self, reference: Item) -> int:
        """Since when a name has its bytes; a reference alone says since when there is the name."""
        key = catalog.holding_row(reference.key)
        if key is None:
            return _since_us(reference)
        stored = self._kv.get(key)
        row = None if stored is None else decode(Item(key, stored.value, stored.revision))
        return FAR_AHEAD_US if row is None else row.entry.modified_us


def _since_us(reference: Item) -> int:
    try:
        return catalog.decode_held(reference.value).since_us
    except CorruptError:
        return FAR_AHEAD_US


def _wanted(digest: Digest, moment: Moment | None) -> bool:
    """Remove nothing."""
    del digest, moment
    return True
