"""The report: what opening a log found and did, as a value, as events and as facts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.events import event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.log.scan import Damage


class Recovery(NamedTuple):
    """What opening the log found and did."""

    segments: int = 0
    records: int = 0
    """Records applied to the index."""
    commits: int = 0
    """Commits in them."""
    truncated_bytes: int = 0
    """Cut off the newest segment: appends that nobody was told of."""
    damages: tuple[Damage, ...] = ()
    """Places that hold no valid records, up to `limits.DAMAGES_MAX` of them."""
    damaged_places: int = 0
    """All of them."""
    damaged_bytes: int = 0
    torn_files: int = 0
    """Torn tails that are kept, of this and earlier openings."""
    torn_bytes: int = 0
    took_s: float = 0.0

    def tell(self) -> None:
        """Tell events: what was replayed and how quickly, and every place that is damaged."""
        if self.records > 1:  # more than the manifest of a new log
            event(
                logging.INFO,
                "log.replayed",
                records=self.records,
                commits=self.commits,
                took_s=round(self.took_s, 3),
                records_s=round(self.records / max(self.took_s, 0.001)),
            )
        if self.truncated_bytes:
            event(logging.WARNING, "log.torn", size_bytes=self.truncated_bytes)
        for damage in self.damages[: limits.DAMAGE_EVENTS_MAX]:
            event(logging.ERROR, "log.damaged", **damage._asdict())
        if self.damaged_places > limits.DAMAGE_EVENTS_MAX:
            more = self.damaged_places - limits.DAMAGE_EVENTS_MAX
            event(logging.ERROR, "log.damaged_more", places=more, size_bytes=self.damaged_bytes)


class Damages:
    """Damaged places as they are found: all are counted, the first are kept."""

    def __init__(self) -> None:
        self.kept: list[Damage] = []
        self.places = 0
        self.size_bytes = 0

    def add(self, damages: Iterable[Damage]) -> None:
        """Count more of them."""
        for damage in damages:
            self.places += 1
            self.size_bytes += damage.size_bytes
            if len(self.kept) < limits.DAMAGES_MAX:
                self.kept.append(damage)
