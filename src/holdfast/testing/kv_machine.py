"""Random commits to a key-value space, compared with a dict that shares no code with it."""

import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from holdfast.core.kv import (
    KV,
    Add,
    Committed,
    Compare,
    Conflict,
    Delete,
    Empty,
    Put,
    Unchanged,
    Write,
)

SETTINGS = settings(
    max_examples=settings().max_examples // 4,  # a profile for long runs raises both
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
STEMS = [b"", b"a", b"b\x00", b"k" * 250, b"k" * 500, b"k" * 507, b"k" * 511, b"k" * 2000]
TAILS = st.one_of(st.sampled_from([b"x", b"y"]), st.binary(min_size=1, max_size=9))
KEYS = st.builds(bytes.__add__, st.integers(0, len(STEMS) - 1).map(STEMS.__getitem__), TAILS)
BOUNDS = st.one_of(KEYS, st.sampled_from([b"", b"k", b"l", b"\xff" * 900]))
VALUES = st.tuples(st.binary(max_size=3), st.sampled_from([0, 1, 3, 2000, 30_000]))
DELTAS = st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=3)

Open = Callable[[Path], KV]
Close = Callable[[KV], None]


def check_against_a_dict(open_kv: Open, close_kv: Close, *, durable: bool) -> None:
    """Let Hypothesis look for commits after which the space and a dict differ."""
    run_state_machine_as_test(
        lambda: KVMachine(open_kv, close_kv, durable),  # type: ignore[arg-type]  # a factory will do
        settings=SETTINGS,
    )


class KVMachine(RuleBasedStateMachine):
    """A space beside a dict from key to (value, revision); counters have a dict of their own."""

    def __init__(self, open_kv: Open, close_kv: Close, durable: bool) -> None:  # noqa: FBT001 - hidden
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._open_kv = open_kv
        self._close_kv = close_kv
        self._durable = durable
        self._kv = open_kv(self._folder / "kv")
        self._items: dict[bytes, tuple[bytes, int]] = {}
        self._revision = 0
        self._changes: list[tuple[int, bytes, bytes | None]] = []
        self._idle: set[tuple[int, bytes, None]] = set()  # deletes of nothing: a change or none

    @rule(data=st.data(), puts=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
    def put(self, data: st.DataObject, puts: dict[bytes, tuple[bytes, int]]) -> None:
        """Set some keys and delete another."""
        writes: list[Write] = [Put(b"p" + key, word * times) for key, (word, times) in puts.items()]
        gone = self._draw(data)
        if gone not in {write.key for write in writes}:
            writes.append(Delete(gone))
        self._commit([], writes)

    @rule(key=st.sampled_from([b"n", b"n/" + b"k" * 600]), deltas=DELTAS)
    def add(self, key: bytes, deltas: list[int]) -> None:
        """Count."""
        self._commit([], [Add(key, tuple(deltas))])

    @rule(data=st.data(), stale=st.sampled_from([0, 0, 1]), start=BOUNDS, end=BOUNDS)
    def compare(self, data: st.DataObject, stale: int, start: bytes, end: bytes) -> None:
        """Write if a key is unchanged and a range is empty."""
        key = self._draw(data)
        revision = self._items[key][1] if key in self._items else 0
        range_ = Empty(b"p" + start, b"p" + end)
        self._commit([Unchanged(key, revision + stale), range_], [Put(b"p" + key[1:], start)])

    @rule(start=BOUNDS, end=BOUNDS, limit=st.integers(1, 5), data=st.data())
    def scan(self, start: bytes, end: bytes, limit: int, data: st.DataObject) -> None:
        """Read a range from either end."""
        reverse = data.draw(st.booleans())
        found = self._kv.scan(b"p" + start, b"p" + end, limit=limit, reverse=reverse)
        keys = sorted((k for k in self._items if b"p" + start <= k < b"p" + end), reverse=reverse)
        assert found == [(key, *self._items[key]) for key in keys[:limit]]

    @rule(data=st.data(), back=st.integers(0, 5))
    def watch(self, data: st.DataObject, back: int) -> None:
        """Replay the newest changes under some prefix."""
        first = max(1, self._revision - back)
        prefix = self._draw(data)[: data.draw(st.integers(0, 520))]
        found = list(self._kv.watch(prefix, first, wait_s=0))
        assert [each.revision for each in found] == sorted(each.revision for each in found)
        expected = {each for each in self._changes if each[0] >= first}
        expected = {each for each in expected if each[1].startswith(prefix)}
        assert len(found) == len(set(found))
        assert set(found) - self._idle == expected

    @precondition(lambda self: self._durable)
    @rule()
    def reopen(self) -> None:
        """Close and open again; nothing may have changed."""
        self._close_kv(self._kv)
        self._kv = self._open_kv(self._folder / "kv")

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        """Keys, values, revisions and order agree after every step."""
        expected = [(key, *item) for key, item in sorted(self._items.items())]
        assert self._kv.scan(b"", b"\xff" * 4097, limit=10_000) == expected
        assert self._kv.revision() == self._revision

    def teardown(self) -> None:
        """Read every key by itself, then let go."""
        try:
            for key, item in self._items.items():
                assert self._kv.get(key) == item
        finally:
            self._close_kv(self._kv)
            shutil.rmtree(self._folder)

    def _commit(self, compares: list[Compare], writes: list[Write]) -> None:
        outcome = self._kv.commit(compares, writes).result()
        failed = [at for at, each in enumerate(compares) if not self._holds(each)]
        if failed:
            assert outcome == Conflict(failed[0])
            return
        self._revision += 1
        assert outcome == Committed(self._revision)
        for write in writes:
            self._apply(write)

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, Unchanged):
            return compare.revision == self._items.get(compare.key, (b"", 0))[1]
        return not any(compare.start <= key < compare.end for key in self._items)

    def _apply(self, write: Write) -> None:
        if isinstance(write, Delete):
            if self._items.pop(write.key, None) is None:
                self._idle.add((self._revision, write.key, None))
            else:
                self._changes.append((self._revision, write.key, None))
            return
        value = write.value if isinstance(write, Put) else self._sum(write)
        self._items[write.key] = (value, self._revision)
        self._changes.append((self._revision, write.key, value))

    def _sum(self, write: Add) -> bytes:
        old = self._items.get(write.key, (b"", 0))[0]
        sums = list(struct.unpack(f"<{len(old) // 8}q", old))
        sums += [0] * (len(write.deltas) - len(sums))
        for at, delta in enumerate(write.deltas):
            sums[at] += delta
        return struct.pack(f"<{len(sums)}q", *sums)

    def _draw(self, data: st.DataObject) -> bytes:
        known = [*sorted(self._items), b"p", b"pmissing"]
        return known[data.draw(st.integers(0, len(known) - 1))]
