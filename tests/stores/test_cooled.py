"""A store with a cold one: the suite, wherever blobs lie, and what moves do to each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from cooled_steps import Hasty, Memory
from object_steps import open_objects
from obstore.store import LocalStore, MemoryStore
from stack_steps import OwnLog, open_files

from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock
from holdfast.core.store import Store
from holdfast.depot.cold import Rows
from holdfast.kv.embedded import EmbeddedKV
from holdfast.kv.sqlite import SqliteKV
from holdfast.log.log import Log
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.stores import memory
from holdfast.stores.cooled import CooledStore
from holdfast.stores.segments import SegmentStore
from holdfast.stores.sqlite import SqliteStore
from holdfast.stores.tiered import TieredStore
from holdfast.testing.store_suite import StoreSuite


def in_memory() -> CooledStore:
    cold = open_objects(MemoryStore(), MIB)
    return CooledStore(memory.MemoryStore(), cold, Memory(), SystemClock())


class TestCooledInMemory(StoreSuite):
    """All of it moves at once."""

    def open_store(self, folder: Path) -> Store:
        return Hasty(in_memory())


@pytest.mark.slow
class TestCooledDepot(StoreSuite):
    """What depot/local puts together, of which all moves at once."""

    def open_store(self, folder: Path) -> Store:
        log = Log(folder / "here")
        here = TieredStore(SegmentStore(log), open_files(folder / "files"), 256 * KIB)
        cold = open_objects(LocalStore(folder / "cold", mkdir=True), MIB)
        cold.between = log.between
        cooled = CooledStore(here, cold, Rows(EmbeddedKV(log)), SystemClock())
        return OwnLog(Hasty(cooled), log)


@pytest.mark.slow
class TestCooledShards(StoreSuite):
    """What depot/sharded puts together, of which all moves at once."""

    def open_store(self, folder: Path) -> Store:
        shards = Shards(folder / "here", options=Options(Shape(3)))
        cold = open_objects(LocalStore(folder / "cold", mkdir=True), MIB)
        cold.between = shards.between
        cooled = CooledStore(SqliteStore(shards), cold, Rows(SqliteKV(shards)), SystemClock())
        return OwnLog(Hasty(cooled), shards)


@pytest.mark.slow
class TestCooledStill(StoreSuite):
    """Nothing moves."""

    def open_store(self, folder: Path) -> Store:
        return in_memory()
