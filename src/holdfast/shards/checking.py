"""Checking shards that nobody changes: pages, rows, and which shard they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.limits import BATCH_REFS_MAX
from holdfast.shards import tables
from holdfast.shards.rows import BLOB, KEY, Row, row_sum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.shards.shard import Shard
    from holdfast.shards.shards import Shards


class Found(NamedTuple):
    """One thing that is wrong in a shard."""

    shard: Shard
    where: str
    why: str
    row: tuple[bytes, Row] | None = None
    """What puts it right."""


def check(shards: Shards) -> Iterator[Found | int]:
    """Read all rows of all shards; yields also how many were read.

    Raises:
        UnavailableError: the disk refuses.
    """
    for shard in shards.shards:
        for why in shard.check_pages():
            if why != "ok":
                yield Found(shard, "", why)
        yield from _check_rows(shards, shard)


def _check_rows(shards: Shards, shard: Shard) -> Iterator[Found | int]:
    after = b""
    while page := shard.ask(tables.ALL_ROWS, after, BATCH_REFS_MAX):
        for key, revision, value, total in page:
            if row_sum(key, revision, value) != total:
                row = _as_it_was(shard, key)
                yield Found(shard, f"row {key[:100].hex()}", "the row is damaged", row)
            elif not _belongs(shards, shard, key):
                yield Found(shard, f"row {key[:100].hex()}", "the row belongs in another shard")
        yield len(page)
        after = page[-1][0]


def _belongs(shards: Shards, shard: Shard, key: bytes) -> bool:
    if key[:1] == KEY:
        return shards.routing.key(key[1:]) == shard.number
    return key[:1] != BLOB or shards.routing.digest(key[1:]) == shard.number


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
