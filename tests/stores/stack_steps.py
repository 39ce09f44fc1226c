"""Stores to put wrappers around, and what the wrappers do to what lies in them."""

from pathlib import Path

from holdfast.core.digest import Digest
from holdfast.core.limits import FRAME_BYTES, KIB
from holdfast.core.seams import Buffer, Disk, SystemClock, SystemEntropy
from holdfast.core.store import Source, Span, Store
from holdfast.log.log import Log
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.stores.compressed import CompressedEncoder, Compression
from holdfast.stores.files import FileStore
from holdfast.stores.framed import PartSource
from holdfast.stores.memory import MemoryStore
from holdfast.stores.segments import SegmentStore
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.tiered import TieredStore
from holdfast.stores.wrapper import Wrapper
from holdfast.testing.blobs import make, put, read_all, whole

WORDS = b"All that is compressed must be brought back. "


def words(size_bytes: int, seed: int = 0) -> bytes:
    """Bytes that get much smaller, and are different in each part."""
    lines = b"".join(b"%d %d %b\n" % (seed, line, WORDS) for line in range(size_bytes // 40 + 1))
    return lines[:size_bytes]


def open_files(folder: Path) -> Store:
    return FileStore(folder, Disk(), SystemEntropy(), SystemClock())


class OwnLog(Wrapper):
    """A store that closes its log, or its shards."""

    def __init__(self, inner: Store, log: Log | Shards) -> None:
        super().__init__(inner)
        self._log = log

    def close(self) -> None:
        super().close()
        self._log.close()


def open_segments(folder: Path) -> Store:
    log = Log(folder)
    return OwnLog(SegmentStore(log), log)


def open_shards(folder: Path) -> Store:
    shards = Shards(folder, options=Options(Shape(3)))
    return OwnLog(SqliteStore(shards), shards)


def open_tiered(folder: Path) -> Store:
    """What depot/local puts together."""
    log = Log(folder)
    files = open_files(folder / "files")
    return OwnLog(TieredStore(SegmentStore(log), files, 256 * KIB), log)


class Eager(Compression):
    """Compresses also what gains nothing by it, so that suites with random bytes meet frames."""

    leaves_plain = False

    def encoder(self) -> CompressedEncoder:
        return EagerEncoder(self)


class EagerEncoder(CompressedEncoder):
    def gains(self, plain: object, data: bytes) -> bool:
        return True


class Watched(Wrapper):
    """Counts what is read of the inner store."""

    read_bytes = 0

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        source = super().open(digest, span, wait=wait)
        return None if source is None else WatchedSource(self, source)


class WatchedSource(PartSource):
    def __init__(self, store: Watched, source: Source) -> None:
        super().__init__(source, Span(0, source.size_bytes))
        self._store = store

    def read(self, size_bytes: int) -> Buffer:
        data = super().read(size_bytes)
        self._store.read_bytes += len(data)
        return data


def stored(inner: MemoryStore, digest: Digest) -> bytes:
    """What a store in memory has under a name."""
    return inner._blobs[digest]


def overwrite(inner: MemoryStore, digest: Digest, data: bytes) -> None:
    """Let it have something else there."""
    inner._blobs[digest] = data


def check_parts(store: Store, inner: Watched) -> None:
    """A part of a blob, which does not get smaller, costs no more than its own frames."""
    data = make(20 * FRAME_BYTES)
    digest = put(store, data).digest
    for span in (Span(0, 1), Span(7 * FRAME_BYTES - 1, 2), Span(20 * FRAME_BYTES - 5, 5)):
        inner.read_bytes = 0
        with whole(store, digest, span) as source:
            assert read_all(source) == data[span.offset : span.offset + span.size_bytes]
        frames = -(-(span.offset % FRAME_BYTES + span.size_bytes) // FRAME_BYTES)
        assert inner.read_bytes < frames * (FRAME_BYTES + 100) + 1000
