"""The files that this process has open, to see that none is forgotten."""

import os
from contextlib import suppress
from pathlib import Path


def descriptors(folder: Path) -> int:
    """How many files and folders at or below `folder` are open, removed ones too.

    Those elsewhere do not count: what earlier tests left may be collected at any moment.
    """
    count = 0
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all we need
        with suppress(FileNotFoundError):  # that of the listing itself
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - it may say (deleted)
            count += Path(target).is_relative_to(folder)
    return count
