"""Mending a log that nobody else has open: what it lost is told again by whoever still knows it.

The header of a segment holds its salt, without which no record in it is valid; so does its hint.
What damage took from the segments and the index still has is appended again, so that an index made
from the log alone would have it, too.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.log.compaction import drop, move_live, remove_segment
from holdfast.log.hint import hinted_salt
from holdfast.log.segment import (
    HEADER,
    HEADER_BYTES,
    SegmentHeader,
    map_disk_error,
    pack_header,
    segment_path,
    unpack_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.log import Log
    from holdfast.log.rebuilt import Difference
    from holdfast.log.record import Writes

CREATED_AT = 5  # among the fields of a segment's header


def mend_header(disk: Disk, root: Path, segment_id: int) -> bool:
    """Write the header of a segment anew; False when nobody knows its salt any more.

    The time at which it was made is lost if it was damaged. There may be no such file.

    Raises:
        FullError, UnavailableError: the disk refuses.
    """
    try:
        descriptor = disk.open(segment_path(root, segment_id), os.O_RDWR | os.O_NONBLOCK)
        try:
            data = disk.pread(descriptor, HEADER_BYTES, 0).ljust(HEADER_BYTES, b"\0")
            header = unpack_header(data, segment_id)
            salt = hinted_salt(disk, root, segment_id) if header is None else header.salt
            if salt is None:
                return False
            disk.pwrite_all(descriptor, (_header(data, segment_id, salt),), 0)
            disk.sync_data(descriptor)
        finally:
            disk.close(descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise map_disk_error(error) from error
    return True


def retire(log: Log, segment_id: int, quarantine: Path) -> bool:
    """Move what is live out of a damaged segment and set its file aside; False if some stays.

    What damage took from it must have been told again before, also deletions.

    Raises:
        FullError, UnavailableError: the disk refuses; nothing is lost.
    """
    path = segment_path(log.root, segment_id)
    kept = quarantine / path.name
    try:
        if segment_id == max(log.stretches()):
            log.roll()
        with suppress(CorruptError, FileNotFoundError):  # then nothing can be read
            for _ in move_live(log, segment_id, log.stretches()[segment_id]):
                pass
        log.disk.make_directory(quarantine)
        with suppress(FileExistsError, FileNotFoundError):
            kept.hardlink_to(path)
        log.disk.sync_directory(quarantine)
        if not drop(log, segment_id):
            kept.unlink(missing_ok=True)
            return False
        remove_segment(log, segment_id)
    except OSError as error:
        raise map_disk_error(error) from error
    return True


def restate(log: Log, differences: Sequence[Difference]) -> bool:
    """Append what only the index knows: newest values of keys, deletions, removals of blobs.

    Raises:
        FullError, UnavailableError: the disk refuses; what was appended stays.
    """
    keys = [(each.name, each.value) for each in differences if each.is_key]
    gone = [each.name for each in differences if not each.is_key and each.value is None]
    for at in range(0, len(keys), limits.WRITES_MAX):
        _commit(log, keys[at : at + limits.WRITES_MAX])
    for at in range(0, len(gone), limits.BATCH_REFS_MAX):
        _remove(log, gone[at : at + limits.BATCH_REFS_MAX])
    return True


def _commit(log: Log, writes: Writes) -> None:
    size_bytes = sum(len(name) + len(value or b"") for name, value in writes)
    log.submit(lambda batch: batch.add_commit(writes), size_bytes).result()


def _remove(log: Log, digests: list[bytes]) -> None:
    size_bytes = sum(map(len, digests))
    log.submit(lambda batch: batch.remove_blobs(digests), size_bytes).result()


def _header(data: bytes, segment_id: int, salt: int) -> bytes:
    """Pack a header, with the time at which it was made if that is known to be right."""
    created_us = HEADER.unpack_from(data)[CREATED_AT]
    packed = pack_header(SegmentHeader(segment_id, salt, created_us))
    return packed if packed[-8:] == data[-8:] else pack_header(SegmentHeader(segment_id, salt, 0))
