"""Audit: what can only be asked of a store that nobody changes, as fsck does.

Whether the index is what the log makes it, the catalog what the entries make it, which names have
lost their bytes, and what lies in the folder that is of no use. Each thing that is wrong comes with
what puts it right, where that is known.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.inspection import QUARANTINE, Finding
from holdfast.core.kv import Delete, Item
from holdfast.depot import catalog
from holdfast.depot.recount import decode, pages, recount
from holdfast.log.leftovers import leftovers
from holdfast.log.mending import mend_header, restate, retire
from holdfast.log.rebuilt import Rebuilt, is_readable
from holdfast.log.segment import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from holdfast.core.inspection import Medium
    from holdfast.core.kv import KV, Write
    from holdfast.log.log import Log
    from holdfast.log.rebuilt import Difference

SCRATCH = "fsck"
RESTATED_MAX = 1000  # held at a time
EXAMPLES = 3


class Wrong(NamedTuple):
    """One thing that is wrong."""

    finding: Finding
    mend: Callable[[], bool] | None
    """Puts it right, durably, or says that it cannot; None when nobody knows how."""


class Audit:
    """Looks at a store that is open for this process alone."""

    def __init__(self, log: Log, kv: KV, media: Sequence[Medium]) -> None:
        self._log = log
        self._kv = kv
        self._media = media

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

    def catalog(self) -> Iterator[Wrong | int]:
        """Count the catalog again; yield what is wrong, in between how many keys were read."""
        for each in recount(self._kv):
            yield each if isinstance(each, int) else self._wrong(each.finding, each.writes)

    def lost(self) -> Iterator[Wrong | int]:
        """Look for names whose bytes are gone, or that cannot be read; to mend is to forget them.

        Yields also how many keys were read in between.
        """
        for page in pages(self._kv, catalog.REFERENCE):
            for item in page:
                digest = catalog.referenced_digest(item.key)
                if not any(medium.place(digest) for medium in self._media):
                    where = catalog.holder_name(item.key)
                    finding = Finding("entry", where, f"{digest} is missing", str(digest))
                    yield self._wrong(finding, self._forgetting(item))
            yield len(page)
        for page in (page for table in catalog.NAMES for page in pages(self._kv, table)):
            for item in page:
                if decode(item) is None:
                    finding = Finding("entry", catalog.row_name(item.key), "it cannot be read")
                    yield self._wrong(finding, [Delete(item.key)])
            yield len(page)

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

    def _forgetting(self, reference: Item) -> list[Write]:
        """What removes the holder of a blob."""
        key = catalog.holding_row(reference.key)
        stored = None if key is None else self._kv.get(key)
        if key is not None and stored is not None:
            row = decode(Item(key, stored.value, stored.revision))
            if row is not None and row.entry.digest == catalog.referenced_digest(reference.key):
                return catalog.forgetting(row, key)
        return [Delete(reference.key)]

    def _wrong(self, finding: Finding, writes: Sequence[Write]) -> Wrong:
        def mend() -> bool:
            self._kv.commit([], writes).result()
            return True

        return Wrong(finding, mend if writes else None)


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
