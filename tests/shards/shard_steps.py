"""The few steps that tests of the shards are made of."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakKeyDictionary

from holdfast.core.groupcommit import Batching
from holdfast.core.kv import KV
from holdfast.core.seams import Disk
from holdfast.core.store import Store
from holdfast.kv.sqlite import SqliteKV
from holdfast.shards.epoch import Epoch
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.stores.sqlite import SqliteStore


def of(count: int, size: int = 1, wait_s: float = 0.0) -> Options:
    """Options for a number of shards."""
    return Options(Shape(count), Batching(size, wait_s))


class OpenShards:
    """What a suite has open: the shards behind each store or space."""

    count = 1

    def __init__(self) -> None:
        self._open = WeakKeyDictionary[Store | KV, Shards]()

    def store(self, folder: Path, disk: Disk | None = None) -> Store:
        """Open a store."""
        shards = Shards(folder, disk, options=of(self.count, 64))
        store = SqliteStore(shards)
        self._open[store] = shards
        return store

    def kv(self, folder: Path, disk: Disk | None = None) -> KV:
        """Open a space."""
        shards = Shards(folder, disk, options=of(self.count, 64))
        kv = SqliteKV(shards)
        self._open[kv] = shards
        return kv

    def close(self, opened: Store | KV) -> None:
        """Close what was opened."""
        opened.close()
        self._open[opened].close()


@contextmanager
def holding(shards: Shards) -> Iterator[None]:
    """Hold the planner back: what is queued meanwhile is there when it looks again."""
    begun, go = threading.Event(), threading.Event()

    def wait(_: Epoch) -> None:
        begun.set()
        go.wait()

    shards.submit(wait, 0, frees=True)
    begun.wait()
    try:
        yield
    finally:
        go.set()
        shards.submit(lambda _: None, 0, frees=True).exception()


def change(path: Path, statement: str, *values: object) -> int:
    """Change the file of a shard behind its back; say how many rows that hit."""
    database = sqlite3.connect(path)
    try:
        with database:
            return database.execute(statement, values).rowcount
    finally:
        database.close()


def ask(path: Path, statement: str) -> list[tuple[object, ...]]:
    """Ask the file of a shard."""
    database = sqlite3.connect(path)
    try:
        return database.execute(statement).fetchall()
    finally:
        database.close()
