"""Accounts: for each segment, how many of its bytes are still worth something.

A row of the table `segments` has the size of the segment, its live bytes and its deletions:

- live: records of blobs that the index points to, and writes that are the newest of their key;
- deletions: writes that delete a key, removals of blobs. They are live while an older segment may
  hold what they delete.

The rest (superseded writes, removed blobs, headers of commits) is dead: compaction gives it back.
Every batch changes the rows in its own index transaction, so they are as true as the index is.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lmdb

    Txn = lmdb.Transaction[bytes]

ROW = struct.Struct("<QqQB")
ID_BYTES = 8
WRITE_BYTES = 8  # what a write has beside its key and value


class State(IntEnum):
    """What is to be done with a segment."""

    WHOLE = 0
    SUSPECT = 1
    """A write to it failed: its live bytes are to be moved first of all."""
    DROPPED = 2
    """Nothing needs it; its file is to be removed."""


class Account(NamedTuple):
    """One segment; `size_bytes` is 0 while it is the newest."""

    size_bytes: int = 0
    live_bytes: int = 0
    deletion_bytes: int = 0
    state: int = State.WHOLE


class Accounts:
    """The table `segments`; changed inside the index's write transactions only."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self.table = environment.open_db(b"segments")

    def rows(self, txn: Txn | None = None) -> dict[int, Account]:
        """All rows, oldest segment first."""
        if txn is None:
            with self._environment.begin() as reading:
                return self.rows(reading)
        with txn.cursor(self.table) as cursor:
            return {
                int.from_bytes(key, "big"): Account._make(ROW.unpack(value))
                for key, value in cursor
            }

    def get(self, txn: Txn, segment_id: int) -> Account | None:
        """One row."""
        stored = txn.get(_key(segment_id), db=self.table)
        return None if stored is None else Account._make(ROW.unpack(stored))

    def put(self, txn: Txn, segment_id: int, account: Account) -> None:
        """Set a row."""
        txn.put(_key(segment_id), ROW.pack(*account), db=self.table)

    def remove(self, txn: Txn, segment_id: int) -> None:
        """Forget a segment whose file is gone."""
        txn.delete(_key(segment_id), db=self.table)

    def add(
        self, txn: Txn, live: Mapping[int, int], deletions: tuple[int, int] | None = None
    ) -> None:
        """Add to the live bytes of segments, and to the deletions of one: its id and bytes."""
        for segment_id, delta in live.items():
            row = self.get(txn, segment_id)
            if row is not None:
                self.put(txn, segment_id, row._replace(live_bytes=row.live_bytes + delta))
        if deletions is not None:
            segment_id, size_bytes = deletions
            row = self.get(txn, segment_id) or Account()
            self.put(txn, segment_id, row._replace(deletion_bytes=row.deletion_bytes + size_bytes))


def write_bytes(key: bytes, value: bytes) -> int:
    """What a write that puts counts for."""
    return len(key) + len(value) + WRITE_BYTES


def _key(segment_id: int) -> bytes:
    return segment_id.to_bytes(ID_BYTES, "big")
