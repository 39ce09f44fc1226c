"""Steps: what consecutive records of one segment come to, kind by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.digest import DIGEST_BYTES
from holdfast.log.changes import Changes
from holdfast.log.index import LOCATION, POSITION, REVISION, Position
from holdfast.log.record import Kind, decode_commits, name_revision
from holdfast.log.scan import Damage

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.log.scan import Record, Scan

PLACE_BYTES = 128  # what the place of a blob is counted as


def never(found: Record | Damage) -> bool:
    """End at nothing."""
    del found
    return False


class Step:
    """Consecutive records, gathered until they are worth writing down."""

    def __init__(self, position: Position) -> None:
        self._segment_id = position.segment_id
        self._revision = position.revision
        self.offset = position.offset
        """Where the next record begins."""
        self.changes = Changes()
        self.damages: list[Damage] = []
        self.last: int | None = None
        """Where the newest record begins."""
        self.others: list[int] = []
        """Where the records begin that change no table."""
        self.records = 0
        self.commits = 0
        self.size_bytes = 0

    @property
    def position(self) -> Position:
        """How far the log is applied when this step is."""
        return Position(self._segment_id, self.offset, self._revision)

    def fill(
        self, scan: Scan, size_bytes: int, ends: Callable[[Record | Damage], bool] = never
    ) -> bool:
        """Take records up to about `size_bytes` in all; False when no more follow, or it `ends`."""
        while self.size_bytes < size_bytes:
            self._take_blobs(scan)
            found = scan.next(self.offset)
            if found is None or ends(found):
                return False
            self.take(found)
        return True

    def _take_blobs(self, scan: Scan) -> None:
        """Take the blobs that come next and are at hand."""
        count, last, self.offset = scan.take_blobs(self.offset, self.changes.blobs)
        if count:
            self.last = last
            self.records += count
            self.size_bytes += count * PLACE_BYTES

    def take(self, found: Record | Damage) -> None:
        """Take the next record, in the order of the log."""
        self.offset = found.end
        if isinstance(found, Damage):
            self.damages.append(found)
            return
        self.last = found.offset
        self.records += 1
        self.size_bytes += PLACE_BYTES + len(found.payload)
        if found.header.kind == Kind.BLOB:
            self._blob(found)
        elif found.header.kind == Kind.REMOVE:
            self._remove(found)
        elif found.header.kind == Kind.COMMIT:
            self._commit(found)
        else:
            self.others.append(found.offset)

    def _blob(self, found: Record) -> None:
        header = found.header
        self.size_bytes -= len(found.payload)  # which stays where it is
        sizes = (header.payload_bytes, header.content_bytes, header.codec)
        place = LOCATION.pack(self._segment_id, found.offset, *sizes)
        self.changes.blobs[header.name] = place

    def _remove(self, found: Record) -> None:
        for at in range(0, len(found.payload), DIGEST_BYTES):
            self.changes.blobs[bytes(found.payload[at : at + DIGEST_BYTES])] = None

    def _commit(self, found: Record) -> None:
        first = name_revision(found.header.name)
        commits, keys, pack = decode_commits(found.payload), self.changes.keys, REVISION.pack
        for revision, writes in enumerate(commits, first):
            mark = pack(revision)
            for key, value in writes:
                keys[key] = None if value is None else mark + value
        self._revision = first + len(commits) - 1
        self.commits += len(commits)
        place = POSITION.pack(self._segment_id, found.offset, first)
        self.changes.batches[pack(first)] = place
