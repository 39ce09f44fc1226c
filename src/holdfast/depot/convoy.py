"""Transactions that travel together: as many in one request as the log takes, outcomes in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from holdfast.core import limits
from holdfast.core.errors import BlobError, bare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.kv import KV, Transaction
    from holdfast.core.pending import Pending

Result = TypeVar("Result")


class _Flight(NamedTuple, Generic[Result]):
    """One request on its way, and to which places its outcomes go."""

    done: Pending[list[Result | BlobError]]
    places: Sequence[int]


class Convoy(Generic[Result]):
    """Gathers transactions of one thread; while one request is on its way, the next is made."""

    def __init__(self, kv: KV) -> None:
        self._kv = kv
        self._outcomes: list[Result | BlobError | None] = []
        self._waiting: list[Transaction[Result]] = []
        self._places: list[int] = []
        self._size_bytes = 0
        self._flight: _Flight[Result] | None = None

    def refuse(self, error: BlobError) -> None:
        """Let this be the outcome of the next place."""
        self._outcomes.append(bare(error))

    def add_upload(self, transaction: Transaction[Result]) -> None:
        """Name an upload soon; at once if its blob is stored already, where it waits for a name."""
        self.add(transaction)
        if transaction.blob is None or transaction.blob.is_stored:
            self._send()

    def add(self, transaction: Transaction[Result]) -> None:
        """Do a transaction soon; its outcome has the next place."""
        blob = transaction.blob
        size_bytes = 0 if blob is None or blob.is_stored else blob.ref.size_bytes
        is_full = len(self._waiting) == limits.BATCH_REFS_MAX
        if is_full or self._size_bytes + size_bytes > limits.BATCH_BYTES_MAX:
            self._send()
        self._places.append(len(self._outcomes))
        self._outcomes.append(None)
        self._waiting.append(transaction)
        self._size_bytes += size_bytes

    def arrive(self) -> list[Result | BlobError]:
        """Wait for all of them; outcomes in the order in which they were added or refused."""
        self._send()
        self._land()
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        assert len(outcomes) == len(self._outcomes)
        return outcomes

    def _send(self) -> None:
        self._land()
        if not self._waiting:
            return
        try:
            self._flight = _Flight(self._kv.transact_many(self._waiting), self._places)
        except BlobError as error:
            self._fill(self._places, [bare(error)] * len(self._places))
        self._waiting, self._places, self._size_bytes = [], [], 0

    def _land(self) -> None:
        flight, self._flight = self._flight, None
        if flight is None:
            return
        error = flight.done.exception()
        if error is None:
            self._fill(flight.places, flight.done.result())
        elif isinstance(error, BlobError):
            self._fill(flight.places, [bare(error)] * len(flight.places))
        else:
            raise error

    def _fill(self, places: Sequence[int], outcomes: Sequence[Result | BlobError]) -> None:
        for place, outcome in zip(places, outcomes, strict=True):
            self._outcomes[place] = outcome
