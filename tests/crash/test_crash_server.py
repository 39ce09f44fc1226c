"""The real server is killed at random moments under concurrent writers, again and again.

CRASH_SEED=123 CRASH_ROUNDS=1000 pytest -m slow tests/crash
"""

import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from crash_fleet import Fleet, Server, kill, port_of, start
from crash_ledger import Ledger
from proofs import Prove

QUICK_ROUNDS = 6
QUICK_COLD_ROUNDS = 2
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1000"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_ROUNDS = 100
"""Rounds before a new folder, which bounds the disk that is needed."""


def end(server: Server, dice: random.Random) -> None:
    """Kill it; sometimes while it is stopping."""
    if dice.random() < 0.15:
        server.terminate()
        time.sleep(dice.random() * 0.1)
    kill(server)


class Lane:
    """A folder and its server, which starts while another lane works."""

    def __init__(self, base: Path, dice: random.Random, *, is_cooled: bool) -> None:
        self.ledger = Ledger(is_cooled=is_cooled)
        self._settings = {"cold_after": "0"} if is_cooled else {}
        self._base = base
        self._dice = dice
        self._rounds = 0
        self._start()

    def round(self) -> None:
        """Work, kill, compare, and start again."""
        fleet = Fleet(self.ledger, port_of(self._server), self._dice)
        with fleet.working():
            time.sleep(self._dice.random() * 0.4)
            end(self._server, self._dice)
        assert fleet.wrong == []
        self._check()
        self._start()

    def stop(self) -> None:
        """End it for good."""
        kill(self._server)

    def _start(self) -> None:
        folder = self._base / f"{self._rounds // FOLDER_ROUNDS}"
        if self._rounds % FOLDER_ROUNDS == 0:
            self.ledger.begin_anew(folder)
        self._rounds += 1
        self._folder = folder
        self._server = start(folder, more=self._settings)
        if self._dice.random() < 0.1:
            time.sleep(self._dice.random() * 0.5)  # killed while it starts
            end(self._server, self._dice)
            self._server = start(folder, more=self._settings)

    def _check(self) -> None:
        if self._dice.random() < 0.3:
            (self._folder / "index" / "state").write_text("another boot")
        try:
            self.ledger.check(self._folder)
        except BaseException as error:
            error.add_note(f"seed {SEED}, round {self._rounds}, {self._folder}")
            raise


def run_rounds(base: Path, count: int, figures: Counter[str], *, is_cooled: bool = False) -> None:
    """Two lanes in turn."""
    dice = random.Random(SEED)
    figures["seed"] = SEED
    with ExitStack() as stack:
        lanes = []
        for name in "ab":
            lanes.append(Lane(base / name, dice, is_cooled=is_cooled))
            stack.callback(lanes[-1].stop)
        for number in range(count):
            lanes[number % 2].round()
    figures.update(lanes[0].ledger.figures + lanes[1].ledger.figures)


@pytest.mark.timeout(120)
def test_a_killed_server_keeps_every_acknowledged_write(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of a server") as figures:
        run_rounds(tmp_path, QUICK_ROUNDS, figures)
    assert figures["acknowledged"] > QUICK_ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_server_killed_many_times_keeps_every_acknowledged_write(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a server") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures)
    assert min(figures["swept"], figures["compacted"]) > SLOW_ROUNDS // 100


@pytest.mark.timeout(120)
def test_a_killed_server_keeps_every_acknowledged_write_while_blobs_get_cold(
    tmp_path: Path, prove: Prove
) -> None:
    """They are moved to a cold store as soon as they are stored."""
    with prove("SIGKILL of a server that moves blobs to a cold store") as figures:
        run_rounds(tmp_path, QUICK_COLD_ROUNDS, figures, is_cooled=True)


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_server_killed_many_times_keeps_every_acknowledged_write_while_blobs_get_cold(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a server that moves blobs to a cold store") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures, is_cooled=True)
    assert min(figures["moved"], figures["swept"]) > SLOW_ROUNDS // 100
