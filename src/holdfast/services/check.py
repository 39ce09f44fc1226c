"""Check: read everything that is stored at once, as `holdfast fsck` does.

What was read is stamped, so that a scrub need not read it again soon. Nothing else is changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.seams import SystemClock
from holdfast.depot.stamps import Stamp

if TYPE_CHECKING:
    from collections.abc import Generator

    from holdfast.core.inspection import Finding, Medium, Seen
    from holdfast.core.seams import Clock
    from holdfast.depot.engine import Engine


@dataclass(slots=True)
class Report:
    """What a check has seen so far."""

    read_bytes: int = 0
    blobs: int = 0
    """Sound copies of blobs."""
    references: int = 0
    """Entries and holds of the content face whose blob is there."""
    found: int = 0
    findings: list[Finding] = field(default_factory=list)
    """As many of those found as are kept."""

    def add(self, seen: Seen, new: list[Finding]) -> None:
        """Take what was seen; `new` are its findings that are not repetitions."""
        self.read_bytes += seen.size_bytes
        self.blobs += seen.blobs
        self.references += seen.references
        self.found += len(new)
        self.findings += new[: max(0, limits.FINDINGS_MAX - len(self.findings))]


class Check:
    """One pass over a store that nobody uses; for one thread."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._media = engine.media
        self._stamps = engine.stamps
        self._clock = clock or SystemClock()
        self._work = self._run()
        self.report = Report()

    def step(self) -> bool:
        """Read about a MiB more; False when all was read.

        Raises:
            UnavailableError: the disk refuses.
        """
        return next(self._work, None) is not None

    def _run(self) -> Generator[bool, None, None]:
        known = self._stamps.own()
        known.number += 1
        known.began_us = self._clock.now_us()
        known.region = ""
        for medium in self._media:
            for region in medium.regions():
                yield from self._read(medium, region.name)
        known.ended_us = known.completed_us = self._clock.now_us()
        self._stamps.save()

    def _read(self, medium: Medium, region: str) -> Generator[bool, None, None]:
        stamp = Stamp(self._clock.now_us())
        for seen in medium.inspect(region, 0):
            self.report.add(seen, stamp.add(seen))
            yield True
        self._stamps.read().stamps[region] = stamp
