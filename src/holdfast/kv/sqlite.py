"""The KV of sharded SQLite: keys are rows, each in the shard of its routing key.

A commit is checked and planned by the planner of the shards, between others, so commits are serial
by construction; those of one batch share an epoch. Scans see all shards at one revision.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import BlobError, CompactedError, bare
from holdfast.core.kv import (
    Add,
    Change,
    Committed,
    Compare,
    Conflict,
    Delete,
    Item,
    Transaction,
    Versioned,
    Write,
)
from holdfast.kv.commits import WRITE_BYTES, check, conflict, plan, weight, write_all
from holdfast.shards.rows import KEY
from holdfast.shards.staged import StagedBytes, StagedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.kv import Planner, Result
    from holdfast.core.pending import Pending
    from holdfast.core.store import Staged
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.shards import Shards

WINDOW_REVISIONS = 64  # of the history, read at once

Staging = StagedBytes | StagedStream


class SqliteKV:
    """A KV over open shards, which their owner closes."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    @property
    def log_id(self) -> str:
        """The id of the shards."""
        return self._shards.id

    def get(self, key: bytes) -> Versioned | None:
        """Read one key."""
        assert 0 < len(key) <= limits.KV_KEY_BYTES_MAX
        row = self._shards.reading.row(self._shards.routing.key(key), KEY + key)
        return None if row is None else Versioned(row.value, row.revision)

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Item]:
        """Read keys in order, from all shards."""
        found = self._shards.reading.keys(start, end, limit, reverse=reverse)
        return [Item(key, row.value, row.revision) for key, row in found]

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        """Queue a commit for the next epoch."""
        check(compares, writes)
        blob = _own(blob)

        def stage(epoch: Epoch) -> Committed | Conflict:
            failed = conflict(compares, epoch)
            if failed is not None:
                return failed
            if blob is not None:
                blob.stage(epoch)
            return Committed(write_all(epoch, writes))

        frees = blob is None and all(isinstance(write, Delete | Add) for write in writes)
        size_bytes = weight(writes, 0 if blob is None else blob.size_bytes)
        return self._shards.submit(stage, size_bytes, frees=frees)

    def transact(
        self,
        reads: Sequence[bytes],
        planner: Planner[Result],
        *,
        blob: Staged | None = None,
        frees: bool = False,
    ) -> Pending[Result]:
        """Queue a transaction; it is planned between others, exactly once."""
        transaction = Transaction(reads, planner, blob, frees=frees)
        stage = partial(_transact, transaction=transaction)
        return self._shards.submit(stage, _check_one(transaction), frees=frees)

    def transact_many(
        self, transactions: Sequence[Transaction[Result]]
    ) -> Pending[list[Result | BlobError]]:
        """Queue transactions as one request, which is one epoch."""
        assert len(transactions) <= limits.BATCH_REFS_MAX
        size_bytes = sum(map(_check_one, transactions))

        def stage(epoch: Epoch) -> list[Result | BlobError]:
            return list(map(partial(_outcome, epoch), transactions))

        frees = all(each.frees for each in transactions)
        return self._shards.submit(stage, size_bytes, frees=frees)

    def watch(self, prefix: bytes, from_revision: int, *, wait_s: float) -> Iterator[Change]:
        """Read the history that the shards keep, then wait for more."""
        revision = max(1, from_revision)
        self._check_history(revision)
        while self._shards.wait_for_commit(revision, wait_s):
            end = min(self._shards.revision + 1, revision + WINDOW_REVISIONS)
            changes = self._shards.reading.changes(revision, end)
            self._check_history(revision)
            for change in changes:
                if change.key.startswith(prefix):
                    yield Change(*change)
            revision = end

    def revision(self) -> int:
        """The newest revision."""
        return self._shards.revision

    def horizon(self, table: bytes = b"") -> int:
        """What the planner tells before it commits."""
        planner = self._shards.planner
        return planner.horizons[table[0]] if table else planner.horizon

    def close(self) -> None:
        """Do nothing: the shards belong to who opened them."""

    def _check_history(self, revision: int) -> None:
        """Refuse to begin where the history is not kept any more."""
        oldest = self._shards.planner.oldest
        if revision < oldest:
            raise CompactedError(oldest)


def _check_one(transaction: Transaction[Result]) -> int:
    """Assert the bounds of a transaction; say about how much it writes."""
    assert len(transaction.reads) <= limits.COMPARES_MAX
    blob = _own(transaction.blob)
    return WRITE_BYTES * len(transaction.reads) + (0 if blob is None else blob.size_bytes)


def _own(blob: Staged | None) -> Staging | None:
    """What an epoch can stage."""
    assert blob is None or isinstance(blob, StagedBytes | StagedStream)
    return blob


def _transact(epoch: Epoch, transaction: Transaction[Result]) -> Result:
    """Plan and write, in the planner's thread.

    Raises:
        BlobError: the planner refused; nothing was changed.
    """
    result, writes = plan(transaction, epoch)
    blob = _own(transaction.blob)
    if blob is not None:
        blob.stage(epoch)
    if writes:
        write_all(epoch, writes)
    return result


def _outcome(epoch: Epoch, transaction: Transaction[Result]) -> Result | BlobError:
    stage: Callable[[Epoch], Result] = partial(_transact, transaction=transaction)
    try:
        return epoch.attempt(stage)
    except BlobError as error:
        return bare(error)
