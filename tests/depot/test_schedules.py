"""Uploads, deletes, sweeps, expiries, compactions and deaths, step by step in any order.

Each schedule has a few names and a few contents, so that uploads meet blobs that are dying: one
may find its bytes stored before a sweep looks at them and name them after it, or between any two
steps of it. Whatever a name, a grave or the content face holds is never collected; and once nobody
holds anything and every time is over, nothing is left.

SCHEDULES=100000 SCHEDULE_SEED=1 pytest -m slow tests/depot/test_schedules.py
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from proofs import Prove

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import ConflictError, NotFoundError, UnavailableError
from holdfast.core.policy import Policy
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.ingest import Upload
from holdfast.depot.local import open_depot
from holdfast.depot.names import Placed
from holdfast.log.state import running_state
from holdfast.services import sweep
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.testing.hand_clock import HandClock
from holdfast.testing.recount import check_catalog

QUICK_SCHEDULES = 300
SLOW_SCHEDULES = int(os.environ.get("SCHEDULES", "100000"))
SEED = int(os.environ.get("SCHEDULE_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_SCHEDULES = 500
"""Schedules before a new store, which bounds the time that a copy of it takes."""
STEPS = 24
KEYS = ("a", "b")
GRACE_S, UNDELETE_S = 3600, 1000
SMALL_BYTES_MAX = 100
SIZES = (0, 20, 20, 150)
MEMORY = Path("/dev/shm")


class World:
    """A store, and the clock by which it lives."""

    def __init__(self, base: Path, figures: Counter[str]) -> None:
        self.figures = figures
        self.clock = HandClock()
        self._base = base
        self._lives = 0
        self.depot = self._open()
        self.depot.set_policy(Policy(undelete_s=UNDELETE_S))

    def die(self, *, is_cut: bool) -> None:
        """Go on with what lies on the disk now, as after a kill; or a power cut."""
        before = self._folder
        self._lives += 1
        shutil.copytree(before, self._folder)
        self.depot.close()
        shutil.rmtree(before)
        index = self._folder / "index"
        (index / "state").write_text("another boot" if is_cut else running_state(index))
        self.depot = self._open()
        self.figures["deaths"] += 1

    def end(self) -> None:
        """Close it, and forget it."""
        self.depot.close()
        shutil.rmtree(self._folder)

    @property
    def _folder(self) -> Path:
        return self._base / f"{self._lives}"

    def _open(self) -> Depot:
        bounds = Limits(small_blob_bytes_max=SMALL_BYTES_MAX)
        return open_depot(self._folder, bounds, clock=self.clock)


class Schedule:
    """What happens to a world, and what must be true of it."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._dice = random.Random(f"{SEED}/{number}")
        self._contents = [
            (b"%d/%d " % (number, at)).ljust(size, b".")[: max(size, at)]
            for at, size in enumerate(SIZES)
        ]
        self._names: dict[str, bytes] = {}
        self._graves: dict[str, tuple[bytes, float]] = {}
        self._held: set[bytes] = set()
        self._uploads: list[tuple[str, bytes, Upload[Placed]]] = []
        self._ready: list[tuple[str, bytes, Callable[[], object]]] = []
        self._works: list[Iterator[object]] = []

    def run(self) -> None:
        """Do some steps, compare, and end everything."""
        steps = [
            *[self._begin] * 4,
            *[self._stage] * 4,
            *[self._name] * 5,
            *[self._delete] * 4,
            *[self._undelete] * 4,
            *[self._hold, self._release],
            *[self._start] * 2,
            *[self._work] * 12,
            *[self._wait] * 2,
        ]
        for _ in range(STEPS):
            self._dice.choice(steps)()
            if self._dice.random() < 0.002:
                self._die()
        self._check()
        self._let_go()
        self._check_nothing_is_left()

    # Uploads, in three steps

    def _begin(self) -> None:
        key, data = self._dice.choice(KEYS), self._dice.choice(self._contents)
        upload = self._world.depot.upload(key)
        upload.write(data)
        self._uploads.append((key, data, upload))

    def _stage(self) -> None:
        """The bytes are on their way, or were found; a name is still to come."""
        if not self._uploads:
            return
        key, data, upload = self._uploads.pop()
        reads, planner, blob, _ = upload.ready()
        kv = self._world.depot.engine.kv

        def name() -> None:
            with upload:
                kv.transact(reads, planner, blob=blob).result()

        self._ready.append((key, data, name))

    def _name(self) -> None:
        if not self._ready:
            return
        key, data, name = self._ready.pop(self._dice.randrange(len(self._ready)))
        try:
            name()
        except UnavailableError:  # the bytes went before their name came: who uploads does so again
            self._world.figures["refused"] += 1
            return
        self._names[key] = data
        self._graves.pop(key, None)

    # What else changes names

    def _delete(self) -> None:
        key = self._dice.choice(KEYS)
        assert self._world.depot.delete(key) == (key in self._names)
        if key in self._names:
            self._graves[key] = (self._names.pop(key), self._now_s + UNDELETE_S)

    def _undelete(self) -> None:
        key = self._dice.choice(KEYS)
        data, until_s = self._graves.get(key, (b"", 0.0))
        try:
            self._world.depot.undelete(key)
        except ConflictError:
            assert key in self._names
        except NotFoundError:
            assert self._now_s >= until_s
        else:
            assert self._now_s < until_s
            self._names[key] = data
            del self._graves[key]
            self._world.figures["undeleted"] += 1

    def _hold(self) -> None:
        data = self._dice.choice(self._contents)
        self._world.depot.content.put(data)
        self._held.add(data)

    def _release(self) -> None:
        data = self._dice.choice(self._contents)
        self._world.depot.content.delete(Digest.of(data))
        self._held.discard(data)

    # What works in the background

    def _start(self) -> None:
        kind = self._dice.choice([self._sweep, self._sweep, self._expire, self._compact])
        self._works.append(kind())

    def _work(self) -> None:
        if self._works:
            work = self._dice.choice(self._works)
            if next(work, None) is None:
                self._works.remove(work)

    def _sweep(self) -> Iterator[object]:
        manner = Manner(grace_s=self._dice.choice([0, GRACE_S]), clock=self._world.clock)
        work = sweep_of(self._world.depot, manner)
        while work.step():
            yield True
        self._world.figures["swept"] += work.report.removed

    def _expire(self) -> Iterator[object]:
        return self._world.depot.engine.expiry.steps()

    def _compact(self) -> Iterator[object]:
        return self._world.depot.engine.compact(0.0, with_newest=True)

    def _wait(self) -> None:
        self._world.clock.moved_s += self._dice.choice([1, 1, UNDELETE_S, GRACE_S])

    def _die(self) -> None:
        """Whatever was under way is gone."""
        self._world.die(is_cut=self._dice.random() < 0.3)
        self._forget()

    def _forget(self) -> None:
        for _, _, upload in self._uploads:
            upload.close()
        self._uploads, self._ready, self._works = [], [], []

    # What must be true

    @property
    def _now_s(self) -> float:
        return self._world.clock.moved_s

    def _check(self) -> None:
        depot = self._world.depot
        assert {entry.key: depot.get(entry.key) for entry in depot.entries()} == self._names
        wanted = {Digest.of(data) for data in self._held}
        wanted |= {
            Digest.of(data) for data, until_s in self._graves.values() if self._now_s < until_s
        }
        assert set(depot.engine.store.stat(wanted)) == wanted
        check_catalog(depot.engine.kv)

    def _let_go(self) -> None:
        """Delete and release everything, and let every time be over."""
        depot = self._world.depot
        self._forget()
        for key in self._names:
            assert depot.delete(key)
        for data in self._held:
            depot.content.delete(Digest.of(data))
        self._world.clock.moved_s += 10 * GRACE_S

    def _check_nothing_is_left(self) -> None:
        for _ in self._expire():
            pass
        work = sweep_of(self._world.depot, Manner(grace_s=GRACE_S, clock=self._world.clock))
        while work.step():
            pass
        self._world.figures["swept"] += work.report.removed
        assert list(self._world.depot.engine.store.scan()) == []


@contextmanager
def place(default: Path) -> Iterator[Path]:
    """A folder in memory where there is one: a process that dies loses nothing there."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else default) as folder:
        yield Path(folder)


def run_schedules(base: Path, count: int, figures: Counter[str]) -> None:
    figures["seed"] = SEED
    for first in range(0, count, FOLDER_SCHEDULES):
        with place(base) as folder:
            world = World(folder, figures)
            for number in range(first, min(count, first + FOLDER_SCHEDULES)):
                try:
                    Schedule(world, number).run()
                except BaseException as error:
                    error.add_note(f"seed {SEED}, schedule {number}")
                    raise
                figures["rounds"] += 1
            with suppress(FileNotFoundError):
                world.end()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sweep look at one blob in a step, and keep files small that are copied."""
    monkeypatch.setattr(sweep, "STEP_REFS", 1)
    monkeypatch.setattr(sweep, "REMOVE_REFS", 1)
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 64 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 16 * limits.KIB)


def test_nothing_that_is_held_is_collected_and_all_else_is(tmp_path: Path, prove: Prove) -> None:
    with prove("schedules of uploads, deletes, sweeps and deaths") as figures:
        run_schedules(tmp_path, QUICK_SCHEDULES, figures)
    assert min(figures["swept"], figures["undeleted"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_in_very_many_schedules_nothing_that_is_held_is_collected(
    tmp_path: Path, prove: Prove
) -> None:
    with prove("schedules of uploads, deletes, sweeps and deaths") as figures:
        run_schedules(tmp_path, SLOW_SCHEDULES, figures)
    assert min(figures["refused"], figures["deaths"], figures["undeleted"]) > 0
