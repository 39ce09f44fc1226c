"""The file `state` beside the index: whether the index may be used as it lies there.

While a log is open, it names the boot of the machine and the index's file; once the log was closed
in order, it holds a checksum of that file. LMDB has no checksums of its own: a bit that flipped
while the store was closed would be served as metadata, or kill the process that looks at it.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING

import xxhash

from holdfast.core.limits import MIB
from holdfast.core.seams import boot_id

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Disk

CLEAN = "clean"
STATE_BYTES = 64  # whatever it says, so that one thing can be written over another
STEP_BYTES = MIB  # from the page cache a GiB takes 0.12 s, from a disk as long as it takes


class Trust(Enum):
    """What is known of an index that is about to be opened."""

    NONE = 0
    """Nothing, so that it is made again from the log."""
    CLOSED = 1
    """It is what it was when it was closed in order."""
    KILLED = 2
    """Its process died, but the machine did not: the page cache kept all that was written."""


def running_state(index: Path) -> str:
    """What `state` says while the index in a folder is open; empty when nobody can tell.

    With the boot goes the number of the file, so that a copy made under a running process, which
    may hold pages of several moments, is not believed.
    """
    try:
        number = (index / "data.mdb").stat().st_ino
    except FileNotFoundError:
        return ""
    boot = boot_id()
    return f"{boot} {number}" if boot else ""


def clean_state(disk: Disk, index: Path) -> str:
    """What `state` says once the index in a folder was closed in order.

    Raises:
        OSError: its file cannot be read.
    """
    checksum = xxhash.xxh3_64()
    descriptor = disk.open(index / "data.mdb", os.O_RDONLY | os.O_NONBLOCK)
    try:
        offset = 0
        while data := disk.pread(descriptor, STEP_BYTES, offset):
            checksum.update(data)
            offset += len(data)
    finally:
        disk.close(descriptor)
    return f"{CLEAN} {checksum.hexdigest()}"


def trust(disk: Disk, index: Path) -> Trust:
    """How far the index in a folder can be trusted.

    Raises:
        OSError: the disk refuses to say.
    """
    try:
        said = (index / "state").read_bytes()[:STATE_BYTES].rstrip()
        if said.startswith(CLEAN.encode()):
            return Trust.CLOSED if said == clean_state(disk, index).encode() else Trust.NONE
    except FileNotFoundError:
        return Trust.NONE
    return Trust.KILLED if said == running_state(index).encode() != b"" else Trust.NONE
