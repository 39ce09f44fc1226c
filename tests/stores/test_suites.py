"""The suites themselves: what they refuse, and what they notice."""

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Span, Store
from holdfast.stores.files import FileStore
from holdfast.stores.memory import MemorySource, MemoryStore
from holdfast.testing import store_machine
from holdfast.testing.blobs import read
from holdfast.testing.crash_suites import StoreCrashSuite
from holdfast.testing.power_cut import Fate, PowerCutDisk, World
from holdfast.testing.store_machine import check_against_a_dict
from holdfast.testing.store_suite import StoreSuite

NAME = "test_remove_takes_a_full_batch_and_no_more"


def test_a_test_of_a_suite_cannot_be_overridden() -> None:
    for value in (None, lambda _: None, pytest.mark.skip(lambda _: None)):
        with pytest.raises(TypeError, match=NAME):
            type("TestMine", (StoreSuite,), {NAME: value})


def test_a_test_of_a_suite_cannot_be_overridden_by_a_second_base() -> None:
    weaker = type("Weaker", (), {NAME: lambda _: None})
    with pytest.raises(TypeError, match=NAME):
        type("TestMine", (weaker, StoreSuite), {})


def test_a_suite_may_be_added_to() -> None:
    mine = type("TestMine", (StoreSuite,), {"test_more": lambda _: None})
    assert getattr(mine, NAME) is getattr(StoreSuite, NAME)


class Unsorted(MemoryStore):
    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        return iter(list(super().scan(after))[::-1])


class Whole(MemoryStore):
    """Gives out all of a blob, whatever span was asked."""

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> MemorySource:
        return super().open(digest)


@pytest.mark.parametrize("store", [Unsorted, Whole])
def test_the_machine_notices(store: type[MemoryStore], monkeypatch: pytest.MonkeyPatch) -> None:
    unshrunk = settings(
        store_machine.SETTINGS, phases=[Phase.generate], max_examples=1000, derandomize=True
    )
    monkeypatch.setattr(store_machine, "SETTINGS", unshrunk)
    with pytest.raises(AssertionError):
        check_against_a_dict(lambda _: store(), lambda _: None)


class Lying(PowerCutDisk):
    """A disk that says it synced bytes, but did not."""

    def sync(self, descriptor: int) -> None:
        self._begin()


class Careless(PowerCutDisk):
    """A disk that says it synced a folder, but did not."""

    def sync_directory(self, path: Path) -> None:
        self._begin()


@pytest.mark.parametrize(
    ("disk", "world"),
    [
        (Lying, World(Fate.KEPT, Fate.LOST)),
        (Lying, World(Fate.KEPT, Fate.TORN)),
        (Lying, World(Fate.KEPT, Fate.LAST)),
        (Lying, World(Fate.KEPT, Fate.SOME)),
        (Careless, World(Fate.LOST, Fate.KEPT)),
        (Careless, World(Fate.LAST, Fate.KEPT)),
        (Careless, World(Fate.SOME, Fate.KEPT)),
    ],
)
def test_the_crash_suite_notices(disk: type[PowerCutDisk], world: World, tmp_path: Path) -> None:
    class Suite(StoreCrashSuite):
        def open_store(self, folder: Path, disk: Disk) -> Store:
            return FileStore(folder, disk, SystemEntropy(), SystemClock())

    store_suite = Suite()
    bad = disk(tmp_path / "graves")
    there, _ = store_suite.live(tmp_path / "data", bad)
    assert there
    bad.lose(world)
    store = store_suite.open_store(tmp_path / "data", Disk())
    found: dict[Digest, bytes | None] = {}
    with closing(store):
        for digest in there:
            with suppress(BlobError):
                found[digest] = read(store, digest)
    assert found != there
