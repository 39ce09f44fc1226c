"""The suites of the contracts on sharded SQLite, with one file and with several."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from shard_steps import OpenShards

from holdfast.core.kv import KV
from holdfast.core.seams import Disk
from holdfast.core.store import Store
from holdfast.testing.crash_suites import KVCrashSuite, StoreCrashSuite
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_suite import KVSuite
from holdfast.testing.store_suite import StoreSuite


class TwoShards(OpenShards):
    count = 2


class FourShards(OpenShards):
    count = 4


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in memory, if there is such a thing; other tests are on a real disk."""
    with quick_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


class TestSqliteKV(KVSuite):
    opened: OpenShards = TwoShards()

    def open_kv(self, folder: Path) -> KV:
        return self.opened.kv(folder)

    def close_kv(self, kv: KV) -> None:
        self.opened.close(kv)


@pytest.mark.slow
class TestSqliteKVOfOne(TestSqliteKV):
    opened = OpenShards()


@pytest.mark.slow
class TestSqliteKVOfFour(TestSqliteKV):
    opened = FourShards()


class TestSqliteStore(StoreSuite):
    opened: OpenShards = TwoShards()

    def open_store(self, folder: Path) -> Store:
        return self.opened.store(folder)

    def close_store(self, store: Store) -> None:
        self.opened.close(store)


@pytest.mark.slow
class TestSqliteStoreOfOne(TestSqliteStore):
    opened = OpenShards()


@pytest.mark.slow
class TestSqliteStoreOfFour(TestSqliteStore):
    opened = FourShards()


class TestSqliteKVInPowerCuts(KVCrashSuite):
    """SQLite's own writes are its own affair: the power fails between the commits."""

    opened = TwoShards()

    def open_kv(self, folder: Path, disk: Disk) -> KV:
        return self.opened.kv(folder, disk)

    def close_kv(self, kv: KV) -> None:
        self.opened.close(kv)


@pytest.mark.slow
class TestSqliteStoreInPowerCuts(StoreCrashSuite):
    opened = TwoShards()

    def open_store(self, folder: Path, disk: Disk) -> Store:
        return self.opened.store(folder, disk)

    def close_store(self, store: Store) -> None:
        self.opened.close(store)
