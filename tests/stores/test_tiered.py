import threading
from pathlib import Path

import pytest

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, FullError
from holdfast.core.limits import KIB
from holdfast.core.many import drain
from holdfast.core.pending import Pending, Promise
from holdfast.core.seams import Buffer, Disk, SystemClock, SystemEntropy
from holdfast.core.store import Span, Store
from holdfast.stores.files import FileStore
from holdfast.stores.layout import blob_path
from holdfast.stores.memory import MemorySink, MemoryStore
from holdfast.stores.tiered import TieredStore
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.store_suite import StoreSuite


def open_files(folder: Path) -> Store:
    return FileStore(folder, Disk(), SystemEntropy(), SystemClock())


class TestTieredOfMemoryAndFiles(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return TieredStore(MemoryStore(), open_files(folder), 256 * KIB)

    def test_large_blobs_outlive_a_small_store_that_forgets(self, tmp_path: Path) -> None:
        store = self.open_store(tmp_path)
        small, large = put(store, make(256 * KIB)), put(store, make(256 * KIB + 1))
        self.close_store(store)
        store = self.open_store(tmp_path)
        assert store.stat([small.digest, large.digest]) == {large.digest: large.size_bytes}
        self.close_store(store)


class TestTieredOfFilesAndFiles(StoreSuite):
    """Both sides durable, and so many blobs on each side."""

    def open_store(self, folder: Path) -> Store:
        return TieredStore(open_files(folder / "small"), open_files(folder / "large"), 300)


@pytest.mark.parametrize("step_bytes", [1, 3, 10, 11, 30])
@pytest.mark.parametrize("size_bytes", [0, 9, 10, 11, 30])
def test_the_size_decides_however_the_bytes_are_cut(size_bytes: int, step_bytes: int) -> None:
    small, large = MemoryStore(), MemoryStore()
    store = TieredStore(small, large, 10)
    ref = put(store, make(size_bytes), step_bytes)
    assert bool(small.stat([ref.digest])) == (size_bytes <= 10)
    assert bool(large.stat([ref.digest])) == (size_bytes > 10)
    assert read(store, ref.digest) == make(size_bytes)


@pytest.mark.parametrize("span", [None, Span(3, 4)])
def test_of_two_copies_the_sound_one_is_read(tmp_path: Path, span: Span | None) -> None:
    data = make(1000)
    digest = Digest.of(data)
    expected = data if span is None else data[3:7]
    small, large = open_files(tmp_path / "small"), open_files(tmp_path / "large")
    store = TieredStore(small, large, 10_000)
    for each in (small, large):
        put(each, data)
    file = blob_path(tmp_path / "small", digest)
    file.write_bytes(file.read_bytes()[:-1])
    with whole(store, digest, span) as source:
        assert read_all(source) == expected
    (found,) = store.open_many([digest])
    assert drain(found) == data
    large.remove([digest])
    with pytest.raises(CorruptError):
        store.open(digest)
    (found,) = store.open_many([digest])
    assert isinstance(found, CorruptError)
    store.close()


def test_a_blob_in_both_stores_is_one_blob() -> None:
    small, large = MemoryStore(), MemoryStore()
    refs = [put(TieredStore(small, large, limit), b"twenty bytes of blob") for limit in (19, 20)]
    other = put(large, b"another")
    store = TieredStore(small, large, 5)
    assert list(store.scan()) == sorted({refs[0], other})
    assert store.stat([refs[0].digest]) == {refs[0].digest: 20}
    store.remove([refs[0].digest])
    assert list(small.scan()) == []
    assert list(large.scan()) == [other]


def test_traits_come_from_both() -> None:
    store = TieredStore(MemoryStore(), MemoryStore(), 5)
    assert not store.traits.durable
    assert not store.traits.native_file
    assert store.traits.log_id == ""
    assert store.stat([Digest.of(b"")]) == {}


class SlowSink(MemorySink):
    """Commits in another thread, some time later."""

    def commit(self, ref: BlobRef) -> Pending[None]:
        done: Promise[None] = Promise()

        def finish() -> None:
            super(SlowSink, self).commit(ref)
            done.set_result(None)

        threading.Timer(0.05, finish).start()
        return done


class SlowStore(MemoryStore):
    def sink(self) -> MemorySink:
        return SlowSink(self)


def test_a_large_blob_is_there_when_commit_returns() -> None:
    """A commit to the log of the small store may follow at once, and never waits for this one."""
    store = TieredStore(MemoryStore(), SlowStore(), 5)
    with store.sink() as sink:
        sink.write(b"large enough")
        assert sink.commit(BlobRef(Digest.of(b"large enough"), 12)).done()
    assert read(store, Digest.of(b"large enough")) == b"large enough"


class BrokenSink(MemorySink):
    closed = 0

    def write(self, chunk: Buffer) -> None:
        raise FullError("no space")

    def close(self) -> None:
        BrokenSink.closed += 1


class BrokenStore(MemoryStore):
    def sink(self) -> MemorySink:
        return BrokenSink(self)


def test_a_store_that_takes_no_bytes_is_let_go_of() -> None:
    store = TieredStore(BrokenStore(), BrokenStore(), 5)
    with store.sink() as sink:
        sink.write(b"small")
        with pytest.raises(FullError):
            sink.commit(BlobRef(Digest.of(b"small"), 5))
        with pytest.raises(FullError):
            sink.write(b"large")
    assert BrokenSink.closed == 2
