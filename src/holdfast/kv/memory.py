"""Metadata in a dict: for tests, as an oracle, and for programs that need nothing kept."""

import bisect
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence

from holdfast.core import limits
from holdfast.core.errors import BlobError, bare
from holdfast.core.kv import (
    Add,
    Change,
    Committed,
    Compare,
    Conflict,
    Delete,
    Item,
    Planner,
    Put,
    Result,
    Transaction,
    Unchanged,
    Versioned,
    Write,
    add_counters,
)
from holdfast.core.pending import Pending, Promise, settled
from holdfast.core.store import Staged


class MemoryKV:
    """The KV contract over a dict and a sorted list; nothing survives the object.

    One condition guards everything and wakes those who watch. The whole history is kept, so
    `watch` never answers CompactedError.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: dict[bytes, Versioned] = {}
        self._keys: list[bytes] = []
        self._history: list[Change] = []
        self._revision = 0
        self._tables: defaultdict[int, int] = defaultdict(int)

    @property
    def log_id(self) -> str:
        """There is no log."""
        return ""

    def get(self, key: bytes) -> Versioned | None:
        """Read one key."""
        _check_key(key)
        return self._items.get(key)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Item]:
        """Read up to `limit` keys k with start <= k < end, in order."""
        assert limit > 0
        with self._condition:
            keys = self._range(start, end)
            if reverse:
                keys.reverse()
            return [Item(key, *self._items[key]) for key in keys[:limit]]

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        """Write all of `writes` if all of `compares` hold, before it returns."""
        _check(compares, writes)
        assert blob is None, "there is no log"
        done: Promise[Committed | Conflict] = Promise()
        with self._condition:
            done.set_result(self._decide(compares, writes))
        return done

    def transact(
        self,
        reads: Sequence[bytes],
        planner: Planner[Result],
        *,
        blob: Staged | None = None,
        frees: bool = False,
    ) -> Pending[Result]:
        """Plan and write under the lock; memory has no reserve."""
        del frees
        assert len(reads) <= limits.COMPARES_MAX
        assert blob is None, "there is no log"
        done: Promise[Result] = Promise()
        try:
            with self._condition:
                plan = planner([self._items.get(key) for key in reads])
                if plan.writes:
                    _check((), plan.writes)
                    self._decide((), plan.writes)
        except BlobError as error:
            done.set_exception(error)
        else:
            done.set_result(plan.result)
        return done

    def transact_many(
        self, transactions: Sequence[Transaction[Result]]
    ) -> Pending[list[Result | BlobError]]:
        """Do them one by one."""
        assert len(transactions) <= limits.BATCH_REFS_MAX
        outcomes: list[Result | BlobError] = []
        for each in transactions:
            done = self.transact(each.reads, each.planner, blob=each.blob)
            error = done.exception()
            assert error is None or isinstance(error, BlobError)
            outcomes.append(done.result() if error is None else bare(error))
        return settled(outcomes)

    def watch(self, prefix: bytes, from_revision: int, *, wait_s: float) -> Iterator[Change]:
        """Yield the changes under `prefix` since `from_revision`, in order, each once."""
        with self._condition:
            at = bisect.bisect_left(self._history, from_revision, key=lambda each: each.revision)
        while (at := self._seek(prefix, at, wait_s)) < len(self._history):
            yield self._history[at]
            at += 1

    def revision(self) -> int:
        """The newest revision; 0 before the first commit."""
        return self._revision

    def horizon(self, table: bytes = b"") -> int:
        """The newest revision: a commit is seen as soon as it is counted."""
        return self._tables[table[0]] if table else self._revision

    def close(self) -> None:
        """Nothing to let go of."""

    def _seek(self, prefix: bytes, at: int, wait_s: float) -> int:
        """Find the next change under `prefix`; the end of the history when none came in time."""

        def is_found() -> bool:
            nonlocal at
            while at < len(self._history) and not self._history[at].key.startswith(prefix):
                at += 1
            return at < len(self._history)

        with self._condition:
            self._condition.wait_for(is_found, wait_s)
            return at

    def _range(self, start: bytes, end: bytes) -> list[bytes]:
        first = bisect.bisect_left(self._keys, start)
        return self._keys[first : bisect.bisect_left(self._keys, end)]

    def _decide(self, compares: Sequence[Compare], writes: Sequence[Write]) -> Committed | Conflict:
        for position, compare in enumerate(compares):
            if not self._holds(compare):
                return Conflict(position)
        self._revision += 1
        for write in writes:
            self._tables[write.key[0]] = self._revision
            self._apply(write)
        self._condition.notify_all()
        return Committed(self._revision)

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, Unchanged):
            item = self._items.get(compare.key)
            return compare.revision == (item.revision if item else 0)
        return not self._range(compare.start, compare.end)

    def _apply(self, write: Write) -> None:
        old = self._items.get(write.key)
        if isinstance(write, Delete):
            if old is not None:
                del self._items[write.key]
                del self._keys[bisect.bisect_left(self._keys, write.key)]
                self._history.append(Change(self._revision, write.key, None))
            return
        value = _value(write, old)
        self._items[write.key] = Versioned(value, self._revision)
        if old is None:
            bisect.insort(self._keys, write.key)
        self._history.append(Change(self._revision, write.key, value))


def _value(write: Put | Add, old: Versioned | None) -> bytes:
    if isinstance(write, Put):
        return write.value
    return add_counters(old.value if old else None, write.deltas)


def _check(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    assert len(compares) <= limits.COMPARES_MAX
    assert len(writes) <= limits.WRITES_MAX
    assert len({write.key for write in writes}) == len(writes), "one write a key"
    for compare in compares:
        if isinstance(compare, Unchanged):
            _check_key(compare.key)
    for write in writes:
        _check_key(write.key)
        assert not isinstance(write, Put) or len(write.value) <= limits.KV_VALUE_BYTES_MAX


def _check_key(key: bytes) -> None:
    assert 1 <= len(key) <= limits.KV_KEY_BYTES_MAX
