"""Room: blocks of the disk that the index's file has ahead of what it uses.

LMDB writes no page over that anybody may still read: a batch needs free pages also when all it does
is delete. When the disk is full they must be there already. So every batch that may make the index
grow first makes sure of as much room as it may need and, again, as what frees space may need behind
it. A small index is rewritten whole by that at most, a large one by a few thousand pages.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.log.segment import FULL

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.log.index import Index

SMALL_BYTES = 128 * limits.KIB  # for an index that has next to nothing


class Room:
    """That of the index in one folder, in one process.

    The file is LMDB's, whose calls do not go through the seam `Disk` either.
    """

    def __init__(self, path: Path, index: Index) -> None:
        """Open the file a second time.

        Raises:
            OSError: the disk refuses.
        """
        self._index = index
        self._size_bytes = 0
        """What the file has at least: it never shrinks."""
        self._descriptor = os.open(path / "data.mdb", os.O_RDWR | os.O_CLOEXEC)

    def reserve(self) -> None:
        """Make sure of it; under the index's write lock.

        Raises:
            OSError: the disk is full.
        """
        used_bytes = self._index.used_bytes
        ahead_bytes = min(max(2 * used_bytes, SMALL_BYTES), limits.INDEX_RESERVE_BYTES)
        needed_bytes = used_bytes + ahead_bytes
        if self._size_bytes < needed_bytes:
            self._size_bytes = os.fstat(self._descriptor).st_size
        if self._size_bytes >= needed_bytes:
            return
        try:
            self._allocate(needed_bytes + ahead_bytes // 4)
        except OSError as error:
            if error.errno in FULL:
                self._allocate(needed_bytes)

    def _allocate(self, size_bytes: int) -> None:
        os.posix_fallocate(self._descriptor, 0, size_bytes)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
