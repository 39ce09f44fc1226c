"""Migration: all that one store has, names and bytes, into another, whatever engines they are.

Every row of the catalog moves as it is: names with their times and versions, what is kept of
deleted names, policies, owners, keys, webhooks and the trail; and every blob that a row holds. What
belongs to the old store alone does not: its commits, so cursors of events begin anew and each
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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import BlobError, ConflictError, CorruptError
from holdfast.core.kv import Conflict, Item, Put, Unchanged
from holdfast.core.many import get_many, paged
from holdfast.core.seams import SystemClock
from holdfast.core.stream import parse_cursor
from holdfast.core.verify import verify_many
from holdfast.depot import catalog
from holdfast.depot.events import latest
from holdfast.depot.webhooks import STANDING, Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdfast.core.kv import KV, Committed
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Clock
    from holdfast.core.store import Source, Store
    from holdfast.core.stream import Cursor
    from holdfast.depot.depot import Depot

PAGE = 256  # rows read, or blobs looked for, at once
AHEAD = 64  # commits on their way at once
EXAMPLES_MAX = 10
END = b"\xff" * 8  # behind every row of the catalog
HELD = (catalog.REFERENCE,)
APART = (*HELD, *catalog.NAMES, STANDING)


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
        self.moved = Moved()

    def run(self) -> Iterator[int]:
        """Do it in steps; yield how many bytes of blobs each moved.

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
            for tables in (HELD, None, catalog.NAMES, (STANDING,)):
                yield from self._move_rows(tables)
        if self._manner.verify and not self._manner.dry_run:
            yield from self._verify()

    # Rows.

    def _compare(self) -> Iterator[int]:
        """Read both catalogs side by side.

        Raises:
            ConflictError: they cannot become one.
        """
        wrong: list[str] = []
        count = 0
        for number, (old, new) in enumerate(_pairs(self._from.engine.kv, self._to.engine.kv)):
            if new is None:
                self.moved.rows += 1
            elif old is not None and _is_same(old, new):
                self.moved.rows_there += 1
            else:
                count += 1
                wrong += [_shown(new.key)] if len(wrong) < EXAMPLES_MAX else []
            if number % PAGE == 0:
                yield 0
        if count:
            raise ConflictError(
                f"{count} rows of the new store are not in the old one, or differ: "
                f"{', '.join(wrong)}; begin with an empty one"
            )

    def _move_rows(self, tables: Sequence[bytes] | None) -> Iterator[int]:
        """Write the rows of some tables that are missing; None are all but those apart."""
        waiting: deque[Pending[Committed | Conflict]] = deque()
        rows: list[Item] = []
        kvs = self._from.engine.kv, self._to.engine.kv
        for old, new in _pairs(*kvs):
            if old is None or new is not None or not _belongs(old.key, tables):
                continue
            rows.append(old)
            if len(rows) == limits.WRITES_MAX:
                waiting.append(self._put(rows))
                rows = []
                yield 0
            if len(waiting) == AHEAD:
                _settle(waiting.popleft())
        if rows:
            waiting.append(self._put(rows))
        for each in waiting:
            _settle(each)

    def _put(self, rows: Sequence[Item]) -> Pending[Committed | Conflict]:
        kv = self._to.engine.kv
        compares = [Unchanged(row.key, 0) for row in rows]
        return kv.commit(compares, [Put(row.key, self._value(row)) for row in rows])

    def _value(self, row: Item) -> bytes:
        """What a row says in the new store."""
        if row.key.startswith(STANDING):
            ends = latest(self._from.engine.kv), latest(self._to.engine.kv)
            return _moved(row.value, *ends, self._manner.clock.now_us())
        return row.value

    # Blobs.

    def _move_blobs(self) -> Iterator[int]:
        """Store all that is held and missing."""
        for page in paged(self._from.content.digests()):
            for at in range(0, len(page), PAGE):
                yield from self._move_page(page[at : at + PAGE])

    def _move_page(self, digests: Sequence[Digest]) -> Iterator[int]:
        there = self._to.engine.store.stat(digests)
        self.moved.blobs_there += len(there)
        missing = [digest for digest in digests if digest not in there]
        sizes = self._from.engine.store.stat(missing)
        for digest in missing:
            if digest not in sizes:
                self._note(digest)
        if self._manner.dry_run:
            self.moved.blobs += len(sizes)
            self.moved.blob_bytes += sum(sizes.values())
            yield 0
            return
        for batch in _batches(missing, sizes):
            yield self._move_small(batch)
        for digest in missing:
            if sizes.get(digest, 0) > limits.SMALL_BLOB_BYTES_MAX:
                yield from self._move_large(digest)

    def _move_small(self, digests: Sequence[Digest]) -> int:
        """Store some at once; what is read wrong would get another name, and is told."""
        found = list(get_many(self._from.engine.store, digests))
        good = [
            data
            for digest, data in zip(digests, found, strict=True)
            if isinstance(data, bytes) and self._is(digest, Digest.of(data))
        ]
        for digest, data in zip(digests, found, strict=True):
            if isinstance(data, BlobError):
                self._note(digest)
        for stored in self._to.engine.store.put_many(good):
            if isinstance(stored, BlobError):
                raise stored
        size_bytes = sum(map(len, good))
        self._count(len(good), size_bytes)
        return size_bytes

    def _move_large(self, digest: Digest) -> Iterator[int]:
        """Store one a chunk at a time."""
        hasher = Hasher()
        with self._to.engine.store.sink() as sink:
            try:
                for chunk in _chunks(self._from.engine.store, digest):
                    hasher.update(chunk)
                    sink.write(chunk)
                    self._keep_pace(len(chunk))
                    yield len(chunk)
            except _ReadError:
                self._note(digest)
                return
            ref = hasher.ref()
            if self._is(digest, ref.digest):
                sink.commit(ref).result()
                self.moved.blobs += 1

    def _is(self, digest: Digest, actual: Digest) -> bool:
        if digest != actual:
            self._note(digest)
        return digest == actual

    def _note(self, digest: Digest) -> None:
        self.moved.damaged_count += 1
        if len(self.moved.damaged) < limits.FINDINGS_MAX:
            self.moved.damaged.append(str(digest))

    def _count(self, blobs: int, size_bytes: int) -> None:
        self.moved.blobs += blobs
        self._keep_pace(size_bytes)

    def _keep_pace(self, size_bytes: int) -> None:
        """Wait as long as it takes to stay below the bound."""
        self.moved.blob_bytes += size_bytes
        if self._manner.bytes_s_max:
            due_s = self.moved.blob_bytes / self._manner.bytes_s_max
            ahead_s = self._began_s + due_s - self._manner.clock.monotonic_s()
            if ahead_s > 0:
                self._manner.pause(ahead_s)

    # Afterwards.

    def _verify(self) -> Iterator[int]:
        """Read the new store: the same rows, the same blobs, each with its digest.

        Raises:
            CorruptError: it is not what the old one is.
        """
        for old, new in _pairs(self._from.engine.kv, self._to.engine.kv):
            if old is None or new is None or not _is_same(old, new):
                shown = _shown((old or new).key)  # type: ignore[union-attr]  # one of them is there
                raise CorruptError(f"the new store differs: {shown}")
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
                yield 0


class _ReadError(Exception):
    """The old store could not give a blob."""


def _chunks(store: Store, digest: Digest) -> Iterator[bytes | bytearray | memoryview]:
    """Read a blob of the old store, whose errors are told from those of the new one."""
    try:
        source: Source | None = store.open(digest)
        assert source is not None
        with source:
            while chunk := source.read(limits.CHUNK_BYTES):
                yield chunk
    except (CorruptError, LookupError) as error:
        raise _ReadError from error


def _batches(digests: Sequence[Digest], sizes: Mapping[Digest, int]) -> Iterator[list[Digest]]:
    """Cut small blobs into what one append takes."""
    batch: list[Digest] = []
    room_bytes = limits.BATCH_BYTES_MAX
    for digest in digests:
        size_bytes = sizes.get(digest)
        if size_bytes is None or size_bytes > limits.SMALL_BLOB_BYTES_MAX:
            continue
        if size_bytes > room_bytes:
            yield batch
            batch, room_bytes = [], limits.BATCH_BYTES_MAX
        batch.append(digest)
        room_bytes -= size_bytes
    if batch:
        yield batch


def _belongs(key: bytes, tables: Sequence[bytes] | None) -> bool:
    if tables is None:
        return not key.startswith(APART)
    return key.startswith(tuple(tables))


def _is_same(old: Item, new: Item) -> bool:
    """Whether a row needs not be moved; where a webhook stands is each store's own."""
    return old.value == new.value or old.key.startswith(STANDING)


def _moved(value: bytes, end: Cursor, new_end: Cursor, now_us: int) -> bytes:
    """Where a webhook stands that moves: at the end, past what it was not told yet."""
    standing = msgspec.json.decode(value, type=Standing)
    is_behind = parse_cursor(standing.cursor) < end
    lost_us = now_us if is_behind else standing.lost_us
    moved = replace(standing, cursor=str(new_end), waiting_us=0, lost_us=lost_us)
    return msgspec.json.encode(moved)


def _settle(pending: Pending[Committed | Conflict]) -> None:
    if isinstance(pending.result(), Conflict):
        raise ConflictError("somebody else writes to the new store")


def _rows(kv: KV) -> Iterator[Item]:
    """All rows in order, a page at a time."""
    start = b"\x00"
    while page := kv.scan(start, END, limit=PAGE):
        yield from page
        start = page[-1].key + b"\x00"


def _pairs(old: KV, new: KV) -> Iterator[tuple[Item | None, Item | None]]:
    """Rows with equal keys side by side; None for a row that is missing."""
    olds, news = _rows(old), _rows(new)
    left, right = next(olds, None), next(news, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.key < right.key):
            yield left, None
            left = next(olds, None)
        elif left is None or right.key < left.key:
            yield None, right
            right = next(news, None)
        else:
            yield left, right
            left, right = next(olds, None), next(news, None)


def _shown(key: bytes) -> str:
    """A row for people: its table and its name."""
    return msgspec.json.encode(key.decode("utf-8", "backslashreplace")).decode()
