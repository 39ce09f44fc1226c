"""Two processes on one store of files; here each is a store of its own, with a lock of its own."""

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, UnavailableError
from holdfast.core.limits import KIB
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Store
from holdfast.stores.files import FileStore
from holdfast.stores.layout import sweep
from holdfast.testing.blobs import assert_absent, make, put, read, whole
from holdfast.testing.crash_suites import StoreCrashSuite
from holdfast.testing.power_cut import Fate, PowerCutDisk, World
from holdfast.testing.store_suite import StoreSuite

DATA = make(300 * KIB)
DIGEST = Digest.of(DATA)


def open_files(folder: Path, disk: Disk | None = None, *, attached: bool = True) -> FileStore:
    return FileStore(folder, disk or Disk(), SystemEntropy(), SystemClock(), attached=attached)


def attach(folder: Path, disk: Disk) -> FileStore:
    """Open as a supervisor and then as a worker would."""
    open_files(folder, disk, attached=False).close()
    return open_files(folder, disk)


class TestAttachedFileStore(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return attach(folder, Disk())


@pytest.mark.slow
class TestAttachedFileStoreInPowerCuts(StoreCrashSuite):
    def open_store(self, folder: Path, disk: Disk) -> Store:
        return attach(folder, disk)


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[FileStore]:
    store = attach(tmp_path, Disk())
    yield store
    store.close()


@pytest.fixture
def theirs(ours: FileStore, tmp_path: Path) -> Iterator[FileStore]:
    store = open_files(tmp_path)
    yield store
    store.close()


def blob_path(folder: Path) -> Path:
    return folder / DIGEST.hex()[:2] / f"{DIGEST.hex()}.blob"


def test_a_blob_that_another_process_removed_is_gone_and_is_stored_again(
    ours: FileStore, theirs: FileStore, tmp_path: Path
) -> None:
    put(ours, DATA)
    assert read(ours, DIGEST) == DATA  # and its file is kept open
    with whole(ours, DIGEST) as reader:
        theirs.remove([DIGEST])
        assert_absent(ours, DIGEST)
        assert reader.read(10) == DATA[:10]
    put(ours, DATA)
    assert blob_path(tmp_path).exists()
    assert read(theirs, DIGEST) == DATA


def test_a_blob_that_another_process_repaired_is_sound(
    ours: FileStore, theirs: FileStore, tmp_path: Path
) -> None:
    put(ours, DATA)
    with blob_path(tmp_path).open("r+b") as file:
        file.write(b"rot")
    with pytest.raises(CorruptError):
        read(ours, DIGEST)
    put(theirs, DATA)
    assert read(ours, DIGEST) == DATA


def test_a_name_that_a_killed_process_left_unsynced_is_synced_before_it_is_built_on(
    tmp_path: Path,
) -> None:
    disk = PowerCutDisk(tmp_path / "graves")
    folder = tmp_path / "store"
    store = attach(folder, disk)
    other = open_files(tmp_path / "other", attached=False)
    put(other, DATA)
    other.close()
    temporary = folder / "tmp" / "1-x.tmp"
    temporary.write_bytes(blob_path(tmp_path / "other").read_bytes())
    disk.go_on(2)  # one more syncs the folder around it
    with pytest.raises(OSError, match="power"):  # as for a process that dies
        disk.make_directory(blob_path(folder).parent)
    disk.go_on(1)
    with pytest.raises(OSError, match="power"):
        disk.rename(temporary, blob_path(folder))
    disk.go_on(1000)
    put(store, DATA)
    store.close()
    disk.lose(World(Fate.LOST, Fate.LOST))
    store = open_files(folder, attached=False)
    assert read(store, DIGEST) == DATA
    store.close()


class Halting(Disk):
    """Waits in the sync of the blob's folder, and then fails it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()

    def sync_directory(self, path: Path) -> None:
        if path.name == DIGEST.hex()[:2]:
            self.entered.set()
            assert self.leave.wait(20)
            raise OSError(errno.EIO, "no")
        super().sync_directory(path)


def put_and_fail(store: FileStore) -> BlobError | None:
    try:
        put(store, DATA)
    except BlobError as error:
        return error
    return None


def test_a_commit_waits_for_that_of_another_process_and_is_not_undone_with_it(
    theirs: FileStore, tmp_path: Path
) -> None:
    disk = Halting()
    failing = open_files(tmp_path, disk)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(put_and_fail, failing)
        assert disk.entered.wait(20)
        second = pool.submit(put_and_fail, theirs)
        with pytest.raises(TimeoutError):
            second.result(0.1)
        disk.leave.set()
        assert isinstance(first.result(), UnavailableError)
        assert second.result() is None
    assert read(theirs, DIGEST) == DATA
    failing.close()


def test_only_the_temporary_files_of_the_dead_are_swept(ours: FileStore, tmp_path: Path) -> None:
    sink = ours.sink()
    sink.write(DATA)
    dead = tmp_path / "tmp" / f"{os.getpid()}1-x.tmp"
    dead.write_bytes(b"x")
    open_files(tmp_path).close()
    sweep(tmp_path, int(f"{os.getpid()}1"), Disk())
    assert not dead.exists()
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    sink.commit(BlobRef(DIGEST, len(DATA))).result()
    assert read(ours, DIGEST) == DATA
