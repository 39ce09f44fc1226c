"""The KV of sharded SQLite: keys are rows, each in the shard of its routing key.

A commit is checked and planned by the planner of the shards, between others, so commits are serial
by construction; those of one batch share an epoch. Scans see all shards at one revision.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import BlobError, CompactedError
from holdfast.core.kv import (
    Change,
    Committed,
    Compare,
    Conflict,
    Item,
    Transaction,
    Versioned,
    Write,
)
from holdfast.core.many import outcome
from holdfast.kv.commits import WRITE_BYTES, check, commit, frees, transact, weight
from holdfast.log.staged import StoredBlob
from holdfast.shards.rows import KEY
from holdfast.shards.staged import StagedBytes, StagedStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.kv import Planner, Result
    from holdfast.core.pending import Pending
    from holdfast.core.store import Staged
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.shards import Shards

WINDOW_REVISIONS = 64  # of the history, read at once

Staging = StagedBytes | StagedStream | StoredBlob


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
        own = _own(blob)

        def stage(epoch: Epoch) -> Committed | Conflict:
            return commit(epoch, compares, writes, own)

        size_bytes = weight(writes, 0 if own is None else own.size_bytes)
        may_free = frees(writes, has_blob=blob is not None)
        return self._shards.submit(stage, size_bytes, frees=may_free)

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
        stage = partial(_transact, transaction)
        return self._shards.submit(stage, _check_one(transaction), frees=frees)

    def transact_many(
        self, transactions: Sequence[Transaction[Result]]
    ) -> Pending[list[Result | BlobError]]:
        """Queue transactions as one request, which is one epoch."""
        assert len(transactions) <= limits.BATCH_REFS_MAX
        size_bytes = sum(map(_check_one, transactions))

        def stage(epoch: Epoch) -> list[Result | BlobError]:
            return [outcome(epoch.attempt, partial(_transact, each)) for each in transactions]

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
    assert blob is None or isinstance(blob, StagedBytes | StagedStream | StoredBlob)
    return blob


def _transact(transaction: Transaction[Result], epoch: Epoch) -> Result:
    """Plan and write, in the planner's thread.

    Raises:
        BlobError: the planner refused; nothing was changed.
    """
    return transact(epoch, transaction, _own(transaction.blob))
