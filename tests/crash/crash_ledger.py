"""What a store must hold after its process was killed: a ledger of what it acknowledged.

Each worker has names of its own and one request open at a time, so after a kill each of its names
has one of two values: that before or that behind the open request; and a request that touches two
names is there in both or in neither. All workers share one more name, for which they fight. A copy
that was made while the workers went on may hold what any request has left since `mark`.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from holdfast.config.objects import connect
from holdfast.core.digest import Digest
from holdfast.core.limits import KIB
from holdfast.core.policy import Owner, Policy
from holdfast.core.store import Span
from holdfast.core.stream import Kind
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.log.segment import segment_ids
from holdfast.testing.recount import check_catalog

AS_IT_IS = Limits(stack=Stack(connect=connect))
WORKERS = 8
NAMES = 10
BUCKETS = ("default", "carol~attic")
QUOTA_BYTES = 1 << 40
RULES = Policy(versions=2, undelete_s=1, quota_bytes=QUOTA_BYTES)
"""What holds for the second bucket, whose owner has a quota, too."""
SHARED = "shared"
LARGE_POOL = 12


class Value(NamedTuple):
    """Bytes that a size and a seed stand for."""

    size_bytes: int
    seed: int


Name = tuple[str, str]
"""Bucket and key; bucket "" is the content face, its key a digest in hex."""
Changes = dict[Name, Value | None]


class Op(NamedTuple):
    """One request of a worker."""

    kind: str
    name: Name
    other: Name = ("", "")
    """Where a copy or a move comes from."""
    value: Value = Value(0, 0)


@lru_cache(LARGE_POOL * 4)
def content(value: Value) -> bytes:
    """The bytes, different for every value that is not empty."""
    stamp = b"%d/%d " % value
    return (stamp + random.Random(value.seed).randbytes(value.size_bytes))[: value.size_bytes]


@lru_cache(100_000)
def digest(value: Value) -> Digest:
    """Their digest."""
    return Digest.of(content(value))


def choose(dice: random.Random, worker: int, number: int) -> Op:
    """What a worker asks for next; `number` makes its bytes new ones."""
    names = [(BUCKETS[at % 2], f"w{worker}/{at}" + "x" * (at * 100)) for at in range(NAMES)]
    name, other = dice.sample(names, 2)
    value = _value(dice, worker, number)
    kind = dice.choices(
        ["put", "delete", "copy", "move", "hold", "release", "shared", "get"],
        [50, 12, 6, 8, 6, 4, 6, 8],
    )[0]
    if kind in {"hold", "release"}:
        value = Value(100 + dice.randrange(5), worker)
        name = ("", digest(value).hex())
    if kind == "shared":
        name, value = (BUCKETS[0], SHARED), Value(value.size_bytes + 30, number * WORKERS + worker)
    return Op(kind, name, other, value)


def _value(dice: random.Random, worker: int, number: int) -> Value:
    seed = number * WORKERS + worker
    shape = dice.random()
    if shape < 0.8:
        return Value(dice.randrange(30, 3000), seed)
    if shape < 0.85:
        return Value(dice.choice([0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1]), 1)
    if shape < 0.97:
        at = dice.randrange(LARGE_POOL)
        return Value(200 * KIB + at * 70 * KIB, at)
    return Value(dice.randrange(257 * KIB, 600 * KIB), seed)


@dataclass
class Worker:
    """What one worker knows."""

    settled: Changes = field(default_factory=dict)
    """Its names that exist, as acknowledged."""
    open: Changes | None = None
    """What its open request changes."""
    since_mark: list[Changes] | None = None
    """What a copy may hold that was begun at the mark."""

    def begin(self, op: Op) -> None:
        """Before the request is sent."""
        assert self.open is None
        self.open = {}
        if op.kind in {"put", "hold"}:
            self.open = {op.name: op.value}
        elif op.kind in {"delete", "release"}:
            self.open = {op.name: None}
        elif op.kind in {"copy", "move"} and op.other in self.settled:
            self.open = {op.name: self.settled[op.other]}
            if op.kind == "move":
                self.open[op.other] = None
        if self.since_mark is not None:
            self.since_mark.append(self.after())

    def mark(self) -> None:
        """A copy begins, which holds at least what is acknowledged now."""
        self.since_mark = [self.settled, self.after()]

    def take(self, here: dict[Name, Digest]) -> str:
        """Take what was found after the end as what was acknowledged; tell what it means."""
        was_open = self.open is not None
        is_after = here == _digests(self.after())
        self.settled = next(each for each in self.may_be() if _digests(each) == here)
        self.open = self.since_mark = None
        if not was_open:
            return "settled"
        return "in flight and kept" if is_after else "in flight and gone"

    def end(self) -> None:
        """When it was acknowledged."""
        assert self.open is not None
        self.settled = self.after()
        self.open = None

    def may_be(self) -> list[Changes]:
        """What may be found after the end: since the mark, if there is one, nothing is sure."""
        return self.since_mark or [self.settled, self.after()]

    def after(self) -> Changes:
        """What holds if the open request happened."""
        both = {**self.settled, **(self.open or {})}
        return {name: value for name, value in both.items() if value is not None}


class Ledger:
    """What all workers know, over many rounds."""

    def __init__(
        self,
        bounds: Limits = Limits(),  # noqa: B008 - a tuple
        *,
        is_cooled: bool = False,
    ) -> None:
        """Make stores so; each with a cold store beside it, if they are to be cooled."""
        self._bounds = bounds
        self._is_cooled = is_cooled
        self.figures: Counter[str] = Counter()
        self._forget()

    def begin_anew(self, folder: Path) -> None:
        """Forget everything but the figures, and make an empty store with rules for a bucket."""
        self._forget()
        bounds = self._bounds
        if self._is_cooled:
            cold = folder.with_name(f"{folder.name}-cold")
            cold.mkdir(parents=True, exist_ok=True)
            bounds = bounds._replace(stack=Stack(cold=f"file://{cold}", connect=connect))
        with open_depot(folder, bounds) as depot:
            depot.engine.names.policies.set_owner(Owner(name="carol", quota_bytes=QUOTA_BYTES))
            depot.bucket(BUCKETS[1]).set_policy(RULES)

    def _forget(self) -> None:
        self.workers = [Worker() for _ in range(WORKERS)]
        self.sent: set[Digest] = set()
        self._shared: dict[Digest, bool] = {}
        """The values fought for in this round, and whether they were acknowledged."""
        self._shared_before: tuple[Digest, int] | None = None
        self._marked = 0
        """How many of those were acknowledged at the mark."""
        self._swept = self._compacted = self._moved = 0

    def begin(self, worker: int, op: Op) -> None:
        """Before a request is sent."""
        self.workers[worker].begin(op)
        if op.kind in {"put", "hold", "shared"}:
            self.sent.add(digest(op.value))
        if op.kind == "shared":
            self._shared[digest(op.value)] = False

    def end(self, worker: int, op: Op) -> None:
        """When it was acknowledged."""
        self.workers[worker].end()
        self.figures["acknowledged"] += 1
        if op.kind == "shared":
            self._shared[digest(op.value)] = True

    def mark(self) -> None:
        """A copy of the store, or its end, begins; what is acknowledged from now on may be lost."""
        for worker in self.workers:
            worker.mark()
        self._marked = sum(self._shared.values())

    def check_copy(self, folder: Path) -> None:
        """Open a copy that was begun at the mark and has ended, and compare; work goes on."""
        with open_depot(folder, AS_IT_IS) as depot:
            self._check_workers(self._check_depot(depot, folder), is_copy=True)
            self._check_shared(depot, self._marked)
        for worker in self.workers:
            worker.since_mark = None

    def check(self, folder: Path) -> None:
        """Open what the end left, compare, and take what is there as what was acknowledged."""
        with open_depot(folder, AS_IT_IS) as depot:
            self.check_open(depot, folder)

    def check_open(self, depot: Depot, folder: Path) -> None:
        """Do the same with a depot that is open, whose bytes lie in `folder`."""
        is_marked = self.workers[0].since_mark is not None
        self._check_workers(self._check_depot(depot, folder), is_copy=False)
        now = self._check_shared(depot, self._marked if is_marked else sum(self._shared.values()))
        self._shared_before = now[0] if now else None
        self._shared = {}

    def _check_depot(self, depot: Depot, folder: Path) -> dict[Name, Digest]:
        """Read everything, hold it against itself, and tell what all names hold."""
        facts = depot.engine.facts()
        assert facts["damaged_places"] == 0
        self.figures["torn bytes"] += facts["truncated_bytes"]
        self.figures["recovered records"] += facts["recovered_records"]
        found = entries(depot)
        for name, (found_digest, size_bytes) in found.items():
            data = depot.bucket(name[0]).get(name[1])
            assert (Digest.of(data), len(data)) == (found_digest, size_bytes)
            self.figures["read bytes"] += size_bytes
        stored = {ref.digest for ref in depot.engine.store.scan()}
        assert stored <= self.sent
        assert {found_digest for found_digest, _ in found.values()} <= stored
        check_catalog(depot.engine.kv)
        check_events(depot, found)
        assert depot.stats().entries == len(found)
        assert list((folder / "files" / "tmp").glob("*")) == []
        self.figures["rounds"] += 1
        self._count_removed(depot, folder)
        return {name: found_digest for name, (found_digest, _) in (found | holds(depot)).items()}

    def _count_removed(self, depot: Depot, folder: Path) -> None:
        """Tell what sweeps and compaction have removed since the last look."""
        swept, _ = depot.engine.names.swept()
        compacted = 0
        if (folder / "log").exists():
            ids = segment_ids(folder / "log")
            compacted = ids[-1] - len(ids)  # the first is 1
        self.figures["swept"] += max(0, swept - self._swept)
        self.figures["compacted"] += max(0, compacted - self._compacted)
        self._swept, self._compacted = swept, compacted
        if self._is_cooled:
            moved, _ = depot.engine.names.moved()
            self.figures["moved"] += moved - self._moved
            self._moved = moved

    def _check_workers(self, rest: dict[Name, Digest], *, is_copy: bool) -> None:
        rest.pop((BUCKETS[0], SHARED), None)
        for number, worker in enumerate(self.workers):
            here = {name: rest.pop(name) for name in list(rest) if self._owns(number, name)}
            assert here in [_digests(each) for each in worker.may_be()], (number, worker, here)
            if not is_copy:
                self.figures[worker.take(here)] += 1
        assert rest == {}

    def _owns(self, number: int, name: Name) -> bool:
        if name[0] == "":
            own = [Value(100 + at, number) for at in range(5)]
            return name[1] in {digest(value).hex() for value in own}
        return name[1].startswith(f"w{number}/")

    def _check_shared(self, depot: Depot, acknowledged: int) -> list[tuple[Digest, int]]:
        """Hold the name for which all fight to what can be known of it, and tell what it is."""
        page = depot.bucket(BUCKETS[0]).list(prefix=SHARED)
        now = [(each.digest, each.version) for each in page.entries]
        old = [] if self._shared_before is None else [self._shared_before]
        if now == old:
            assert acknowledged == 0
        else:
            ((found_digest, version),) = now
            first = -1 if self._shared_before is None else self._shared_before[1]
            assert found_digest in self._shared
            assert first + acknowledged <= version <= first + len(self._shared)
        return now


def _digests(changes: Changes) -> dict[Name, Digest]:
    return {name: digest(value) for name, value in changes.items() if value is not None}


def entries(depot: Depot) -> dict[Name, tuple[Digest, int]]:
    """Every name in every bucket."""
    return {
        (bucket, entry.key): (entry.digest, entry.size_bytes)
        for bucket in BUCKETS
        for entry in depot.bucket(bucket).entries()
    }


def check_events(depot: Depot, found: dict[Name, tuple[Digest, int]]) -> None:
    """Hold the events to the names: what they come to, as far back as they are kept, is there."""
    reader = depot.events(all_buckets=True)
    is_whole = reader.cursor.revision == 1
    told = {(event.bucket, event.key): event for event in reader}
    for name, event in told.items():
        expected = found.get(name, (None, 0))[0]
        assert (event.digest if event.kind is Kind.UPLOADED else None) == expected, event
    assert not is_whole or set(found) <= set(told)


def holds(depot: Depot) -> dict[Name, tuple[Digest, int]]:
    """Every blob that the content face itself holds, read whole."""
    found: dict[Name, tuple[Digest, int]] = {}
    cursor: str | None = None
    while True:
        page = depot.content.list(cursor=cursor, limit=1000)
        for each in page.digests:
            assert Digest.of(depot.content.get(each, Span(0, 1 << 40))) == each
            if depot.content.holds(each):
                found[("", each.hex())] = (each, depot.content.stat(each))
        if page.next is None:
            return found
        cursor = page.next
