"""Live bytes: what pairs that come and go change in the accounts of segments (log/accounts.py)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from holdfast.log.accounts import WRITE_BYTES
from holdfast.log.changes import BLOBS, KEYS, size_of
from holdfast.log.index import LOCATION, STAMP_BYTES, Location, segment_of, stored_bytes
from holdfast.log.record import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.log.changes import Pair


def worth(number: int, keys: list[bytes], values: list[bytes | None]) -> int:
    """How many bytes of the log the pairs of a table stand for; None stands for nothing."""
    if number == BLOBS:
        places = LOCATION.iter_unpack(b"".join(filter(None, values)))
        return sum(HEADER_BYTES + payload_bytes for _, _, payload_bytes, _, _ in places)
    if number == KEYS:
        if None in values:
            pairs = list(zip(keys, values, strict=True))
            keys = [key for key, value in pairs if value is not None]
        return size_of(keys, values) + len(keys) * (WRITE_BYTES - STAMP_BYTES)
    return 0


class Live:
    """Changes of live bytes by segment, gathered until they are written down."""

    def __init__(self) -> None:
        self.by_segment: Counter[int] = Counter()

    def add(self, segment_id: int, size_bytes: int) -> None:
        """Count what a segment holds."""
        self.by_segment[segment_id] += size_bytes

    def lose(self, number: int, pairs: Sequence[Pair]) -> None:
        """Count what is not held any more, each pair for its own segment."""
        if number == BLOBS:
            for _, place in pairs:
                location = Location._make(LOCATION.unpack(place))
                self.by_segment[location.segment_id] -= location.record_bytes
        elif number == KEYS:
            for key, stored in pairs:
                self.by_segment[segment_of(stored)] -= stored_bytes(key, stored)
