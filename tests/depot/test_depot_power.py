"""A depot on a disk whose power fails at any call: no name without its bytes, nothing lost.

A change at the moment of the cut is in doubt by nature. It was not acknowledged, and is there whole
or not at all.
"""

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from depot_script import Names, Script, read_all, shrink_segments, start
from proofs import Prove

from holdfast.core.errors import BlobError
from holdfast.testing.boots import boot_again
from holdfast.testing.crash_suites import MANY_WORLDS, WORLDS
from holdfast.testing.folders import quick_folder
from holdfast.testing.power_cut import Fate, PowerCutDisk, World

CALLS_MAX = 1000
PROOF = "power cuts of a simulated disk, one at each call"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_segments(monkeypatch)


def live(folder: Path, disk: PowerCutDisk) -> Script:
    """Open, change, close, and once more, until the power fails."""
    script = Script()
    try:
        for _ in range(2):
            with start(folder, disk) as depot:
                script.play(depot)
    except BlobError:
        assert disk.is_cut
    return script


def check(folder: Path, may_be: list[Names]) -> Names:
    """Open what is there when the power is back, compare, and go on working."""
    with start(folder) as depot:
        assert depot.engine.facts()["damaged_places"] == 0
        found = read_all(depot)
        assert found in may_be
        after = Script()
        after.play(depot)
        assert not after.refused
        return found


def cut_at_each_call(worlds: Sequence[World], figures: Counter[str]) -> None:
    """Let the power fail at call 1, 2 and so on, in one world after the other."""
    for number, world in enumerate(itertools.cycle(worlds), 1):
        assert number < CALLS_MAX
        try:
            is_cut = cut_at(number, world, figures)
        except BaseException as error:
            error.add_note(f"call {number}, {world}")
            raise
        if not is_cut:
            return


def cut_at(number: int, world: World, figures: Counter[str]) -> bool:
    """Let it fail at one call; False when there are not so many."""
    with quick_folder() as folder:
        disk = PowerCutDisk(folder / "graves", number)
        script = live(folder / "store", disk)
        disk.lose(world)
        boot_again(folder / "store", number)
        check(folder / "store", [script.names, *script.in_doubt[:1]])
    figures["rounds"] += disk.is_cut
    figures["acknowledged"] += script.acknowledged
    return disk.is_cut


def test_a_power_cut_at_any_call_leaves_whole_names(prove: Prove) -> None:
    """Each call meets one of the worlds; another one in the next run."""
    worlds = random.SystemRandom().sample(WORLDS, len(WORLDS))
    with prove(PROOF) as figures:
        cut_at_each_call(worlds, figures)
    assert figures["rounds"] > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_in_many_worlds_a_power_cut_at_any_call_leaves_whole_names(prove: Prove) -> None:
    with prove(PROOF) as figures:
        for world in (*WORLDS, *MANY_WORLDS):
            cut_at_each_call([world], figures)


def torn_store(folder: Path) -> Script:
    """A store whose power failed in the middle of an append."""
    for number in range(60, CALLS_MAX):
        disk = PowerCutDisk(folder / f"graves {number}", number)
        script = live(folder / f"{number}", disk)
        disk.lose(World(Fate.KEPT, Fate.TORN))
        boot_again(folder / f"{number}")
        shutil.copytree(folder / f"{number}", folder / "look")
        with start(folder / "look") as depot:
            is_torn = depot.engine.facts()["truncated_bytes"] > 0
        shutil.rmtree(folder / "look")
        if is_torn:
            (folder / f"{number}").rename(folder / "torn")
            return script
    raise AssertionError


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_power_cut_while_the_store_recovers_from_one_loses_nothing(world: World) -> None:
    with quick_folder() as base:
        script = torn_store(base)
        for number in itertools.count(1):
            folder = base / f"again {number}"
            shutil.copytree(base / "torn", folder)
            disk = PowerCutDisk(base / f"graves again {number}", number)
            try:
                start(folder, disk).close()
            except BlobError:
                assert disk.is_cut
            disk.lose(world)
            boot_again(folder, number)
            assert check(folder, [script.names]) == script.names
            if not disk.is_cut:
                assert number > 5
                return


def kill_and_cut(death: int, world: World, figures: Counter[str]) -> bool:
    """Let a process die at one call, and the power fail at each of the calls of the next one.

    What the next one has read must stay, whether the dead one was told of it or not. False when the
    first lived to its end.
    """
    for number in range(1, CALLS_MAX):
        with quick_folder() as folder:
            disk = PowerCutDisk(folder / "graves", death)
            script = live(folder / "store", disk)
            has_lived = not disk.is_cut
            if has_lived:
                return False
            disk.go_on(number)
            may_be = [script.names, *script.in_doubt[:1]]
            try:
                with start(folder / "store", disk) as depot:
                    script.names = read_all(depot)
                    assert script.names in may_be
                    script.in_doubt = may_be = []
                    script.play(depot)
            except BlobError:
                assert disk.is_cut
            disk.lose(world)
            boot_again(folder / "store", number)
            check(folder / "store", [script.names, *script.in_doubt[:1], *may_be])
        figures["rounds"] += 1
        if not disk.is_cut:
            return True
    raise AssertionError


def test_a_power_cut_behind_a_death_takes_nothing_that_was_read() -> None:
    figures = Counter[str]()
    for death in random.SystemRandom().sample(range(20, 70), 1):
        world = World(Fate.SOME, Fate.SOME, is_stale=True, seed=death)
        assert kill_and_cut(death, world, figures), death


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_power_cut_behind_each_death_takes_nothing_that_was_read(prove: Prove) -> None:
    with prove("power cuts of a simulated disk behind a death at each call") as figures:
        for death in itertools.count(1):
            world = World(Fate.SOME, Fate.SOME, death % 2 == 0, death)
            if not kill_and_cut(death, world, figures):
                return


def test_what_a_failed_sync_has_lost_was_not_acknowledged() -> None:
    """The disk fails to write once, and says so once; reads show what the next power cut takes."""
    for number in itertools.count(1):
        with quick_folder() as folder:
            disk, script = PowerCutDisk(folder / "graves", lost_sync=number), Script()
            try:
                with start(folder / "store", disk) as depot:
                    script.play(depot)
                    assert read_all(depot) == script.names
            except BlobError:
                assert not script.names
            disk.lose(World(Fate.LOST, Fate.LOST))
            boot_again(folder / "store", number)
            check(folder / "store", [script.names])
        if not disk.has_failed:
            assert number > 20
            return
