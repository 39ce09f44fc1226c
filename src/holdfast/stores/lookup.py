"""What an object store says of a blob before its content is read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.digest import BlobRef
from holdfast.core.errors import CorruptError
from holdfast.core.store import no_such_blob
from holdfast.stores import footer, head, naming
from holdfast.stores.windows import Described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.digest import Digest
    from holdfast.stores.remote import Remote


@dataclass(frozen=True, slots=True)
class Found:
    """Under which names a blob is there."""

    heads: Sequence[naming.Head]
    modified_us: int = 0
    """When the newest of its objects was stored, by the clock of the object store."""
    is_one: bool = False
    """Also as one object."""


class Lookup:
    """Footers and heads behind a prefix; safe from any thread."""

    def __init__(self, remote: Remote, part_bytes: int) -> None:
        """Expect most blobs of one part to have `part_bytes` at most."""
        self._remote = remote
        self._tail_bytes = footer.tail_bytes(part_bytes)

    def describe(self, digest: Digest) -> Described:
        """Read the footer or head of a blob; the other one if the first is damaged.

        Raises:
            NotFoundError: no such blob.
            CorruptError: what is there is damaged.
            UnavailableError: no answer.
        """
        try:
            found = self._footer(digest)
        except CorruptError:
            described = self._head(digest)
            if described is None:
                raise
            return described
        if found is not None:
            return Described(found.ref, found.checksums)
        described = self._head(digest)
        if described is None:
            raise no_such_blob(digest)
        return described

    def size_bytes(self, digest: Digest) -> int | None:
        """Tell the size of a blob; None when there is none, or none with a sound footer.

        Raises:
            UnavailableError: no answer.
        """
        with suppress(CorruptError):
            found = self._footer(digest)
            if found is not None:
                return found.ref.size_bytes
        heads = self.heads(digest)
        return heads[0].size_bytes if heads else None

    def find(self, digest: Digest) -> Found | None:
        """Look under which names a blob is there, whatever they hold; None when under none.

        Raises:
            UnavailableError: no answer.
        """
        one = self._remote.look(naming.blob(digest))
        listed = self._remote.names(naming.heads(digest))
        times_us = [each.modified_us for each in (*listed, *([one] if one else ()))]
        if not times_us:
            return None
        heads = [found for each in listed if (found := naming.head_of(each.name)) is not None]
        return Found(heads, max(times_us), one is not None)

    def heads(self, digest: Digest) -> list[naming.Head]:
        """List the heads of a blob in parts.

        Raises:
            UnavailableError: no answer.
        """
        listed = self._remote.names(naming.heads(digest))
        return [found for each in listed if (found := naming.head_of(each.name)) is not None]

    def _footer(self, digest: Digest) -> footer.Footer | None:
        name = naming.blob(digest)
        found = self._remote.tail(name, self._tail_bytes)
        if found is None:
            return None
        total_bytes, tail = found
        size_bytes = footer.content_bytes(total_bytes)
        if size_bytes is None:
            raise CorruptError("an object was cut", digest=str(digest), place=self._remote.place)
        wanted = footer.tail_bytes(size_bytes)
        if wanted > len(tail):  # parts were larger when it was stored
            tail = (self._remote.tail(name, wanted) or (0, b""))[1]
        return footer.unpack(tail[-wanted:], BlobRef(digest, size_bytes))

    def _head(self, digest: Digest) -> Described | None:
        for each in self.heads(digest):
            data = self._remote.whole(each.name, head.head_bytes(each.size_bytes))
            if data is None:
                continue
            found = head.unpack(data, digest)
            if (found.ref.size_bytes, found.upload) != (each.size_bytes, each.upload):
                raise CorruptError("the head is that of another blob", digest=str(digest))
            return Described(found.ref, found.checksums, found.upload, found.part_bytes)
        return None
