"""Scrub: read everything that is stored, again and again, and repair what can be repaired.

A pass reads every region of every medium from the disk, the one first that waits longest, and is
spread over the days that it may take. It goes on where it was when the program starts again. What
it finds is told as an event and kept with the region's stamp; a damaged blob of which a good copy
turns up is stored again. Nothing else is changed: what cannot be repaired stays as it is.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError
from holdfast.core.events import event
from holdfast.core.seams import SystemClock
from holdfast.depot.stamps import Stamp
from holdfast.services.caretaker import Done, Steps
from holdfast.services.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from holdfast.core.inspection import Finding, Medium, Region, Seen
    from holdfast.core.seams import Clock
    from holdfast.depot.engine import Engine
    from holdfast.services.repair import Copies

DAY_S = 86_400
SECOND_US = 1_000_000
LOOK_UP_S = 600.0  # between passes: to ask the wall clock, and what was repaired
SAVE_S = 60.0


class _Chapter(NamedTuple):
    """A region that the pass has still to read, and about how much that is."""

    medium: Medium
    region: str
    size_bytes: int


class Scrub(Steps):
    """The task of a caretaker; how far it is, `Pass.gauges` says."""

    name = "scrub"

    def __init__(
        self,
        engine: Engine,
        days: float = limits.SCRUB_DAYS,
        bytes_s_max: int = limits.SCRUB_BYTES_S_MAX,
        others: Sequence[Copies] = (),
        clock: Clock | None = None,
    ) -> None:
        """Read everything within `days`, unless that needs more than `bytes_s_max` (0: no limit).

        `others` are asked for good copies when the store's own media have none.
        """
        assert days > 0
        self.bytes_s_max = bytes_s_max
        self._media = engine.media
        self._stamps = engine.stamps
        self._repair = Repair(engine, others)
        self._clock = clock or SystemClock()
        self._pass_us = int(days * DAY_S * SECOND_US)
        self._pass = self._stamps.own()
        self._saved_s = self._clock.monotonic_s()
        super().__init__()

    def close(self) -> None:
        """Write down where the pass is; a disk that refuses costs what was read since."""
        super().close()
        with suppress(OSError):
            self._save()

    # A pass

    def _run(self) -> Generator[Done, None, None]:
        while True:
            if self._pass.number == 0 or self._pass.ended_us:
                yield from self._wait()
                self._begin()
            while chapters := self._plan():
                for chapter in chapters:
                    yield from self._read(chapter)
            self._end()

    def _wait(self) -> Generator[Done, None, None]:
        """Wait until the next pass is due."""
        while 0 < (left_us := self._left_us()) <= self._pass_us:  # more: the clock went back
            self._review()
            yield Done(0, min(LOOK_UP_S, left_us / SECOND_US))

    def _left_us(self) -> int:
        """Until the pass should have ended and the next one begins."""
        return self._pass.began_us + self._pass_us - self._clock.now_us()

    def _begin(self) -> None:
        self._pass.number += 1
        self._pass.began_us = self._clock.now_us()
        self._pass.ended_us = 0

    def _end(self) -> None:
        known = self._pass
        known.ended_us = known.completed_us = self._clock.now_us()
        self._save()
        stamps = known.every_stamp()
        event(
            logging.INFO,
            "scrub.completed",
            number=known.number,
            read_bytes=sum(stamp.read_bytes for stamp in stamps),
            blobs=sum(stamp.blobs for stamp in stamps),
            found=sum(stamp.found for stamp in stamps),
        )

    def _plan(self) -> list[_Chapter]:
        """What this pass has still to read: what was begun, then what waits longest."""
        known = self._pass
        there = [(medium, region) for medium in self._media for region in medium.regions()]
        names = {region.name for _, region in there}
        known.stamps = {name: stamp for name, stamp in known.stamps.items() if name in names}
        known.region = known.region if known.region in names else ""
        sizes = self._likely_bytes([region for _, region in there])
        chapters = [
            _Chapter(medium, region.name, sizes[region.name])
            for medium, region in there
            if self._age_us(region.name) < known.began_us
        ]
        self._pass.left_bytes = sum(chapter.size_bytes for chapter in chapters)
        return sorted(chapters, key=lambda chapter: self._age_us(chapter.region))

    def _age_us(self, region: str) -> int:
        if region == self._pass.region:
            return -1
        stamp = self._pass.stamps.get(region)
        return 0 if stamp is None else stamp.began_us

    def _likely_bytes(self, regions: list[Region]) -> dict[str, int]:
        """About how much there is to read in each; an unknown one is like others of its medium."""
        stamps = self._pass.stamps
        sizes = {region.name: region.size_bytes for region in regions}
        sizes |= {name: stamps[name].read_bytes for name in sizes.keys() & stamps.keys()}
        known: dict[str, list[int]] = {}
        for name, size_bytes in sizes.items():
            if size_bytes is not None:
                known.setdefault(_medium(name), []).append(size_bytes)
        likely = {medium: sum(each) // len(each) for medium, each in known.items()}
        return {
            name: likely.get(_medium(name), 0) if size_bytes is None else size_bytes
            for name, size_bytes in sizes.items()
        }

    def _read(self, chapter: _Chapter) -> Generator[Done, None, None]:
        known = self._pass
        if known.region != chapter.region:
            known.current = Stamp(max(known.began_us, self._clock.now_us()))
            known.region = chapter.region
        left_bytes = self._pass.left_bytes - chapter.size_bytes
        seen_all = chapter.medium.inspect(chapter.region, known.current.end, self._wanted())
        try:
            for seen in seen_all:
                wait_s = self._wait_s(seen.size_bytes)
                self._pass.left_bytes = max(left_bytes, self._pass.left_bytes - seen.size_bytes)
                self._take(seen)
                yield Done(seen.size_bytes, wait_s)
        except NotFoundError:
            known.stamps.pop(chapter.region, None)
        else:
            known.stamps[chapter.region] = known.current
        known.region = ""
        self._pass.left_bytes = left_bytes
        self._save_now_and_then()

    def _wait_s(self, size_bytes: int) -> float:
        """For how long `size_bytes` last, so that the pass ends when it should."""
        left_us = self._left_us()
        needed = self._pass.left_bytes * SECOND_US / left_us if left_us > 0 else float("inf")
        self._pass.rate = max(limits.SCRUB_BYTES_S_MIN, needed)
        if self.bytes_s_max:
            self._pass.rate = min(self._pass.rate, self.bytes_s_max)
        return size_bytes / self._pass.rate

    # What is found

    def _take(self, seen: Seen) -> None:
        for finding in self._pass.current.add(seen):
            self._tell(finding)
            if finding.kind == "blob":
                self._restore(finding)
        for digest, data in seen.copies:
            for finding in self._damaged():
                if finding.digest == str(digest):
                    self._restore(finding, data)
        self._save_now_and_then()

    def _tell(self, finding: Finding) -> None:
        facts = {"kind": finding.kind, "where": finding.where, "why": finding.why}
        event(logging.ERROR, "scrub.found", **facts)

    def _restore(self, finding: Finding, data: bytes | None = None) -> None:
        if self._repair.restore(finding, None if data is None else (data,)):
            self._pass.repaired += 1
            event(logging.WARNING, "scrub.repaired", digest=finding.digest)
            self._review()

    def _damaged(self) -> list[Finding]:
        """The blobs that are known to be damaged."""
        return [finding for finding in self._pass.findings() if finding.kind == "blob"]

    def _wanted(self) -> set[bytes]:
        return {Digest.parse(finding.digest) for finding in self._damaged()}

    def _review(self) -> None:
        """Forget findings that are none any more: the blob was stored again, or removed."""
        for stamp in self._pass.every_stamp():
            left = [each for each in stamp.findings if self._is_still_so(each)]
            if len(left) < len(stamp.findings):
                stamp.keep(left)

    def _is_still_so(self, finding: Finding) -> bool:
        if not finding.digest:
            return True
        places = [medium.place(Digest.parse(finding.digest)) for medium in self._media]
        return not any(places) if finding.place is None else finding.place in places

    def _save_now_and_then(self) -> None:
        if self._clock.monotonic_s() - self._saved_s >= SAVE_S:
            self._review()
            self._save()

    def _save(self) -> None:
        self._saved_s = self._clock.monotonic_s()
        self._stamps.save()


def _medium(region: str) -> str:
    return region.partition("/")[0]
