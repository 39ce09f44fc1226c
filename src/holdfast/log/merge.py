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

    from holdfast.log.changes import Columns


def merge(sources: Iterable[Iterator[Columns]]) -> Iterator[Columns]:
    """Merge tables, given from the oldest to the newest, each as blocks in order."""
    heads = [head for head in map(_Head, sources) if head.keys]
    while len(heads) > 1:
        bound = min(head.keys[-1] for head in heads)
        merged: dict[bytes, bytes | None] = {}
        for head in heads:
            head.move(bound, merged)
        heads = [head for head in heads if head.keys]
        yield columns(merged)
    yield from chain.from_iterable(head.rest() for head in heads)


class _Head:
    """The block at hand of one table, which has no keys when the table is at its end."""

    __slots__ = ("_at", "_blocks", "keys", "values")

    def __init__(self, blocks: Iterator[Columns]) -> None:
        self._blocks = blocks
        self._next()

    def _next(self) -> None:
        self.keys, self.values = next(self._blocks, ([], []))
        self._at = 0

    def move(self, bound: bytes, merged: dict[bytes, bytes | None]) -> None:
        """Add all up to `bound`, which is no more than this block has."""
        start, self._at = self._at, bisect_right(self.keys, bound, self._at)
        if start < self._at:
            taken = slice(start, self._at)
            merged.update(zip(self.keys[taken], self.values[taken], strict=True))
        if self._at == len(self.keys):
            self._next()

    def rest(self) -> Iterator[Columns]:
        """What is left, block by block."""
        yield self.keys[self._at :], self.values[self._at :]
        yield from self._blocks
