"""Where a small blob was found, for whoever reads it again and again.

A spot holds no file open and no bytes of the blob. When the segment was closed, the disk would have
to be waited for, or the bytes are not those that were written, it reads nothing: the index is asked
again, and says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.log.reading import payload_of
from holdfast.log.record import HEADER_BYTES, checksum

if TYPE_CHECKING:
    from holdfast.log.index import Location
    from holdfast.log.log import Log

NOT_SUMMED = -1


class Spot:
    """One record of a log; used by one thread at a time."""

    __slots__ = ("_digest", "_disk", "_place", "_segments", "_sum", "record_bytes")

    def __init__(self, log: Log, digest: bytes, place: Location) -> None:
        self._disk = log.disk
        self._segments = log.segments
        self._digest = digest
        self._place = place
        self._sum = NOT_SUMMED
        self.record_bytes = HEADER_BYTES + place.payload_bytes

    def read(self, room: memoryview) -> memoryview | None:
        """Read the record into `room` and give the part that is the blob, verified; None if not.

        The first time it is held to its own checksum, which covers the payload, and then the sum of
        the whole record to what that was.
        """
        place = self._place
        segment = self._segments.find(place.segment_id)
        if segment is None:
            return None
        record = room[: self.record_bytes]
        if not self._disk.read_cached(segment.descriptor, record, place.offset):
            return None
        if checksum(record) != self._sum and not self._is_sound(record):
            return None
        return record[HEADER_BYTES:]

    def _is_sound(self, record: memoryview) -> bool:
        if self._sum != NOT_SUMMED or payload_of(record, self._digest, self._place) is None:
            return False
        self._sum = checksum(record)
        return True


def find(log: Log, digest: bytes, coding: str = "") -> Spot | None:
    """Where a log has a blob now, as it is; None when it does not."""
    assert not coding
    place = log.index.locate(digest)
    return None if place is None else Spot(log, digest, place)
