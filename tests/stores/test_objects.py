"""A store over an object store: the whole suite, in memory and in a folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from object_steps import open_objects
from obstore.store import LocalStore, MemoryStore

from holdfast.core.limits import MIB
from holdfast.core.store import Store
from holdfast.testing.store_suite import StoreSuite

MEMORIES: dict[Path, MemoryStore] = {}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    MEMORIES.clear()


class TestObjectsInMemory(StoreSuite):
    """With parts so small that most blobs of the suite have several."""

    def open_store(self, folder: Path) -> Store:
        return open_objects(MEMORIES.setdefault(folder, MemoryStore()), MIB)


@pytest.mark.slow
class TestObjectsInFolder(StoreSuite):
    """With parts of the usual size."""

    def open_store(self, folder: Path) -> Store:
        return open_objects(LocalStore(folder, mkdir=True))
