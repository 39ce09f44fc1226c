"""A depot on a disk that fails, and on one whose power fails: no name without its bytes, ever.

As with the log below it, one case is in doubt by nature: a change whose batch could neither be
written nor erased, on a disk that fails for good or at the moment of a power cut. It was not
acknowledged, and is there whole or not at all.
"""

import errno
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, FullError, UnavailableError
from holdfast.core.seams import Disk, boot_id
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.testing.blobs import make
from holdfast.testing.crash_suites import SHARED_MEMORY, WORLDS
from holdfast.testing.faults import Fault, FaultyDisk, PowerCutDisk
from holdfast.testing.recount import check_catalog

SMALL_MAX = 1000
SMALL, LARGE, LARGER = make(600), make(3000), make(5000)
CHANGES = frozenset({"pwrite_all", "sync_data", "sync", "allocate", "truncate", "rename", "unlink"})
CHANGES |= {"make_directory"}

Names = dict[str, bytes]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * limits.KIB)
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 4000)
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as quick:
        yield Path(quick)


def start(folder: Path, disk: Disk | None = None) -> Depot:
    return open_depot(folder, Limits(), SMALL_MAX, disk)


class Script:
    """Changes in order, what they were answered, and what they come to."""

    def __init__(self) -> None:
        self.names: Names = {}
        self.in_doubt: list[Names] = []
        """What holds if one refused change happened, for each of them."""
        self.refused: list[BlobError] = []

    def play(self, depot: Depot) -> None:
        """Use every verb that changes something."""
        for key, data in {"a": SMALL, "b": LARGE, "c": SMALL, "d": LARGER}.items():
            self._put(depot, key, data)
        self._put(depot, "a", LARGE)
        self._put(depot, "b", SMALL)
        self._try(lambda: depot.copy("c", "e"), lambda it: it | _take(it, "e", "c"))
        self._try(lambda: depot.move("d", "f"), lambda it: _without(it | _take(it, "f", "d"), "d"))
        self._try(lambda: depot.delete("a"), lambda it: _without(it, "a"))
        self._put(depot, "d", make(SMALL_MAX))
        self._put(depot, "g", LARGER)

    def _put(self, depot: Depot, key: str, data: bytes) -> None:
        self._try(lambda: depot.put(key, data), lambda it: it | {key: data})

    def _try(self, act: Callable[[], object], change: Callable[[Names], Names]) -> None:
        after = change(self.names)
        try:
            act()
        except BlobError as error:
            self.refused.append(error)
            self.in_doubt.append(after)
        else:
            self.names = after


def _take(names: Names, key: str, source: str) -> Names:
    return {key: names[source]} if source in names else {}


def _without(names: Names, key: str) -> Names:
    return {name: data for name, data in names.items() if name != key}


def read_all(depot: Depot) -> Names:
    """Every name with its bytes, which must be the right ones."""
    found = {}
    for entry in depot.entries():
        found[entry.key] = depot.get(entry.key)
        assert Digest.of(found[entry.key]) == entry.digest
    check_catalog(depot.engine.kv)
    return found


def faults(number: int, error: int) -> list[Fault]:
    return [
        Fault(number, error, only=CHANGES),
        Fault(number, error, after=True, only=CHANGES),
        Fault(number, error, short=True, only=CHANGES),
    ]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_with_any_call_failing_a_refused_change_stays_away(folder: Path, error: int) -> None:
    for number in range(1, 300):
        struck = False
        for fault in faults(number, error):
            disk, script = FaultyDisk(), Script()
            with start(folder / "store", disk) as depot:
                disk.arm(fault)
                script.play(depot)
                struck = struck or disk.struck
                expected = FullError if error == errno.ENOSPC else UnavailableError
                assert all(isinstance(each, expected | LookupError) for each in script.refused)
                assert read_all(depot) == script.names
                disk.arm(None)
            with start(folder / "store") as depot:
                assert read_all(depot) == script.names
                assert list((folder / "store" / "files" / "tmp").iterdir()) == []
                script.play(depot)
                assert read_all(depot) == script.names
            shutil.rmtree(folder / "store")
        if not struck:
            assert number > 40
            return
    raise AssertionError


def test_a_disk_that_fails_for_good_loses_no_acknowledged_change(folder: Path) -> None:
    for number in range(1, 300):
        disk, script = FaultyDisk(), Script()
        with start(folder / f"{number}", disk) as depot:
            disk.arm(Fault(number, after=number % 2 == 0, lasting=True, only=CHANGES))
            script.play(depot)
            struck = disk.struck
            assert read_all(depot) == script.names
        with start(folder / f"{number}") as depot:
            assert read_all(depot) in [script.names, *script.in_doubt]
        if not struck:
            return
    raise AssertionError


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_power_cut_at_any_call_leaves_whole_names(
    folder: Path, world: Mapping[str, bool]
) -> None:
    for number in itertools.count(1):
        store, script = folder / f"{number}", Script()
        disk = PowerCutDisk(folder / f"graves {number}", number)
        try:
            with start(store, disk) as depot:
                script.play(depot)
        except BlobError:
            assert disk.is_cut
        disk.lose(**world)
        state = store / "index" / "state"
        if state.exists() and boot_id() in state.read_text():
            state.write_text("another boot")
        with start(store) as depot:
            assert read_all(depot) in [script.names, *script.in_doubt]
            script.play(depot)
        if not disk.is_cut:
            return


def test_a_full_disk_still_reads_and_takes_writes_again(folder: Path) -> None:
    disk, script = FaultyDisk(), Script()
    with start(folder / "store", disk) as depot:
        script.play(depot)
        disk.arm(Fault(1, errno.ENOSPC, lasting=True, only=frozenset({"pwrite_all", "allocate"})))
        for data in (SMALL, make(2999), make(100)):
            with pytest.raises(FullError):
                depot.put("new", data)
        assert read_all(depot) == script.names
        disk.arm(None)
        script.play(depot)
        assert read_all(depot) == script.names
