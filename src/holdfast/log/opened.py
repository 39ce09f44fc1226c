"""Segments that are open for reading, so that a read need not open a file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.log.accounts import State
from holdfast.log.segment import Segment

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.board import Board
    from holdfast.log.index import Index


class OpenSegments:
    """At most `limits.OPEN_FILES_MAX` of one log; `_lock` guards changes.

    A segment is closed when nobody refers to it any more, so a reader that has one may go on.
    """

    def __init__(self, root: Path, disk: Disk, index: Index, board: Board) -> None:
        self._root = root
        self._disk = disk
        self._index = index
        self._board = board
        self._lock = threading.Lock()
        self._segments: dict[int, Segment] = {}
        self._drops = 0

    def get(self, segment_id: int) -> Segment:
        """Give a segment, opened where needed.

        Raises:
            CorruptError: its header is damaged.
            OSError: it cannot be opened; FileNotFoundError if it is gone.
        """
        segment = self.find(segment_id)
        if segment is None:
            segment = Segment.open(self._disk, self._root, segment_id)
            with self._lock:
                self._segments[segment_id] = segment
                if len(self._segments) > limits.OPEN_FILES_MAX:
                    del self._segments[next(iter(self._segments))]
        return segment

    def find(self, segment_id: int) -> Segment | None:
        """Give a segment that is open already."""
        self.follow()
        return self._segments.get(segment_id)

    def close(self) -> None:
        """Let go of all."""
        self._segments.clear()

    def follow(self) -> None:
        """Let go of dropped segments if there are new ones; costs next to nothing."""
        if self._drops != self._board.drops:
            self.let_go()

    def let_go(self) -> None:
        """Close segments that were dropped, so that the disk gets their space."""
        with self._lock:
            self._drops = self._board.drops
            rows = self._index.accounts.rows()
            kept = {each for each, row in rows.items() if row.state != State.DROPPED}
            for segment_id in self._segments.keys() - kept:
                del self._segments[segment_id]
