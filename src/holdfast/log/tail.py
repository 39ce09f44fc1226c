"""The tail: the end of the newest segment, where the next batch goes.

Several processes may have the log open and write to the same segment, each in its turn: all calls
here are made under the index's write lock, and where the log ends is read from the index each
time. So whatever stands behind that place was left by a process that died in the middle, or by a
write that failed, and is erased by whoever comes next.

A segment is followed by a new one when it is full, or when a write to it has failed: after a
failed sync nobody knows what the disk has (lwn.net/Articles/752063). The new one begins with a
manifest that says where the old one ends, so nothing that was refused can come back.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.log.accounts import Account, State
from holdfast.log.batch import End
from holdfast.log.index import Last, Position
from holdfast.log.manifest import Found, Manifest, pack_manifest, read_manifest
from holdfast.log.record import Kind
from holdfast.log.segment import FULL, HEADER_BYTES, Segment, SegmentHeader

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.seams import Buffer, Clock, Disk, Entropy
    from holdfast.log.board import Board
    from holdfast.log.index import Index, Txn

ALL = 1 << 64
SECOND_US = 1_000_000
KIND_AT = 5  # of a record's header


class Tail:
    """One per process; what begins, appends or rolls is called inside `Index.writing`."""

    def __init__(
        self,
        root: Path,
        index: Index,
        board: Board,
        seams: tuple[Disk, Clock, Entropy],
        *,
        is_alone: bool,
    ) -> None:
        """Go on where the index says; who `is_alone` believes what it wrote itself."""
        self._is_alone = is_alone
        self._left: tuple[int, int] | None = None
        """Where our last batch ended in order, in which segment; None where others may write."""
        self._root = root
        self._index = index
        self._board = board
        self._disk, self._clock, self._entropy = seams
        self._segment: Segment | None = None
        self._allocated = 0
        self._leave_again_s = 0.0

    def begin(self, txn: Txn, *, frees: bool = False) -> End:
        """Say where the next batch goes, with nothing behind it.

        What `frees` space may go into a segment that is full, if the disk has none for another.

        Raises:
            OSError: the disk refuses.
            CorruptError: the newest segment is damaged.
        """
        position = self._index.applied(txn)
        assert position is not None
        if self._board.rolling > position.segment_id:
            position = self._adopt(txn, position)
        segment = self._follow(position.segment_id)
        if self._board.suspect == position.segment_id:
            position = self._leave(txn, position)
        else:
            if self._left != position[:2]:
                self._cut_torn(segment, position.offset)
            position = self._roll_if_full(txn, position, frees=frees)
        header = self._follow(position.segment_id).header
        age_s = max(0, self._clock.now_us() - header.created_us) // SECOND_US
        return End(position, header.salt, min(age_s, 0xFFFFFFFF))

    def append(self, buffers: Sequence[Buffer], start: Position, end: int, kept_bytes: int) -> None:
        """Write a batch behind `start` and sync it, with `kept_bytes` of room behind it.

        Raises:
            OSError: nothing of it is part of the log.
        """
        segment = self._follow(start.segment_id)
        self._left = None
        try:
            self._allocated = segment.reserve(self._allocated, end + kept_bytes)
            self._disk.pwrite_all(segment.descriptor, buffers, start.offset)
        except OSError as error:
            if error.errno not in FULL:
                self._board.suspect = start.segment_id
            raise
        try:
            self._disk.sync_data(segment.descriptor)
        except OSError:
            self._board.suspect = start.segment_id
            raise
        if self._is_alone:
            self._left = (start.segment_id, end)

    def roll(self, txn: Txn) -> None:
        """Begin a new segment, unless the newest one holds nothing yet.

        Raises:
            OSError: the disk refuses.
        """
        start = self.begin(txn, frees=True).start
        if self._is_empty(txn, start):
            return
        try:
            self._roll(txn, start)
        except OSError as error:
            if error.errno not in FULL:
                raise
            self._roll_into_reserve(txn, start)

    def _roll_into_reserve(self, txn: Txn, start: Position) -> None:
        """Make the next segment in space that is reserved here: the disk has no other.

        Half of that is kept, for who knows what else a new file needs.
        """
        segment = self._follow(start.segment_id)
        before_bytes = segment.size_bytes
        room_bytes = before_bytes - start.offset
        self._disk.truncate(segment.descriptor, start.offset + room_bytes // 2)
        try:
            position = self._roll(txn, start, room_bytes // 4)
        except OSError:
            with suppress(OSError):
                self._disk.allocate(segment.descriptor, 0, before_bytes)
            raise
        with suppress(OSError):  # the other half, which is free now
            needed = position.offset + room_bytes * 3 // 4
            self._allocated = self._follow(position.segment_id).reserve(self._allocated, needed)

    def close(self, end: Position) -> None:
        """Give reserved space back, but what is kept for what frees space.

        Raises:
            OSError: the disk refuses; the next opening does it.
        """
        segment = self._follow(end.segment_id)
        kept = end.offset + limits.RESERVE_BYTES
        if segment.size_bytes > kept:
            self._disk.truncate(segment.descriptor, kept)
        self._disk.sync(segment.descriptor)

    def let_go(self, before: int = ALL) -> None:
        """Close a segment older than `before`; safe from any thread."""
        segment = self._segment
        if segment is not None and segment.header.id < before:
            self._segment = None

    def _follow(self, segment_id: int) -> Segment:
        """The newest segment, open for writing."""
        segment = self._segment
        if segment is None or segment.header.id != segment_id:
            segment = Segment.open(self._disk, self._root, segment_id, writable=True)
            self._segment, self._allocated = segment, segment.size_bytes
        return segment

    def _cut_torn(self, segment: Segment, offset: int) -> None:
        """Erase what a process left behind the end that died while it wrote.

        It wrote from here on, so one look at the first bytes is enough.
        """
        self._allocated = segment.size_bytes  # others reserve, too
        if self._allocated <= offset:
            return
        if any(self._disk.pread(segment.descriptor, HEADER_BYTES, offset)):
            try:
                self._disk.truncate(segment.descriptor, offset)
                self._disk.sync_data(segment.descriptor)
            except OSError:
                self._board.suspect = segment.header.id
                raise
            self._allocated = offset

    def _leave(self, txn: Txn, position: Position) -> Position:
        """Roll behind a failure; not too often, or a bad disk would fill with empty segments."""
        now_s = self._clock.monotonic_s()
        if now_s < self._leave_again_s:
            raise OSError(errno.EIO, "it failed a moment ago")
        rolled = self._roll(txn, position)
        self._leave_again_s = now_s + limits.LEAVE_AGAIN_S
        return rolled

    def _roll_if_full(self, txn: Txn, position: Position, *, frees: bool) -> Position:
        if position.offset + limits.BATCH_BYTES_MAX <= limits.SEGMENT_BYTES_MAX:
            return position
        if self._is_empty(txn, position):
            return position
        try:
            return self._roll(txn, position)
        except OSError as error:
            if frees and error.errno in FULL:
                return position
            raise

    def _is_empty(self, txn: Txn, position: Position) -> bool:
        """Whether the newest segment has nothing but its manifest."""
        last = self._index.last(txn)
        if last is None or last[:2] != (position.segment_id, HEADER_BYTES):
            return False
        return Kind(last.header[KIND_AT]) is Kind.MANIFEST

    def _roll(self, txn: Txn, position: Position, reserve_bytes: int | None = None) -> Position:
        """Make the next segment and let the log go on there."""
        salt = int.from_bytes(self._entropy.random_bytes(8), "little")
        header = SegmentHeader(position.segment_id + 1, salt, self._clock.now_us())
        rows = self._index.accounts.rows(txn)
        older = [
            (id_, row.size_bytes)
            for id_, row in rows.items()
            if row.state != State.DROPPED and id_ != position.segment_id
        ]
        manifest = Manifest(position.revision, [*older, (position.segment_id, position.offset)])
        packed, payload = pack_manifest(manifest, header)
        self._board.rolling = header.id
        first = (packed, payload)
        segment = Segment.create(self._disk, self._root, header, first, reserve_bytes)
        found = Found(manifest, packed, HEADER_BYTES + len(packed) + len(payload))
        return self._enter(txn, position, segment, found)

    def _adopt(self, txn: Txn, position: Position) -> Position:
        """Go on in a segment that somebody made without living to say so."""
        try:
            segment = Segment.open(self._disk, self._root, self._board.rolling, writable=True)
        except FileNotFoundError:
            return position
        found = read_manifest(self._disk, segment)
        if found is None:
            raise CorruptError("the segment's manifest is damaged", file=segment.path.name)
        self._disk.sync_directory(self._root)  # whoever made it may not have
        return self._enter(txn, position, segment, found)

    def _enter(self, txn: Txn, old: Position, segment: Segment, found: Found) -> Position:
        """Say in the index that the log goes on in `segment`."""
        accounts, new_id = self._index.accounts, segment.header.id
        is_suspect = self._board.suspect == old.segment_id
        row = (accounts.get(txn, old.segment_id) or Account())._replace(size_bytes=old.offset)
        if is_suspect:
            row = row._replace(state=State.SUSPECT)
        accounts.put(txn, old.segment_id, row)
        accounts.put(txn, new_id, Account())
        position = Position(new_id, found.end, old.revision)
        self._index.set_applied(txn, position, Last(new_id, HEADER_BYTES, found.header))
        left = self._segment
        if left is not None and left.header.id == old.segment_id:
            with suppress(OSError):  # what stands there is not part of the log any more
                self._disk.truncate(left.descriptor, old.offset)
        self._segment = segment
        self._allocated = segment.size_bytes
        return position
