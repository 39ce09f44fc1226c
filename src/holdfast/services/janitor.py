"""The janitor: removes names that have expired, and what waits of deleted ones, when it is time.

So it does with what is kept of the deeds of admins.

Nothing of that can be seen any more when the janitor comes: an expired name is gone from its time
on. The janitor gives back the room. Their blobs go when the collector finds that nobody holds them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from holdfast.core.events import event
from holdfast.services.caretaker import Done, Steps

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.depot.engine import Engine

LOOK_UP_S = 5.0  # between looking for what is due


class Janitor(Steps):
    """The task of a caretaker."""

    name = "janitor"
    bytes_s_max = 0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        super().__init__()

    def _run(self) -> Generator[Done, None, None]:
        while True:
            for expired in self._engine.expiry.steps():
                if any(expired):
                    event(logging.INFO, "names.expired", **expired._asdict())
                yield Done(0, 0.0)
            for _ in self._engine.trail.steps():
                yield Done(0, 0.0)
            yield Done(0, LOOK_UP_S)
