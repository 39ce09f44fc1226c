"""The file HOLDFAST, which says which engine has the store in a folder (docs/format.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "HOLDFAST"
UNFINISHED = "resharding"
"""The file in the folder of a copy that is being made (services/reshard.py)."""
LOG = "log"
"""The engine of stores whose file does not say one."""


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
