"""Hints are made in the background, in small steps, for as long as some are missing."""

import shutil
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.limits import KIB, MIB
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.caretaker import Caretaker
from holdfast.services.hints import LOOK_UP_S, Hints
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.hand_clock import StillClock


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", limits.BATCH_BYTES_MAX + MIB)
    with open_depot(tmp_path / "store") as depot:
        fill(depot, range(40))
    return tmp_path / "store"


def fill(depot: Depot, numbers: range) -> None:
    for number in numbers:
        depot.put(f"key {number}", b"%04d" % number * (25 * KIB))


def missing(folder: Path) -> list[str]:
    """Finished segments without a hint."""
    stems = [
        sorted(path.stem for path in (folder / "log").glob(f"*.{end}")) for end in ("seg", "hint")
    ]
    return sorted(set(stems[0][:-1]) - set(stems[1]))


def test_hints_are_made_for_as_long_as_some_are_missing(folder: Path) -> None:
    with open_depot(folder) as depot:
        clock = StillClock()
        caretaker = Caretaker([Hints(depot.engine)], clock)
        assert len(missing(folder)) == 3
        for numbers in (range(0), range(40, 70)):
            fill(depot, numbers)
            assert missing(folder)
            end_s = clock.moved_s + LOOK_UP_S + 4 * MIB / limits.HINT_BYTES_S_MAX
            while clock.moved_s < end_s:
                clock.moved_s += caretaker.take_turns()
            assert missing(folder) == []
        expected = depot.stats()
        caretaker.close()
    shutil.rmtree(folder / "index")
    with open_depot(folder) as depot:
        assert depot.stats() == expected
        assert depot.get("key 69") == b"0069" * (25 * KIB)


def test_a_step_is_small(folder: Path) -> None:
    with open_depot(folder) as depot:
        task = Hints(depot.engine)
        sizes = []
        while (done := task.step()).wait_s == 0:
            sizes.append(done.size_bytes)
        assert max(sizes) <= limits.STEP_BYTES_MAX
        assert sum(sizes) >= 3 * MIB


def test_a_disk_that_refuses_is_tried_again(folder: Path) -> None:
    disk = FaultyDisk()
    with open_depot(folder, disk=disk) as depot:
        clock = StillClock()
        caretaker = Caretaker([Hints(depot.engine)], clock)
        disk.arm(Fault(1, lasting=True, only=frozenset({"rename"})))
        for _ in range(40):
            clock.moved_s += caretaker.take_turns()
        assert disk.struck
        assert len(missing(folder)) == 3
        disk.arm(None)
        clock.moved_s += limits.TASK_RETRY_S_MAX
        for _ in range(100):
            clock.moved_s += caretaker.take_turns()
        assert missing(folder) == []
        caretaker.close()


def test_closing_in_the_middle_leaves_nothing_half_made(folder: Path) -> None:
    with open_depot(folder) as depot:
        task = Hints(depot.engine)
        task.step()
        assert list((folder / "log").glob("*.new"))
        task.close()
        assert not list((folder / "log").glob("*.new"))
