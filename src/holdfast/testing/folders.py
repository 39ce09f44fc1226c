"""Folders in memory, where there is such a thing: for tests that open a store many times."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
BASE = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Give a folder that is gone when the block ends."""
    with tempfile.TemporaryDirectory(dir=BASE) as folder:
        yield Path(folder)
