"""A script of changes to a depot, played on disks that fail and lose power."""

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError
from holdfast.core.seams import Disk, SystemClock
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.testing.blobs import make
from holdfast.testing.recount import check_catalog

SMALL_MAX = 1000
SMALL, LARGE, LARGER = make(600), make(3000), make(5000)
Names = dict[str, bytes]


def shrink_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script fill some segments."""
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 2000)
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 4000)


def start(folder: Path, disk: Disk | None = None) -> Depot:
    return open_depot(folder, Limits(small_blob_bytes_max=SMALL_MAX), disk)


class Script:
    """Changes in order, what they were answered, and what they come to."""

    def __init__(self) -> None:
        self.names: Names = {}
        self.in_doubt: list[Names] = []
        """What holds if one refused change happened, for each of them."""
        self.refused: list[BlobError] = []
        self.acknowledged = 0

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
        self._try(lambda: _sweep(depot), lambda it: it)
        self._put(depot, "a", LARGE)

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
            self.acknowledged += 1
            self.names = after


class Later(SystemClock):
    """A clock for which everything is old."""

    def now_us(self) -> int:
        return super().now_us() + 3_600_000_000


def _sweep(depot: Depot) -> None:
    work = sweep_of(depot, Manner(grace_s=0, clock=Later()))
    while work.step():
        pass


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
