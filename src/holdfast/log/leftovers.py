"""What lies beside the segments and is of no use: hints that cannot be read, torn tails."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import CorruptError
from holdfast.log.blocks import DamagedError
from holdfast.log.changes import TABLES
from holdfast.log.hint import Hint, hint_path
from holdfast.log.segment import Segment
from holdfast.log.torn import torn_tails

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.log.log import Log


class Leftover(NamedTuple):
    """A file that nobody misses."""

    path: Path
    why: str
    is_rubbish: bool
    """Nobody can want it; else it is for people to look at."""


def leftovers(log: Log) -> Iterator[Leftover]:
    """Look for them; the log must be open for this process alone."""
    for path in torn_tails(log.root):
        why = f"{path.stat().st_size} bytes of an append that a crash cut short"
        yield Leftover(path, why, is_rubbish=False)
    for number, end in log.stretches().items():
        path = hint_path(log.root, number)
        if path.exists() and not _is_whole(log, number, end):
            yield Leftover(path, "a damaged hint", is_rubbish=True)


def _is_whole(log: Log, number: int, end: int) -> bool:
    try:
        segment = Segment.open(log.disk, log.root, number)
        hint = Hint(log.disk, hint_path(log.root, number), segment.header, end)
        for table in range(len(TABLES)):
            for _ in hint.table(table):
                pass
    except (CorruptError, DamagedError, OSError):
        return False
    return True
