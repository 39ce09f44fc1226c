"""A process that uses the library is killed at random moments; many more times than a server."""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from crash_ledger import Ledger
from crash_library import KILLED, Life, Nursery, nursery
from proofs import Prove

from holdfast.depot.engine import Limits

QUICK_ROUNDS = 12
QUICK_SHARD_ROUNDS = 8
QUICK_COLD_ROUNDS = 8
SHARDS = Limits(shards=4)
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1000"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_ROUNDS = 100


def run_round(program: Nursery, folder: Path, ledger: Ledger, dice: random.Random) -> None:
    life = Life(program, folder, ledger, dice)
    # A pipe holds 64 KiB, some thousand lines: the process may wait for us, but loses none.
    time.sleep(dice.choice([0.005, 0.05, 0.15, 0.4]) * dice.random() * 2)
    life.end({KILLED})
    assert life.failed == 0
    if dice.random() < 0.3 and (folder / "index" / "state").exists():
        (folder / "index" / "state").write_text("another boot")
    ledger.check(folder)


def run_rounds(
    base: Path,
    count: int,
    figures: Counter[str],
    bounds: Limits = Limits(),  # noqa: B008 - a tuple
    *,
    is_cooled: bool = False,
) -> None:
    dice, ledger = random.Random(SEED), Ledger(bounds, is_cooled=is_cooled)
    figures["seed"] = SEED
    with nursery() as program:
        for number in range(count):
            folder = base / f"{number // FOLDER_ROUNDS}"
            if number % FOLDER_ROUNDS == 0:
                ledger.begin_anew(folder)
            try:
                run_round(program, folder, ledger, dice)
            except BaseException as error:
                error.add_note(f"seed {SEED}, round {number}, {folder}")
                raise
    figures.update(ledger.figures)


def test_a_killed_process_keeps_every_acknowledged_write(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of a process that uses the library") as figures:
        run_rounds(tmp_path, QUICK_ROUNDS, figures)


def test_a_killed_process_keeps_every_acknowledged_write_while_blobs_get_cold(
    tmp_path: Path, prove: Prove
) -> None:
    """They are moved to a cold store as soon as they are stored."""
    with prove("SIGKILL of a process that moves blobs to a cold store") as figures:
        run_rounds(tmp_path, QUICK_COLD_ROUNDS, figures, is_cooled=True)


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_process_killed_many_times_keeps_every_acknowledged_write_while_blobs_get_cold(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a process that moves blobs to a cold store") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures, is_cooled=True)
    assert min(figures["moved"], figures["swept"]) > SLOW_ROUNDS // 100


def test_a_killed_process_keeps_every_acknowledged_write_in_shards(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a process that uses shards") as figures:
        run_rounds(tmp_path, QUICK_SHARD_ROUNDS, figures, SHARDS)


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_process_killed_many_times_keeps_every_write_in_shards_while_blobs_get_cold(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a process that moves blobs of shards to a cold store") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures, SHARDS, is_cooled=True)
    assert min(figures["moved"], figures["swept"]) > SLOW_ROUNDS // 100


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_process_killed_many_times_keeps_every_acknowledged_write_in_shards(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a process that uses shards") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures, SHARDS)
    assert figures["swept"] > SLOW_ROUNDS // 100


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_process_killed_many_times_keeps_every_acknowledged_write(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("SIGKILL of a process that uses the library") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures)
    assert min(figures["swept"], figures["compacted"]) > SLOW_ROUNDS // 100
