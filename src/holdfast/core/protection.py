"""Protection of prepared blobs: stored, or found there, for a name that is not committed yet.

A sweep knows what is named, not what is about to be. Whoever keeps names of his own therefore
prepares first, then stores, then commits the names, and only then lets go:

    with protections.prepare() as prepared:
        refs = prepared.put_many(store, payloads)
        ...                                        # commit names for them, wherever they are kept
    report = sweep_unreferenced(store, live_digests, protections)

Leaving the first block by an exception keeps the protection without a deadline, because nobody
knows then whether the names were committed: find out, and release what `unresolved` lists. A sweep
also keeps what anybody let go of since its watch began, for those names may be newer than the list
of what is live.

A depot needs none of this: its names are looked up in the very batch that removes.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Self

from holdfast.core import limits
from holdfast.core.errors import UnavailableError
from holdfast.core.many import name_all
from holdfast.core.seams import SystemClock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.errors import BlobError
    from holdfast.core.seams import Buffer, Clock
    from holdfast.core.store import Keep, Moment, Store


class Protections:
    """All that is prepared in this process; `_lock` guards everything."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._counts: Counter[Digest] = Counter()
        """How many tokens protect each blob."""
        self._deadlines: list[tuple[float, int, Prepared]] = []
        self._numbers = count()
        self._unresolved: dict[Prepared, None] = {}
        self._watches: list[set[Digest]] = []

    def prepare(self, ttl_s: float = limits.PROTECTION_S) -> Prepared:
        """Begin to protect, for at most `ttl_s`."""
        token = Prepared(self)
        deadline_s = self._clock.monotonic_s() + ttl_s
        with self._lock:
            heapq.heappush(self._deadlines, (deadline_s, next(self._numbers), token))
        return token

    def unresolved(self) -> list[Prepared]:
        """The tokens of which nobody knows whether their names were committed, oldest first."""
        with self._lock:
            return list(self._unresolved)

    @contextmanager
    def watch(self) -> Iterator[Keep]:
        """Watch for the length of a sweep, from before its live blobs are listed."""
        seen: set[Digest] = set()

        def keep(digest: Digest, moment: Moment | None) -> bool:
            return self.wants(digest, moment) or digest in seen

        with self._lock:
            self._end_overdue()
            self._watches.append(seen)
        try:
            yield keep
        finally:
            with self._lock:
                self._watches = [each for each in self._watches if each is not seen]

    def wants(self, digest: Digest, moment: Moment | None = None) -> bool:
        """Whether a blob is protected now."""
        del moment
        with self._lock:
            self._end_overdue()
            return digest in self._counts

    def add(self, token: Prepared, digests: Collection[Digest]) -> None:
        """Protect blobs; for Prepared alone."""
        with self._lock:
            self._end_overdue()
            if token.is_over:
                raise UnavailableError("the time to name the prepared blobs is over: prepare again")
            new = set(digests) - token.digests
            if len(self._counts) + len(new) > limits.PROTECTED_REFS_MAX:
                raise UnavailableError("too many prepared blobs wait for their names")
            token.digests |= new
            self._counts.update(new)

    def end(self, token: Prepared) -> None:
        """End a token; for Prepared alone."""
        with self._lock:
            self._end(token)

    def doubt(self, token: Prepared) -> None:
        """Lift the deadline of a token; for Prepared alone."""
        with self._lock:
            if not token.is_over:
                self._unresolved[token] = None

    def _end_overdue(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            token = heapq.heappop(self._deadlines)[2]
            if token not in self._unresolved:
                self._end(token)

    def _end(self, token: Prepared) -> None:
        token.is_over = True
        self._unresolved.pop(token, None)
        for seen in self._watches:
            seen.update(token.digests)
        for digest in token.digests:
            self._counts[digest] -= 1
            if not self._counts[digest]:
                del self._counts[digest]
        token.digests = set()


class Prepared:
    """A token: what it protects stays until `release` or, unless in doubt, its deadline."""

    def __init__(self, protections: Protections) -> None:
        self._protections = protections
        self.digests: set[Digest] = set()
        self.is_over = False

    def protect(self, digests: Collection[Digest]) -> None:
        """Protect blobs, before they are looked for or stored.

        Raises:
            UnavailableError: its deadline is over, or too many are protected.
        """
        self._protections.add(self, digests)

    def put_many(self, store: Store, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Protect blobs, then do what `Store.put_many` does."""
        self.protect([ref.digest for ref, _ in name_all(payloads)])
        return store.put_many(payloads)

    def release(self) -> None:
        """Let go: the names are committed, or will never be. A second call does nothing."""
        self._protections.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.release()
        else:
            self._protections.doubt(self)
