"""A process that uses the library is killed at random moments; many more times than a server."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crash_ledger import Ledger, choose

PROGRAM = Path(__file__).with_name("crash_child.py")
QUICK_ROUNDS = 50
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "500"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_ROUNDS = 100

Nursery = subprocess.Popen[bytes]


@contextmanager
def nursery() -> Iterator[Nursery]:
    """The program that forks the processes to be killed."""
    source = PROGRAM.parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": f"{source}:{PROGRAM.parent}"}
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=1 << 20
    ) as program:
        yield program
        assert program.stdin is not None
        program.stdin.close()


class Life:
    """One process, from its birth to the last line that it wrote."""

    def __init__(self, program: Nursery, folder: Path, seed: int, first: int) -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        self._seed = seed
        self._lines = program.stdout
        self.number = first
        program.stdin.write(f"{folder} {seed} {first}\n".encode())
        program.stdin.flush()
        self._pid = int(self._lines.readline().split()[1])

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def tell(self, ledger: Ledger) -> None:
        """Enter what the process said into the ledger."""
        while not (line := self._lines.readline()).startswith(b"over "):
            what, worker, number = line.split()
            self.number = max(self.number, int(number))
            dice = random.Random(f"{self._seed}/{int(worker)}/{int(number)}")
            op = choose(dice, int(worker), int(number))
            if what == b"begin":
                ledger.begin(int(worker), op)
            else:
                ledger.end(int(worker), op)
        assert int(line.split()[1]) == -signal.SIGKILL


def run_round(program: Nursery, folder: Path, ledger: Ledger, dice: random.Random) -> None:
    life = Life(program, folder, dice.randrange(10**9), ledger.figures["requests"])
    # A pipe holds 64 KiB, some thousand lines: the process may wait for us, but loses none.
    time.sleep(dice.choice([0.005, 0.05, 0.15]) * dice.random() * 2)
    life.kill()
    life.tell(ledger)
    ledger.figures["requests"] = life.number
    if dice.random() < 0.3 and (folder / "index" / "state").exists():
        (folder / "index" / "state").write_text("another boot")
    ledger.check(folder)


def run_rounds(base: Path, count: int) -> str:
    """Returns a line of figures."""
    dice, ledger = random.Random(SEED), Ledger()
    begin = time.monotonic()
    with nursery() as program:
        for number in range(count):
            folder = base / f"{number // FOLDER_ROUNDS}"
            if number % FOLDER_ROUNDS == 0:
                ledger.begin_anew()
            try:
                run_round(program, folder, ledger, dice)
            except BaseException as error:
                error.add_note(f"seed {SEED}, round {number}, {folder}")
                raise
    figures = Counter(ledger.figures)
    del figures["requests"]  # of one worker
    report = ", ".join(f"{each} {figures[each]:,}" for each in sorted(figures))
    return f"library killed, seed {SEED}: {report}, {time.monotonic() - begin:.0f} s"


def test_a_killed_process_keeps_every_acknowledged_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_rounds(tmp_path, QUICK_ROUNDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_process_killed_many_times_keeps_every_acknowledged_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_rounds(tmp_path, SLOW_ROUNDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")
