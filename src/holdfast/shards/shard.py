"""One shard: a file of SQLite, the connection that writes it, and what an epoch does to it.

`lock` guards the connection: the planner reads what it plans over, the shard's own thread writes
(shards/worker.py). A part of an epoch is one transaction. Where other shards take part, too, it
keeps what the rows were before, so that the part can be taken back (shards/recovery.py).
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.shards import tables
from holdfast.shards.connection import (
    REFUSED,
    SYNCED,
    UNSYNCED,
    blob_error,
    connect,
    text_of,
    world,
)
from holdfast.shards.rows import (
    LOOSE,
    LOOSE_END,
    NUMBER_BITS,
    Chunk,
    Row,
    State,
    checked,
    loose_id,
    loose_key,
    pack_state,
    place_of,
    read_state,
    row_sum,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.shards.rows import Change

STATE_KEY = b""
"""Under which the undo keeps the state that was before; no row has an empty key."""
COLLECT_CHUNKS = 16  # removed by one transaction
KEYS_PAGE = 64


class Part:
    """What an epoch changes in one shard."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row | None] = {}
        self.old: dict[bytes, Row | None] = {}
        """What these rows were before, for who counts them; of a damaged one, that it was there."""
        self.chunks: list[Chunk] = []
        self.changes: list[Change] = []
        self.orphans: list[bytes] = []
        """Rows for what this part brings, and nobody wants if it is taken back."""


class Shard:
    """The file with the number `number`, open for writing."""

    def __init__(self, number: int, path: Path, disk: Disk) -> None:
        """Open a file that exists.

        Raises:
            CorruptError: it is damaged.
            FullError, UnavailableError: the disk refuses.
        """
        self.number = number
        self.path = path
        self._log_path = path.with_name(f"{path.name}-wal")
        self.lock = threading.RLock()
        self._disk = disk
        self._name = path.name
        self._is_unsynced = False
        self._may_undo = True
        """Something may be kept of what rows were before."""
        with world("opening", path.name):
            self._database = connect(path, writes=True)
        self.state = self.read_state()
        last: int | None = self.ask(tables.LAST_PLACE)[0][0]
        self._next_id = 1 + ((last or 0) >> NUMBER_BITS)

    def read_state(self) -> State:
        """Read from the file what it knows of its last epoch.

        Raises:
            CorruptError: that is damaged.
        """
        found = self.ask(tables.STATE)
        state = read_state(found[0][0]) if found else None
        if state is None:
            raise CorruptError(f"{self.path.name} does not say what its last epoch was")
        self.state = state
        return state

    def get(self, key: bytes) -> Row | None:
        """Read a row.

        Raises:
            CorruptError: it is damaged.
        """
        found = self.ask(tables.ROW, key)
        return checked(key, found[0], self.number) if found else None

    def has(self, key: bytes) -> bool:
        """Whether there is a row, damaged or not."""
        return bool(self.ask(tables.ROW, key))

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the keys of rows from `start` up to `end`, in order."""
        while page := self.ask(tables.KEYS, start, end, KEYS_PAGE):
            for (key,) in page:
                yield key
            start = page[-1][0] + b"\x00"

    def chunk(self, place: int) -> tuple[int, bytes] | None:
        """Checksum and bytes of a chunk."""
        found = self.ask(tables.CHUNK, place)
        return found[0] if found else None

    def new_id(self) -> int:
        """An id for chunks, which no others have."""
        with self.lock:
            number = self._next_id
            self._next_id += 1
        return number

    # An epoch

    def apply(self, part: Part, state: State, *, alone: bool) -> None:
        """Do a part of an epoch, durably; `alone`, no other shard takes part.

        Raises:
            FullError, UnavailableError: nobody knows whether it was done (see `read_state`).
        """
        with self._transaction():
            say = self._database.execute
            if self._may_undo:
                say(tables.CLEAR_UNDO)
            self._may_undo = True
            if not alone:
                self._keep(part, state.epoch)
            self._put_rows(part.rows)
            self._say_each(tables.PUT_CHUNK, part.chunks)
            changes = [
                (*each, row_sum(each.key, each.revision, each.value)) for each in part.changes
            ]
            self._say_each(tables.PUT_CHANGE, changes)
            if state.oldest > self.state.oldest:
                say(tables.FORGET_CHANGES, (state.oldest,))
            say(tables.PUT_STATE, (pack_state(state),))
        self._may_undo = not alone
        self.state = state

    def undo(self, epoch: int) -> None:
        """Take the shard's part of an epoch back, if it has it.

        Raises:
            CorruptError: what was before is not known.
            FullError, UnavailableError: the disk refuses.
        """
        if self.read_state().epoch != epoch:
            return
        found = self.ask(tables.UNDO_STATE)
        before = read_state(found[0][1]) if found and found[0][0] == epoch else None
        if before is None:
            raise CorruptError(f"{self.path.name} cannot take epoch {epoch} back")
        with self._transaction():
            say = self._database.execute
            say(tables.UNDONE_KEYS)
            say(tables.UNDONE_ROWS)
            say(tables.UNDONE_CHANGES, (before.revision,))
            say(tables.PUT_STATE, (pack_state(before),))
            say(tables.CLEAR_UNDO)
        self.state = before

    def settle(self) -> None:
        """Bring all that was committed into the file itself, whatever became of earlier syncs.

        What was refused is gone from the write-ahead log then, which begins anew and is synced.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self.lock, world("settling", self.path.name):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            (busy, _, _), *_ = self._database.execute(tables.CHECKPOINT_ALL).fetchall()
            if busy:
                raise OSError("readers do not come to an end")
        with self._transaction():
            self._database.execute(tables.PUT_STATE, (pack_state(self.read_state()),))

    def skip(self, revision: int) -> None:
        """Count commits of nothing up to a revision, which was announced and did not come.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        self._say(msgspec.structs.replace(self.state, revision=revision))

    # Chunks

    def write_chunks(self, chunks: list[Chunk], loose: int | None) -> None:
        """Write chunks that no blob has yet; with the first of them, the id that they have.

        They are as durable as the next epoch of this shard.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self._transaction(synced=False):
            if loose is not None:
                self._put_rows({loose_key(loose): Row(0, b"")})
            self._database.executemany(tables.PUT_CHUNK, chunks)

    def loose(self) -> list[int]:
        """The ids of all chunks that no blob has."""
        return [number for key in self.keys(LOOSE, LOOSE_END) if (number := loose_id(key))]

    def is_loose(self, blob_id: int, completed: int) -> bool:
        """Whether no blob has the chunks with an id.

        It has not let them go before the epoch in which it did is one of those that are
        `completed`.
        """
        key = loose_key(blob_id)
        with self.lock:
            undo = self.ask(tables.UNDO_EPOCH, key)
            return self.get(key) is not None and not (undo and undo[0][0] > completed)

    def collect(self, blob_id: int) -> bool:
        """Remove some of the chunks that no blob has; False when none are left.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self.lock:
            bounds = (place_of(blob_id, 0), place_of(blob_id + 1, 0))
            places = self.ask(tables.PLACES, *bounds, COLLECT_CHUNKS)
            with self._transaction(synced=False):
                self._database.executemany(tables.DELETE_CHUNK, places)
                if len(places) < COLLECT_CHUNKS:
                    self._database.execute(tables.DELETE_ROW, (loose_key(blob_id),))
            return len(places) == COLLECT_CHUNKS

    def loose_bytes(self) -> int:
        """How much the chunks have that no blob has."""
        total = 0
        for blob_id in self.loose():
            bounds = (place_of(blob_id, 0), place_of(blob_id + 1, 0))
            total += self.ask(tables.SIZES, *bounds)[0][0]
        return total

    # Space

    def log_bytes(self) -> int:
        """How large the write-ahead log is."""
        try:
            return self._log_path.stat().st_size
        except OSError:
            return 0

    def checkpoint(self) -> None:
        """Bring what is in the write-ahead log into the file, so that the log can begin anew.

        Raises:
            FullError, UnavailableError: the disk refuses; nobody knows what earlier writes are
                worth that were not synced (see `settle`).
        """
        with self.lock, world("checkpointing", self.path.name):
            self._database.execute(tables.CHECKPOINT).fetchall()

    def free_bytes(self) -> int:
        """How much of the file is used by nothing."""
        pages: int = self.ask(tables.FREE_PAGES)[0][0]
        return pages * tables.PAGE_BYTES

    def vacuum(self) -> int:
        """Give some of the free space back to the disk; return how much.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self.lock:
            before = self.free_bytes()
            step_bytes = min(before, limits.VACUUM_STEP_BYTES)
            with self._transaction(synced=False):
                for _ in range(step_bytes // tables.PAGE_BYTES):
                    self._database.execute(tables.VACUUM).fetchall()
            return before - self.free_bytes()

    # Mending

    def check_pages(self) -> list[str]:
        """What SQLite finds wrong with its pages; a single "ok" if nothing."""
        return [text_of(text) for (text,) in self.ask(tables.CHECK)]

    def put_back(self, rows: dict[bytes, Row | None]) -> bool:
        """Write rows as they were, or remove what is none.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        with self._transaction():
            self._put_rows(rows)
        return True

    def count(self, keys: int, blobs: int, blob_bytes: int) -> bool:
        """Say what there is.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        counts = {"keys": keys, "blobs": blobs, "blob_bytes": blob_bytes}
        self._say(msgspec.structs.replace(self.state, **counts))
        return True

    def close(self) -> None:
        """Bring everything into the file and let go of it."""
        with self.lock:
            with suppress(sqlite3.Error):  # the next opening does it
                self._database.execute(tables.CHECKPOINT_ALL).fetchall()
            self._database.close()

    # SQLite

    def _keep(self, part: Part, epoch: int) -> None:
        """Keep what the rows were before, to the last bit, for one of them may be damaged."""
        orphans = {key: (key, epoch, 0, b"", row_sum(key, 0, b"")) for key in part.orphans}
        state = (STATE_KEY, epoch, 0, pack_state(self.state), 0)
        self._database.executemany(tables.PUT_UNDO, [state, *orphans.values()])
        kept = [(key, epoch) for key in part.rows if key not in orphans]
        self._database.executemany(tables.KEEP_ROW, kept)

    def _say(self, state: State) -> None:
        with self._transaction():
            self._database.execute(tables.PUT_STATE, (pack_state(state),))
        self.state = state

    def _put_rows(self, rows: dict[bytes, Row | None]) -> None:
        gone = [(key,) for key, row in rows.items() if row is None]
        kept = [(key, *row, row_sum(key, *row)) for key, row in rows.items() if row is not None]
        self._say_each(tables.DELETE_ROW, gone)
        self._say_each(tables.PUT_ROW, kept)

    def _say_each(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            self._database.executemany(statement, rows)

    def ask(self, statement: str, *values: object) -> list[Any]:
        """Read rows by the connection that writes.

        Raises:
            CorruptError, UnavailableError: SQLite or the disk refused.
        """
        try:
            with self.lock:
                return self._database.execute(statement, values).fetchall()
        except REFUSED as error:
            raise blob_error("reading", self._name, error) from error

    @contextmanager
    def _transaction(self, *, synced: bool = True) -> Iterator[None]:
        """Do all of it, or nothing; unless the commit itself fails, when nobody knows."""
        with self.lock:
            try:
                if self._is_unsynced == synced:
                    self._database.execute(SYNCED if synced else UNSYNCED)
                    self._is_unsynced = not synced
                self._database.execute("BEGIN IMMEDIATE")
                yield
                self._disk.commit(self._database)
            except REFUSED as error:
                self._roll_back()
                raise blob_error("writing", self._name, error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
