"""The folder of a log: who it is, who has it open, and whether its index can be believed.

DIR/HOLDFAST         format version and the log's id
DIR/lock             held while a process has the log open
DIR/log/*.seg        segments
DIR/index/           LMDB environment, its `state`, and the board
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import CorruptError, UnsupportedError
from holdfast.core.marker import LOG, MOVING_FORMAT, NAME, about_of, damaged, write_marker
from holdfast.log.board import Board
from holdfast.log.index import Index, open_index, renew_index
from holdfast.log.record import unpack
from holdfast.log.recovery import Known
from holdfast.log.scan import Damage
from holdfast.log.segment import Segment, segment_ids
from holdfast.log.state import STATE_BYTES, Trust, clean_state, running_state, trust

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from holdfast.core.seams import Disk, Entropy
    from holdfast.log.index import Position

FORMAT = 2
WRAPPED_FORMAT = 3
"""The same, but that blobs have other forms, which older versions would take for blobs."""
FORMATS = (1, FORMAT, WRAPPED_FORMAT, MOVING_FORMAT)
CHECKSUM_BYTES = 8


class _Marker(msgspec.Struct, omit_defaults=True):
    """The content of DIR/HOLDFAST."""

    format: int
    id: str
    engine: str = LOG


class Folder:
    """Files of a log beside its segments; used by whoever opens and closes it."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self.segments = path / "log"
        self._disk = disk
        self.index = path / "index"

    def identify(self, entropy: Entropy) -> str:
        """Read the log's id, or give it one.

        Raises:
            CorruptError: the file is damaged.
            UnsupportedError: a newer holdfast wrote it.
        """
        if not (self.path / NAME).exists():
            marker = _Marker(FORMAT, entropy.random_bytes(16).hex())
            write_marker(self.path, marker, self._disk)
            return marker.id
        marker = self._read_marker()
        if marker.format not in FORMATS:
            raise UnsupportedError(f"format {marker.format} is newer than this holdfast")
        if marker.format < FORMAT:
            write_marker(self.path, _Marker(FORMAT, marker.id), self._disk)
        return marker.id

    def check_engine(self) -> None:
        """Hold the folder to be one of this engine's, before anything is made in it.

        Raises:
            CorruptError: the file HOLDFAST is damaged.
            UnsupportedError: it is another one's.
        """
        if (self.path / NAME).exists() and self._read_marker().engine != LOG:
            raise UnsupportedError(f"{self.path} holds a store of another engine")

    def check_new(self) -> None:
        """Hold a folder without segments to be new.

        Raises:
            CorruptError: there is an index, so there were segments.
        """
        if (self.index / "state").exists():
            raise CorruptError("the segments are gone; remove the folder `index` to begin anew")

    def attach(self) -> tuple[Index, Board]:
        """Open the index of a log that another process opened and has open."""
        board = Board(self._disk, self.index / "board", wipe=False)
        try:
            index = Index(self.index)
            index.forget_dead_readers()
        except BaseException:
            board.close()
            raise
        return index, board

    def open_index(self) -> tuple[Index, bool, Known]:
        """Open the index, an empty one if it cannot be trusted.

        Says whether the machine did not boot in between, and what was known of the log.

        Raises:
            OSError, FullError, UnavailableError: the disk refuses.
        """
        trusted = trust(self._disk, self.index)
        if trusted == Trust.NONE:
            shutil.rmtree(self.index, ignore_errors=True)
        self._disk.make_directory(self.index)
        index = open_index(self.index)
        try:
            known, missing = Known(), self._missing(index.applied())
            if missing or not self._is_of_this_log(index):
                known = Known(missing, None if missing else self._once_applied(index))
                index.close()
                index = renew_index(self.index)
            index.forget_dead_readers()
            self._write_state(running_state(self.index))
        except BaseException:
            index.close()
            raise
        return index, trusted == Trust.KILLED, known

    def make_board(self) -> Board:
        """Make the page that all processes share which are going to have the log open."""
        return Board(self._disk, self.index / "board", wipe=True)

    def mark_clean(self) -> None:
        """Say that the index was closed in order."""
        self._write_state(clean_state(self._disk, self.index))

    def _read_marker(self) -> _Marker:
        try:
            return msgspec.convert(about_of(self.path), _Marker)
        except msgspec.ValidationError as error:
            raise damaged(self.path) from error

    def _missing(self, applied: Position | None) -> list[Damage]:
        """What the index has applied and the newest segment does not hold any more."""
        if applied is None:
            return []
        size_bytes = 0
        if applied.segment_id in segment_ids(self.segments):
            size_bytes = Segment.open(self._disk, self.segments, applied.segment_id).size_bytes
        if applied.offset <= size_bytes:
            return []
        return [Damage(applied.segment_id, size_bytes, applied.offset - size_bytes)]

    def _once_applied(self, index: Index) -> Position | None:
        """How far the index has applied this log, if its last record stood in this segment once.

        The record's header tells, whose checksum has the salt of the segment in it.
        """
        last = index.last()
        if last is None or last.segment_id not in segment_ids(self.segments):
            return None
        salt = Segment.open(self._disk, self.segments, last.segment_id).header.salt
        return index.applied() if unpack(last.header, salt, last.offset) is not None else None

    def _is_of_this_log(self, index: Index) -> bool:
        """Whether the last record that the index has applied stands where it stood.

        A header that differs in a few bytes only is the same one, rotten: two records differ in
        their checksums.
        """
        last = index.last()
        if last is None:
            return index.applied() is None
        if last.segment_id not in segment_ids(self.segments):
            return False
        segment = Segment.open(self._disk, self.segments, last.segment_id)
        header = self._disk.pread(segment.descriptor, len(last.header), last.offset)
        if len(header) != len(last.header):
            return False
        return sum(a != b for a, b in zip(header, last.header, strict=True)) < CHECKSUM_BYTES

    def _write_state(self, state: str) -> None:
        """Write over the file, for a full disk has no room for another one.

        A power cut may leave a part of it, which says that the index cannot be trusted.
        """
        descriptor = self._disk.open(self.index / "state", os.O_WRONLY | os.O_CREAT)
        try:
            self._disk.pwrite_all(descriptor, (state.encode().ljust(STATE_BYTES),), 0)
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.sync_directory(self.index)


def mark_wrapped(path: Path, disk: Disk, *, by_codecs: bool = False) -> None:
    """Let a folder, of whatever engine, say that its blobs are not where older versions look.

    With `by_codecs`, the file `wrappers` says in which forms or where they are, and must be there.

    Raises:
        OSError: the disk refuses.
    """
    before = about_of(path)
    after = before | ({"wrapped": True} if by_codecs else {})
    if after.get("engine", LOG) == LOG:
        after |= _wrapped(after)
    if after != before:
        write_marker(path, after, disk)


def is_wrapped(path: Path) -> bool:
    """Whether a folder says that its blobs may have other forms.

    Raises:
        CorruptError: the file HOLDFAST is damaged.
    """
    return about_of(path).get("wrapped") is True


def _wrapped(about: Mapping[str, object]) -> dict[str, object]:
    """The format of a folder with such blobs, which it keeps for later while it moves."""
    move = about.get("move")
    if about.get("format") == MOVING_FORMAT and isinstance(move, dict):
        return {"move": {**move, "format": WRAPPED_FORMAT}}
    return {"format": WRAPPED_FORMAT}
