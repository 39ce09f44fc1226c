"""A real server is killed while it moves its store, and goes on with the same command.

CRASH_SEED=123 CRASH_ROUNDS=1000 pytest -m slow tests/crash
"""

import os
import random
import shutil
import time
from collections import Counter
from itertools import count
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest
from crash_fleet import Fleet, Server, kill, killing, port_of, start
from crash_ledger import Ledger
from proofs import Prove

from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.depot.moving import End, Stage
from holdfast.services.moving import Move

QUICK_ROUNDS = 2
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1000")) // 2
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
KINDS = ("segments://{}", "sqlite://{}?shards=3", "segments://{}?compress=zstd")
SWITCH_S = 15
STOP_S = 40
JOURNEYS = 20
"""After so many moves the ledger begins anew, which bounds what it remembers."""


class Journey:
    """A store that moves from one folder to the next, whatever happens to its server."""

    def __init__(self, base: Path, dice: random.Random) -> None:
        self.ledger = Ledger()
        self._base = base
        self._dice = dice
        self._numbers = count()
        self._old = base / f"{next(self._numbers)}"
        self.ledger.begin_anew(self._old)
        self._go_on()

    def round(self) -> None:
        """Work while the store moves, kill the server, and look at what it left."""
        settings = {"move_to": self._url, "move_bytes_s_max": self._dice.choice(["4MiB", "64MiB"])}
        settings["move_verify"] = self._dice.choice(["true", "false"])
        server = start(self._old, more=settings)
        if self._dice.random() < 0.1:
            time.sleep(self._dice.random() * 1.5)  # killed while it starts
            kill(server)
        else:
            self._work(server)
        self._check()

    def _work(self, server: Server) -> None:
        port = port_of(server)
        fleet = Fleet(self.ledger, port, self._dice, keeps=False)
        with fleet.working(), killing(server):
            if self._dice.random() < 0.5:
                _wait_for_switch(port)
            time.sleep(self._dice.random() * self._dice.choice([0.1, 0.5, 2]))
            if self._dice.random() < 0.3:
                server.terminate()
                assert server.wait(STOP_S) == 0
                self.ledger.figures["stopped"] += 1
        assert fleet.wrong == []

    def _check(self) -> None:
        try:
            with Move(self._end(str(self._old)), self._end(self._url)) as move:
                stage = move.progress.stage
                self.ledger.figures[f"found {stage}"] += 1
                folder = self._old if stage is Stage.COPY else self._new
                self.ledger.check_open(move.depot, folder)
        except BaseException as error:
            error.add_note(f"seed {SEED}, from {self._old} to {self._url}")
            raise
        if stage is Stage.DONE:
            shutil.rmtree(self._old)
            self._old = self._new
            self._go_on()

    def _go_on(self) -> None:
        """Choose where to move next."""
        number = next(self._numbers)
        if number % JOURNEYS == 0:
            shutil.rmtree(self._old)
            self.ledger.begin_anew(self._old)
        self._new = self._base / f"{number}"
        self._url = KINDS[number % len(KINDS)].format(self._new)

    def _end(self, url: str) -> End:
        located = locate(url, {})
        return End(located.folder, bounds_of(located))


def _wait_for_switch(port: int) -> None:
    """Wait until the new store is served."""
    until_s = time.monotonic() + SWITCH_S
    while time.monotonic() < until_s:
        with urlopen(f"http://127.0.0.1:{port}/stats", timeout=30) as answer:
            if msgspec.json.decode(answer.read())["move"]["stage"] != Stage.COPY:
                return
        time.sleep(0.01)


def run_rounds(base: Path, rounds: int, figures: Counter[str]) -> None:
    figures["seed"] = SEED
    journey = Journey(base, random.Random(SEED))
    for _ in range(rounds):
        journey.round()
    figures.update(journey.ledger.figures)


@pytest.mark.timeout(180)
def test_a_server_that_is_killed_while_it_moves_loses_nothing(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of a server that moves its store") as figures:
        run_rounds(tmp_path, QUICK_ROUNDS, figures)
    assert figures["acknowledged"] > QUICK_ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(20 * SLOW_ROUNDS)
def test_a_server_that_is_killed_many_times_while_it_moves_loses_nothing(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a server that moves its store") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures)
    assert min(figures[f"found {stage}"] for stage in Stage) > SLOW_ROUNDS // 20
