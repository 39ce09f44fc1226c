"""The file HOLDFAST, which says whose a folder is (docs/format.md), and how such files are written.

Each engine has members of its own in it. Whoever changes one member keeps all others.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import CorruptError, InvalidError

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk

NAME = "HOLDFAST"
UNFINISHED = "resharding"
"""The file in the folder of a copy that is being made (services/reshard.py)."""
LOG, SQLITE = "log", "sqlite"
"""The engines; the first is that of stores whose file does not say one."""
MOVING_FORMAT = 4
"""That of a store of any engine that takes part in a move (depot/moving.py)."""


def about_of(folder: Path) -> dict[str, object]:
    """What the file HOLDFAST of a folder says; nothing where there is none.

    Raises:
        CorruptError: it is damaged.
        OSError: the disk refuses.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise damaged(folder) from error


def damaged(folder: Path) -> CorruptError:
    """Say that nobody knows whose a folder is."""
    return CorruptError("the file HOLDFAST is damaged", file=str(folder / NAME))


def check_apart(old: Path, new: Path, what: str) -> None:
    """See that two folders for stores are two, so that one can be removed without the other.

    Raises:
        InvalidError: they are one, or one is inside of the other; it is about `what`, the new one.
    """
    one, other = old.resolve(), new.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise InvalidError(what, str(new), f"another folder than {old}, and neither in the other")


def recorded_engine(folder: Path) -> str:
    """The engine of the store in a folder; empty where there is none that can be read.

    Raises:
        CorruptError: the file is damaged.
    """
    try:
        about = about_of(folder)
    except OSError:  # whichever engine opens the folder says what is the matter
        return ""
    engine = about.get("engine", LOG)
    if not isinstance(engine, str):
        raise damaged(folder)
    return engine if about else ""


def write_marker(folder: Path, about: object, disk: Disk) -> None:
    """Let the file HOLDFAST say something else.

    Raises:
        OSError: as `replace_file` has it.
    """
    replace_file(folder / NAME, msgspec.json.encode(about) + b"\n", disk)


def replace_file(path: Path, content: bytes, disk: Disk, *, is_hint: bool = False) -> None:
    """Replace a small file so that a power cut leaves the old or the new one.

    A hint, which its readers do not trust, is not synced.

    Raises:
        OSError: the disk refuses; the old one is there, unless the last sync failed.
    """
    temporary = path.with_suffix(".new")
    descriptor = disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        disk.pwrite_all(descriptor, (content,), 0)
        if not is_hint:
            disk.sync(descriptor)
    finally:
        disk.close(descriptor)
    disk.rename(temporary, path)
    if not is_hint:
        disk.sync_directory(path.parent)
