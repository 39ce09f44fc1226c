"""An object store as a medium: each of its 256 folders is a region, fetched and judged.

A blob is sound when what describes it and every chunk fit their checksums, and its content its
SHA-256. Also what `Store.scan` does not show is looked at: objects that were cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.inspection import Place, Region, Seen
from holdfast.core.verify import check_content
from holdfast.stores import listings, naming
from holdfast.stores.folders import END, judge, position_of
from holdfast.stores.lookup import Lookup
from holdfast.stores.windows import Handle, ObjectSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Source
    from holdfast.stores.remote import Remote

    Check = Callable[[Digest, Source], Iterator[int]]

SKEW_US = limits.OBJECT_SKEW_S * 1_000_000
REGION = "objects"


class ObjectMedium:
    """The folders behind a prefix; positions are the beginnings of digests."""

    def __init__(
        self,
        remote: Remote,
        remove: Callable[[Collection[Digest]], None],
        check: Check = check_content,
    ) -> None:
        """Look at what lies behind `remote`; `remove` is that of the store that is open there."""
        self._remote = remote
        self._remove = remove
        self._check = check
        self._lookup = Lookup(remote, limits.OBJECT_PART_BYTES)

    def regions(self) -> list[Region]:
        """The folders."""
        return [Region(f"{REGION}/{each}", None) for each in listings.folders(self._remote)]

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Fetch the blobs of a folder in the order of their digests, a chunk at a time."""
        del wanted  # they have one place each, which `copies` finds
        for digest in listings.digests(self._remote, region.rpartition("/")[2]):
            if position_of(digest) >= start:
                yield from judge(digest, self._content(digest), self.place)
        yield Seen(END, 0)

    def place(self, digest: Digest) -> Place | None:
        """The folder, and when the newest of the blob's objects was stored."""
        found = self._lookup.find(digest)
        if found is None:
            return None
        region = f"{REGION}/{digest.hex()[:2]}"
        return Place(region, position_of(digest), found.modified_us + SKEW_US)

    def is_sound(self, digest: Digest) -> bool:
        """Fetch all of it."""
        try:
            for _ in self._content(digest):
                pass
        except BlobError:
            return False
        return True

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """What its objects hold, whatever describes them."""
        one = self._remote.look(naming.blob(digest))
        if one is not None and size_bytes is not None and size_bytes <= one.size_bytes:
            yield self._chunks([(one.name, size_bytes)])
        for each in self._lookup.heads(digest):
            parts = self._remote.names(naming.parts(each.upload))
            yield self._chunks([(part.name, part.size_bytes) for part in parts])

    def forget(self, digest: Digest) -> None:
        """Nothing is kept that the object store was not asked for."""

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Copy its objects aside, in the object store, and remove the blob."""
        names = [naming.blob(digest)]
        for each in self._lookup.heads(digest):
            parts = self._remote.names(naming.parts(each.upload))
            names += [each.name, *(part.name for part in parts)]
        for name in names:
            self._remote.copy(name, f"{quarantine.name}/{name}")
        self._remove([digest])

    def _content(self, digest: Digest) -> Iterator[int]:
        """Yield sizes of verified chunks, and fail at the end unless they are the blob."""
        handle = Handle(self._remote, self._lookup.describe(digest))
        yield from self._check(digest, ObjectSource(handle, None, _ignore))

    def _chunks(self, objects: list[tuple[str, int]]) -> Iterator[Buffer]:
        steps = (
            (name, offset, min(limits.CHUNK_BYTES, size_bytes - offset))
            for name, size_bytes in objects
            for offset in range(0, size_bytes, limits.CHUNK_BYTES)
        )
        for name, offset, size_bytes in steps:
            try:
                yield self._remote.read(name, offset, size_bytes)
            except FileNotFoundError:
                return


def _ignore(handle: Handle) -> None:
    """Nobody else uses it."""
