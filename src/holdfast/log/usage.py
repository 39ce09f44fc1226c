"""What a log takes on its disk: by the file system and by the accounts of the index."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.core.errors import UnavailableError
from holdfast.core.store import Usage

if TYPE_CHECKING:
    from holdfast.log.log import Log

KINDS = (".seg", ".new", ".torn")


def usage_of(log: Log) -> Usage:
    """Look at the size of every file, and at what of the segments is live.

    Raises:
        UnavailableError: the disk refuses.
    """
    sizes: dict[str, list[int]] = {kind: [] for kind in KINDS}
    try:
        with os.scandir(log.root) as files:
            for file in files:
                kind = os.path.splitext(file.name)[1]  # noqa: PTH122 - of a name, not of a path
                if kind in sizes:
                    sizes[kind].append(file.stat(follow_symlinks=False).st_size)
    except OSError as error:
        raise UnavailableError(f"cannot list the segments: {error.strerror}") from error
    rows = log.index.accounts.rows().values()
    live_bytes = sum(row.live_bytes + row.deletion_bytes for row in rows)
    return Usage(
        segments=len(sizes[".seg"]),
        segment_bytes=sum(sizes[".seg"]),
        live_bytes=live_bytes,
        dead_bytes=max(0, sum(log.stretches().values()) - live_bytes),
        temporary_files=len(sizes[".new"]),
        temporary_bytes=sum(sizes[".new"]),
        torn_files=len(sizes[".torn"]),
        torn_bytes=sum(sizes[".torn"]),
    )
