"""How far something is that takes its time."""

from typing import NamedTuple

BYTES = "bytes"


class Progress(NamedTuple):
    """What of a store that is being opened has been dealt with."""

    records: int
    """Of the log, so far."""
    done_bytes: int
    total_bytes: int
    """Of the log, as far as the index lacks it."""


class Phase(NamedTuple):
    """How far a part of long work is."""

    name: str
    """What is being done."""
    done: int
    total: int | None = None
    """None: nobody knows yet."""
    unit: str = BYTES
    """What is counted."""
    spared: int = 0
    """Of what is done, what was there before: it says nothing of how fast the rest will be."""
