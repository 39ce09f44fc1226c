"""Workers of one server are killed at random moments while the others go on, again and again.

CRASH_SEED=123 CRASH_ROUNDS=1000 pytest -m slow tests/crash
"""

import fcntl
import http.client
import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from crash_fleet import Fleet, Server, killing, port_of, start
from crash_ledger import Ledger
from proofs import Prove

QUICK_ROUNDS = 5
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1000"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_ROUNDS = 100
WORKERS = 3
SERVED_S = 10


def children(server: Server) -> list[int]:
    text = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(each) for each in text.split()]


def is_served(port: int) -> bool:
    """Whether a new connection, which may come to any worker, is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SERVED_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False  # given to one that was just killed
    finally:
        connection.close()


def await_free(folder: Path) -> None:
    """Wait until no process of the server is left."""
    end_s = time.monotonic() + SERVED_S
    with (folder / "lock").open() as lock:
        while time.monotonic() < end_s:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.002)
    raise AssertionError("the folder is held")


class Rounds:
    """A folder, and what is done to its server."""

    def __init__(self, base: Path, dice: random.Random) -> None:
        self.ledger = Ledger()
        self._base = base
        self._dice = dice

    def run(self, number: int) -> None:
        """Work, kill some, end all, and compare."""
        folder = self._base / f"{number // FOLDER_ROUNDS}"
        if number % FOLDER_ROUNDS == 0:
            self.ledger.begin_anew(folder)
        server = start(folder, workers=WORKERS)
        with killing(server):
            port = port_of(server)
            fleet = Fleet(self.ledger, port, self._dice)
            with fleet.working(), killing(server):
                for _ in range(self._dice.randrange(1, 4)):
                    time.sleep(self._dice.random() * 0.2)
                    self._kill_some(server, port)
                time.sleep(self._dice.random() * 0.2)
                self._end(server)
                await_free(folder)
        assert fleet.wrong == []
        self._check(folder, number)

    def _kill_some(self, server: Server, port: int) -> None:
        crowd = children(server)
        for victim in self._dice.sample(crowd, self._dice.choice([1, 1, 1, 2, len(crowd)])):
            os.kill(victim, signal.SIGKILL)
            self.ledger.figures["workers killed"] += 1
        end_s = time.monotonic() + SERVED_S
        while not (is_served(port) and is_served(port)):
            assert time.monotonic() < end_s, "nobody serves"

    def _end(self, server: Server) -> None:
        """End all, in one of the ways in which that happens."""
        way = self._dice.choice(["stop", "supervisor", "all", "all"])
        self.ledger.figures[f"ended by {way}"] += 1
        if way == "stop":
            server.terminate()
            assert server.wait() == 0
        elif way == "supervisor":
            server.kill()
        else:
            for process in (server.pid, *children(server)):
                os.kill(process, signal.SIGKILL)

    def _check(self, folder: Path, number: int) -> None:
        if self._dice.random() < 0.3:
            (folder / "index" / "state").write_text("another boot")
        try:
            self.ledger.check(folder)
        except BaseException as error:
            error.add_note(f"seed {SEED}, round {number}, {folder}")
            raise


def run_rounds(base: Path, count: int, figures: Counter[str]) -> None:
    figures["seed"] = SEED
    rounds = Rounds(base, random.Random(SEED))
    for number in range(count):
        rounds.run(number)
    figures.update(rounds.ledger.figures)


@pytest.mark.timeout(120)
def test_killed_workers_keep_every_acknowledged_write(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of workers") as figures:
        run_rounds(tmp_path, QUICK_ROUNDS, figures)
    assert figures["acknowledged"] > QUICK_ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_workers_killed_many_times_keep_every_acknowledged_write(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of workers") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures)
    assert min(figures["swept"], figures["compacted"]) > SLOW_ROUNDS // 100
