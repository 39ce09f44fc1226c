"""The catalog as a medium: whether the bytes of every blob that is held are there.

Its regions are the first bytes of digests, as those of a store of files: references in the order of
their digests find their blobs side by side in the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.core.inspection import Finding, Region, Seen
from holdfast.core.kv import prefix_end
from holdfast.depot import catalog

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Medium, Place
    from holdfast.core.kv import KV, Item
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Store

REGIONS = 256
POSITION_BYTES = 7
END = 1 << 8 * POSITION_BYTES


class CatalogMedium:
    """The references in a KV, to blobs that lie on `media`, or in the store `elsewhere`."""

    def __init__(self, kv: KV, media: Sequence[Medium], elsewhere: Store | None = None) -> None:
        self._kv = kv
        self._media = media
        self._elsewhere = elsewhere

    def regions(self) -> list[Region]:
        """One for each first byte that a digest can have."""
        return [Region(f"catalog/{number:02x}", None) for number in range(REGIONS)]

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Look for the blob of every reference; one that goes meanwhile is none."""
        del wanted
        number = bytes.fromhex(region.rpartition("/")[2])
        first = catalog.holds(number + min(start, END - 1).to_bytes(POSITION_BYTES, "big"))
        end = prefix_end(catalog.holds(number))
        while page := self._page(first, end):
            if isinstance(page, CorruptError):
                found = Finding("record", region, f"the catalog cannot be read: {page.message}")
                yield Seen(END, 0, findings=(found,))
                return
            findings = [wrong for item in page if (wrong := self._look(item)) is not None]
            size_bytes = sum(len(item.key) + len(item.value) for item in page)
            digest = catalog.referenced_digest(page[-1].key)
            position = int.from_bytes(digest[1 : 1 + POSITION_BYTES], "big")
            sound = len(page) - len(findings)
            yield Seen(position, size_bytes, references=sound, findings=tuple(findings))
            first = page[-1].key + b"\x00"
        yield Seen(END, 0)

    def place(self, digest: Digest) -> Place | None:
        """Not here: the catalog holds no bytes of blobs."""
        del digest
        return None

    def is_sound(self, digest: Digest) -> bool:
        """No: nothing is here."""
        del digest
        return False

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """None."""
        del digest, size_bytes
        yield from ()

    def forget(self, digest: Digest) -> None:
        """Do nothing."""

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Do nothing."""

    def _page(self, first: bytes, end: bytes) -> list[Item] | CorruptError:
        try:
            return self._kv.scan(first, end, limit=limits.LIST_LIMIT_MAX)
        except CorruptError as error:
            return error

    def _look(self, item: Item) -> Finding | None:
        digest = catalog.referenced_digest(item.key)
        if any(medium.place(digest) is not None for medium in self._media):
            return None
        if self._elsewhere is not None and self._elsewhere.stat([digest]):
            return None
        now = self._kv.get(item.key)
        if now is None or now.revision != item.revision:
            return None
        why = f"{digest} is missing"
        return Finding("entry", catalog.holder_name(item.key), why, str(digest))
