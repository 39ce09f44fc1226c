"""Torn tails: what recovery cut off a segment, kept beside the log for people to look at.

Nobody was told that these bytes were stored, so they may go at any time: a full disk keeps none,
and the oldest make room for the newest. Only a repair reads them, for the blob that it looks for.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.log.segment import FULL

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk


def torn_tails(root: Path) -> list[Path]:
    """The files, oldest first."""
    return sorted(root.glob("*.torn"), key=_place)


def set_aside(disk: Disk, segment: Path, end: int, tail: bytes) -> None:
    """Keep what stood behind `end`, the newest `limits.TORN_BYTES_MAX` of all tails together.

    Raises:
        OSError: the disk refuses, but not because it is full.
    """
    if len(tail) > limits.TORN_BYTES_MAX:
        return
    path = segment.with_name(f"{segment.stem}-{end}.torn")
    descriptor = -1
    try:
        descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        disk.pwrite_all(descriptor, (tail,), 0)
    except OSError as error:
        if error.errno not in FULL:
            raise
        with suppress(OSError):
            disk.unlink(path)
    finally:
        if descriptor >= 0:
            disk.close(descriptor)
    _make_room(disk, segment.parent)


def _make_room(disk: Disk, root: Path) -> None:
    """Remove the oldest beyond the bounds."""
    size_bytes = 0
    for count, path in enumerate(reversed(torn_tails(root)), 1):
        with suppress(OSError):
            size_bytes += path.stat().st_size
            if count > limits.TORN_FILES_MAX or size_bytes > limits.TORN_BYTES_MAX:
                disk.unlink(path)


def _place(path: Path) -> tuple[str, int, str]:
    """Segment and offset, which grow; a name that is not ours comes first."""
    segment, _, end = path.stem.rpartition("-")
    return (segment, int(end), path.name) if end.isdecimal() else ("", 0, path.name)
