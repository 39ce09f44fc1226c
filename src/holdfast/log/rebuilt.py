"""An index made again from the log beside the one in use, to hold the two against each other.

The segments are linked into a folder of their own (the newest is copied, because opening may cut a
torn tail), and a log is opened there, without index and hints: so what is compared is what the
segments alone say. Where they are damaged, the index knows more than they do, and it is the only
witness; those differences are told apart from an index that is wrong.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.log.accounts import Account
from holdfast.log.index import segment_of, split
from holdfast.log.log import Log
from holdfast.log.segment import Segment, map_disk_error, segment_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.core.kv import Versioned
    from holdfast.log.index import Index, Location

KEYS_END = b"\xff" * (limits.KV_KEY_BYTES_MAX + 1)
PROGRESS_NAMES = 1000
NOTHING = Account()

Value = TypeVar("Value")
Pair = tuple[bytes, Value]


class Difference(NamedTuple):
    """A key, or a blob, of which index and segments say different things."""

    name: bytes
    """The key, or the digest."""
    value: bytes | None
    """What the index has of a key, empty for a blob that it has; None when it has nothing."""
    is_key: bool
    is_explained: bool
    """By damage where its newest write was: then the index is right, and the log has lost it."""


class Rebuilt:
    """The second index; leaving removes it."""

    def __init__(self, log: Log, scratch: Path) -> None:
        """Make it in the folder `scratch`, on the same file system; needs the space of an index.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        self._log = log
        self._scratch = scratch
        self._damaged: set[int] = set()
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            (scratch / "log").mkdir(parents=True)
            shutil.copy(log.root.parent / "HOLDFAST", scratch)
            self._link_segments()
        except OSError as error:
            raise map_disk_error(error) from error
        self._made = Log(scratch, log.disk)
        recovery = self._made.recovery
        self._damaged |= {damage.segment_id for damage in recovery.damages}
        if recovery.truncated_bytes:  # damage that an opening without index takes for a torn tail
            self._damaged.add(max(log.stretches()))
        self._damaged |= log.stretches().keys() - self._made.stretches().keys()
        self._hiding = self._that_hide_deletions()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._made.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def compare(self) -> Iterator[Difference | int]:
        """Walk both; yield what differs, and in between how many names were compared."""
        here, there = self._log.index, self._made.index
        count = 0
        for key, mine, other in _aligned(_keys(here), _keys(there)):
            count += 1
            if _content(mine) != _content(other):
                is_lost = _is_newer(mine, other) and self._is_lost(_segment(mine), _segment(other))
                value = None if mine is None else split(mine).value
                yield Difference(key, value, is_key=True, is_explained=is_lost)
            if count % PROGRESS_NAMES == 0:
                yield count
        for digest, place, made in _aligned(_blobs(here), _blobs(there)):
            count += 1
            if place != made:
                is_lost = self._is_lost(place and place.segment_id, made and made.segment_id)
                value = None if place is None else b""
                yield Difference(digest, value, is_key=False, is_explained=is_lost)
            if count % PROGRESS_NAMES == 0:
                yield count

    def _is_lost(self, mine: int | None, other: int | None) -> bool:
        """Whether damage hides what the index knows: its own write, or a newer deletion."""
        if mine is not None:
            return mine in self._damaged
        assert other is not None
        return any(number >= other for number in self._hiding)

    def _that_hide_deletions(self) -> set[int]:
        """The damaged segments in which fewer deletions can be read than the index has counted."""
        counted, read = self._log.index.accounts.rows(), self._made.index.accounts.rows()
        return {
            number
            for number in self._damaged & counted.keys()
            if counted[number].deletion_bytes > read.get(number, NOTHING).deletion_bytes
        }

    def _link_segments(self) -> None:
        numbers = [number for number in self._log.stretches() if is_readable(self._log, number)]
        for number in numbers:
            source = segment_path(self._log.root, number)
            target = segment_path(self._scratch / "log", number)
            if number == numbers[-1]:
                shutil.copyfile(source, target)
            else:
                target.hardlink_to(source)


def is_readable(log: Log, number: int) -> bool:
    """Whether the header of a segment can be read; without its salt, nothing of it can."""
    with suppress(CorruptError, FileNotFoundError):
        Segment.open(log.disk, log.root, number)
        return True
    return False


def _content(stored: bytes | None) -> Versioned | None:
    return None if stored is None else split(stored)


def _segment(stored: bytes | None) -> int | None:
    return None if stored is None else segment_of(stored)


def _is_newer(mine: bytes | None, other: bytes | None) -> bool:
    """Whether the index may know more than the log: a value that is older it should not have."""
    return mine is None or other is None or split(mine).revision > split(other).revision


def _keys(index: Index) -> Iterator[Pair[bytes]]:
    start = b""
    while page := index.scan(start, KEYS_END, limits.LIST_LIMIT_MAX):
        yield from page
        start = page[-1][0] + b"\x00"


def _blobs(index: Index) -> Iterator[Pair[Location]]:
    after = b""
    while page := index.blobs(after, limits.BATCH_REFS_MAX):
        yield from page
        after = page[-1][0]


def _aligned(
    left: Iterator[Pair[Value]], right: Iterator[Pair[Value]]
) -> Iterator[tuple[bytes, Value | None, Value | None]]:
    """Walk two sorted tables side by side."""
    mine, other = next(left, None), next(right, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and mine[0] < other[0]):
            assert mine is not None
            yield mine[0], mine[1], None
            mine = next(left, None)
        elif mine is None or other[0] < mine[0]:
            yield other[0], None, other[1]
            other = next(right, None)
        else:
            yield mine[0], mine[1], other[1]
            mine, other = next(left, None), next(right, None)
