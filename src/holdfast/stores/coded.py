"""A small blob that lies in a log in another form, for whoever reads it again and again.

It is what `log/spot` is for a blob that lies there as it is. Where that turns out to be so, its
bytes are given out as they are read; else they are decoded each time, for none are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.many import read_all
from holdfast.stores.through import Codecs, in_memory

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.log.spot import Spot


class CodedSpot:
    """One blob under codecs; used by one thread at a time."""

    __slots__ = ("_codecs", "_coding", "_digest", "_is_as_stored", "_name", "_spot", "record_bytes")

    def __init__(self, spot: Spot, codecs: Codecs, digest: Digest, coding: str) -> None:
        """Read the blob, or what it is in the coding of the outermost codec."""
        self._spot = spot
        self._codecs = codecs
        self._digest = digest
        self._name = codecs.hide(digest)
        self._coding = coding
        self._is_as_stored = False
        """What is read is what is wanted; the spot reads the same bytes each time, or none."""
        self.record_bytes = spot.record_bytes

    def read(self, room: memoryview) -> memoryview | None:
        """Read into `room`, and give the bytes, verified; None where the long way must.

        Raises:
            BlobError: they are damaged.
        """
        stored = self._spot.read(room)
        if stored is None or self._is_as_stored:
            return stored
        wanted = self._form(stored) if self._coding else self._blob(self._codecs, stored)
        if wanted is None:
            return None
        self._is_as_stored = wanted == stored
        return memoryview(wanted)

    def _blob(self, codecs: Codecs, stored: memoryview) -> bytes:
        with codecs.open(in_memory(stored), self._name) as source:
            return read_all(source)

    def _form(self, stored: memoryview) -> bytes | None:
        """What the other codecs make of it, if everybody who knows the coding can read that."""
        first, *others = self._codecs.each
        form = self._blob(Codecs(others), stored)
        frames = first.frames(in_memory(form), self._digest)
        return form if frames is not None and frames.is_common else None
