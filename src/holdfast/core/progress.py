"""How far something is that takes its time."""

from typing import NamedTuple


class Progress(NamedTuple):
    """What of a store that is being opened has been dealt with."""

    records: int
    """Of the log, so far."""
    done_bytes: int
    total_bytes: int
    """Of the log, as far as the index lacks it."""
