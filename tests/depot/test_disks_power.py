"""Power cuts under a depot that spreads its large blobs over disks, from its very first call on."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
import test_depot_power as power
from depot_script import SMALL_MAX, shrink_segments

from holdfast.core.errors import BlobError
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Place, Stack
from holdfast.testing.boots import boot_again
from holdfast.testing.crash_suites import WORLDS
from holdfast.testing.folders import quick_folder
from holdfast.testing.power_cut import PowerCutDisk, World

CALLS_MAX = 500
SOME_WORLDS = [
    pytest.param(world, marks=pytest.mark.slow if number else ())
    for number, world in enumerate(WORLDS)
]


def start(folder: Path, disk: Disk | None = None) -> Depot:
    disks = tuple(Place(folder.parent / name) for name in ("one", "other"))
    for each in disks:
        each.path.mkdir(exist_ok=True)
    bounds = Limits(small_blob_bytes_max=SMALL_MAX, stack=Stack(disks=disks))
    return open_depot(folder, bounds, disk)


@pytest.fixture(autouse=True)
def _spread(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_segments(monkeypatch)
    monkeypatch.setattr(power, "start", start)


@pytest.mark.parametrize("world", SOME_WORLDS, ids=str)
def test_a_power_cut_while_disks_are_made_leaves_none_that_is_unknown(world: World) -> None:
    """At each call of the first opening and of two puts: the next one takes what it finds."""
    for number in itertools.count(1):
        assert number < CALLS_MAX
        with quick_folder() as base:
            disk = PowerCutDisk(base / "graves", number)
            done: list[int] = []
            try:
                with start(base / "store", disk) as depot:
                    for each in (SMALL_MAX + 1, SMALL_MAX + 2):
                        depot.put(f"{each}", bytes(each))
                        done.append(each)
            except BlobError:
                assert disk.is_cut
            disk.lose(world)
            boot_again(base / "store", number)
            with start(base / "store") as depot:
                assert all(depot.get(f"{each}") == bytes(each) for each in done)
                depot.put("new", bytes(SMALL_MAX + 3))
            with open_depot(base / "store") as depot:
                assert depot.get("new") == bytes(SMALL_MAX + 3)
        if not disk.is_cut:
            assert number > 30
            return


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_power_cut_at_any_call_leaves_whole_names_on_disks(world: World) -> None:
    figures = Counter[str]()
    power.cut_at_each_call([world], figures)
    assert figures["rounds"] > 100
