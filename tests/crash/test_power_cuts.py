"""Power cuts of real file systems under concurrent writers: nothing acknowledged is lost.

Three kinds of cut (crash_disks.py): the file system forgets what was not synced; so does the disk
below it; or a copy is made of the disk in one instant while the writers go on. The processes run in
boots of their own (crash_boot.py), so that opening a store takes it for one after a power cut, and
does not believe the index that it finds.
"""

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from crash_boot import new_boot
from crash_disks import EXT4, WRITEBACK, XFS, Kind, Machine, machine, why_not
from crash_fleet import Fleet, killing, port_of, start
from crash_ledger import Ledger
from crash_library import ON_A_DEAD_DISK, Life, Nursery, nursery
from proofs import Prove

from holdfast.depot.engine import Limits

QUICK_CUTS = 4
SLOW_CUTS = int(os.environ.get("CRASH_CUTS", "60"))
"""For each file system and kind of writer; half of them are copies."""
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
SHARDS = Limits(shards=3)
MACHINE_CUTS = 20
"""Cuts before a new file system, which bounds its size."""


@pytest.fixture(scope="module", autouse=True)
def _root() -> None:
    if reason := why_not():
        pytest.skip(reason)


def check(machine: Machine, ledger: Ledger, dice: random.Random) -> None:
    """Compare what the disk holds, or a copy of it: then the next life recovers what is there."""
    if dice.random() < 0.5:
        ledger.check(machine.folder / "store")
    else:
        machine.clone()
        with machine.copy() as folder:
            ledger.check(folder / "store")


class Bench:
    """A machine on which one process after the other writes, and what it must hold."""

    def __init__(self, machine: Machine, ledger: Ledger, dice: random.Random) -> None:
        self.machine = machine
        self.ledger = ledger
        self.dice = dice
        self.boot = machine.folder.with_name("boot")
        self.store = machine.folder / "store"

    def pause(self) -> None:
        """Let it write for a moment."""
        time.sleep(self.dice.choice([0.01, 0.05, 0.2]) * self.dice.random() * 2)

    def check_copy(self) -> None:
        """Compare the newest clone."""
        with self.machine.copy() as folder:
            self.ledger.check_copy(folder / "store")

    def cut_power(self) -> None:
        """Cut it, also under a cache of the disk."""
        self.machine.cut_power(cache=self.dice.random() < 0.5)


def live_in_library(bench: Bench, program: Nursery) -> None:
    """Two cuts of one process: in a copy, and for good."""
    new_boot(bench.boot)
    life = Life(program, bench.store, bench.ledger, bench.dice, bench.boot)
    bench.pause()
    life.tell()
    bench.ledger.mark()
    bench.machine.clone()
    life.signal(signal.SIGSTOP)
    life.tell()
    bench.check_copy()
    life.signal(signal.SIGCONT)
    bench.pause()
    life.tell()
    assert life.failed == 0
    bench.ledger.mark()  # while the file system goes down, a sync may succeed that was for nothing
    bench.cut_power()
    life.end(ON_A_DEAD_DISK)
    bench.machine.power_returns()
    check(bench.machine, bench.ledger, bench.dice)


def live_in_server(bench: Bench) -> None:
    """Two cuts of one server: in a copy, and for good."""
    new_boot(bench.boot)
    server = start(bench.store, bench.boot)
    with killing(server):
        fleet = Fleet(bench.ledger, port_of(server), bench.dice)
        with fleet.working(), killing(server):
            bench.pause()
            with fleet.lock:
                bench.ledger.mark()
            bench.machine.clone()
            with fleet.lock:
                bench.check_copy()
            bench.pause()
            fleet.dying.set()
            bench.cut_power()
            bench.pause()
    assert fleet.wrong == []
    bench.machine.power_returns()
    check(bench.machine, bench.ledger, bench.dice)


def cut_library(kind: Kind, ledger: Ledger, cuts: int) -> None:
    dice = random.Random(SEED)
    for first in range(0, cuts, MACHINE_CUTS):
        with machine(kind) as disk, nursery() as program:
            ledger.begin_anew(disk.folder / "store")
            for _ in range(first, min(cuts, first + MACHINE_CUTS), 2):
                live_in_library(Bench(disk, ledger, dice), program)


def cut_server(kind: Kind, ledger: Ledger, cuts: int) -> None:
    dice = random.Random(SEED)
    for first in range(0, cuts, MACHINE_CUTS):
        with machine(kind) as disk:
            ledger.begin_anew(disk.folder / "store")
            for _ in range(first, min(cuts, first + MACHINE_CUTS), 2):
                live_in_server(Bench(disk, ledger, dice))


def proof(
    kind: Kind,
    cut: Callable[[Kind, Ledger, int], None],
    cuts: int,
    prove: Prove,
    bounds: Limits = Limits(),  # noqa: B008 - a tuple
) -> None:
    """Cut, and tell the figures."""
    ledger = Ledger(bounds)
    writer = cut.__name__.removeprefix("cut_") + (" over shards" if bounds.shards else "")
    with prove(f"power cuts under the {writer} on {kind.name}") as figures:
        figures["seed"] = SEED
        cut(kind, ledger, cuts)
        figures.update(ledger.figures)


@pytest.mark.parametrize(("kind", "cut"), [(EXT4, cut_server), (XFS, cut_library)])
def test_a_power_cut_loses_nothing_that_was_acknowledged(
    kind: Kind, cut: Callable[[Kind, Ledger, int], None], prove: Prove
) -> None:
    proof(kind, cut, QUICK_CUTS, prove)


@pytest.mark.slow
@pytest.mark.timeout(30 * SLOW_CUTS)
@pytest.mark.parametrize("cut", [cut_server, cut_library])
@pytest.mark.parametrize("kind", [EXT4, WRITEBACK, XFS], ids=lambda kind: kind.name)
def test_many_power_cuts_lose_nothing_that_was_acknowledged(
    kind: Kind, cut: Callable[[Kind, Ledger, int], None], prove: Prove
) -> None:
    proof(kind, cut, SLOW_CUTS, prove)


@pytest.mark.parametrize("kind", [EXT4])
def test_a_power_cut_of_shards_loses_nothing_that_was_acknowledged(
    kind: Kind, prove: Prove
) -> None:
    proof(kind, cut_library, 2, prove, SHARDS)


@pytest.mark.slow
@pytest.mark.timeout(30 * SLOW_CUTS)
@pytest.mark.parametrize("kind", [EXT4, WRITEBACK, XFS], ids=lambda kind: kind.name)
def test_many_power_cuts_of_shards_lose_nothing_that_was_acknowledged(
    kind: Kind, prove: Prove
) -> None:
    proof(kind, cut_library, SLOW_CUTS, prove, SHARDS)
