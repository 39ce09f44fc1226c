"""Folders on other disks that serve one store: its cache, or large blobs that are spread.

    <folder>/HOLDFAST   {"format": 1, "engine": "cache", "id": "...", "of": "<the store's id>"}
    <folder>/lock       held while the store is open

So no such folder serves two stores, is opened as a store, or is made out of what belongs to
somebody else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import ConflictError, UnsupportedError
from holdfast.core.guard import Guard
from holdfast.core.marker import NAME, about_of, damaged, write_marker
from holdfast.stores.handles import blob_error, world
from holdfast.stores.wrapper import Wrapper

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.store import Store
    from holdfast.depot.wrapped import Seams

FORMAT = 1
CACHE, DISK = "cache", "disk"
LOCK = "lock"
NOBODYS = {LOCK, f"{NAME}.new", "lost+found"}
"""What may lie in a folder that is claimed."""
ID_BYTES = 16


class Claim(msgspec.Struct, frozen=True):
    """The content of the file HOLDFAST in such a folder."""

    format: int
    engine: str
    """What it serves as."""
    id: str
    of: str
    """The id of the store."""


class ClaimedStore(Wrapper):
    """A store in such a folder, which is let go of when it is closed."""

    def __init__(self, inner: Store, guard: Guard) -> None:
        super().__init__(inner)
        self._guard = guard

    def close(self) -> None:
        """Close it, then let others have the folder."""
        super().close()
        self._guard.release()


def claim_of(folder: Path) -> Claim | None:
    """Read whom a folder serves; None when nobody.

    Raises:
        CorruptError: what says so is damaged.
        UnsupportedError: a newer holdfast wrote it.
        ConflictError: it is a store.
        UnavailableError: the disk refuses.
    """
    try:
        about = about_of(folder)
    except OSError as error:
        raise blob_error(f"reading {folder / NAME}", error) from error
    if not about:
        return None
    if "of" not in about:
        raise ConflictError(f"{folder} is a store")
    try:
        found = msgspec.convert(about, Claim)
    except msgspec.ValidationError as error:
        raise damaged(folder) from error
    if found.format != FORMAT:
        raise UnsupportedError(f"{folder}: a newer holdfast uses it")
    return found


def hold(folder: Path, seams: Seams) -> Guard:
    """Make a folder if it is missing, and lock it.

    Raises:
        UnavailableError: another process has it, or the disk refuses.
    """
    with world(f"opening {folder}"):
        seams.disk.make_directory(folder)
        return Guard(folder / LOCK)


def claim(folder: Path, engine: str, own: str, seams: Seams) -> Claim:
    """See that a folder, which is held, serves this store as that, or make an empty one do so.

    Raises:
        ConflictError: it serves another one, or as something else, or is not empty.
        CorruptError, UnsupportedError, UnavailableError: as `claim_of` has it.
        FullError: the disk has no room.
    """
    found = claim_of(folder)
    if found is None:
        new = Claim(FORMAT, engine, seams.entropy.random_bytes(ID_BYTES).hex(), own)
        return _make(folder, new, seams)
    if found.of != own:
        raise ConflictError(f"{folder} belongs to another store ({found.of})")
    if found.engine != engine:
        raise ConflictError(f"{folder} serves this store as a {found.engine}, not as a {engine}")
    return found


def _make(folder: Path, new: Claim, seams: Seams) -> Claim:
    with world(f"claiming {folder}"):
        if set(os.listdir(folder)) - NOBODYS:  # noqa: PTH208 - names are all we need
            raise ConflictError(f"{folder} is not empty")
        write_marker(folder, new, seams.disk)
    return new
