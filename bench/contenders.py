"""Stores and databases that keep blobs under keys: `python -m bench.contenders WHAT NAME DIR ...`.

Every one of them answers a put when a power cut undoes it no more, and is measured in a process of
its own, which prints one JSON object of numbers. Those of others come from bench/.work/rivals.
"""

import hashlib
import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import lmdb

from bench.together import Figures, blob, together
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.groupcommit import Batching
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Store
from holdfast.log.log import Log
from holdfast.shards.shards import Options, Shards
from holdfast.stores.cached import CachedStore
from holdfast.stores.compressed import compressed
from holdfast.stores.encrypted import encrypted
from holdfast.stores.files import FileStore
from holdfast.stores.keyring import Keyring
from holdfast.stores.memory import MemoryStore
from holdfast.stores.segments import SegmentStore
from holdfast.stores.spread import Member, SpreadStore
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.tiered import TieredStore
from holdfast.stores.verified import VerifiedStore

READS = 20_000
MAP_BYTES = 1 << 36
CACHE_BYTES = 1 << 30
TEXT_BYTES = 16 * 1024
WORDS = ("photograph", "of", "a", "lake", "in", "the", "mountains", "taken", "at", "noon", "in")
SOURCE = random.Random(1912)
PAGE = b" ".join(
    f"{SOURCE.choice(WORDS)} {SOURCE.randrange(3000)}".encode() for _ in range(TEXT_BYTES // 5)
)


class Contender(NamedTuple):
    """Puts what a number stands for, and reads it again."""

    put: Callable[[int], object]
    get: Callable[[int], bytes]


def text(number: int) -> bytes:
    """Make a text that no other number has, and that compresses as texts do."""
    return (b"%d " % number + PAGE)[:TEXT_BYTES]


def noise(number: int) -> bytes:
    """Make as many bytes that do not compress."""
    return hashlib.shake_128(number.to_bytes(8, "little")).digest(TEXT_BYTES)


def of_store(store: Store, data: Callable[[int], bytes] = blob) -> Contender:
    """Blobs under their digests."""

    def put(number: int) -> None:
        with store.sink() as sink:
            payload = data(number)
            sink.write(payload)
            sink.commit(BlobRef(Digest.of(payload), len(payload))).result()

    def get(number: int) -> bytes:
        opened = store.open(digests[number])
        assert opened is not None
        with opened:
            return bytes(opened.read(opened.size_bytes))

    digests: dict[int, Digest] = _Digests(data)
    return Contender(put, get)


class _Digests(dict[int, Digest]):
    """Digests by number, made when they are first asked for."""

    def __init__(self, data: Callable[[int], bytes]) -> None:
        self._data = data

    def __missing__(self, number: int) -> Digest:
        found = self[number] = Digest.of(self._data(number))
        return found


@contextmanager
def log(folder: Path, data: Callable[[int], bytes] = blob) -> Iterator[Contender]:
    """The engine of holdfast."""
    with Log(folder) as opened:
        yield of_store(SegmentStore(opened), data)


@contextmanager
def sqlite(folder: Path) -> Iterator[Contender]:
    """Four files of SQLite, as many requests in a batch as there are threads."""
    with Shards(folder, options=Options(batching=Batching(64))) as shards:
        yield of_store(SqliteStore(shards))


@contextmanager
def files(folder: Path) -> Iterator[Contender]:
    """A file for each blob."""
    store = FileStore(folder, Disk(), SystemEntropy(), SystemClock())
    yield of_store(store)
    store.close()


@contextmanager
def lmdb_alone(folder: Path) -> Iterator[Contender]:
    """LMDB, which syncs at the end of each transaction."""
    folder.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=MAP_BYTES) as database:

        def put(number: int) -> None:
            with database.begin(write=True) as transaction:
                transaction.put(str(number).encode(), blob(number))

        def get(number: int) -> bytes:
            with database.begin() as transaction:
                found = transaction.get(str(number).encode())
            assert found is not None
            return bytes(found)

        yield Contender(put, get)


@contextmanager
def rocksdb(folder: Path) -> Iterator[Contender]:
    """RocksDB by rocksdict, with synced writes, which it groups by itself."""
    rocksdict = importlib.import_module("rocksdict")
    database = rocksdict.Rdict(str(folder), rocksdict.Options(raw_mode=True))
    synced = rocksdict.WriteOptions()
    synced.sync = True

    def put(number: int) -> None:
        database.put(str(number).encode(), blob(number), synced)

    yield Contender(put, lambda number: bytes(database[str(number).encode()]))
    database.close()


@contextmanager
def diskcache(folder: Path) -> Iterator[Contender]:
    """diskcache, told to sync and to keep everything."""
    package = importlib.import_module("diskcache")
    cache = package.Cache(str(folder), sqlite_synchronous=2, eviction_policy="none", timeout=60)
    yield Contender(lambda number: cache.set(number, blob(number)), lambda number: cache[number])
    cache.close()


class _SameKey:
    """Gives every process the same key, so that one reads what another has put."""

    def random_bytes(self, count: int) -> bytes:
        return bytes(range(count))


Opener = Callable[[Path], AbstractContextManager[Contender]]


def _coded(codec: str, data: Callable[[int], bytes]) -> Opener:
    @contextmanager
    def opened(folder: Path) -> Iterator[Contender]:
        with Log(folder) as inner:
            store: Store = SegmentStore(inner)
            if codec == "compressed":
                store = compressed(store)
            elif codec == "encrypted":
                store = encrypted(store, Keyring.make(_SameKey(), 1))
            yield of_store(store, data)

    return opened


@contextmanager
def verified(folder: Path) -> Iterator[Contender]:
    """The log, with SHA-256 compared."""
    with Log(folder) as inner:
        yield of_store(VerifiedStore(SegmentStore(inner), SystemClock()), noise)


@contextmanager
def cached(folder: Path) -> Iterator[Contender]:
    """The log, with room in memory for all that is read."""
    with Log(folder) as inner:
        cache = MemoryStore(SystemClock())
        yield of_store(CachedStore(SegmentStore(inner), cache, CACHE_BYTES), noise)


@contextmanager
def tiered(folder: Path) -> Iterator[Contender]:
    """The log, with files for what is larger."""
    large = FileStore(folder / "files", Disk(), SystemEntropy(), SystemClock())
    with Log(folder / "log") as inner:
        yield of_store(TieredStore(SegmentStore(inner), large, TEXT_BYTES), noise)


@contextmanager
def spread(folder: Path) -> Iterator[Contender]:
    """Two logs, of which each has half."""
    with Log(folder / "1") as one, Log(folder / "2") as two:
        members = [Member("1", SegmentStore(one)), Member("2", SegmentStore(two))]
        yield of_store(SpreadStore(members, SystemClock()), noise)


CONTENDERS: Mapping[str, Opener] = {
    "log": log,
    "sqlite": sqlite,
    "files": files,
    "LMDB": lmdb_alone,
    "RocksDB": rocksdb,
    "diskcache": diskcache,
    "verified noise": verified,
    "cached noise": cached,
    "tiered noise": tiered,
    "spread noise": spread,
    **{
        f"{codec} {data.__name__}": _coded(codec, data)
        for codec in ("bare", "compressed", "encrypted")
        for data in (text, noise)
    },
}


def put(opener: Opener, folder: Path, seconds: float, first: float) -> Figures:
    """Put new blobs for a while, in 64 threads."""
    with opener(folder) as contender:
        end = time.monotonic() + seconds
        began_s = time.process_time()

        def step(number: int) -> bool:
            contender.put(number)
            return True

        figures = together(step, lambda _: time.monotonic() >= end, int(first))
        return figures | {"us": (time.process_time() - began_s) * 1e6 / figures["done"]}


def get(opener: Opener, folder: Path, seconds: float, keys: float) -> Figures:
    """Read blobs at random, in one thread on one core; they are put before, if they are not."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with opener(folder) as contender:
        if not (folder / "filled").exists():
            together(lambda number: contender.put(number) is not ..., lambda done: done >= keys)
            (folder / "filled").touch()
        chosen = [random.randrange(int(keys)) for _ in range(READS)]
        for number in set(chosen):
            contender.get(number)
        done = 0
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            for number in chosen[done % READS : done % READS + 100]:
                contender.get(number)
            done += 100
        return {"rate": done / (time.perf_counter() - began)}


MEASUREMENTS = {"put": put, "get": get}


def main() -> None:
    """Run one measurement of one contender."""
    what, name, folder, *numbers = sys.argv[1:]
    figures = MEASUREMENTS[what](CONTENDERS[name], Path(folder), *map(float, numbers))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
