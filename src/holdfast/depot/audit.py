"""Audit: what can only be asked of a store that nobody changes, as fsck does.

Whether what lies under the catalog is as it should be, which differs between the engines
(depot/logaudit, depot/shardaudit), the catalog what the entries make it, and which names have lost
their bytes. Each thing that is wrong comes with what puts it right, where that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from holdfast.core.errors import CorruptError
from holdfast.core.inspection import Finding
from holdfast.core.kv import Delete, Item, pages
from holdfast.depot import catalog
from holdfast.depot.recount import KIND, decode, recount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.inspection import Medium
    from holdfast.core.kv import KV, Write


class Wrong(NamedTuple):
    """One thing that is wrong."""

    finding: Finding
    mend: Callable[[], bool] | None
    """Puts it right, durably, or says that it cannot; None when nobody knows how."""


class Ground(Protocol):
    """What lies under the catalog: a log, or shards; open for this process alone."""

    def index(self) -> Iterator[Wrong | int]:
        """Check it; yields also how much was compared.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """

    def lost(self) -> Iterator[Wrong | int]:
        """Look for what cannot be read and nothing puts right; to mend is to forget it.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """

    def record(self, finding: Finding) -> Wrong:
        """See whether a damaged place can be mended."""

    def can_read(self, region: str) -> bool:
        """Whether what is in a damaged region can be read at all."""

    def retire(self, region: str) -> bool:
        """Set a damaged region aside, once nothing in it is of use that is not elsewhere, too.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """

    def leftovers(self) -> Iterator[Wrong]:
        """Look for files that are of no use; nothing depends on them."""


class Audit:
    """Looks at a store that is open for this process alone."""

    def __init__(self, ground: Ground, kv: KV, media: Sequence[Medium]) -> None:
        self.ground = ground
        self._kv = kv
        self._media = media

    def catalog(self) -> Iterator[Wrong | int]:
        """Count the catalog again; yield what is wrong, in between how many keys were read."""
        try:
            for each in recount(self._kv):
                yield each if isinstance(each, int) else self._wrong(each.finding, each.writes)
        except CorruptError as error:
            yield Wrong(Finding(KIND, KIND, f"it cannot be read on: {error.message}"), None)

    def lost(self) -> Iterator[Wrong | int]:
        """Look for names whose bytes are gone, or that cannot be read; to mend is to forget them.

        Yields also how many keys were read in between.
        """
        yield from self.ground.lost()
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
