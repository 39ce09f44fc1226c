"""fsck: check a store that nobody has open and, if asked to, mend what can be mended.

Nothing is guessed: what is written was proved, by a digest, a checksum, or the one part of the
store that still knows. A round checks everything and mends on its way; rounds follow until one has
nothing to do, and what that one finds is left. A process that dies in the middle has done a part,
and the next one does the rest.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.digest import Digest
from holdfast.core.errors import UnavailableError
from holdfast.services.check import Check, Report
from holdfast.services.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.core.inspection import Finding
    from holdfast.depot.audit import Wrong
    from holdfast.depot.depot import Depot
    from holdfast.depot.engine import Engine

ROUNDS_MAX = 8
GIVEN_UP_MAX = 100_000  # damaged blobs in one round; what is more comes with the next


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was mended."""

    what: str
    """restored, given up, put right, set aside, made again, forgotten, removed."""
    where: str


class Options(NamedTuple):
    """What may be changed."""

    repair: bool = False
    forget: bool = False
    """Names whose bytes are gone may be removed."""


class Fsck:
    """Checks and mends the store in `folder`; `opener` opens it."""

    def __init__(self, folder: Path, opener: Callable[[], Depot], options: Options) -> None:
        self._folder = folder
        self._opener = opener
        self._options = options
        self._wants_index = False
        self._damaged: list[Finding] = []
        self._segments: set[str] = set()
        self.report = Report()
        """What the last round found."""

    def run(self) -> Iterator[Action | None]:
        """Check, and mend; yield what was done, and None now and then.

        Raises:
            BlobError: the store cannot be opened, or its disk refuses.
        """
        for _ in range(ROUNDS_MAX):
            is_done = True
            for action in self._round():
                is_done &= action is None
                yield action
            if is_done:
                return

    def _round(self) -> Iterator[Action | None]:
        with self._opener() as depot:
            check = Check(depot.engine)
            self.report = check.report
            repair = Repair(depot.engine)
            for wrong in check.run():
                yield self._mend(wrong, repair) if wrong and self._options.repair else None
            if self._options.repair:
                yield from self._end(depot.engine, repair)
        if self._wants_index:
            self._wants_index = False
            yield self._forget_index()

    def _mend(self, wrong: Wrong, repair: Repair) -> Action | None:
        finding = wrong.finding
        if finding.kind == "blob":
            return self._restore(finding, repair)
        if finding.kind == "index" and wrong.mend is None:
            self._wants_index = True
        if wrong.mend is None or not wrong.mend():
            if finding.kind == "record" and finding.place is not None:
                self._segments.add(finding.place.region)
            return None
        return Action("removed" if finding.kind == "leftover" else "put right", finding.where)

    def _restore(self, finding: Finding, repair: Repair) -> Action | None:
        if repair.is_over(finding):
            return None
        if repair.restore(finding):
            return Action("restored", finding.where)
        if len(self._damaged) < GIVEN_UP_MAX:
            self._damaged.append(finding)
        return None

    def _end(self, engine: Engine, repair: Repair) -> Iterator[Action | None]:
        """Mend what needs to know all that was found."""
        damaged = {Digest.parse(finding.digest): finding for finding in self._damaged}
        self._damaged = []
        if damaged:
            yield from self._search(engine, repair, damaged)
        for finding in damaged.values():
            if not repair.is_over(finding):
                repair.give_up(finding)
                yield Action("given up", finding.where)
        yield from self._retire(engine)
        for each in engine.audit.lost() if self._options.forget else ():
            if isinstance(each, int) or each.mend is None:
                yield None
            elif each.mend():
                yield Action("forgotten", each.finding.where)

    def _retire(self, engine: Engine) -> Iterator[Action | None]:
        """Set damaged segments aside; all that they had was told again by now.

        An index that is wrong does not know what to move. It is made again first; unless a segment
        is left that cannot be opened, for then the log could not be, without an index.
        """
        segments, self._segments = sorted(self._segments), set()
        for region in segments:
            if engine.audit.ground.can_read(region) and self._wants_index:
                continue
            if engine.audit.ground.retire(region):
                yield Action("set aside", region)
            elif not engine.audit.ground.can_read(region):
                self._wants_index = False

    def _search(
        self, engine: Engine, repair: Repair, damaged: dict[Digest, Finding]
    ) -> Iterator[Action | None]:
        """Read everything again, for copies of damaged blobs that nothing points to."""
        for medium in engine.media:
            for region in medium.regions():
                for seen in medium.inspect(region.name, 0, damaged):
                    for digest, data in seen.copies:
                        if digest in damaged and repair.restore(damaged[digest], (data,)):
                            yield Action("restored", damaged.pop(digest).where)
                    yield None

    def _forget_index(self) -> Action:
        """Remove the index, so that the next opening makes it again from the log."""
        try:
            shutil.rmtree(self._folder / "index")
        except OSError as error:
            raise UnavailableError(f"cannot remove the index: {error.strerror}") from error
        return Action("made again", "index")
