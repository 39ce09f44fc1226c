"""The depot over shards: names and bytes in files of SQLite.

What belongs to a name is in the shard of its key: the entry, the deleted and the replaced ones,
their references, and what is due. What belongs to a blob is in that of its digest. So to change a
name concerns few shards, and a key is in the file that Blobnom would have it in.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import UnsupportedError
from holdfast.core.groupcommit import Batching
from holdfast.core.verify import check_content
from holdfast.depot import catalog
from holdfast.depot.around import is_direct, surround
from holdfast.depot.assembly import Parts, assemble
from holdfast.depot.cold import cool, tier_of
from holdfast.depot.large import Home, open_elsewhere
from holdfast.depot.shardaudit import ShardGround
from holdfast.depot.wrapped import codecs_for, is_unused, wrap, zstd_of
from holdfast.kv.sqlite import SqliteKV
from holdfast.log.compaction import Freed
from holdfast.log.report import Recovery
from holdfast.shards.folder import Shape
from holdfast.shards.routing import Layout
from holdfast.shards.shards import Options, Shards
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.sqlitemedium import ShardMedium
from holdfast.stores.through import EncodedMedium

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Medium
    from holdfast.core.store import Store
    from holdfast.depot.depot import Depot
    from holdfast.depot.engine import Limits
    from holdfast.depot.large import Elsewhere
    from holdfast.depot.wrapped import Seams
    from holdfast.shards.epoch import Epoch
    from holdfast.stores.cooled import CooledStore
    from holdfast.stores.through import Codecs


def route(key: bytes) -> bytes:
    """The routing key of a key of the catalog.

    >>> route(catalog.entry_key("photos", b"a.jpg"))
    b'a.jpg'
    >>> route(catalog.held_by_row(bytes(32), catalog.entry_key("photos", b"a.jpg")))
    b'a.jpg'
    """
    table = key[:1]
    if table == catalog.REFERENCE:
        row = catalog.holder(key)
        is_content = row.startswith(catalog.BY_CONTENT)
        return catalog.referenced_digest(key).hex().encode() if is_content else _name(row)
    if table == catalog.DUE:
        return _name(key[1 + catalog.TIME_BYTES :])
    return _name(key) if table in catalog.NAMES else key


LAYOUT = Layout("catalog-1", route)


def open_sharded(path: Path, bounds: Limits, seams: Seams) -> Depot:
    """Open or create the depot over shards in `path`, for this process alone.

    Raises:
        InvalidError: the shards are others than `bounds` says.
        UnavailableError: another process has it open, or the disk refuses.
        CorruptError, UnsupportedError: what is there cannot be read.
        DeniedError, ConflictError: it is encrypted otherwise.
    """
    if bounds.stack.large or bounds.stack.disks:
        raise UnsupportedError(
            "`large` and `spread` are for the engine log: shards keep blobs of any size"
        )
    shape = Shape(bounds.shards, bounds.shard_hash, LAYOUT)
    options = Options(shape, Batching(bounds.batch_size, bounds.batch_wait_s))
    shards = Shards(path, *seams, options=options)
    with ExitStack() as undo:
        undo.callback(shards.close)
        parts = _parts(shards, bounds, seams, undo)
        undo.pop_all()
    return assemble(parts, bounds)


def _parts(shards: Shards, bounds: Limits, seams: Seams, undo: ExitStack) -> Parts:
    """Put all together that is in the folder, and let `undo` close what was opened."""
    path, stack, kv = shards.path, bounds.stack, SqliteKV(shards)
    home = Home(path, shards.id, seams.disk, shards.between)
    elsewhere = open_elsewhere(home, stack, seams.clock, seams.entropy)
    here = SqliteStore(shards, bounds.small_blob_bytes_max)
    cooled = cool(here, elsewhere, kv, seams.clock)
    bare = here if cooled is None else cooled
    undo.callback(bare.close)
    codecs = codecs_for(path, stack, seams, partial(is_unused, bare))
    encoded = wrap(bare, codecs)
    old = tier_of(cooled, elsewhere, kv, seams.clock, codecs)
    store = surround(encoded, shards.id, bounds, codecs, seams)
    undo.callback(store.close)
    return Parts(
        path,
        seams.disk,
        seams.clock,
        store,
        kv,
        partial(_facts, shards),
        Recovery(segments=shards.routing.count),
        _media(shards, codecs, elsewhere, cooled),
        ShardGround(shards, is_encoded=bool(codecs.each)),
        lambda: iter(()),
        partial(_compact, shards),
        _no_spot,
        partial(_close, store, shards),
        _leave if old is None else old.sweep,
        partial(_renumber, shards),
        zstd_of(encoded, codecs) if is_direct(stack) else None,
        old,
        None if elsewhere is None else elsewhere.ownership,
    )


def _media(
    shards: Shards, codecs: Codecs, elsewhere: Elsewhere | None, cooled: CooledStore | None
) -> tuple[Medium, ...]:
    check = codecs.check if codecs.each else check_content
    media: list[Medium] = [ShardMedium(shards, check)]
    if elsewhere is not None and cooled is not None:
        from holdfast.stores.survey import ObjectMedium  # noqa: PLC0415 - an extra

        media.append(ObjectMedium(elsewhere.remote, cooled.withdraw, check))
    return tuple(EncodedMedium(each, codecs) if codecs.each else each for each in media)


def _renumber(shards: Shards, revision: int) -> None:
    def stage(epoch: Epoch) -> int:
        epoch.adopt(revision, revision + 1)
        return epoch.add_commit([])

    shards.submit(stage, 0).result()


def _name(row: bytes) -> bytes:
    """The user's key in the row of an entry, a deleted or a replaced one."""
    key = row[1:].partition(b"\x00")[2]
    end = -1 - catalog.VERSION_BYTES if row[:1] == catalog.VERSION else None
    return key[:end]


def _facts(shards: Shards) -> Mapping[str, int]:
    """What the shards say of themselves, by the names that a log has for the same."""
    states = [shard.state for shard in shards.shards]
    stats = shards.planner.stats
    return {
        "healthy": int(shards.planner.healthy),
        "batches": stats.epochs,
        "jobs": stats.jobs,
        "appended_bytes": stats.bytes,
        "segments": len(states),
        "log_bytes": sum(map(shards.file_bytes, shards.shards)),
        "live_bytes": sum(state.blob_bytes for state in states),
        "compacted_bytes": 0,
        "freed_bytes": shards.freed_bytes,
        "blobs": sum(state.blobs for state in states),
        "keys": sum(state.keys for state in states),
        "recovered_records": 0,
        "truncated_bytes": 0,
        "torn_bytes": 0,
        "damaged_places": 0,
        "damaged_bytes": 0,
    }


def _compact(
    shards: Shards, dead_share: float = limits.COMPACT_DEAD_SHARE, *, with_newest: bool = False
) -> Iterator[Freed]:
    """Give the free pages of shards back to the disk, where they are a share of the file."""
    for freed_bytes in shards.vacuum(dead_share, limits.COMPACT_DEAD_BYTES_MIN):
        yield Freed(freed_bytes, freed_bytes)
    if with_newest:
        shards.settle()


def _leave(grace_s: float) -> Iterator[int]:
    """Leave uploads to the shards, which remove what no blob has."""
    del grace_s
    return iter(())


def _close(store: Store, shards: Shards) -> None:
    store.close()
    shards.close()


def _no_spot(digest: Digest, coding: str = "") -> None:
    """None: rows lie in pages that change."""
    del digest, coding
