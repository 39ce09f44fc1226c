"""Migration: all that one store has, names and bytes, into another, whatever engines they are.

Every row of the catalog moves as it is: names with their times and versions, what is kept of
deleted names, policies, owners, keys, webhooks and the trail; and every blob that a row holds. What
belongs to the old store alone does not: its commits, so who is behind must read all names, and each
webhook stands at the end of the new store, past what it was not told yet; and blobs that nothing
holds.

Nobody else may have either store open. Nothing in the new one is written over: before anything is
written, both catalogs are read side by side, and a row that differs, or that only the new one has,
ends the migration. Then blobs are stored, then references to them, then the rest, then names, and
where webhooks stand at the end. So a process that dies has done a part, and the next run does the
rest.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.digest import DIGEST_BYTES, BlobRef, Digest
from holdfast.core.errors import BlobError, ConflictError, CorruptError
from holdfast.core.kv import Put, Unchanged
from holdfast.core.many import outcome, paged
from holdfast.core.progress import Phase
from holdfast.core.seams import SystemClock
from holdfast.core.verify import verify_many
from holdfast.depot import catalog
from holdfast.depot.events import latest
from holdfast.depot.webhooks import STANDING
from holdfast.services.copying import Copying
from holdfast.services.mirror import AHEAD, PAGE, pairs, settle
from holdfast.services.resettling import begin_behind, standing_moved

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from holdfast.core.kv import Committed, Conflict, Item
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Clock
    from holdfast.depot.depot import Depot

EXAMPLES_MAX = 10
HELD = (catalog.REFERENCE,)
APART = (*HELD, *catalog.NAMES, STANDING)
ROWS = "rows"


@dataclass(slots=True)
class Moved:
    """What was done, or would be."""

    rows: int = 0
    rows_there: int = 0
    """Rows that were there already, the same."""
    blobs: int = 0
    blob_bytes: int = 0
    blobs_there: int = 0
    verified: int = 0
    """Blobs of the new store that were read and have their digests."""
    damaged: list[str] = field(default_factory=list)
    """Blobs that could not be read, at most `limits.FINDINGS_MAX`; all are counted."""
    damaged_count: int = 0


class Manner(NamedTuple):
    """How it is done."""

    dry_run: bool = False
    verify: bool = False
    """Read all of the new store in the end."""
    bytes_s_max: int = 0
    """Of blobs; 0: no limit."""
    clock: Clock = SystemClock()
    pause: Callable[[float], object] = time.sleep


class Migration:
    """One run, from a depot to another; for one thread."""

    def __init__(self, source: Depot, target: Depot, manner: Manner = Manner()) -> None:  # noqa: B008 - a tuple
        self._from = source
        self._to = target
        self._manner = manner
        self._began_s = manner.clock.monotonic_s()
        self._copying = Copying(source.engine.store, target.engine.store, self._note)
        self._last = Digest(bytes(DIGEST_BYTES))
        self._held_bytes = 0
        """Of all that the old store holds, as its references say."""
        self._spared_bytes = 0
        """Of what the new store had."""
        self._rows_put = 0
        self.moved = Moved()

    def run(self) -> Generator[Phase]:
        """Do it in steps; say behind each how far it is.

        How many bytes of blobs there are is known when the rows were compared.

        Raises:
            ConflictError: the new store has something that the old one has not, or has otherwise;
                nothing was changed.
            CorruptError: blobs of the old store are damaged; no name was moved.
            BlobError: of either store.
        """
        yield from self._compare()
        yield from self._move_blobs()
        if self.moved.damaged_count:
            examples = ", ".join(self.moved.damaged[:EXAMPLES_MAX])
            raise CorruptError(
                f"{self.moved.damaged_count} blobs are damaged, and no name was moved: {examples}"
            )
        if not self._manner.dry_run:
            for tables in (HELD, None, catalog.NAMES):
                yield from self._move_rows(tables)
            self._renumber()
            yield from self._move_rows((STANDING,))
        if self._manner.verify and not self._manner.dry_run:
            yield from self._verify()

    # Rows.

    def _compare(self) -> Iterator[Phase]:
        """Read both catalogs side by side, and add up what is held.

        Raises:
            ConflictError: they cannot become one.
        """
        wrong: dict[str, None] = {}
        count = 0
        for number, (old, new) in enumerate(pairs(self._from.engine.kv, self._to.engine.kv)):
            if old is not None and old.key.startswith(catalog.REFERENCE):
                self._measure(old)
            if new is None:
                self.moved.rows += 1
            elif old is not None and _is_same(old, new):
                self.moved.rows_there += 1
            else:
                count += 1
                if len(wrong) < EXAMPLES_MAX:
                    wrong[_shown(new.key)] = None
            if number % PAGE == 0:
                yield Phase("comparing", number, unit=ROWS)
        if count:
            raise ConflictError(
                f"{count} rows of the new store are not in the old one, or differ: "
                f"{', '.join(wrong)}; begin with an empty one"
            )

    def _measure(self, reference: Item) -> None:
        """Count a blob when the first of its references comes by; they stand together."""
        digest = catalog.referenced_digest(reference.key)
        if digest != self._last:
            self._last = digest
            held = outcome(catalog.decode_held, reference.value)  # a damaged one moves as it is
            self._held_bytes += 0 if isinstance(held, BlobError) else held.size_bytes

    def _move_rows(self, tables: Sequence[bytes] | None) -> Iterator[Phase]:
        """Write the rows of some tables that are missing; None are all but those apart."""
        waiting: deque[Pending[Committed | Conflict]] = deque()
        rows: list[Item] = []
        kvs = self._from.engine.kv, self._to.engine.kv
        for old, new in pairs(*kvs):
            if old is None or new is not None or not _belongs(old.key, tables):
                continue
            rows.append(old)
            if len(rows) == limits.WRITES_MAX:
                waiting.append(self._put(rows))
                rows = []
                yield Phase("naming", self._rows_put, self.moved.rows, ROWS)
            if len(waiting) == AHEAD:
                settle(waiting.popleft())
        if rows:
            waiting.append(self._put(rows))
        for each in waiting:
            settle(each)

    def _renumber(self) -> None:
        """Let history begin anew, unless this did nothing and a run before did that."""
        old, new = self._from.engine, self._to.engine
        if self.moved.rows or new.kv.revision() <= old.kv.revision():
            begin_behind(old, new)

    def _put(self, rows: Sequence[Item]) -> Pending[Committed | Conflict]:
        self._rows_put += len(rows)
        kv = self._to.engine.kv
        compares = [Unchanged(row.key, 0) for row in rows]
        return kv.commit(compares, [Put(row.key, self._value(row)) for row in rows])

    def _value(self, row: Item) -> bytes:
        """What a row says in the new store."""
        if row.key.startswith(STANDING):
            end = latest(self._to.engine.kv)
            return standing_moved(self._from.engine, row, end, self._manner.clock.now_us())
        return row.value

    # Blobs.

    def _move_blobs(self) -> Iterator[Phase]:
        """Store all that is held and missing."""
        for page in paged(self._from.content.digests()):
            for at in range(0, len(page), PAGE):
                yield from self._move_page(page[at : at + PAGE])

    def _move_page(self, digests: Sequence[Digest]) -> Iterator[Phase]:
        lack = self._copying.lack(digests)
        self.moved.blobs_there += len(lack.there)
        self._spared_bytes += sum(lack.there.values())
        if self._manner.dry_run:
            self.moved.blobs += len(lack.sizes)
            self.moved.blob_bytes += sum(lack.sizes.values())
        else:
            for size_bytes in self._copying.copy(lack):
                self._keep_pace(size_bytes)
                yield self._far("moving")
            self.moved.blobs = self._copying.blobs
        yield self._far("counting" if self._manner.dry_run else "moving")

    def _far(self, name: str) -> Phase:
        spared_bytes = self._spared_bytes
        done_bytes = spared_bytes + self.moved.blob_bytes
        return Phase(name, done_bytes, self._held_bytes, spared=spared_bytes)

    def _note(self, digest: Digest) -> None:
        self.moved.damaged_count += 1
        if len(self.moved.damaged) < limits.FINDINGS_MAX:
            self.moved.damaged.append(str(digest))

    def _keep_pace(self, size_bytes: int) -> None:
        """Wait as long as it takes to stay below the bound."""
        self.moved.blob_bytes += size_bytes
        if self._manner.bytes_s_max:
            due_s = self.moved.blob_bytes / self._manner.bytes_s_max
            ahead_s = self._began_s + due_s - self._manner.clock.monotonic_s()
            if ahead_s > 0:
                self._manner.pause(ahead_s)

    # Afterwards.

    def _verify(self) -> Iterator[Phase]:
        """Read the new store: the same rows, the same blobs, each with its digest.

        Raises:
            CorruptError: it is not what the old one is.
        """
        row_count = self.moved.rows + self.moved.rows_there
        for number, (old, new) in enumerate(pairs(self._from.engine.kv, self._to.engine.kv)):
            if old is None or new is None or not _is_same(old, new):
                shown = _shown((old or new).key)  # type: ignore[union-attr]  # one of them is there
                raise CorruptError(f"the new store differs: {shown}")
            if number % PAGE == 0:
                yield Phase("comparing again", number, row_count, ROWS)
        yield from self._verify_blobs()

    def _verify_blobs(self) -> Iterator[Phase]:
        done_bytes = 0
        held = zip(
            paged(self._from.content.digests()), paged(self._to.content.digests()), strict=True
        )
        for ours, theirs in held:
            assert ours == theirs
            sizes = self._from.engine.store.stat(ours)
            for digest, found in zip(ours, verify_many(self._to.engine.store, ours), strict=True):
                if found != BlobRef(digest, sizes.get(digest, -1)):
                    raise CorruptError(f"the new store has {digest} damaged", digest=str(digest))
                self.moved.verified += 1
                done_bytes += found.size_bytes
                yield Phase("verifying", done_bytes, self._held_bytes)


def _belongs(key: bytes, tables: Sequence[bytes] | None) -> bool:
    if tables is None:
        return not key.startswith(APART)
    return key.startswith(tuple(tables))


def _is_same(old: Item, new: Item) -> bool:
    """Whether a row needs not be moved; where a webhook stands is each store's own."""
    return old.value == new.value or old.key.startswith(STANDING)


def _shown(key: bytes) -> str:
    """What a row is about, for people: a name in a bucket, or else the row itself."""
    if key.startswith(catalog.REFERENCE):
        return catalog.holder_name(key)
    if key.startswith(catalog.NAMES):
        return catalog.row_name(key)
    return msgspec.json.encode(key.decode("utf-8", "backslashreplace")).decode()
