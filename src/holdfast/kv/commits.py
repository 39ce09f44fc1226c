"""What a commit or a transaction comes to, for spaces whose one planner sees every key as it is.

An engine plans its requests one after the other, each over what those before it left. So nothing is
compared twice, and a plan is made exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from holdfast.core import limits
from holdfast.core.kv import (
    Add,
    Committed,
    Conflict,
    Delete,
    Put,
    Unchanged,
    Versioned,
    add_counters,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.kv import Compare, Result, Transaction, Write

WRITE_BYTES = (
    512  # a guess at a write of a transaction, and at what any write costs beside its value
)


class Space(Protocol):
    """All keys as the requests before left them."""

    def get(self, key: bytes) -> Versioned | None:
        """Read a key."""

    def get_many(self, keys: Sequence[bytes]) -> list[Versioned | None]:
        """Read keys."""

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists now."""

    def add_commit(self, writes: list[tuple[bytes, bytes | None]]) -> int:
        """Apply the writes of one commit and return its revision."""


InSpace = TypeVar("InSpace", bound=Space)
OfSpace_contra = TypeVar("OfSpace_contra", bound=Space, contravariant=True)


class Goes(Protocol[OfSpace_contra]):
    """A blob that goes along with a request."""

    def stage(self, space: OfSpace_contra, /) -> None:
        """Put it where the request goes."""


def check(compares: Sequence[Compare], writes: Sequence[Write]) -> None:
    """Assert the bounds of a commit."""
    assert len(compares) <= limits.COMPARES_MAX
    assert len(writes) <= limits.WRITES_MAX
    for write in writes:
        assert 0 < len(write[0]) <= limits.KV_KEY_BYTES_MAX
        assert not isinstance(write, Put) or len(write.value) <= limits.KV_VALUE_BYTES_MAX
    assert len({write[0] for write in writes}) == len(writes)


def weight(writes: Sequence[Write], blob_bytes: int) -> int:
    """About how many bytes a commit writes."""
    values = sum(len(write.value) for write in writes if isinstance(write, Put))
    return blob_bytes + values + WRITE_BYTES * len(writes)


def frees(writes: Sequence[Write], *, has_blob: bool) -> bool:
    """Whether a commit is one that a full disk takes, too."""
    return not has_blob and all(isinstance(write, Delete | Add) for write in writes)


def commit(
    space: InSpace,
    compares: Sequence[Compare],
    writes: Sequence[Write],
    blob: Goes[InSpace] | None,
) -> Committed | Conflict:
    """Do a commit, or say which compare does not hold; in the thread that plans.

    Raises:
        BlobError: the blob does not go along; nothing was changed.
    """
    for position, compare in enumerate(compares):
        if not _holds(compare, space):
            return Conflict(position)
    if blob is not None:
        blob.stage(space)
    return Committed(_write_all(space, writes))


def transact(
    space: InSpace, transaction: Transaction[Result], blob: Goes[InSpace] | None
) -> Result:
    """Plan and write, in the thread that plans.

    Raises:
        BlobError: the planner refused; nothing was changed.
    """
    made = transaction.planner(space.get_many(transaction.reads))
    check((), made.writes)
    if blob is not None:
        blob.stage(space)
    if made.writes:
        _write_all(space, made.writes)
    return made.result


def _write_all(space: Space, writes: Sequence[Write]) -> int:
    """Apply the writes of one commit and return its revision."""
    changes = [_resolve(write, space) for write in writes]
    missing = [key for key, value in changes if value is None and space.get(key) is None]
    if missing:
        changes = [change for change in changes if change[0] not in missing]
    return space.add_commit(changes)


def _holds(compare: Compare, space: Space) -> bool:
    if isinstance(compare, Unchanged):
        found = space.get(compare.key)
        return compare.revision == (0 if found is None else found.revision)
    return space.is_empty(compare.start, compare.end)


def _resolve(write: Write, space: Space) -> tuple[bytes, bytes | None]:
    """What the write comes to: values are kept, never differences, so a replay is exact."""
    if isinstance(write, Put):
        return write.key, write.value
    if isinstance(write, Delete):
        return write.key, None
    found = space.get(write.key)
    return write.key, add_counters(None if found is None else found.value, write.deltas)
