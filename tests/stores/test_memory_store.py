from pathlib import Path

from holdfast.core.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.testing.store_suite import StoreSuite


class TestMemoryStore(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return MemoryStore()
