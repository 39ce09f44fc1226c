"""`holdfast migrate` is killed at random moments, and begun again in the same words.

CRASH_SEED=123 CRASH_ROUNDS=1000 pytest -m slow tests/crash
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

import holdfast
from holdfast.core.digest import Digest
from holdfast.core.limits import KIB
from holdfast.core.policy import Owner, Policy
from holdfast.depot.depot import Depot
from holdfast.depot.webhooks import STANDING
from holdfast.testing.recount import check_catalog

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from proofs import Prove

QUICK_ROUNDS = 2
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "1000")) // 10
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
ENGINES = ("segments://{}", "sqlite://{}?shards=3", "segments://{}?compress=zstd")
NAMES = 1500
MIGRATE = (sys.executable, "-m", "holdfast", "migrate")
END_S = 60
WHOLE_EVERY = 8  # rounds; the first says how long a run takes that nobody ends


def opened(url: str) -> Depot:
    depot = holdfast.open(url)
    assert isinstance(depot, Depot)
    return depot


def fill(url: str, dice: random.Random) -> None:
    with opened(url) as depot:
        depot.engine.names.policies.set_owner(Owner(name="carol", quota_entries=NAMES))
        depot.set_policy(Policy(versions=2, undelete_s=1000))
        for number in range(NAMES):
            large = number % 100 == 0
            data = dice.randbytes(dice.randrange(300 * KIB, 900 * KIB) if large else number)
            depot.put(f"{number % (NAMES - 50)}", data)
        for number in range(0, 100, 7):
            depot.delete(f"{number}")


def catalog_of(depot: Depot) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    start = b"\0"
    while rows := depot.engine.kv.scan(start, b"\xff" * 8, limit=10_000):
        found |= {row.key: row.value for row in rows if not row.key.startswith(STANDING)}
        start = rows[-1].key + b"\0"
    return found


class Journey:
    """A store that is copied from one folder to the next, again and again."""

    def __init__(self, base: Path, dice: random.Random, figures: Counter[str]) -> None:
        self._base = base
        self._dice = dice
        self._figures = figures
        self._numbers = count()
        self._whole_s = 0.0
        self._old = self._url()
        fill(self._old, dice)
        self._new = self._url()

    def round(self) -> None:
        """Begin, or begin again, and kill it, or see that it has done all."""
        began_s = time.monotonic()
        verify = ["--verify"] if self._dice.random() < 0.5 else []
        command = [*MIGRATE, self._old, self._new, *verify]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            is_whole = self._figures["rounds"] % WHOLE_EVERY == 0
            process.wait(END_S if is_whole else self._dice.uniform(0.3, 1) * self._whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, said = process.communicate()
        self._figures["rounds"] += 1
        if process.returncode == 0:
            self._whole_s = time.monotonic() - began_s
            self._check_all()
        else:
            assert process.returncode < 0, said
            self._check_part()

    def _check_part(self) -> None:
        """What is there of the new store is right, and the old one is as it was."""
        if not (self._folder(self._new) / "HOLDFAST").exists():
            self._figures["found nothing"] += 1
            return
        with opened(self._new) as depot:
            entries = list(depot.entries())
            for entry in entries[:: max(1, len(entries) // 50)]:
                assert Digest.of(depot.get(entry.key)) == entry.digest
        self._figures["found names" if entries else "found no name"] += 1

    def _check_all(self) -> None:
        with opened(self._old) as old, opened(self._new) as new:
            assert catalog_of(new) == catalog_of(old)
            for entry in new.entries():
                assert Digest.of(new.get(entry.key)) == entry.digest
            held = list(new.content.digests())
            assert held == list(old.content.digests())
            assert {ref.digest for ref in new.engine.store.scan()} == set(held)
            check_catalog(new.engine.kv)
        self._figures["found all"] += 1
        self._figures["moved"] += len(held)
        self._old, self._new = self._new, self._url()

    def _url(self) -> str:
        number = next(self._numbers)
        return ENGINES[number % len(ENGINES)].format(self._base / f"{number}")

    def _folder(self, url: str) -> Path:
        return self._base / url.partition("?")[0].rpartition("/")[2]


def run_rounds(base: Path, rounds: int, figures: Counter[str]) -> None:
    figures["seed"] = SEED
    journey = Journey(base, random.Random(SEED), figures)
    for _ in range(rounds):
        try:
            journey.round()
        except BaseException as error:
            error.add_note(f"seed {SEED}")
            raise


@pytest.mark.timeout(180)
def test_a_migration_that_is_killed_is_begun_again(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of a migration between engines") as figures:
        run_rounds(tmp_path, QUICK_ROUNDS, figures)


@pytest.mark.slow
@pytest.mark.timeout(100 * SLOW_ROUNDS)
def test_a_migration_that_is_killed_many_times_is_begun_again(tmp_path: Path, prove: Prove) -> None:
    with prove("SIGKILL of a migration between engines") as figures:
        run_rounds(tmp_path, SLOW_ROUNDS, figures)
    assert min(figures["found all"], figures["found no name"]) > 0
