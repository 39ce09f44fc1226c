"""Check: read everything that is stored at once, as `holdfast fsck` does.

First what scrub reads, past the page cache; what was read is stamped, so that a scrub need not read
it again soon. Then what can only be asked of a store that nobody changes (depot/audit.py).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.seams import SystemClock
from holdfast.depot.audit import Wrong
from holdfast.depot.stamps import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.inspection import Finding, Medium, Seen
    from holdfast.core.seams import Clock
    from holdfast.depot.engine import Engine

LEFTOVER = "leftover"


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
    leftovers: list[Finding] = field(default_factory=list)
    """Files that are of no use; they harm nobody."""

    def add(self, seen: Seen) -> None:
        """Take what was seen, but for what was found."""
        self.read_bytes += seen.size_bytes
        self.blobs += seen.blobs
        self.references += seen.references

    def tell(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        kept = self.leftovers if finding.kind == LEFTOVER else self.findings
        self.found += kept is self.findings
        if len(kept) < limits.FINDINGS_MAX:
            kept.append(finding)


class Check:
    """One pass over a store that nobody uses; for one thread."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._media = engine.media
        self._stamps = engine.stamps
        self._audit = engine.audit
        self._clock = clock or SystemClock()
        self.report = Report()

    def run(self) -> Iterator[Wrong | None]:
        """Check all; yield each thing that is wrong, and None about once for each MiB.

        Who takes one may mend it at once: what is still to be checked sees that.

        Raises:
            FullError, UnavailableError: the disk refuses, or has no room for a second index.
        """
        yield from self.read()
        for part in (
            self._audit.ground.index(),
            self._audit.catalog(),
            self._audit.ground.leftovers(),
        ):
            for each in part:
                yield self._told(each) if isinstance(each, Wrong) else None

    def read(self) -> Iterator[Wrong | None]:
        """Do what a scrub does: read everything, and compare it with its checksums.

        Raises:
            UnavailableError: the disk refuses.
        """
        known = self._stamps.own()
        known.number += 1
        known.began_us = self._clock.now_us()
        known.region = ""
        for medium in self._media:
            for region in medium.regions():
                yield from self._read(medium, region.name)
        known.ended_us = known.completed_us = self._clock.now_us()
        with suppress(OSError):  # what it costs is that a scrub reads all of it again
            self._stamps.save()

    def _read(self, medium: Medium, region: str) -> Iterator[Wrong | None]:
        stamp = Stamp(self._clock.now_us())
        for seen in medium.inspect(region, 0):
            self.report.add(seen)
            for finding in stamp.add(seen):
                is_record = finding.kind == "record"
                yield self._told(
                    self._audit.ground.record(finding) if is_record else Wrong(finding, None)
                )
            yield None
        self._stamps.read().stamps[region] = stamp

    def _told(self, wrong: Wrong) -> Wrong:
        self.report.tell(wrong.finding)
        return wrong
