"""Reading while others write: what all shards agree on, and never a part of an epoch.

A reader sees what each file has committed. Of an epoch in which several shards take part some may
be ahead of the others, but these keep what was before, until the next one: what an epoch has
changed that is not complete is read from there. So nobody waits for a writer, and nobody sees what
may yet be taken back.
"""

from __future__ import annotations

import heapq
from contextlib import ExitStack, contextmanager
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.shards import tables
from holdfast.shards.connection import Readers
from holdfast.shards.rows import (
    BLOB,
    BLOB_END,
    KEY,
    Change,
    Row,
    checked,
    is_bytes,
    is_sound,
    place_of,
    read_blob,
    row_sum,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.shards.planner import Planner
    from holdfast.shards.rows import Blob, Stored
    from holdfast.shards.shard import Shard

TRIES_MAX = 10
"""For views of all shards at once; then the planner is waited for."""

Found = tuple[bytes, int, bytes, int]
"""Key, revision, value and checksum."""


class Reading:
    """What is asked of all shards; safe from any thread."""

    def __init__(self, shards: Sequence[Shard], planner: Planner) -> None:
        self._planner = planner
        self._readers = [Readers(shard.path) for shard in shards]

    def row(self, number: int, key: bytes) -> Row | None:
        """Read a row of one shard.

        Raises:
            CorruptError: it is damaged.
            UnavailableError: the disk refuses.
        """
        with self._readers[number].lease() as database:
            return self._row(database, number, key)

    def blob(self, number: int, key: bytes) -> tuple[Blob, bytes | None] | None:
        """Read where a blob is, and its bytes, if they are one chunk beside its row.

        Raises:
            CorruptError: one of both is damaged.
            UnavailableError: the disk refuses.
        """
        with self._readers[number].lease() as database:
            database.execute("BEGIN").close()
            row = self._row(database, number, key)
            if row is None:
                return None
            blob = read_blob(row.value)
            if blob.home != number or blob.size_bytes > limits.ROW_BYTES_MAX:
                return blob, None
            if blob.size_bytes == 0:
                return blob, b""
            data = _chunk(database, number, place_of(blob.id, 0))
        if data is None or len(data) != blob.size_bytes:
            raise CorruptError("the bytes of a blob are missing", shard=number, blob=key[1:].hex())
        return blob, data

    def keys(
        self, start: bytes, end: bytes, limit: int, *, reverse: bool
    ) -> list[tuple[bytes, Row]]:
        """Read keys of the KV of all shards, in order, as they were at one revision.

        Raises:
            CorruptError: one of them is damaged.
            UnavailableError: the disk refuses.
        """
        with ExitStack() as undo:
            databases = [undo.enter_context(each.lease()) for each in self._readers]
            completed = self._view(databases)
            found = [
                undo.enter_context(
                    _range(database, (KEY + start, KEY + end), completed, reverse=reverse)
                )
                for database in databases
            ]
            numbered = [_numbered(each, number) for number, each in enumerate(found)]
            merged = heapq.merge(*numbered, key=itemgetter(1), reverse=reverse)
            return [
                (key[1:], checked(key, (revision, value, total), number))
                for number, key, revision, value, total in islice(merged, limit)
            ]

    def blobs(self, number: int, after: bytes) -> list[tuple[bytes, Row | None]]:
        """Read the next blobs of one shard, in the order of digests; none at the end.

        Instead of a row that is damaged there is None.

        Raises:
            UnavailableError: the disk refuses.
        """
        start = BLOB + after + b"\x00"
        with self._readers[number].lease() as database:
            database.execute("BEGIN").close()
            completed = self._planner.completed
            with _range(database, (start, BLOB_END), completed, reverse=False) as found:
                page = list(islice(found, limits.BATCH_REFS_MAX))
        return [
            (key[1:], Row(revision, value) if row_sum(key, revision, value) == total else None)
            for key, revision, value, total in page
        ]

    def chunk(self, number: int, place: int) -> bytes | None:
        """Read a chunk; None when it is not there.

        Raises:
            CorruptError: it is not what was stored.
            UnavailableError: the disk refuses.
        """
        with self._readers[number].lease() as database:
            return _chunk(database, number, place)

    def unproved(self, number: int, key: bytes) -> Stored | None:
        """Read a row whatever its checksum says; None when it is not there.

        Raises:
            UnavailableError: the disk refuses.
        """
        with self._readers[number].lease() as database:
            found: list[Stored] = database.execute(tables.ROW, (key,)).fetchall()
        return found[0] if found else None

    def raw_chunk(self, number: int, place: int) -> bytes:
        """Read a chunk whatever it is; empty where there is none.

        Raises:
            UnavailableError: the disk refuses.
        """
        with self._readers[number].lease() as database:
            found: list[tuple[int, bytes]] = database.execute(tables.CHUNK, (place,)).fetchall()
        return found[0][1] if found and is_bytes(found[0][1]) else b""

    def changes(self, first: int, end: int) -> list[Change]:
        """Read what the commits from `first` up to `end` have changed, in order.

        Raises:
            CorruptError: a change is damaged.
            UnavailableError: the disk refuses.
        """
        found: list[Change] = []
        for number, readers in enumerate(self._readers):
            with readers.lease() as database:
                rows = database.execute(tables.CHANGES, (first, end)).fetchall()
            for revision, key, value, total in rows:
                if row_sum(key, revision, value) != total:
                    raise CorruptError("a change is damaged", shard=number, revision=revision)
                found.append(Change(revision, key, value))
        return sorted(found, key=itemgetter(0, 1))

    def close(self) -> None:
        """Close the connections."""
        for readers in self._readers:
            readers.close()

    def _row(self, database: sqlite3.Connection, number: int, key: bytes) -> Row | None:
        found = database.execute(tables.FIND, (key,)).fetchall()
        completed = self._planner.completed
        for epoch, *stored in sorted(found, key=_epoch_last):
            if epoch is not None and epoch <= completed:
                continue
            is_gone = epoch is not None and stored[1] is None
            return None if is_gone else checked(key, tuple(stored), number)
        return None

    def _view(self, databases: Sequence[sqlite3.Connection]) -> int:
        """Let all see the same epoch from now on, or one that is not complete; say which it is."""
        if len(databases) == 1:
            _begin(databases)
            return self._planner.completed
        for _ in range(TRIES_MAX):
            completed = self._planner.completed
            _begin(databases)
            if completed == self._planner.completed:
                return completed
            for database in databases:
                database.execute("ROLLBACK").close()
        with self._planner.gate:
            _begin(databases)
            return self._planner.completed


def _chunk(database: sqlite3.Connection, number: int, place: int) -> bytes | None:
    found: list[tuple[int, bytes]] = database.execute(tables.CHUNK, (place,)).fetchall()
    if not found:
        return None
    if not is_sound(place, *found[0]):
        raise CorruptError("stored bytes are damaged", shard=number, place=place)
    return found[0][1]


def _begin(databases: Iterable[sqlite3.Connection]) -> None:
    for database in databases:
        database.execute("BEGIN").close()
        database.execute(tables.STATE).fetchall()  # a transaction begins with its first read


@contextmanager
def _range(
    database: sqlite3.Connection,
    bounds: tuple[bytes, bytes],
    completed: int,
    *,
    reverse: bool,
) -> Iterator[Iterator[Found]]:
    """Rows in order, as the complete epochs left them; read while they are asked for."""
    undone = {
        key: stored
        for key, epoch, *stored in database.execute(tables.UNDONE, bounds).fetchall()
        if epoch > completed
    }
    cursor = database.execute(tables.RANGE_BACK if reverse else tables.RANGE, bounds)
    try:
        rows: Iterator[Found] = cursor
        if undone:
            old = [(key, *stored) for key, stored in undone.items() if stored[1] is not None]
            old.sort(reverse=reverse)
            kept = (row for row in cursor if row[0] not in undone)
            rows = heapq.merge(kept, old, key=itemgetter(0), reverse=reverse)
        yield rows
    finally:
        cursor.close()


def _numbered(rows: Iterable[Found], number: int) -> Iterator[tuple[int, bytes, int, bytes, int]]:
    for row in rows:
        yield (number, *row)


def _epoch_last(found: tuple[int | None, int | None, bytes | None, int | None]) -> bool:
    """Put what was before first, which counts if its epoch is not complete."""
    return found[0] is None
