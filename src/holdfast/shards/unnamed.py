"""Chunks that no blob has and nobody knows to remove: what is left when a blob's row was lost.

Which ids of chunks blobs have is noted in a database of SQLite's own in a temporary file, so memory
stays flat. While any row of a blob is damaged nothing is said: it may be that which has the chunks.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.digest import Hasher
from holdfast.core.limits import BATCH_REFS_MAX
from holdfast.shards import tables
from holdfast.shards.connection import world
from holdfast.shards.rows import (
    BLOB,
    BLOB_END,
    IDS,
    LOOSE,
    LOOSE_END,
    NUMBER_BITS,
    is_sound,
    loose_id,
    place_of,
    read_blob,
    row_sum,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.digest import BlobRef
    from holdfast.shards.shard import Shard
    from holdfast.shards.shards import Shards


class Unnamed(NamedTuple):
    """Chunks in a shard, by their id."""

    shard: Shard
    id: int


def unnamed(shards: Shards) -> Iterator[Unnamed]:
    """Look at a store that nobody changes.

    Raises:
        FullError, UnavailableError: the disk refuses, or has no room for notes.
    """
    with world("comparing", "chunks"), closing(sqlite3.connect("")) as notes:
        notes.execute(tables.NOTES)
        for shard in shards.shards:
            if not _note(notes, shard):
                return
        for shard in shards.shards:
            for number in _ids(shard):
                if not notes.execute(tables.NOTED, (shard.number, number)).fetchall():
                    yield Unnamed(shard, number)


def hashed(chunks: Unnamed) -> BlobRef | None:
    """The blob that chunks are, as far as they follow each other; None if one is damaged."""
    hasher, number = Hasher(), 0
    while found := chunks.shard.chunk(place_of(chunks.id, number)):
        if not is_sound(place_of(chunks.id, number), *found):
            return None
        hasher.update(found[1])
        number += 1
    return hasher.ref()


def _note(notes: sqlite3.Connection, shard: Shard) -> bool:
    """Note the chunks that are spoken for; False when that cannot be known."""
    loose = ((shard.number, loose_id(key)) for key in shard.keys(LOOSE, LOOSE_END))
    notes.executemany(tables.NOTE, loose)
    start = BLOB
    while page := shard.ask(tables.PAGE, start, BLOB_END, BATCH_REFS_MAX):
        if any(row_sum(key, revision, value) != total for key, revision, value, total in page):
            return False
        blobs = (read_blob(value) for _, _, value, _ in page)
        notes.executemany(tables.NOTE, ((blob.home, blob.id) for blob in blobs))
        start = page[-1][0] + b"\x00"
    return True


def _ids(shard: Shard) -> Iterator[int]:
    """The ids of all chunks, in order."""
    start, end = 0, place_of(IDS - 1, 0)
    while found := shard.ask(tables.PLACES, start, end, 1):
        number = found[0][0] >> NUMBER_BITS
        yield number
        start = place_of(number + 1, 0)
