"""The disks over which the large blobs of a folder are spread.

    DIR/wrappers       {..., "disks": [{"id": "...", "path": "/disk1", "weight": 2}, ...]}
    <disk>/HOLDFAST    {"format": 1, "engine": "disk", "id": "...", "of": "<the store's id>"}
    <disk>/blobs       large blobs, as in DIR/files
    <disk>/quarantine  what is left of damaged ones

A disk goes by its id, wherever it is mounted: blobs are spread by that, and what is mounted in its
place is found out. One that is new says whose it is before the folder counts on it, so that after a
crash in between it is taken as if nothing had been. One that is not there is waited for: the others
go on, and what it may have is not available, which is not missing.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    FullError,
    UnavailableError,
)
from holdfast.core.events import event
from holdfast.core.guard import Guard
from holdfast.depot.claims import DISK, LOCK, ClaimedStore, claim, claim_of, hold
from holdfast.depot.large import place_of
from holdfast.depot.wrapped import Known, remember, written
from holdfast.log.folder import is_wrapped
from holdfast.stores import files
from holdfast.stores.absent import AbsentMedium, AbsentStore
from holdfast.stores.files import FileStore
from holdfast.stores.inspection import FileMedium
from holdfast.stores.spread import Member, SpreadStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.inspection import Medium
    from holdfast.core.seams import Clock, Disk
    from holdfast.core.store import Store
    from holdfast.depot.claims import Claim
    from holdfast.depot.stack import Place, Stack
    from holdfast.depot.wrapped import Seams
    from holdfast.log.log import Log
    from holdfast.stores.inspection import Check

BLOBS, ASIDE = "blobs", "quarantine"
OWN = "files"  # the name of DIR/files among the disks


class Opened(NamedTuple):
    """One disk: its store, and what makes its medium."""

    store: Store
    medium: Callable[[Check], Medium]


class Spread(NamedTuple):
    """Large blobs over disks, with those that are files of the folder itself."""

    store: SpreadStore
    media: Sequence[Callable[[Check], Medium]]
    """Of the disks; those that are not there last."""


def open_disks(log: Log, own: FileStore, stack: Stack, seams: Seams) -> Spread | None:
    """Open the disks that a folder remembers, or is told; None when it has none.

    `own` takes nothing new then, and belongs to the result.

    Raises:
        ConflictError: a disk is another one, or one is left out, or large blobs lie elsewhere.
        UnavailableError: one is in use by another process.
        CorruptError, UnsupportedError: what the folder remembers cannot be read.
    """
    folder = log.root.parent
    about = written(folder)
    known = about.disks
    if stack.disks and (known or not stack.as_it_is):
        known = _settled(folder, log.id, known, stack.disks, seams)
    if known != about.disks or (known and not is_wrapped(folder)):
        remember(folder, replace(about, disks=known), seams.disk)
    if not known:
        return None
    opened: list[Opened] = []
    with ExitStack() as undo:
        for each in known:
            one = _open(each, log, seams)
            undo.callback(one.store.close)
            opened.append(one)
        undo.pop_all()
    disks = [
        Member(each.id, one.store, each.weight) for each, one in zip(known, opened, strict=True)
    ]
    there_first = sorted(opened, key=lambda one: isinstance(one.store, AbsentStore))
    store = SpreadStore([Member(OWN, own, 0), *disks], seams.clock)
    return Spread(store, [one.medium for one in there_first])


def _settled(
    folder: Path, own: str, known: Sequence[Known], asked: Sequence[Place], seams: Seams
) -> tuple[Known, ...]:
    """Find out which disk each of those is that are asked for; make those disks that are none yet.

    Raises:
        ConflictError: one serves another store, is there twice, or is left out.
        UnavailableError: a new one cannot be made.
    """
    if not known and (url := place_of(folder)):
        raise ConflictError(f"the large blobs of {folder} lie in {url}")
    found: dict[str, Place] = {}
    others: list[Place] = []
    for place in asked:
        there = _look(place.path)
        if there is None:
            others.append(place)
            continue
        _check_ours(there, own, place.path)
        if there.id in found:
            raise ConflictError(f"{place.path} is a copy of {found[there.id].path}: keep one")
        found[there.id] = place
    before = {Path(each.path): each.id for each in known if each.id not in found}
    for place in others:
        if place.path in before:
            found[before[place.path]] = place  # it is waited for
        elif place.weight is not None:
            found[_made(place.path, own, seams)] = place
    _check_whole(known, found)
    return tuple(
        Known(key, str(place.path), place.weight)
        for key, place in found.items()
        if place.weight is not None
    )


def _look(path: Path) -> Claim | None:
    """Which disk is there; None when there is none, or that cannot be known now."""
    try:
        return claim_of(path)
    except (CorruptError, UnavailableError):
        return None


def _made(path: Path, own: str, seams: Seams) -> str:
    if not path.is_dir():  # it would be made where the disk is to be mounted
        raise UnavailableError(f"{path}: there is no such folder: make it, or mount its disk")
    guard = hold(path, seams)
    try:
        return claim(path, DISK, own, seams).id
    finally:
        guard.release()


def _check_ours(there: Claim, own: str, path: Path) -> None:
    if there.of != own:
        raise ConflictError(f"{path} belongs to another store ({there.of})")
    if there.engine != DISK:
        raise ConflictError(f"{path} serves this store as a {there.engine}, not as a {DISK}")


def _check_whole(known: Sequence[Known], found: dict[str, Place]) -> None:
    missing = [each.path for each in known if each.id not in found]
    if missing:
        raise ConflictError(
            f"{', '.join(missing)} may have blobs of this store: name it with the weight 0 if it"
            " is to take nothing new, or as `gone` if it is lost"
        )


def _open(known: Known, log: Log, seams: Seams) -> Opened:
    """Open a disk, or say of it that it is not there.

    Raises:
        ConflictError: another one is in its place.
        UnavailableError: another process has it.
    """
    path = Path(known.path)
    try:
        there = claim_of(path)
    except (CorruptError, UnavailableError) as error:
        return _absent(path, error)
    if there is None:
        return _absent(path, UnavailableError("it is not mounted, or empty"))
    _check_ours(there, log.id, path)
    if there.id != known.id:
        raise ConflictError(
            f"{path} is another disk of this store: say `spread` with the paths that they have now"
        )
    try:
        guard = Guard(path / LOCK)
    except OSError as error:
        return _absent(path, UnavailableError(error.strerror or str(error)))
    try:
        store = FileStore(path / BLOBS, seams.disk, seams.entropy, seams.clock)
    except (FullError, UnavailableError) as error:
        guard.release()
        return _absent(path, error)
    except BaseException:
        guard.release()
        raise
    store.between = log.between
    medium = _Medium(path, known.id, seams.disk, seams.clock)
    return Opened(ClaimedStore(store, guard), medium.make)


class _Medium(NamedTuple):
    path: Path
    id: str
    disk: Disk
    clock: Clock

    def make(self, check: Check) -> Medium:
        name = f"disk-{self.id[:8]}"
        return FileMedium(
            self.path / BLOBS, self.disk, self.clock, check, name=name, aside=self.path / ASIDE
        )


def _absent(path: Path, error: BlobError) -> Opened:
    event(logging.WARNING, "disk.absent", path=str(path), error=error.message)
    why = f"the disk at {path} is not there: {error.message}"
    return Opened(AbsentStore(why, files.TRAITS), lambda check: AbsentMedium(why))
