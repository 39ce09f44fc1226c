"""The contract of metadata: one ordered space of keys, changed by compare-and-commit.

Every commit has a revision, one higher than the commit before it, and every key knows the revision
that last changed it. The ordered stream of commits is the event log: `watch` replays it. Values
here are plain tuples because thousands are made a second.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from operator import add
from typing import Generic, NamedTuple, Protocol, TypeVar

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.pending import Pending
from holdfast.core.store import Staged

COUNTER_BYTES = 8

Result = TypeVar("Result")


class Versioned(NamedTuple):
    """A value and the revision that wrote it."""

    value: bytes
    revision: int


class Item(NamedTuple):
    """A key with its value and the revision that wrote it."""

    key: bytes
    value: bytes
    revision: int


class Unchanged(NamedTuple):
    """Holds while `key` was last changed at `revision`; 0 means that it does not exist."""

    key: bytes
    revision: int


class Empty(NamedTuple):
    """Holds while no key k with start <= k < end exists."""

    start: bytes
    end: bytes


class Put(NamedTuple):
    """Set a key."""

    key: bytes
    value: bytes


class Delete(NamedTuple):
    """Remove a key; a missing one is no error."""

    key: bytes


class Add(NamedTuple):
    """Add to a key's `counters`, which begin at zero; it commutes, so it never conflicts."""

    key: bytes
    deltas: tuple[int, ...]


Compare = Unchanged | Empty
Write = Put | Delete | Add


class Committed(NamedTuple):
    """Every compare held; all writes are durable at `revision`."""

    revision: int


class Conflict(NamedTuple):
    """A compare did not hold; nothing was written. `position` is that of the first."""

    position: int


class Change(NamedTuple):
    """One key changed by the commit of `revision`; None means deleted."""

    revision: int
    key: bytes
    value: bytes | None


class Plan(NamedTuple, Generic[Result]):
    """What a transaction writes, and what it comes to; without writes, nothing is committed."""

    writes: Sequence[Write]
    result: Result


Planner = Callable[[Sequence[Versioned | None]], Plan[Result]]
"""Makes the plan from the values that were read. It must be quick, pure and free of side effects,
for it may run several times and in any thread; a BlobError from it ends the transaction."""


class Transaction(NamedTuple, Generic[Result]):
    """What `KV.transact` is told."""

    reads: Sequence[bytes]
    planner: Planner[Result]
    blob: Staged | None = None
    frees: bool = False


class KV(Protocol):
    """Ordered bytes to bytes; safe from any thread; blocking.

    Keys have 1 to `limits.KV_KEY_BYTES_MAX` bytes and order as bytes; values have up to
    `limits.KV_VALUE_BYTES_MAX`. Breaking a bound is a wrong program (AssertionError).
    """

    @property
    def log_id(self) -> str:
        """Name of the log that holds the commits, compared with `Traits.log_id`; may be empty."""

    def get(self, key: bytes) -> Versioned | None:
        """Read one key; sees every commit whose future has ended."""

    def scan(self, start: bytes, end: bytes, *, limit: int, reverse: bool = False) -> list[Item]:
        """Read up to `limit` keys k with start <= k < end, in order, at one revision."""

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        """Write all of `writes` if all of `compares` hold, else nothing, at one revision.

        At most one write a key; deletes with counters are taken when the disk is full, too. `blob`
        is what `Sink.stage` of a store with the same log gave: it is stored with the writes, by one
        sync, or, if a compare does not hold, not at all. The future ends when the commit is durable
        and visible. An error in it means that nothing was written, but for UnavailableError after a
        lost connection.
        """

    def transact(
        self,
        reads: Sequence[bytes],
        planner: Planner[Result],
        *,
        blob: Staged | None = None,
        frees: bool = False,
    ) -> Pending[Result]:
        """Read keys, let `planner` decide, and write what it says, as if nobody else were there.

        At most `limits.COMPARES_MAX` reads, different ones. `blob` is stored as by `commit`, unless
        the planner raises. The future ends as that of `commit`, with the plan's result.
        UnavailableError also means that others change the keys too fast. One that `frees` space
        (deletes, and writes little) is taken when the disk is full, too.
        """

    def transact_many(
        self, transactions: Sequence[Transaction[Result]]
    ) -> Pending[list[Result | BlobError]]:
        """Do transactions one after the other, each as `transact` does; an error is a value here.

        At most `limits.BATCH_REFS_MAX`, with blobs of `limits.BATCH_BYTES_MAX` together or one
        larger blob. Where that can be, they are one request and share one sync. An error of the
        future itself means that nobody knows which of them happened.
        """

    def watch(self, prefix: bytes, from_revision: int, *, wait_s: float) -> Iterator[Change]:
        """Yield the changes under `prefix` since `from_revision`, in order, each once.

        Ends when none came for `wait_s`: call again with the last revision plus one.

        Raises:
            CompactedError: `from_revision` is older than the history that is kept.
        """

    def revision(self) -> int:
        """The newest revision; 0 before the first commit."""

    def horizon(self, table: bytes = b"") -> int:
        """At least `revision`, and changed before a commit can be seen; costs next to nothing.

        While it is what `revision` was, all that was read then is as it was. That of a `table`, the
        keys that begin with one byte, says the same of these alone since the KV was opened: before
        a commit that changes one of them can be seen, it is at least the revision of that.
        """

    def close(self) -> None:
        """Finish what was committed and let go; a second call does nothing."""


def pages(kv: KV, start: bytes, end: bytes = b"", size: int | None = None) -> Iterator[list[Item]]:
    """Yield all keys k with start <= k < end, in order; without an end, those that begin so.

    Each page is read at one revision, when it is asked for; it has at most `size` of them, or as
    many as a page may.
    """
    end = end or prefix_end(start)
    while page := kv.scan(start, end, limit=size or limits.LIST_LIMIT_MAX):
        yield page
        start = page[-1].key + b"\x00"


def prefix_end(prefix: bytes) -> bytes:
    r"""The smallest key behind every key that begins with `prefix`.

    >>> prefix_end(b"ab"), prefix_end(b"a\xff")
    (b'ac', b'b')
    """
    trimmed = prefix.rstrip(b"\xff")
    assert trimmed
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))


def counters(value: bytes | None) -> tuple[int, ...]:
    """Read what `Add` keeps: signed 64-bit integers, least significant byte first.

    >>> counters(add_counters(None, (1, -2)))
    (1, -2)
    """
    return () if value is None else _layout(len(value) // COUNTER_BYTES).unpack(value)


def add_counters(value: bytes | None, deltas: tuple[int, ...]) -> bytes:
    """Apply an `Add` to the value that it meets; missing counters begin at zero."""
    old = counters(value)
    if len(old) == len(deltas):  # as nearly always
        return _layout(len(old)).pack(*map(add, old, deltas))
    sums = [a + b for a, b in zip_longest(old, deltas, fillvalue=0)]
    return _layout(len(sums)).pack(*sums)


@lru_cache(maxsize=16)
def _layout(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}q")
