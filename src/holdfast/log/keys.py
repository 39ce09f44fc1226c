"""Ordered keys of any length in LMDB, whose own keys end at 511 bytes.

A key of up to 500 bytes stands as it is in the table `keys`. Of a longer one, its first 500 bytes
and a zero byte stand there, which no short key can be; the value names a node, under whose number
the rest of the key stands in the table `tails`, split again in the same way. Keys that share a
beginning share its node, so the order of bytes is the order of the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import lmdb

from holdfast.log.changes import load

PIECE_BYTES = 500
TAIL_PIECE_BYTES = 480
NODE_BYTES = 8
MORE = b"\x00"
LAST_NODE = b"\x00" * NODE_BYTES  # in `tails`: the highest node number given out

Pair = tuple[bytes, bytes]

if TYPE_CHECKING:
    Txn = lmdb.Transaction[bytes]
    Cursor = lmdb.Cursor[bytes]
    Table = lmdb._Database  # noqa: SLF001 - the wheel names no public type


class _Level(NamedTuple):
    """One node of the tree: a table, the prefix of its keys, and what they continue."""

    table: Table
    prefix: bytes
    base: bytes
    piece_bytes: int


class Keys:
    """The two tables; every call takes the transaction it works in."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.table = environment.open_db(b"keys")
        self._tails = environment.open_db(b"tails")

    @property
    def tables(self) -> tuple[Table, Table]:
        """Both."""
        return self.table, self._tails

    def get(self, txn: Txn, key: bytes) -> bytes | None:
        """Read one key."""
        if len(key) <= PIECE_BYTES:
            return txn.get(key, db=self.table)
        found = self._descend(txn, key)
        return None if found is None else txn.get(found, db=self._tails)

    def get_many(self, txn: Txn, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Read keys; those that fit go in one call."""
        short = [key for key in keys if len(key) <= PIECE_BYTES]
        with txn.cursor(self.table) as cursor:
            found = dict(cursor.getmulti(short))
        for key in keys:
            if len(key) > PIECE_BYTES and (value := self.get(txn, key)) is not None:
                found[key] = value
        return found

    def put_many(self, txn: Txn, pairs: Sequence[Pair]) -> None:
        """Set keys, given in order; those that fit go in one call."""
        with txn.cursor(self.table) as cursor:
            cursor.putmulti([pair for pair in pairs if len(pair[0]) <= PIECE_BYTES])
        for key, value in pairs:
            if len(key) > PIECE_BYTES:
                self.put(txn, key, value)

    def load(self, txn: Txn, keys: list[bytes], values: list[bytes | None]) -> list[Pair]:
        """Set or remove keys, given in order, and give what was lost, as `changes.load` does."""
        if max(map(len, keys), default=0) <= PIECE_BYTES:
            return load(txn, self.table, keys, values)
        pairs = list(zip(keys, values, strict=True))
        short = [pair for pair in pairs if len(pair[0]) <= PIECE_BYTES]
        lost = load(txn, self.table, [key for key, _ in short], [value for _, value in short])
        for key, value in pairs:
            if len(key) > PIECE_BYTES:
                old = self.get(txn, key)
                if old is not None and old != value:
                    lost.append((key, old))
                if value is None:
                    self.delete(txn, key)
                else:
                    self.put(txn, key, value)
        return lost

    def put(self, txn: Txn, key: bytes, value: bytes) -> None:
        """Set one key."""
        if len(key) <= PIECE_BYTES:
            txn.put(key, value, db=self.table)
            return
        table, piece, rest = self.table, key[:PIECE_BYTES], key[PIECE_BYTES:]
        while True:
            node = txn.get(piece + MORE, db=table)
            if node is None:
                node = self._new_node(txn)
                txn.put(piece + MORE, node, db=table)
            table = self._tails
            if len(rest) <= TAIL_PIECE_BYTES:
                txn.put(node + rest, value, db=table)
                return
            piece, rest = node + rest[:TAIL_PIECE_BYTES], rest[TAIL_PIECE_BYTES:]

    def delete(self, txn: Txn, key: bytes) -> None:
        """Remove one key, and nodes that become empty."""
        if len(key) <= PIECE_BYTES:
            txn.delete(key, db=self.table)
            return
        found = self._descend(txn, key)
        if found is None or not txn.delete(found, db=self._tails):
            return
        node, parent = found[:NODE_BYTES], key[: len(key) - len(found) + NODE_BYTES]
        while parent and not self._has_keys(txn, node):
            table, marker = self._marker(txn, parent)
            txn.delete(marker, db=table)
            node = marker[:NODE_BYTES]
            parent = parent[:-TAIL_PIECE_BYTES] if table is self._tails else b""

    def walk(self, txn: Txn, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Yield keys with start <= key < end and their values, in order."""
        root = _Level(self.table, b"", b"", PIECE_BYTES)
        return self._walk(txn, root, (start, end), reverse=reverse)

    def _walk(self, txn: Txn, level: _Level, bounds: Pair, *, reverse: bool) -> Iterator[Pair]:
        start, end = bounds
        with txn.cursor(db=level.table) as cursor:
            found = _seek(cursor, level, bounds, reverse=reverse)
            while found:
                stored, value = cursor.item()
                if not stored.startswith(level.prefix):
                    return
                piece = stored[len(level.prefix) :]
                if len(piece) > level.piece_bytes:
                    below = _Level(self._tails, value, level.base + piece[:-1], TAIL_PIECE_BYTES)
                    yield from self._walk(txn, below, bounds, reverse=reverse)
                elif start <= level.base + piece < end:
                    yield level.base + piece, value
                if level.base + piece[: level.piece_bytes] >= end and not reverse:
                    return
                if level.base + piece[: level.piece_bytes] < start and reverse:
                    return
                found = cursor.prev() if reverse else cursor.next()

    def _descend(self, txn: Txn, key: bytes) -> bytes | None:
        """The key in `tails` that a long key ends in; None when its nodes do not exist."""
        node = txn.get(key[:PIECE_BYTES] + MORE, db=self.table)
        rest = key[PIECE_BYTES:]
        while node is not None and len(rest) > TAIL_PIECE_BYTES:
            node = txn.get(node + rest[:TAIL_PIECE_BYTES] + MORE, db=self._tails)
            rest = rest[TAIL_PIECE_BYTES:]
        return None if node is None else node + rest

    def _marker(self, txn: Txn, parent: bytes) -> tuple[Table, bytes]:
        """Where the node behind the bytes `parent` is named."""
        if len(parent) == PIECE_BYTES:
            return self.table, parent + MORE
        found = self._descend(txn, parent)
        assert found is not None
        return self._tails, found + MORE

    def _has_keys(self, txn: Txn, node: bytes) -> bool:
        with txn.cursor(db=self._tails) as cursor:
            return bool(cursor.set_range(node)) and cursor.key().startswith(node)

    def _new_node(self, txn: Txn) -> bytes:
        last = txn.get(LAST_NODE, db=self._tails) or LAST_NODE
        node = (int.from_bytes(last, "big") + 1).to_bytes(NODE_BYTES, "big")
        txn.put(LAST_NODE, node, db=self._tails)
        return node


def _seek(cursor: Cursor, level: _Level, bounds: Pair, *, reverse: bool) -> bool:
    """Stand on the first key to look at; bounds outside this level mean its very end."""
    if not reverse:
        return bool(cursor.set_range(level.prefix + _cut(level, bounds[0])))
    behind = level.prefix + _cut(level, bounds[1]) + MORE + MORE
    if level.base and not bounds[1].startswith(level.base):
        behind = (int.from_bytes(level.prefix, "big") + 1).to_bytes(NODE_BYTES, "big")
    return bool(cursor.prev() if cursor.set_range(behind) else cursor.last())


def _cut(level: _Level, bound: bytes) -> bytes:
    if not bound.startswith(level.base):
        return b""
    return bound[len(level.base) : len(level.base) + level.piece_bytes]
