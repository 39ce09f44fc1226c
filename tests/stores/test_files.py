from pathlib import Path

from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Store
from holdfast.stores.files import FileStore
from holdfast.testing.store_suite import StoreSuite


class TestFileStore(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return FileStore(folder, Disk(), SystemEntropy(), SystemClock())
