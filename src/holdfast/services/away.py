"""Waiting for an object store that was away when the store was opened.

Whoever wants something there asks whether it is back; this asks where nobody does, so that what is
told of a server stays true. It has a caretaker of its own, for an answer may take long.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import UnavailableError
from holdfast.services.caretaker import IDLE_S, Done

if TYPE_CHECKING:
    from holdfast.depot.ownership import Ownership


class Away:
    """The task of a caretaker."""

    name = "away"
    bytes_s_max = 0

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    def step(self) -> Done:
        """Ask, unless it was found to be ours; that it is not is told once, by who finds it."""
        if not self._ownership.why:
            return Done(0, IDLE_S)
        with suppress(UnavailableError):
            self._ownership.check()
        return Done(0, limits.OBJECT_AWAY_S)

    def close(self) -> None:
        """Do nothing."""
