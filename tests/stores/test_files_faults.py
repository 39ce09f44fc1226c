"""Every call of the disk fails in turn; the power fails at every call; every byte is damaged."""

import errno
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from descriptors import descriptors

from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, CorruptError, FullError, NotFoundError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Span, Store
from holdfast.stores import incoming
from holdfast.stores.files import FileStore
from holdfast.testing.blobs import assert_absent, make, put, read, read_all, whole
from holdfast.testing.crash_suites import StoreCrashSuite
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.power_cut import Fate, PowerCutDisk, World

DATA = make(MIB + 500 * KIB)
DIGEST = Digest.of(DATA)
OTHER = make(300 * KIB)
ERRORS: dict[int, type[BlobError]] = {
    errno.EIO: UnavailableError,
    errno.ENOSPC: FullError,
    errno.EDQUOT: FullError,
}


def open_files(folder: Path, disk: Disk | None = None) -> FileStore:
    return FileStore(folder, disk or Disk(), SystemEntropy(), SystemClock())


def temporaries(folder: Path) -> list[Path]:
    return list((folder / "tmp").iterdir())


def faults(error: int = errno.EIO, only: frozenset[str] = frozenset()) -> Iterator[list[Fault]]:
    """Every way in which call 1, then call 2 and so on may fail."""
    for number in itertools.count(1):
        yield [
            Fault(number, error, only=only),
            Fault(number, error, after=True, only=only),
            Fault(number, error, short=True, only=only),
            Fault(number, error, lasting=True, only=only),
        ]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory, where syncing costs nothing: stores are opened here by the hundred."""
    with quick_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _early_write_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "WRITE_BACK_BYTES", 600 * KIB)


@pytest.mark.parametrize("only", [frozenset[str](), frozenset({"close"})])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(each, marks=pytest.mark.slow) if each == errno.EDQUOT else each
        for each in ERRORS
    ],
)
def test_a_put_with_any_call_failing_is_never_half_there(
    tmp_path: Path, error: int, only: frozenset[str]
) -> None:
    for number, round_of_faults in enumerate(faults(error, only)):
        struck = [_put_with_fault(tmp_path / f"{number}", fault) for fault in round_of_faults]
        if not any(struck):
            assert number >= (1 if only else 8)
            return


def put_and_fail(store: FileStore) -> BlobError | None:
    try:
        put(store, DATA, 300 * KIB)
    except BlobError as failure:
        return failure
    return None


def _put_with_fault(folder: Path, fault: Fault) -> bool:
    disk = FaultyDisk()
    store = open_files(folder, disk)
    put(store, OTHER)
    store.remove([DIGEST])
    before = descriptors(folder)
    disk.arm(fault)
    failure = put_and_fail(store)
    struck, last, after = disk.struck, disk.calls[-1], descriptors(folder)
    disk.arm(None)
    assert bool(store.stat([DIGEST])) == (failure is None)
    if failure is not None:
        assert type(failure) is ERRORS[fault.error]
        assert_absent(store, DIGEST)
        assert after == before
        assert not blob_path(folder, DATA).exists() or fault.lasting
    assert not temporaries(folder) or fault.lasting or last == "unlink"
    assert read(store, Digest.of(OTHER)) == OTHER
    put(store, DATA)
    assert read(store, DIGEST) == DATA
    store.close()
    store = open_files(folder)
    assert temporaries(folder) == []
    assert read(store, DIGEST) == DATA
    store.close()
    return struck


@pytest.mark.parametrize("number", [1, 2])
def test_a_failed_early_sync_is_not_forgotten(tmp_path: Path, number: int) -> None:
    """The kernel tells of a lost write once; the sync at the end would find nothing wrong."""
    disk = FaultyDisk(Fault(number, only=frozenset({"sync_data"})))
    store = open_files(tmp_path, disk)
    assert isinstance(put_and_fail(store), UnavailableError)
    assert disk.calls.count("sync_data") == number
    assert_absent(store, DIGEST)
    assert temporaries(tmp_path) == []
    store.close()


def test_a_sink_that_failed_cannot_be_committed(tmp_path: Path) -> None:
    disk = FaultyDisk(Fault(1, errno.ENOSPC, only=frozenset({"pwrite_all"})))
    store = open_files(tmp_path, disk)
    sink = store.sink()
    with pytest.raises(FullError):
        sink.write(DATA)
    with pytest.raises(AssertionError):
        sink.write(DATA)
    assert temporaries(tmp_path) == []
    store.close()


def test_reading_with_any_call_failing_gives_an_error_and_then_works(tmp_path: Path) -> None:
    store = open_files(tmp_path)
    put(store, DATA)
    store.close()
    disk = FaultyDisk()
    before = descriptors(tmp_path)
    for number in itertools.count(1):
        store = open_files(tmp_path, disk)
        disk.arm(Fault(number))
        try:
            assert read(store, DIGEST) == DATA
        except UnavailableError:
            disk.arm(None)
            assert read(store, DIGEST) == DATA
            disk.struck = True
        store.close()
        assert descriptors(tmp_path) == before
        if not disk.struck:
            assert number > 3
            return


def test_opening_with_any_call_failing_gives_an_error_and_then_works(tmp_path: Path) -> None:
    store = open_files(tmp_path)
    put(store, DATA)
    store.close()
    for number in itertools.count(1):
        (tmp_path / "tmp" / "stale.tmp").write_bytes(b"half")
        disk = FaultyDisk(Fault(number))
        try:
            open_files(tmp_path, disk).close()
        except UnavailableError:
            store = open_files(tmp_path)
            assert read(store, DIGEST) == DATA
            store.close()
        assert temporaries(tmp_path) == []
        if not disk.struck:
            assert number > 3
            return


def test_removing_with_any_call_failing_may_be_retried(tmp_path: Path) -> None:
    for number in itertools.count(1):
        disk = FaultyDisk()
        store = open_files(tmp_path, disk)
        put(store, DATA)
        put(store, OTHER)
        disk.arm(Fault(number))
        try:
            store.remove([DIGEST, Digest.of(OTHER)])
        except UnavailableError:
            synced = disk.calls.count("sync")
            store.remove([DIGEST, Digest.of(OTHER)])
            assert disk.calls.count("sync") > synced or disk.calls.count("unlink") > 2
        assert list(store.scan()) == []
        store.close()
        if not disk.struck:
            assert number > 4
            return


def test_a_failed_repair_leaves_what_was_there(tmp_path: Path) -> None:
    for name, number in (("rename", 1), ("sync", 2)):
        disk = FaultyDisk()
        store = open_files(tmp_path / name, disk)
        put(store, DATA)
        with blob_path(tmp_path / name, DATA).open("r+b") as file:
            file.write(b"rot")
        disk.arm(Fault(number, only=frozenset({name})))
        assert put_and_fail(store) is not None
        with whole(store, DIGEST, Span(MIB, 10)) as source:
            assert read_all(source) == DATA[MIB : MIB + 10]
        store.close()


def test_what_could_not_be_taken_back_stays_hidden(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_files(tmp_path, disk)
    put(store, DATA)
    store.remove([DIGEST])
    calls = frozenset({"rename", "unlink"})
    disk.arm(Fault(2, lasting=True, only=calls))  # the rename works, unlinking does not
    disk.sync_directory = _refuse  # type: ignore[method-assign]  # one more fault
    assert put_and_fail(store) is not None
    del disk.sync_directory
    assert blob_path(tmp_path, DATA).exists()
    assert_absent(store, DIGEST)
    disk.arm(Fault(1, only=frozenset({"rename"})))
    assert put_and_fail(store) is not None
    disk.arm(None)
    assert_absent(store, DIGEST)
    put(store, DATA)
    assert read(store, DIGEST) == DATA
    store.close()


def _refuse(path: Path) -> None:
    raise OSError(errno.EIO, "no", path)


class Interrupted(Disk):
    """Lets another commit happen while a file is synced, and then fails to sync the folder."""

    between: Callable[[], object] | None = None
    is_failing = False

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        between, self.between = self.between, None
        if between is not None:
            between()
            self.is_failing = True

    def sync_directory(self, path: Path) -> None:
        if self.is_failing:
            raise OSError(errno.EIO, "no")
        super().sync_directory(path)


def test_a_commit_that_fails_takes_nothing_from_one_that_was_acknowledged(tmp_path: Path) -> None:
    """Both saw that the blob was not there; the other was done first."""
    disk = Interrupted()
    store = open_files(tmp_path, disk)
    put(store, DATA)
    store.remove([DIGEST])
    disk.between = lambda: put(store, DATA)
    assert put_and_fail(store) is not None
    assert disk.is_failing
    assert read(store, DIGEST) == DATA
    store.close()


class Overtaken(Disk):
    """Waits a while in the first sync of a folder, and then fails it."""

    def __init__(self) -> None:
        self.overtaken = threading.Event()
        self.entered = threading.Event()

    def sync_directory(self, path: Path) -> None:
        if path.name == DIGEST.hex()[:2] and not self.entered.is_set():
            self.entered.set()
            self.overtaken.wait(0.3)
            raise OSError(errno.EIO, "no")
        super().sync_directory(path)


def test_a_commit_that_fails_late_takes_nothing_from_one_that_overtook_it(tmp_path: Path) -> None:
    disk = Overtaken()
    store = open_files(tmp_path, disk)
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(put_and_fail, store)
        assert disk.entered.wait(20)
        put(store, DATA)
        disk.overtaken.set()
        assert failing.result() is not None
    assert read(store, DIGEST) == DATA
    store.close()


class Between(Disk):
    """Does things in the first sync of a file, and in every sync of a folder behind that."""

    def __init__(self) -> None:
        self.in_file: Callable[[], object] | None = None
        self.in_folder: Callable[[], object] | None = None

    def sync(self, descriptor: int) -> None:
        act, self.in_file = self.in_file, None
        if act is not None:
            act()
        super().sync(descriptor)

    def sync_directory(self, path: Path) -> None:
        if self.in_folder is not None:
            self.in_folder()
        super().sync_directory(path)


def test_a_durable_blob_is_read_while_the_same_one_is_published_again(tmp_path: Path) -> None:
    disk = Between()
    store = open_files(tmp_path, disk)
    seen: list[bytes | None] = []

    def put_first() -> None:
        put(store, DATA)
        disk.in_folder = lambda: seen.append(read(store, DIGEST))

    disk.in_file = put_first
    put(store, DATA)
    assert seen == [DATA]
    store.close()


# Power cuts.


class TestFileStoreInPowerCuts(StoreCrashSuite):
    def open_store(self, folder: Path, disk: Disk) -> Store:
        return open_files(folder, disk)


class UnsyncedFolder(PowerCutDisk):
    """Fails to sync one folder once."""

    failing: Path | None = None

    def sync_directory(self, path: Path) -> None:
        if path == self.failing:
            self.failing = None
            raise OSError(errno.EIO, "once")
        super().sync_directory(path)


def test_a_new_folder_is_synced_even_when_that_failed_before(tmp_path: Path) -> None:
    disk = UnsyncedFolder(tmp_path / "graves")
    store = open_files(tmp_path / "store", disk)
    disk.failing = tmp_path / "store"
    assert put_and_fail(store) is not None
    put(store, DATA)
    store.close()
    disk.lose(World(Fate.LOST, Fate.LOST))
    store = open_files(tmp_path / "store")
    assert read(store, DIGEST) == DATA
    store.close()


def test_names_that_a_killed_process_left_unsynced_are_synced_at_opening(tmp_path: Path) -> None:
    """Killed between rename and sync, then opened, then the power fails: all or nothing."""
    disk = PowerCutDisk(tmp_path / "graves")
    disk.make_directory(tmp_path / "a" / "tmp")
    store = open_files(tmp_path / "b")
    put(store, DATA)
    store.close()
    name = f"{DIGEST.hex()}.blob"
    temporary = tmp_path / "a" / "tmp" / "x.tmp"
    temporary.write_bytes((tmp_path / "b" / name[:2] / name).read_bytes())
    (tmp_path / "a" / name[:2]).mkdir()
    disk.rename(temporary, tmp_path / "a" / name[:2] / name)
    store = open_files(tmp_path / "a", disk)
    assert store.stat([DIGEST])
    store.close()
    disk.lose(World(Fate.LOST, Fate.LOST))
    store = open_files(tmp_path / "a")
    assert read(store, DIGEST) == DATA
    store.close()


# Damage.

SMALL = make(100)


def blob_path(folder: Path, data: bytes) -> Path:
    name = Digest.of(data).hex()
    return folder / name[:2] / f"{name}.blob"


def check_damaged(folder: Path, data: bytes) -> None:
    """Whatever the file holds now: never wrong bytes, and a put repairs it."""
    digest = Digest.of(data)
    store = open_files(folder)
    with pytest.raises((CorruptError, NotFoundError)):
        read(store, digest)
    with pytest.raises((CorruptError, NotFoundError)), whole(store, digest) as source:
        source.verify(Span(0, source.size_bytes))
    assert store.stat([digest]) in ({}, {digest: len(data)})
    assert [ref.digest for ref in store.scan()] in ([], [digest])
    put(store, data)
    assert read(store, digest) == data
    store.close()


def test_no_damaged_byte_of_a_file_goes_unseen(tmp_path: Path) -> None:
    store = open_files(tmp_path)
    put(store, SMALL)
    store.close()
    path = blob_path(tmp_path, SMALL)
    good = path.read_bytes()
    assert len(good) == 100 + 8 + 64
    for at in range(len(good)):
        for flip in (0x01, 0xFF):
            path.write_bytes(good[:at] + bytes((good[at] ^ flip,)) + good[at + 1 :])
            check_damaged(tmp_path, SMALL)
            assert path.read_bytes() == good


def test_no_cut_or_grown_file_goes_unseen(tmp_path: Path) -> None:
    store = open_files(tmp_path)
    put(store, SMALL)
    store.close()
    path = blob_path(tmp_path, SMALL)
    good = path.read_bytes()
    for size_bytes in range(0, len(good), 7):
        path.write_bytes(good[:size_bytes])
        check_damaged(tmp_path, SMALL)
    for more in (b"\0", good, bytes(MIB)):
        path.write_bytes(good + more)
        check_damaged(tmp_path, SMALL)


def test_damage_in_one_chunk_leaves_the_others_readable(tmp_path: Path) -> None:
    data = make(3 * MIB + 9)
    store = open_files(tmp_path)
    put(store, data)
    path = blob_path(tmp_path, data)
    with path.open("r+b") as file:
        file.seek(MIB + 5)
        file.write(b"rot")
    digest = Digest.of(data)
    with whole(store, digest) as source:
        assert source.verify(Span(0, MIB))
        assert source.verify(Span(2 * MIB, MIB + 9))
        with pytest.raises(CorruptError):
            source.verify(Span(MIB - 1, 2))
        assert bytes(source.read(2 * MIB)) == data[:MIB]
        with pytest.raises(CorruptError):
            source.read(1)
        source.seek(2 * MIB)
        assert read_all(source) == data[2 * MIB :]
    put(store, data)
    assert read(store, digest) == data
    store.close()


def test_a_file_of_another_blob_is_not_served(tmp_path: Path) -> None:
    store = open_files(tmp_path)
    one, other = make(100, seed=1), make(100, seed=2)
    put(store, one)
    put(store, other)
    store.close()
    blob_path(tmp_path, one).write_bytes(blob_path(tmp_path, other).read_bytes())
    blob_path(tmp_path, other).unlink()
    check_damaged(tmp_path, one)


@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder", "pipe"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    store = open_files(tmp_path)
    put(store, SMALL)
    path = blob_path(tmp_path, SMALL)
    store.close()
    path.rename(tmp_path / "elsewhere")
    if kind == "symlink":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    store = open_files(tmp_path)
    with pytest.raises(CorruptError):
        read(store, Digest.of(SMALL))
    assert store.stat([Digest.of(SMALL)]) == {}
    assert list(store.scan()) == []
    store.close()
    assert (tmp_path / "elsewhere").exists()
