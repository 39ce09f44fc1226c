"""The KV of one machine: commits are records of the log, keys live in its index.

A commit is checked and applied by the log's writer, inside the index transaction of its batch, so
commits are serial by construction. It costs no sync of its own: it shares the batch's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import BlobError, CompactedError, CorruptError
from holdfast.core.kv import (
    Change,
    Committed,
    Compare,
    Conflict,
    Item,
    Transaction,
    Unchanged,
    Versioned,
    Write,
)
from holdfast.core.many import outcome
from holdfast.kv.commits import WRITE_BYTES, check, commit, frees, transact, weight
from holdfast.log.batch import Claim, Needs
from holdfast.log.index import split
from holdfast.log.staged import StagedBlob, StoredBlob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.kv import Planner, Result
    from holdfast.core.pending import Pending
    from holdfast.core.store import Staged
    from holdfast.log.batch import Batch
    from holdfast.log.log import Log
    from holdfast.log.record import Writes


Staging = StagedBlob | StoredBlob


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
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        """Queue a commit for the next batch."""
        check(compares, writes)
        own = _own(blob)

        def stage(batch: Batch) -> Committed | Conflict:
            return commit(batch, compares, writes, own)

        reads = [compare.key for compare in compares if isinstance(compare, Unchanged)]
        claim = _claim(frees=frees(writes, has_blob=blob is not None))
        size_bytes = weight(writes, 0 if own is None else own.size_bytes)
        return self._log.submit(stage, size_bytes, _needs(reads, own), claim=claim)

    def transact(
        self,
        reads: Sequence[bytes],
        planner: Planner[Result],
        *,
        blob: Staged | None = None,
        frees: bool = False,
    ) -> Pending[Result]:
        """Queue a transaction; it is planned by the writer, between others, exactly once."""
        transaction = Transaction(reads, planner, blob, frees=frees)
        own = _check_one(transaction)
        size_bytes = WRITE_BYTES * len(reads) + (0 if own is None else own.size_bytes)
        stage = partial(transact, transaction=transaction, blob=own)
        return self._log.submit(stage, size_bytes, _needs(reads, own), claim=_claim(frees=frees))

    def transact_many(
        self, transactions: Sequence[Transaction[Result]]
    ) -> Pending[list[Result | BlobError]]:
        """Queue transactions as one request to the log."""
        assert len(transactions) <= limits.BATCH_REFS_MAX
        blobs = [blob for each in transactions if (blob := _check_one(each)) is not None]
        keys = [key for each in transactions for key in each.reads]
        size_bytes = WRITE_BYTES * len(keys) + sum(blob.size_bytes for blob in blobs)

        def stage(batch: Batch) -> list[Result | BlobError]:
            return [outcome(transact, batch, each, _own(each.blob)) for each in transactions]

        needs = Needs(keys, [blob.ref.digest for blob in blobs])
        claim = _claim(frees=all(each.frees for each in transactions))
        return self._log.submit(stage, size_bytes, needs, claim=claim)

    def watch(self, prefix: bytes, from_revision: int, *, wait_s: float) -> Iterator[Change]:
        """Replay the log's commit records, then wait for more."""
        revision = max(1, from_revision)
        self._check_history(revision)
        while self._log.wait_for_commit(revision, wait_s):
            commits = self._commits(revision)
            for commit_revision, writes in commits:
                for key, value in writes:
                    if key.startswith(prefix):
                        yield Change(commit_revision, key, value)
                revision = commit_revision + 1

    def revision(self) -> int:
        """The newest revision."""
        return self._log.revision

    def horizon(self, table: bytes = b"") -> int:
        """Read the board that all processes share."""
        return self._log.horizon(table)

    def _commits(self, revision: int) -> list[tuple[int, Writes]]:
        try:
            commits = self._log.commits(revision)
        except FileNotFoundError as error:
            self._check_history(revision)
            raise CorruptError("the segment of a commit is missing", revision=revision) from error
        self._check_history(revision)
        return commits

    def _check_history(self, revision: int) -> None:
        """Refuse to begin where compaction left holes."""
        oldest = self._index.history()
        if revision < oldest:
            raise CompactedError(oldest)

    def close(self) -> None:
        """Do nothing: the log belongs to who opened it."""


def _check_one(transaction: Transaction[Result]) -> Staging | None:
    """Assert the bounds of a transaction."""
    assert len(transaction.reads) <= limits.COMPARES_MAX
    return _own(transaction.blob)


def _own(blob: Staged | None) -> Staging | None:
    """What a batch can stage."""
    assert blob is None or isinstance(blob, StagedBlob | StoredBlob)
    return blob


def _claim(*, frees: bool) -> Claim:
    return Claim.DELETE if frees else Claim.WRITE


def _needs(keys: Sequence[bytes], blob: Staging | None) -> Needs:
    return Needs(keys) if blob is None else Needs(keys, (blob.ref.digest,))
