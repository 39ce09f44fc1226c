"""A small blob that lies in a log in another form, for whoever reads it again and again.

It is what `log/spot` is for a blob that lies there as it is. Where that turns out to be so, its
bytes are given out as they are read; else they are decoded each time, for none are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.stores.through import decoded, in_memory

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.core.seams import Buffer
    from holdfast.log.spot import Spot
    from holdfast.stores.through import Codecs


class CodedSpot:
    """One blob under codecs; used by one thread at a time."""

    __slots__ = ("_coding", "_is_as_stored", "_spot", "_steps", "record_bytes")

    def __init__(self, spot: Spot, codecs: Codecs, digest: Digest, coding: str) -> None:
        """Read the blob, or what it is in the coding of the outermost codec."""
        self._spot = spot
        self._steps = codecs.steps(digest)
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
        wanted = self._form(stored) if self._coding else decoded(stored, self._steps)
        if wanted is None:
            return None
        self._is_as_stored = wanted is stored
        return memoryview(wanted)

    def _form(self, stored: memoryview) -> Buffer | None:
        """What the other codecs make of it, if everybody who knows the coding can read that."""
        *others, (first, digest) = self._steps
        form = decoded(stored, others)
        frames = first.frames(in_memory(form), digest)
        return form if frames is not None and frames.is_common else None
