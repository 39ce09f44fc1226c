"""Checking shards that nobody changes: pages, rows, counts, and which shard rows are in.

A damaged row is put right where that can be proved: the history still has the last change of its
key, or a single bit has flipped, which one only the checksum says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.digest import DIGEST_BYTES
from holdfast.core.errors import CorruptError
from holdfast.core.limits import BATCH_REFS_MAX
from holdfast.shards import tables
from holdfast.shards.rows import BLOB, KEY, LOOSE, Row, read_blob, row_sum, unflipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.shards.rows import Stored
    from holdfast.shards.shard import Shard
    from holdfast.shards.shards import Shards


DAMAGED = "the row is damaged"


class Found(NamedTuple):
    """One thing that is wrong in a shard."""

    shard: Shard
    why: str
    key: bytes = b""
    """Of the row, where it is about one."""
    mend: Callable[[], bool] | None = None
    """Puts it right; None where nobody knows how."""
    is_damaged: bool = False
    """It is a row that is not as it was written."""


class _Counts:
    """What the rows of a shard come to."""

    def __init__(self) -> None:
        self.keys = self.blobs = self.blob_bytes = 0

    def add(self, key: bytes, value: bytes) -> None:
        self.keys += key[:1] == KEY
        if key[:1] == BLOB:
            self.blobs += 1
            self.blob_bytes += read_blob(value).size_bytes


def check(shards: Shards) -> Iterator[Found | int]:
    """Read all rows of all shards; yields also how many were read.

    Damaged rows of blobs are left out: whoever reads the blobs tells them.

    Raises:
        UnavailableError: the disk refuses.
    """
    for shard in shards.shards:
        try:
            for why in shard.check_pages():
                if why != "ok":
                    yield Found(shard, why)
            yield from _check_rows(shards, shard)
        except CorruptError as error:  # its pages cannot be followed
            yield Found(shard, error.message)


def _check_rows(shards: Shards, shard: Shard) -> Iterator[Found | int]:
    counts, damaged, after = _Counts(), 0, b""
    while page := shard.ask(tables.ALL_ROWS, after, BATCH_REFS_MAX):
        for key, *stored in page:
            if row_sum(key, *stored[:2]) != stored[2]:
                damaged += 1
                if not is_blob(key):
                    yield _damaged(shards, shard, key, tuple(stored))
                continue
            counts.add(key, stored[1])
            if not _belongs(shards, shard, key):
                yield Found(shard, "the row belongs in another shard", key)
        yield len(page)
        after = page[-1][0]
    if not damaged:  # else it is counted when they are mended
        yield from _check_counts(shard, counts)


def _check_counts(shard: Shard, counts: _Counts) -> Iterator[Found]:
    state = shard.state
    found = (counts.keys, counts.blobs, counts.blob_bytes)
    if found != (state.keys, state.blobs, state.blob_bytes):
        why = f"it has {counts.keys} keys and {counts.blobs} blobs, and counts others"
        yield Found(shard, why, mend=lambda: shard.count(*found))


def is_blob(key: bytes) -> bool:
    """Whether a row is one of a blob."""
    return key[:1] == BLOB and len(key) == 1 + DIGEST_BYTES


def _belongs(shards: Shards, shard: Shard, key: bytes) -> bool:
    if key[:1] == KEY:
        return shards.routing.key(key[1:]) == shard.number
    return key[:1] != BLOB or shards.routing.digest(key[1:]) == shard.number


def _damaged(shards: Shards, shard: Shard, key: bytes, stored: Stored) -> Found:
    right = _as_it_was(shard, key) or unflipped(key, stored)
    if right is None or not _belongs(shards, shard, right[0]):
        is_lost_space = key[:1] == LOOSE
        mend = (lambda: shard.put_back({key: None})) if is_lost_space else None
        return Found(shard, DAMAGED, key, mend, is_damaged=True)
    rows: dict[bytes, Row | None] = {key: None}
    if right[0] == key or not shard.has(right[0]):
        rows |= dict([right])
    return Found(shard, DAMAGED, right[0], lambda: shard.put_back(rows), is_damaged=True)


def _as_it_was(shard: Shard, key: bytes) -> tuple[bytes, Row] | None:
    """What the history has of a key, if it still has the last change of it."""
    if key[:1] != KEY:
        return None
    found = shard.ask(tables.LAST_CHANGE, key[1:])
    if not found:
        return None
    revision, value, total = found[0]
    if value is None or row_sum(key[1:], revision, value) != total:
        return None
    return key, Row(revision, value)
