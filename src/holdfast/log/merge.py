"""Merging: sorted tables of several stretches of the log as one, in which the newest wins.

The tables come as blocks. Up to the smallest of the last keys of all blocks at hand everything is
known, so that much is taken from each and sorted: whole slices at a time, never pair by pair.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain
from typing import TYPE_CHECKING

from holdfast.log.changes import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.log.changes import Columns, Pair


def merge(
    sources: Iterable[Iterator[Columns]], lost: list[Pair] | None = None
) -> Iterator[Columns]:
    """Merge tables, given from the oldest to the newest, each as blocks in order.

    What gave way to something newer until a block is yielded is in `lost` then.
    """
    heads = [head for head in map(_Head, sources) if head.keys]
    while len(heads) > 1:
        bound = min(head.keys[-1] for head in heads)
        parts = [part for head in heads if (part := head.take(bound))[0]]
        heads = [head for head in heads if head.keys]
        if len(parts) == 1:
            yield parts[0]
            continue
        merged: dict[bytes, bytes | None] = {}
        for keys, values in parts:
            merged.update(zip(keys, values, strict=True))
        if lost is not None and len(merged) < sum(len(keys) for keys, _ in parts):
            lost += _lost(parts, merged)
        yield columns(merged)
    yield from chain.from_iterable(head.rest() for head in heads)


def _lost(parts: list[Columns], merged: dict[bytes, bytes | None]) -> Iterator[Pair]:
    for key, value in chain.from_iterable(zip(*part, strict=True) for part in parts):
        if value is not None and merged[key] is not value:
            yield key, value


class _Head:
    """The block at hand of one table, which has no keys when the table is at its end."""

    __slots__ = ("_at", "_blocks", "keys", "values")

    def __init__(self, blocks: Iterator[Columns]) -> None:
        self._blocks = blocks
        self._next()

    def _next(self) -> None:
        self.keys, self.values = next(self._blocks, ([], []))
        self._at = 0

    def take(self, bound: bytes) -> Columns:
        """Take all up to `bound`, which is no more than this block has."""
        start, self._at = self._at, bisect_right(self.keys, bound, self._at)
        taken = self.keys[start : self._at], self.values[start : self._at]
        if self._at == len(self.keys):
            self._next()
        return taken

    def rest(self) -> Iterator[Columns]:
        """What is left, block by block."""
        yield self.keys[self._at :], self.values[self._at :]
        yield from self._blocks
