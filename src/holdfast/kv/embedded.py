"""The KV of one machine: commits are records of the log, keys live in its index.

A commit is checked and applied by the log's writer, inside the index transaction of its batch, so
commits are serial by construction. It costs no sync of its own: it shares the batch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CompactedError
from holdfast.core.kv import (
    Change,
    Committed,
    Compare,
    Conflict,
    Delete,
    Item,
    Put,
    Unchanged,
    Versioned,
    Write,
    add_counters,
)
from holdfast.log.index import split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from holdfast.log.batch import Batch
    from holdfast.log.log import Log


WRITE_BYTES = 128  # a guess that keeps batches of commits small enough


class EmbeddedKV:
    """A KV over an open log, which its owner closes."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._index = log.index

    @property
    def log_id(self) -> str:
        """The id of the log."""
        return self._log.id

    def get(self, key: bytes) -> Versioned | None:
        """Read one key."""
        assert 0 < len(key) <= limits.KV_KEY_BYTES_MAX
        return self._index.get(key)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Item]:
        """Read keys in order."""
        found = self._index.scan(start, end, limit, reverse=reverse)
        return [Item(key, *split(stored)) for key, stored in found]

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        after: Future[None] | None = None,
    ) -> Future[Committed | Conflict]:
        """Queue a commit for the next batch, which is the blob's or a later one."""
        check(compares, writes)
        return self._log.submit(
            lambda batch: _stage(batch, compares, writes, after), WRITE_BYTES * len(writes)
        )

    def watch(self, prefix: bytes, from_revision: int, *, wait_s: float) -> Iterator[Change]:
        """Replay the log's commit records, then wait for more."""
        revision = max(1, from_revision)
        if (first := self._index.batches(0, limit=1)) and revision < first[0].revision:
            raise CompactedError(first[0].revision)
        while self._log.wait_for_commit(revision, wait_s):
            for commit_revision, writes in self._log.commits(revision):
                for key, value in writes:
                    if key.startswith(prefix):
                        yield Change(commit_revision, key, value)
                revision = commit_revision + 1

    def revision(self) -> int:
        """The newest revision."""
        return self._log.revision

    def close(self) -> None:
        """Do nothing: the log belongs to who opened it."""


def _stage(
    batch: Batch,
    compares: Sequence[Compare],
    writes: Sequence[Write],
    after: Future[None] | None,
) -> Committed | Conflict:
    """Compare, then write: both see what the batch did before."""
    if after is not None and after.done() and (error := after.exception()) is not None:
        raise error
    for position, compare in enumerate(compares):
        if not _holds(compare, batch):
            return Conflict(position)
    return Committed(batch.add_commit([_resolve(write, batch) for write in writes]))


def check(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    """Assert the bounds of a commit."""
    assert len(compares) <= limits.COMPARES_MAX
    assert len(writes) <= limits.WRITES_MAX
    for write in writes:
        assert 0 < len(write[0]) <= limits.KV_KEY_BYTES_MAX
        assert not isinstance(write, Put) or len(write.value) <= limits.KV_VALUE_BYTES_MAX
    assert len({write[0] for write in writes}) == len(writes)


def _holds(compare: Compare, batch: Batch) -> bool:
    if isinstance(compare, Unchanged):
        found = batch.index.get(compare.key, batch.txn)
        return compare.revision == (0 if found is None else found.revision)
    return batch.index.is_empty(compare.start, compare.end, batch.txn)


def _resolve(write: Write, batch: Batch) -> tuple[bytes, bytes | None]:
    """What the write comes to: the log holds values, never differences, so a replay is exact."""
    if isinstance(write, Put):
        return write.key, write.value
    if isinstance(write, Delete):
        return write.key, None
    found = batch.index.get(write.key, batch.txn)
    return write.key, add_counters(None if found is None else found.value, write.deltas)
