"""The file HOLDFAST, which says which engine has the store in a folder (docs/format.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError, InvalidError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "HOLDFAST"
UNFINISHED = "resharding"
"""The file in the folder of a copy that is being made (services/reshard.py)."""
LOG = "log"
"""The engine of stores whose file does not say one."""


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
    path = folder / NAME
    try:
        about = json.loads(path.read_bytes())
    except OSError:  # whichever engine opens the folder says what is the matter
        return ""
    except ValueError as error:
        raise CorruptError("the file HOLDFAST is damaged", file=str(path)) from error
    if not isinstance(about, dict) or not isinstance(found := about.get("engine", LOG), str):
        raise CorruptError("the file HOLDFAST is damaged", file=str(path))
    return found
