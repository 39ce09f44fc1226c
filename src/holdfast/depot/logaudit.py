"""What fsck asks of a log at rest: its index against its records, and files of no use."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.core.inspection import QUARANTINE, Finding
from holdfast.depot.audit import Wrong
from holdfast.log.leftovers import leftovers
from holdfast.log.mending import mend_header, restate, retire
from holdfast.log.rebuilt import Rebuilt, is_readable
from holdfast.log.segment import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from holdfast.log.log import Log
    from holdfast.log.rebuilt import Difference

SCRATCH = "fsck"
RESTATED_MAX = 1000  # held at a time
EXAMPLES = 3


class LogGround:
    """A log that is open for this process alone."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def index(self) -> Iterator[Wrong | int]:
        """Make a second index from the segments, and compare; needs room for it on the disk.

        Yields also how many names were compared. An index that is wrong is put right by making it
        again, which whoever has it open must do: nothing here mends that.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        lost: list[Difference] = []
        wrong: list[Difference] = []
        count = 0
        with Rebuilt(self._log, self._log.root.parent / SCRATCH) as rebuilt:
            for each in rebuilt.compare():
                if isinstance(each, int):
                    yield each
                elif not each.is_explained:
                    count += 1
                    wrong = [*wrong, each][: EXAMPLES + 1]
                elif each.is_key or each.value is None:
                    lost.append(each)
                if len(lost) == RESTATED_MAX:
                    yield self._untold(lost)
                    lost = []
        if lost:
            yield self._untold(lost)
        if wrong:
            why = f"it disagrees with the log about {count} things: {_examples(wrong)}"
            yield Wrong(Finding("index", "index", why), None)

    def _untold(self, lost: list[Difference]) -> Wrong:
        why = f"the log is damaged where it had {len(lost)} things that only the index knows"
        finding = Finding("index", "log", f"{why}: {_examples(lost)}")
        return Wrong(finding, partial(restate, self._log, lost))

    def lost(self) -> Iterator[Wrong | int]:
        """None: what a log has lost is in no index either."""
        yield from ()

    def record(self, finding: Finding) -> Wrong:
        """See whether a damaged place in the log can be mended: the header of a segment can."""
        place = finding.place
        if place is None or place.position > 0:
            return Wrong(finding, None)
        number = _number(place.region)
        return Wrong(finding, lambda: mend_header(self._log.disk, self._log.root, number))

    def can_read(self, region: str) -> bool:
        """Whether the header of a segment is good enough to read what is in it."""
        return is_readable(self._log, _number(region))

    def retire(self, region: str) -> bool:
        """Set a damaged segment aside, once nothing in it is of use that is not elsewhere, too.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        return retire(self._log, _number(region), self._log.root.parent / QUARANTINE)

    def leftovers(self) -> Iterator[Wrong]:
        """Look for files that are of no use; nothing depends on them."""
        for each in leftovers(self._log):
            where = each.path.relative_to(self._log.root.parent).as_posix()
            finding = Finding("leftover", where, each.why)
            yield Wrong(finding, self._removing(each.path) if each.is_rubbish else None)

    def _removing(self, path: Path) -> Callable[[], bool]:
        def mend() -> bool:
            self._log.disk.unlink(path)
            return True

        return mend


def _number(region: str) -> int:
    match = NAME.fullmatch(region.rpartition("/")[2])
    assert match is not None
    return int(match[1])


def _examples(differences: Sequence[Difference]) -> str:
    """Some of them, for people."""
    names = [each.name.hex() if not each.is_key else repr(each.name) for each in differences]
    return ", ".join(name[:80] for name in names[:EXAMPLES]) + (
        " ..." if len(names) > EXAMPLES else ""
    )
