"""Changes: what a stretch of the log does to the tables of the index.

A step of a replay gathers what its records do in dicts, so that the last one wins and nothing is
looked up, and then writes each table in its own order. That is many times quicker than a write for
each record: neighbours share a page, and behind the last key of a table LMDB only appends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

    import lmdb

    Txn = lmdb.Transaction[bytes]
    Table = lmdb._Database  # noqa: SLF001 - the wheel names no public type

BLOBS, KEYS, BATCHES = TABLES = range(3)

Columns = tuple[list[bytes], list[bytes | None]]
"""Keys in order, and their values; None removes."""


class Changes:
    """Keys and values by table; None removes."""

    __slots__ = ("batches", "blobs", "keys")

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes | None] = {}
        self.keys: dict[bytes, bytes | None] = {}
        self.batches: dict[bytes, bytes | None] = {}

    @property
    def tables(self) -> tuple[dict[bytes, bytes | None], ...]:
        """All of them, in the order in which the index counts them."""
        return self.blobs, self.keys, self.batches


def columns(values: Mapping[bytes, bytes | None]) -> Columns:
    """Sort by key."""
    keys = sorted(values)
    return keys, [values[key] for key in keys]


def size_of(keys: list[bytes], values: list[bytes | None]) -> int:
    """How many bytes keys and values have together."""
    return sum(map(len, keys)) + sum(map(len, filter(None, values)))


def load(txn: Txn, table: Table, keys: list[bytes], values: list[bytes | None]) -> None:
    """Set or remove keys, given in order, in as few calls as there are."""
    if not _are_set(values):
        pairs = list(zip(keys, values, strict=True))
        for key in [key for key, value in pairs if value is None]:
            txn.delete(key, db=table)
        kept = [(key, value) for key, value in pairs if value is not None]
        load(txn, table, [key for key, _ in kept], [value for _, value in kept])
        return
    with txn.cursor(table) as cursor:
        is_behind = bool(keys) and not (cursor.last() and cursor.key() >= keys[0])
        cursor.putmulti(zip(keys, values, strict=True), append=is_behind)


def _are_set(values: list[bytes | None]) -> TypeGuard[list[bytes]]:
    return None not in values
