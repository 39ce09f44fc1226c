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
    Cursor = lmdb.Cursor[bytes]
    Table = lmdb._Database  # noqa: SLF001 - the wheel names no public type

BLOBS, KEYS, BATCHES = TABLES = range(3)

Columns = tuple[list[bytes], list[bytes | None]]
"""Keys in order, and their values; None removes."""
Pair = tuple[bytes, bytes]

CHUNK_PAIRS = 256  # looked at together, when one of them takes the place of another


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
    return keys, list(map(values.__getitem__, keys))


def size_of(keys: list[bytes], values: list[bytes | None]) -> int:
    """How many bytes keys and values have together."""
    return sum(map(len, keys)) + sum(map(len, filter(None, values)))


def load(txn: Txn, table: Table, keys: list[bytes], values: list[bytes | None]) -> list[Pair]:
    """Set or remove keys, given in order, in as few calls as there are.

    Gives what was lost: the pairs that were there and are not, or have other values now.
    """
    if _are_set(values):
        return _set(txn, table, keys, values)
    pairs = list(zip(keys, values, strict=True))
    gone = [(key, txn.pop(key, db=table)) for key, value in pairs if value is None]
    lost = [(key, old) for key, old in gone if old is not None]
    kept = [(key, value) for key, value in pairs if value is not None]
    return lost + _set(txn, table, [key for key, _ in kept], [value for _, value in kept])


def _set(txn: Txn, table: Table, keys: list[bytes], values: list[bytes]) -> list[Pair]:
    lost: list[Pair] = []
    with txn.cursor(table) as cursor:
        if keys and not (cursor.last() and cursor.key() >= keys[0]):
            cursor.putmulti(zip(keys, values, strict=True), append=True)
            return lost
        for at in range(0, len(keys), CHUNK_PAIRS):
            chunk = slice(at, at + CHUNK_PAIRS)
            lost += _replace(cursor, dict(zip(keys[chunk], values[chunk], strict=True)))
    return lost


def _replace(cursor: Cursor, pairs: Mapping[bytes, bytes]) -> list[Pair]:
    """Set keys; give the values that they had before.

    Most are new, which the first call finds out while it sets them.
    """
    _, added = cursor.putmulti(pairs.items(), overwrite=False)
    if added == len(pairs):
        return []
    lost = [(key, value) for key, value in cursor.getmulti(list(pairs)) if value != pairs[key]]
    cursor.putmulti([(key, pairs[key]) for key, _ in lost])
    return lost


def _are_set(values: list[bytes | None]) -> TypeGuard[list[bytes]]:
    return None not in values
