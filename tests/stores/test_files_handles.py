"""What the suite cannot see: open files, remembered checks, and what lies on the disk."""

import os
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash
from descriptors import descriptors

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    CorruptError,
    NotFoundError,
    UnavailableError,
    UnsatisfiableError,
    UnsupportedError,
)
from holdfast.core.limits import MIB
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import NativeFile, Span
from holdfast.stores import footer
from holdfast.stores.files import FileStore
from holdfast.testing.blobs import assert_absent, make, put, read, read_all, whole

DATA = make(2 * MIB + 5)
DIGEST = Digest.of(DATA)
GOLDEN = Path(__file__).parent / "golden"


class StoppedClock(SystemClock):
    now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s


class CountingDisk(Disk):
    """Counts what was read, and forgets the page cache when told to."""

    opened = 0
    read_bytes = 0
    is_cold = False
    has_forgotten = False

    def open(self, path: Path, flags: int) -> int:
        self.opened += 1
        return super().open(path, flags)

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        self.read_bytes += size_bytes
        return super().pread(descriptor, size_bytes, offset)

    def pread_cached(self, descriptor: int, size_bytes: int, offset: int) -> bytearray | None:
        self.read_bytes += size_bytes
        return None if self.is_cold else super().pread_cached(descriptor, size_bytes, offset)

    def is_cached(self, descriptor: int, offset: int) -> bool:
        return not self.has_forgotten and super().is_cached(descriptor, offset)


@pytest.fixture
def disk() -> CountingDisk:
    return CountingDisk()


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def store(tmp_path: Path, disk: Disk, clock: StoppedClock) -> Iterator[FileStore]:
    store = FileStore(tmp_path, disk, SystemEntropy(), clock)
    yield store
    store.close()


def blob_path(folder: Path, digest: Digest) -> Path:
    return folder / digest.hex()[:2] / f"{digest.hex()}.blob"


def rot(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"rot")


# The file.


def test_the_file_is_as_the_format_page_says(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    chunks = [DATA[at : at + 1048576] for at in range(0, len(DATA), 1048576)]
    sums = b"".join(xxhash.xxh3_64_intdigest(chunk).to_bytes(8, "little") for chunk in chunks)
    fields = struct.pack("<8sIIQ32s", b"HFLARGE\n", 1, 1048576, len(DATA), DIGEST)
    last = xxhash.xxh3_64_intdigest(sums + fields).to_bytes(8, "little")
    path = blob_path(tmp_path, DIGEST)
    assert path.read_bytes() == DATA + sums + fields + last
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size_bytes", [0, 10])
@pytest.mark.parametrize("version", [1])
def test_files_of_every_released_format_are_read(
    store: FileStore, tmp_path: Path, version: int, size_bytes: int
) -> None:
    data = b"0123456789"[:size_bytes]
    golden = GOLDEN / f"large-v{version}-{size_bytes}.blob"
    path = blob_path(tmp_path, Digest.of(data))
    path.parent.mkdir()
    path.write_bytes(golden.read_bytes())
    assert read(store, Digest.of(data)) == data
    assert list(store.scan()) == [BlobRef(Digest.of(data), len(data))]


def test_the_size_of_a_file_gives_that_of_its_content() -> None:
    for size_bytes in (0, 1, 2, 100, MIB - 1, MIB, MIB + 1, 5 * MIB - 7, 1 << 40):
        file_bytes = size_bytes + footer.tail_bytes(size_bytes)
        assert footer.content_bytes(file_bytes) == size_bytes
    for file_bytes in (0, 1, 63, 65, 72, MIB + 64 + 9, MIB + 64 + 16):
        assert footer.content_bytes(file_bytes) is None


def test_a_newer_format_is_refused_by_name(store: FileStore, tmp_path: Path) -> None:
    path = blob_path(tmp_path, Digest.of(b""))
    path.parent.mkdir()
    fields = struct.pack("<8sIIQ32s", b"HFLARGE\n", 2, 1048576, 0, Digest.of(b""))
    path.write_bytes(fields + xxhash.xxh3_64_intdigest(fields).to_bytes(8, "little"))
    with pytest.raises(UnsupportedError):
        store.open(Digest.of(b""))


def test_a_tail_that_shrank_while_it_was_read_is_damage() -> None:
    ref = BlobRef(Digest.of(b"x"), 1)
    tail = footer.pack(ref, bytes(8))
    assert footer.unpack(tail, ref).checksums == bytes(8)
    with pytest.raises(CorruptError):
        footer.unpack(tail[:-1], ref)


def test_a_folder_that_cannot_be_listed_is_an_error(store: FileStore, tmp_path: Path) -> None:
    (tmp_path / "7f").write_bytes(b"a file, not a folder")
    with pytest.raises(UnavailableError):
        list(store.scan())


def test_other_files_are_left_alone(store: FileStore, tmp_path: Path) -> None:
    ref = put(store, b"x")
    folder = blob_path(tmp_path, ref.digest).parent
    names = [
        "lost+found",
        "zz",
        "README",
        f"{folder.name}/x.blob",
        f"{folder.name}/{'0' * 63}.blob",
    ]
    other = "00" if folder.name != "00" else "11"
    names += [f"{folder.name}/{other}{'0' * 62}.blob", f"{folder.name}/{ref.digest.hex()}.blob~"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert list(store.scan()) == [ref]
    FileStore(tmp_path, Disk(), SystemEntropy(), SystemClock()).close()
    assert all((tmp_path / name).exists() for name in names)


def test_stale_temporary_files_are_swept_at_opening(store: FileStore, tmp_path: Path) -> None:
    for name in ("a.tmp", "b.tmp", "whatever"):
        (tmp_path / "tmp" / name).write_bytes(b"half")
    FileStore(tmp_path, Disk(), SystemEntropy(), SystemClock()).close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_sendfile_sends_the_span(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    with whole(store, DIGEST, Span(MIB - 2, 7)) as source, (tmp_path / "out").open("wb") as out:
        native = source.file()
        assert isinstance(native, NativeFile)
        assert (native.offset, native.size_bytes) == (MIB - 2, 7)
        os.sendfile(out.fileno(), native.descriptor, native.offset, native.size_bytes)
    assert (tmp_path / "out").read_bytes() == DATA[MIB - 2 : MIB + 5]


# Open files.


def test_an_open_file_is_kept_for_the_next_reader(store: FileStore, disk: CountingDisk) -> None:
    put(store, DATA)
    assert store.open(DIGEST, wait=False) is None
    whole(store, DIGEST).close()
    opened, read_bytes = disk.opened, disk.read_bytes
    for _ in range(3):
        source = store.open(DIGEST, wait=False)
        assert source is not None
        source.close()
        assert store.stat([DIGEST]) == {DIGEST: len(DATA)}
    assert (disk.opened, disk.read_bytes) == (opened, read_bytes)


def test_only_so_many_files_are_kept_and_no_reader_loses_his(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OPEN_FILES_MAX", 2)
    blobs = [make(1000 + number) for number in range(6)]
    for data in blobs:
        put(store, data)
    before = descriptors(tmp_path)
    sources = [whole(store, Digest.of(data)) for data in blobs]
    assert descriptors(tmp_path) == before + 6
    for source, data in zip(sources, blobs, strict=True):
        assert read_all(source) == data
        source.close()
    assert descriptors(tmp_path) == before + 2
    assert store.open(Digest.of(blobs[0]), wait=False) is None
    for number in (4, 5):
        source = whole(store, Digest.of(blobs[number]))
        source.close()
    whole(store, Digest.of(blobs[0])).close()
    assert store.open(Digest.of(blobs[4]), wait=False) is None
    store.close()
    assert descriptors(tmp_path) == before


def test_the_file_that_was_used_longest_ago_is_let_go(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OPEN_FILES_MAX", 2)
    digests = [put(store, b"%d" % number).digest for number in range(3)]
    for number in (0, 1, 0, 2):
        whole(store, digests[number]).close()
    kept = [store.open(digest, wait=False) for digest in digests]
    assert [source is not None for source in kept] == [True, False, True]
    for source in kept:
        if source is not None:
            source.close()


def test_an_unsatisfiable_span_leaves_no_file_open(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    before = descriptors(tmp_path)
    for _ in range(2):
        with pytest.raises(UnsatisfiableError):
            store.open(DIGEST, Span(len(DATA) + 1, 1))
    store.remove([DIGEST])
    assert descriptors(tmp_path) == before


def test_closing_the_store_leaves_readers_their_files(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    before = descriptors(tmp_path)
    source = whole(store, DIGEST)
    store.close()
    assert read_all(source) == DATA
    source.close()
    assert descriptors(tmp_path) == before


def test_removing_lets_go_of_the_open_file(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    before = descriptors(tmp_path)
    whole(store, DIGEST).close()
    source = whole(store, DIGEST)
    store.remove([DIGEST])
    assert store.open(DIGEST, wait=False) is None
    assert read_all(source) == DATA
    source.close()
    assert descriptors(tmp_path) == before


def test_a_file_opened_while_it_is_removed_is_not_kept(
    store: FileStore, disk: CountingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has it open already, but has not yet put it into the cache."""
    put(store, DATA)
    pread = disk.pread

    def remove_first(descriptor: int, size_bytes: int, offset: int) -> bytes:
        monkeypatch.undo()
        store.remove([DIGEST])
        return pread(descriptor, size_bytes, offset)

    monkeypatch.setattr(disk, "pread", remove_first)
    with whole(store, DIGEST) as source:
        assert read_all(source) == DATA
    with pytest.raises(NotFoundError):
        store.open(DIGEST)


def test_nobody_sees_a_name_that_a_power_cut_could_undo(
    store: FileStore, disk: CountingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, leave = threading.Event(), threading.Event()
    sync = disk.sync_directory

    def wait_then_sync(path: Path) -> None:
        entered.set()
        assert leave.wait(20)
        sync(path)

    put(store, DATA)  # so that the folder is there
    store.remove([DIGEST])
    monkeypatch.setattr(disk, "sync_directory", wait_then_sync)
    with ThreadPoolExecutor(2) as pool:
        putting = [pool.submit(put, store, DATA) for _ in range(2)]
        assert entered.wait(20)
        assert blob_path(store._root, DIGEST).exists()
        for _ in range(2):
            assert_absent(store, DIGEST)
        leave.set()
        for each in putting:
            each.result()
    assert read(store, DIGEST) == DATA


# Verification.


def test_a_verified_chunk_is_not_read_again_for_an_hour(
    store: FileStore, disk: CountingDisk, clock: StoppedClock
) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        assert source.verify(Span(0, MIB + 1))
        read_bytes = disk.read_bytes
        clock.now_s += limits.VERIFY_AGAIN_S - 1
        assert source.verify(Span(0, 2 * MIB), wait=False)
        assert disk.read_bytes == read_bytes
        clock.now_s += 1
        assert source.verify(Span(MIB, 1))
        assert disk.read_bytes == read_bytes + MIB


def test_a_chunk_that_left_the_page_cache_is_verified_again(
    store: FileStore, disk: CountingDisk
) -> None:
    """What the disk gives now may not be what it gave when the chunk was verified."""
    put(store, DATA)
    with whole(store, DIGEST) as source:
        assert source.verify(Span(0, len(DATA)))
        disk.is_cold = disk.has_forgotten = True
        assert not source.verify(Span(MIB, 1), wait=False)
        read_bytes = disk.read_bytes
        assert source.verify(Span(MIB, 1))
        assert disk.read_bytes == read_bytes + MIB


def test_a_file_that_somebody_wrote_to_is_verified_again(store: FileStore, tmp_path: Path) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        assert source.verify(Span(0, len(DATA)))
        rot(blob_path(tmp_path, DIGEST), 5)
        for _ in range(2):
            assert source.verify(Span(MIB, 1))
            with pytest.raises(CorruptError):
                source.verify(Span(MIB - 1, 1))


def test_a_file_that_was_cut_after_it_was_verified_is_damaged(
    store: FileStore, tmp_path: Path
) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        assert source.verify(Span(0, len(DATA)))
        os.truncate(blob_path(tmp_path, DIGEST), MIB + 10)
        assert source.verify(Span(0, MIB))
        with pytest.raises(CorruptError):
            source.verify(Span(MIB, 1))
        with pytest.raises(CorruptError):
            list(iter(lambda: source.read(MIB), b""))


def test_a_file_put_in_the_place_of_an_open_one_does_not_reach_its_readers(
    store: FileStore, tmp_path: Path
) -> None:
    put(store, DATA)
    other = tmp_path / "other"
    other.write_bytes(blob_path(tmp_path, DIGEST).read_bytes().replace(DATA[:9], b"x" * 9))
    with whole(store, DIGEST) as source:
        other.replace(blob_path(tmp_path, DIGEST))
        assert read_all(source) == DATA
        assert source.verify(Span(0, len(DATA)))


def test_a_damaged_chunk_that_a_read_met_is_no_longer_taken_for_sound(
    store: FileStore, tmp_path: Path
) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        assert source.verify(Span(0, len(DATA)))
        rot(blob_path(tmp_path, DIGEST), 5)
        with pytest.raises(CorruptError):
            source.read(10)
        with pytest.raises(CorruptError):
            source.verify(Span(0, 1))


def test_without_waiting_little_is_verified_at_once(store: FileStore, disk: CountingDisk) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        read_bytes = disk.read_bytes
        assert not source.verify(Span(0, len(DATA)), wait=False)
        assert disk.read_bytes - read_bytes <= MIB
        assert not source.verify(Span(0, len(DATA)), wait=False)
        assert source.verify(Span(0, len(DATA)), wait=False)


def test_without_waiting_nothing_is_verified_that_is_not_cached(
    store: FileStore, disk: CountingDisk
) -> None:
    put(store, DATA)
    disk.is_cold = True
    with whole(store, DIGEST) as source:
        assert not source.verify(Span(0, 1), wait=False)
        assert source.verify(Span(0, 1))
        assert source.verify(Span(0, 1), wait=False)
        assert not source.verify(Span(MIB, 1), wait=False)


def test_reading_in_small_steps_reads_each_chunk_once(store: FileStore, disk: CountingDisk) -> None:
    put(store, DATA)
    with whole(store, DIGEST) as source:
        read_bytes = disk.read_bytes
        assert read_all(source, 1000) == DATA
        assert disk.read_bytes - read_bytes == len(DATA)


def test_a_span_reads_only_its_chunks(store: FileStore, disk: CountingDisk) -> None:
    put(store, DATA)
    with whole(store, DIGEST, Span(MIB, 10)) as source:
        read_bytes = disk.read_bytes
        assert source.verify(Span(0, 10))
        assert disk.read_bytes - read_bytes == MIB
        assert bytes(source.read(99)) == DATA[MIB : MIB + 10]
        with pytest.raises(AssertionError):
            source.verify(Span(0, 11))
