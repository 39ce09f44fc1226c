"""The suites of the contracts on the engine: bare, tiered over files, and as a key-value space."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.kv import KV, Committed, Conflict
from holdfast.core.limits import SMALL_BLOB_BYTES_MAX
from holdfast.core.pending import Pending
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Store
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.stores.files import FileStore
from holdfast.stores.segments import SegmentStore
from holdfast.stores.tiered import TieredStore
from holdfast.testing.boots import boot_again
from holdfast.testing.crash_suites import KVCrashSuite, StoreCrashSuite
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_suite import KVSuite
from holdfast.testing.store_suite import StoreSuite

Logs = WeakKeyDictionary
"""What is behind each thing that was opened; pytest keeps what this is a member of to the end."""


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in memory, if there is such a thing; other tests are on a real disk."""
    with quick_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 256 * limits.KIB)


class TestSegmentStore(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        self.logs: Logs[Store, Log] = getattr(self, "logs", Logs())
        log = Log(folder)
        store = SegmentStore(log)
        self.logs[store] = log
        return store

    def close_store(self, store: Store) -> None:
        store.close()
        self.logs[store].close()


class TestTieredOfSegmentsAndFiles(StoreSuite):
    """The store of one machine, as depot/local.py puts it together."""

    def open_store(self, folder: Path) -> Store:
        self.logs: Logs[Store, Log] = getattr(self, "logs", Logs())
        disk, clock, entropy = Disk(), SystemClock(), SystemEntropy()
        log = Log(folder, disk, clock, entropy)
        files = FileStore(folder / "files", disk, entropy, clock)
        store = TieredStore(SegmentStore(log), files, SMALL_BLOB_BYTES_MAX)
        self.logs[store] = log
        return store

    def close_store(self, store: Store) -> None:
        store.close()
        self.logs[store].close()

    def test_its_commits_share_the_log(self, store: Store) -> None:
        assert store.traits.log_id == self.logs[store].id
        assert store.traits.durable
        assert store.traits.native_file


class TestEmbeddedKV(KVSuite):
    def open_kv(self, folder: Path) -> KV:
        self.logs: Logs[KV, Log] = getattr(self, "logs", Logs())
        log = Log(folder)
        kv = EmbeddedKV(log)
        self.logs[kv] = log
        return kv

    def close_kv(self, kv: KV) -> None:
        kv.close()
        self.logs[kv].close()


class TestSegmentStoreInPowerCuts(StoreCrashSuite):
    def open_store(self, folder: Path, disk: Disk) -> Store:
        self.logs: Logs[Store, Log] = getattr(self, "logs", Logs())
        log = Log(folder, disk)
        store = SegmentStore(log)
        self.logs[store] = log
        return store

    def close_store(self, store: Store) -> None:
        store.close()
        self.logs[store].close()

    def power_returns(self, folder: Path) -> None:
        boot_again(folder)


@pytest.mark.slow
class TestTieredOfSegmentsAndFilesInPowerCuts(StoreCrashSuite):
    def open_store(self, folder: Path, disk: Disk) -> Store:
        self.logs: Logs[Store, Log] = getattr(self, "logs", Logs())
        log = Log(folder, disk)
        try:
            files = FileStore(folder / "files", disk, SystemEntropy(), SystemClock())
        except BlobError:
            log.close()
            raise
        store = TieredStore(SegmentStore(log), files, SMALL_BLOB_BYTES_MAX)
        self.logs[store] = log
        return store

    def close_store(self, store: Store) -> None:
        store.close()
        self.logs[store].close()

    def power_returns(self, folder: Path) -> None:
        boot_again(folder)


class TestEmbeddedKVInPowerCuts(KVCrashSuite):
    def open_kv(self, folder: Path, disk: Disk) -> KV:
        self.logs: Logs[KV, Log] = getattr(self, "logs", Logs())
        log = Log(folder, disk)
        kv = EmbeddedKV(log)
        self.logs[kv] = log
        return kv

    def close_kv(self, kv: KV) -> None:
        kv.close()
        self.logs[kv].close()

    def power_returns(self, folder: Path) -> None:
        boot_again(folder)


class HintingStore(SegmentStore):
    """Makes all hints when it is closed."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self._hinted = log

    def close(self) -> None:
        make_hints(self._hinted)


class HintingKV(EmbeddedKV):
    """Makes hints before every commit."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self._hinted = log

    def commit(self, *arguments: Any, **named: Any) -> Pending[Committed | Conflict]:
        make_hints(self._hinted)
        return super().commit(*arguments, **named)


def make_hints(log: Log) -> None:
    """Make all that are missing; a disk without power makes none."""
    with contextlib.suppress(BlobError):
        for _ in log.make_hints():
            pass


@pytest.fixture
def _many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nearly every batch begin a segment."""
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", limits.BATCH_BYTES_MAX + 800)


@pytest.mark.slow
@pytest.mark.usefixtures("_many_segments")
class TestSegmentStoreWithHintsInPowerCuts(TestSegmentStoreInPowerCuts):
    """The index is made again from hints, of which the power cut may have left any."""

    def open_store(self, folder: Path, disk: Disk) -> Store:
        self.logs = getattr(self, "logs", Logs())
        log = Log(folder, disk)
        store = HintingStore(log)
        self.logs[store] = log
        return store


@pytest.mark.usefixtures("_many_segments")
@pytest.mark.slow
class TestEmbeddedKVWithHintsInPowerCuts(TestEmbeddedKVInPowerCuts):
    def open_kv(self, folder: Path, disk: Disk) -> KV:
        self.logs = getattr(self, "logs", Logs())
        log = Log(folder, disk)
        kv = HintingKV(log)
        self.logs[kv] = log
        return kv
