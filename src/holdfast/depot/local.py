"""The depot of one machine: whichever engine is in a folder; log, index, segments and files."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core.errors import BlobError, ConflictError, UnavailableError, UnsupportedError
from holdfast.core.marker import LOG, SQLITE, UNFINISHED, recorded_engine
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.verify import check_content
from holdfast.depot.around import is_direct, surround
from holdfast.depot.assembly import Parts, assemble
from holdfast.depot.cold import cool, tier_of
from holdfast.depot.disks import open_disks
from holdfast.depot.engine import Limits
from holdfast.depot.large import Home, check_alone, open_elsewhere, tier
from holdfast.depot.logaudit import SCRATCH, LogGround
from holdfast.depot.moving import check_open
from holdfast.depot.sharded import open_sharded
from holdfast.depot.wrapped import Seams, codecs_for, is_unused, wrap, zstd_of
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.compaction import compact
from holdfast.log.inspection import LogMedium
from holdfast.log.log import Log
from holdfast.log.spot import find
from holdfast.stores.coded import CodedSpot
from holdfast.stores.files import FileStore
from holdfast.stores.inspection import FileMedium
from holdfast.stores.layout import sweep
from holdfast.stores.segments import SegmentStore
from holdfast.stores.through import EncodedMedium
from holdfast.stores.tiered import TieredStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Medium
    from holdfast.core.progress import Progress
    from holdfast.core.seams import Clock
    from holdfast.core.store import Store
    from holdfast.depot.cold import Tier
    from holdfast.depot.depot import Depot
    from holdfast.depot.disks import Spread
    from holdfast.depot.engine import Spots
    from holdfast.depot.large import Elsewhere
    from holdfast.stores.cooled import CooledStore
    from holdfast.stores.remote import Remote
    from holdfast.stores.through import Codecs

    There = tuple[Remote, Callable[[Collection[Digest]], None]]

FILES = "files"


def open_depot(
    path: Path,
    bounds: Limits = Limits(),  # noqa: B008 - a tuple
    disk: Disk | None = None,
    clock: Clock | None = None,
    *,
    attached: bool = False,
    watch: Callable[[Progress], None] | None = None,
) -> Depot:
    """Open or create the depot in the folder `path`, for this process alone.

    An `attached` one shares it with others, in a process forked by one that holds the depot. Who
    wants to `watch` is told how far the index is brought, if it lacks much of the log.

    Raises:
        UnavailableError: another process has it open, or the disk refuses.
        CorruptError, UnsupportedError: what is there cannot be read.
        DeniedError, ConflictError: it is encrypted otherwise.
        ConflictError: it was moved, or is not whole yet.
    """
    seams = Seams(disk or Disk(), clock or SystemClock(), SystemEntropy())
    if engine_of(path, bounds) == SQLITE:
        check_one_process(is_one=not attached)
        depot = open_sharded(path, bounds, seams)
    else:
        depot = _open(path, bounds, seams, attached=attached, watch=watch)
    try:
        check_moved(path, bounds)  # again, while nobody else can change that
    except BlobError:
        depot.close()
        raise
    return depot


def _open(
    path: Path,
    bounds: Limits,
    seams: Seams,
    *,
    attached: bool,
    watch: Callable[[Progress], None] | None,
) -> Depot:
    """Open or create the depot over a log."""
    log = Log(path, *seams, attached=attached, watch=watch)
    with ExitStack() as undo:
        undo.callback(log.close)
        parts = _parts(log, bounds, seams, undo, attached=attached)
        undo.pop_all()
    return assemble(parts, bounds)


def _parts(log: Log, bounds: Limits, seams: Seams, undo: ExitStack, *, attached: bool) -> Parts:
    """Put all together that is in the folder of a log, and let `undo` close what was opened."""
    path, stack = log.root.parent, bounds.stack
    if attached:
        check_alone(path, stack)
    files = FileStore(path / FILES, seams.disk, seams.entropy, seams.clock, attached=attached)
    undo.callback(files.close)
    files.between = log.between
    spread = open_disks(log, files, stack, seams)
    near = files if spread is None else spread.store
    undo.callback(near.close)
    home = Home(path, log.id, seams.disk, log.between)
    elsewhere = open_elsewhere(home, stack, seams.clock, seams.entropy)
    tiered = TieredStore(SegmentStore(log), tier(near, elsewhere), bounds.small_blob_bytes_max)
    undo.callback(tiered.close)
    kv = EmbeddedKV(log)
    cooled = cool(tiered, elsewhere, kv, seams.clock)
    bare = tiered if cooled is None else cooled
    undo.callback(bare.close)
    is_empty = None if attached else partial(is_unused, bare)
    codecs = codecs_for(path, stack, seams, is_empty)
    encoded = wrap(bare, codecs)
    old = tier_of(cooled, elsewhere, kv, seams.clock, codecs)
    store = surround(encoded, log.id, bounds, codecs, seams)
    undo.callback(store.close)
    if not attached:
        shutil.rmtree(path / SCRATCH, ignore_errors=True)
    return Parts(
        path,
        seams.disk,
        seams.clock,
        store,
        kv,
        log.facts,
        log.recovery,
        _media(log, seams.clock, codecs, _there(elsewhere, cooled), spread),
        LogGround(log),
        log.make_hints,
        partial(compact, log),
        _nowhere if stack.verify else _finder(log, codecs),
        partial(_close, store, log),
        _leaving(elsewhere, old),
        partial(_renumber, log),
        zstd_of(encoded, codecs) if is_direct(stack) else None,
        old,
        None if elsewhere is None else elsewhere.ownership,
    )


def _renumber(log: Log, revision: int) -> None:
    log.submit(lambda batch: batch.adopt(revision), 0).result()


def _leaving(elsewhere: Elsewhere | None, old: Tier | None) -> Callable[[float], Iterator[int]]:
    """What removes the leftovers of uploads."""
    if old is not None:
        return old.sweep
    return _leave if elsewhere is None else elsewhere.store.sweep


def _leave(grace_s: float) -> Iterator[int]:
    """Leftovers of uploads to files are gone when the folder is open."""
    del grace_s
    return iter(())


def _there(elsewhere: Elsewhere | None, cooled: CooledStore | None) -> There | None:
    """What is looked after elsewhere, and how a damaged blob is given up there."""
    if elsewhere is None:
        return None
    return elsewhere.remote, elsewhere.store.remove if cooled is None else cooled.withdraw


def _media(
    log: Log, clock: Clock, codecs: Codecs, there: There | None, spread: Spread | None
) -> tuple[Medium, ...]:
    """All places for bytes; who asks one after the other meets disks that are not there last."""
    check = codecs.check if codecs.each else check_content
    media: list[Medium] = [LogMedium(log, codecs.is_blob) if codecs.each else LogMedium(log)]
    media.append(FileMedium(log.root.parent / FILES, log.disk, clock, check))
    if there is not None:
        from holdfast.stores.survey import ObjectMedium  # noqa: PLC0415 - an extra

        media.append(ObjectMedium(*there, check))
    if spread is not None:
        media += [make(check) for make in spread.media]
    return tuple(EncodedMedium(each, codecs) if codecs.each else each for each in media)


def _finder(log: Log, codecs: Codecs) -> Spots:
    """What finds small blobs in the log, through the codecs that they have there."""
    if not codecs.each:
        return partial(find, log)

    def find_coded(digest: Digest, coding: str = "") -> CodedSpot | None:
        spot = find(log, codecs.hide(digest))
        return None if spot is None else CodedSpot(spot, codecs, digest, coding)

    return find_coded


def _nowhere(digest: Digest, coding: str = "") -> None:
    """None: what a spot has is held to its checksum only."""
    del digest, coding


def _close(store: Store, log: Log) -> None:
    store.close()
    log.close()


def engine_of(path: Path, bounds: Limits) -> str:
    """Which engine has the store in a folder: what the folder says, else what is asked for.

    Raises:
        CorruptError: the file HOLDFAST is damaged.
        UnsupportedError: it is another one than asked for.
        ConflictError: the store is not finished, or was moved.
    """
    if (path / UNFINISHED).exists():
        raise ConflictError(f"{path} is a copy that is not finished: run `holdfast reshard` again")
    check_moved(path, bounds)
    asked = bounds.engine or (SQLITE if bounds.shards else "")
    there = recorded_engine(path)
    if there and asked not in {"", there}:
        raise UnsupportedError(
            f"{path} holds a store of the engine {there}, not {asked}: open it by its path alone,"
            f" or copy it by `holdfast migrate {path} NEW`"
        )
    return there or asked or LOG


def check_moved(path: Path, bounds: Limits) -> None:
    """Refuse a store that takes part in a move, but for the sake of that.

    Raises:
        ConflictError: it does.
        CorruptError: the file HOLDFAST is damaged.
    """
    if not bounds.is_moving:
        check_open(path)


def check_one_process(*, is_one: bool) -> None:
    """Hold a store in SQLite to one process.

    Raises:
        UnsupportedError: there are to be several.
    """
    if not is_one:
        raise UnsupportedError("a store in SQLite is served by one process: set workers to 1")


@contextmanager
def hold_depot(
    path: Path,
    bounds: Limits = Limits(),  # noqa: B008 - a tuple
) -> Iterator[Mapping[str, int]]:
    """Open or create the depot in `path`, then let processes forked from this one attach to it.

    Yields what the log found. This process keeps nothing open but the lock, which every fork has
    too. A block that ends without an error ends behind all of them, and the depot is closed in
    order.

    Raises:
        UnavailableError: another process has it open, or the disk refuses.
        CorruptError, UnsupportedError: what is there cannot be read.
    """
    disk, clock, entropy = Disk(), SystemClock(), SystemEntropy()
    check_one_process(is_one=engine_of(path, bounds) != SQLITE)
    check_alone(path, bounds.stack)
    log = Log(path, disk, clock, entropy)
    try:
        check_moved(path, bounds)
        files = FileStore(path / FILES, disk, entropy, clock)
        with closing(TieredStore(SegmentStore(log), files, 0)) as tiered:
            codecs_for(path, bounds.stack, Seams(disk, clock, entropy), partial(is_unused, tiered))
        facts = log.facts()
        log.hand_over()
        yield facts
    finally:
        log.close()
    with suppress(UnavailableError):  # the next server has it already, and will close it
        Log(path, disk, clock, entropy).close()


def sweep_uploads(path: Path, process: int) -> None:
    """Remove what a process that was attached and died has left of its uploads.

    Raises:
        OSError: the disk refuses.
    """
    sweep(path / FILES, process, Disk())
