"""The machine of a whole depot: all verbs, and all that is done to a store while it lives.

Compaction, hints, scrub, sweeps and a full disk come at any time, some steps of them, and a death
may come between two of these. None of it is ever seen by who reads and writes.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from depot_machine import BUCKETS, KEYS, SMALL_MAX, DepotMachine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from proofs import Prove

from holdfast.config.objects import connect
from holdfast.core import limits
from holdfast.core.errors import FullError
from holdfast.core.seams import SystemClock
from holdfast.depot.cold import Tier
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.kv.sqlite import SqliteKV
from holdfast.services.check import Check
from holdfast.services.scrub import Scrub
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.stores.moving import Moved

DAMAGED = ("damaged_records", "damaged_blobs", "broken_entries")
LONG_EXAMPLES = int(os.environ.get("DEPOT_MACHINES", "1000"))


class LaterClock(SystemClock):
    """A clock on which whatever was stored was stored long ago."""

    def now_us(self) -> int:
        return super().now_us() + 10**12


class WholeLife(DepotMachine):
    """Everything that a store meets."""

    def __init__(self) -> None:
        super().__init__()
        self._compaction: Iterator[object] = iter(())
        self._hints: Iterator[object] = iter(())
        self._scrub: Scrub | None = None

    @rule(first=st.integers(0, 11), count=st.integers(5, 25))
    def churn(self, first: int, count: int) -> None:
        """Fill some segments, and leave dead bytes in them."""
        for number in range(first, first + count):
            size = (100, SMALL_MAX, 700, 5000)[number % 4]
            self.put((BUCKETS[number % 3], KEYS[number % 5]), size, number % 7, "none", kind=False)

    @rule(steps=st.integers(1, 8), share=st.sampled_from([0.0, 0.3]), newest=st.booleans())
    def compact(self, steps: int, share: float, newest: bool) -> None:  # noqa: FBT001 - drawn
        """Go on with a compaction, or begin one."""
        if not self._go_on(self._compaction, steps):
            self._compaction = self._depot.engine.compact(share, with_newest=newest)

    @rule(steps=st.integers(1, 8))
    def make_hints(self, steps: int) -> None:
        """Go on with the hints that are missing, or begin to make them."""
        if not self._go_on(self._hints, steps):
            self._hints = self._depot.engine.make_hints()

    @rule(steps=st.integers(1, 30))
    def scrub(self, steps: int) -> None:
        """Go on with a scrub; it finds nothing."""
        if self._scrub is None:
            self._scrub = Scrub(self._depot.engine, days=1)
        try:
            for _ in range(steps):
                self._scrub.step()
        except OSError:  # it could not write down where it is
            assert self._disk.is_full
        gauges = self._depot.engine.stamps.own().gauges()
        assert [gauges[name] for name in DAMAGED] == [0, 0, 0]

    @rule(grace_s=st.sampled_from([0.0, 600.0]))
    def sweep(self, grace_s: float) -> None:
        """Remove what has no name."""
        work = sweep_of(self._depot, Manner(grace_s=grace_s, clock=LaterClock()))
        try:
            while work.step():
                pass
        except FullError:
            assert self._disk.is_full
        self.figures["swept"] += work.report.removed

    @rule()
    def check(self) -> None:
        """Read everything; all is well."""
        check = Check(self._depot.engine)
        try:
            for wrong in check.run():
                assert wrong is None
        except FullError:
            assert self._disk.is_full

    @rule(full=st.booleans())
    def fill(self, full: bool) -> None:  # noqa: FBT001 - drawn
        """Let the disk be full, or have room again."""
        self._disk.is_full = full

    def _go_on(self, work: Iterator[object], steps: int) -> bool:
        """Take some steps of something; False at its end."""
        try:
            for _ in range(steps):
                next(work)
                self.figures["steps"] += 1
        except StopIteration:
            return False
        except FullError:
            assert self._disk.is_full
            return False
        return True

    def _end(self) -> None:
        self._compaction = self._hints = iter(())
        if self._scrub is not None:
            self._scrub.close()
            self._scrub = None
        super()._end()


class LifeInShards(WholeLife):
    """The same over files of SQLite."""

    bounds = Limits(shards=2, small_blob_bytes_max=SMALL_MAX)

    def _copy(self, folder: Path, *, cut: bool) -> None:
        """Copy while no thread of a shard writes, which a kill ends between two of its writes."""
        del cut
        kv = self._depot.engine.kv
        assert isinstance(kv, SqliteKV)
        with ExitStack() as stack:
            for shard in kv._shards.shards:
                stack.enter_context(shard.lock)
            shutil.copytree(self._folder, folder)


class ColdLife(WholeLife):
    """The same with a cold store, to which blobs of any age may be moved at any time."""

    def __init__(self) -> None:
        self._moves: Iterator[Moved] = iter(())
        super().__init__()

    def _open(self) -> Depot:
        (self._base / "cold").mkdir(exist_ok=True)
        stack = Stack(cold=f"file://{self._base / 'cold'}", connect=connect)
        return open_depot(self._folder, self.bounds._replace(stack=stack), disk=self._disk)

    @rule(steps=st.integers(1, 12))
    def cool(self, steps: int) -> None:
        """Go on with a move, or begin one."""
        tier = self._depot.engine.tier
        assert tier is not None
        before, _ = self._depot.engine.names.moved()
        if not self._go_on(self._moves, steps):
            self._moves = self._counted(tier)
        after, _ = self._depot.engine.names.moved()
        self.figures["moved"] += after - before

    def _counted(self, tier: Tier) -> Iterator[Moved]:
        """Nothing is so young that it was not there five seconds ahead."""
        for moved in tier.move(-5):
            assert moved.damaged == ()
            tier.note(moved)
            yield moved

    def _end(self) -> None:
        self._moves = iter(())
        super()._end()


class ColdLifeInShards(ColdLife, LifeInShards):
    """The same over files of SQLite."""


@pytest.fixture(autouse=True)
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 2000)
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8000)
    monkeypatch.setattr(limits, "COMPACT_DEAD_BYTES_MIN", 100)
    monkeypatch.setattr(limits, "COMPACT_STEP_BYTES", 1000)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 4000)


def run(
    examples: int, steps: int, figures: Counter[str], machine: type[WholeLife] = WholeLife
) -> None:
    """Run the machine, and count what it did."""
    run_state_machine_as_test(
        type("Machine", (machine,), {"figures": figures}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.usefixtures("small_batches")
@pytest.mark.timeout(300)
def test_a_depot_behaves_as_a_dict() -> None:
    figures = Counter[str]()
    run(30, 40, figures)
    assert figures["acknowledged"] > 100


@pytest.mark.timeout(300)
def test_a_depot_over_shards_behaves_as_a_dict() -> None:
    figures = Counter[str]()
    run(10, 30, figures, LifeInShards)
    assert figures["acknowledged"] > 30


@pytest.mark.timeout(300)
def test_a_depot_with_a_cold_store_behaves_as_a_dict() -> None:
    figures = Counter[str]()
    run(8, 30, figures, ColdLife)
    assert figures["acknowledged"] > 30


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_depot_with_a_cold_store_behaves_as_a_dict_for_a_long_time(prove: Prove) -> None:
    with prove("the whole depot with a cold store against a dict") as figures:
        run(LONG_EXAMPLES, 100, figures, ColdLife)
        figures["rounds"] = LONG_EXAMPLES
    assert figures["moved"] > LONG_EXAMPLES


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_depot_over_shards_with_a_cold_store_behaves_as_a_dict_for_a_long_time(
    prove: Prove,
) -> None:
    with prove("the whole depot over shards with a cold store against a dict") as figures:
        run(LONG_EXAMPLES, 100, figures, ColdLifeInShards)
        figures["rounds"] = LONG_EXAMPLES
    assert figures["moved"] > LONG_EXAMPLES


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_depot_over_shards_behaves_as_a_dict_for_a_long_time(prove: Prove) -> None:
    with prove("the whole depot over shards against a dict") as figures:
        run(LONG_EXAMPLES, 100, figures, LifeInShards)
        figures["rounds"] = LONG_EXAMPLES


@pytest.mark.usefixtures("small_batches")
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_depot_behaves_as_a_dict_for_a_long_time(prove: Prove) -> None:
    with prove("the whole depot against a dict, with all that happens to a store") as figures:
        run(LONG_EXAMPLES, 100, figures)
        figures["rounds"] = LONG_EXAMPLES
