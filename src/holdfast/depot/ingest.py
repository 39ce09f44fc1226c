"""The one way in: bytes are hashed once, written to a sink, checked, stored, and only then named.

An Upload belongs to one thread at a time. Large chunks are hashed in a second thread while they are
written. Nothing is visible before `finish`; closing an unfinished Upload leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import DigestMismatchError, TooLargeError, UnavailableError
from holdfast.core.policy import NO_POLICY, Mismatch
from holdfast.depot import media

if TYPE_CHECKING:
    from holdfast.core.kv import KV, Transaction
    from holdfast.core.pending import Pending
    from holdfast.core.policy import Policy
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Sink, Staged, Store
    from holdfast.depot.reservations import Room

PARALLEL_BYTES = 128 * limits.KIB  # smaller chunks are hashed faster than a thread is woken
HASHERS = 2

Placed = TypeVar("Placed")
Placing = Callable[[BlobRef, str, "Staged | None"], "Transaction[Placed]"]
"""Makes the transaction that names a blob of a content type."""


class Ingest:
    """What uploads share: the store, the log that names will be in, and the hashing threads."""

    def __init__(self, store: Store, kv: KV) -> None:
        self.store = store
        self._shares_log = store.traits.log_id == kv.log_id != ""
        self.kv = kv
        self.pool = ThreadPoolExecutor(HASHERS, thread_name_prefix="holdfast-hash")

    def hash(self, hasher: Hasher, chunk: Buffer) -> Future[None]:
        """Hash in another thread.

        Raises:
            UnavailableError: the threads have ended.
        """
        try:
            return self.pool.submit(hasher.update, chunk)
        except RuntimeError:
            raise UnavailableError("the store is closed") from None

    def ready(self, arrival: Arrival, placing: Placing[Placed], data: bytes) -> Transaction[Placed]:
        """Do what an Upload does, at once, for few bytes that are all here.

        Raises:
            TooLargeError: over the limit.
            DigestMismatchError, FullError, UnavailableError: as `Upload.ready` does.
        """
        check_size(len(data), arrival.max_bytes)
        ref = BlobRef(Digest.of(data), len(data))
        content_type = arrival.accept(ref, data)
        with self.store.sink() as sink:
            sink.write(data)
            return placing(ref, content_type, self.stage(sink, ref))

    def stage(self, sink: Sink, ref: BlobRef) -> Staged | None:
        """Leave a blob to the commit that names it; with logs apart, store it and wait.

        Raises:
            FullError, UnavailableError: nothing was stored.
        """
        if self._shares_log:
            return sink.stage(ref)
        sink.commit(ref).result()
        return None

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()


class Arrival:
    """What is known and allowed before the first byte."""

    __slots__ = ("content_type", "digest", "key", "max_bytes", "policy", "room")

    def __init__(
        self,
        key: str,
        content_type: str | None,
        digest: Digest | None,
        max_bytes: int,
        policy: Policy = NO_POLICY,
    ) -> None:
        """Hold an upload to these; content types only if the policy says anything of them.

        Raises:
            UnsupportedTypeError: what is declared is not taken, whatever the bytes show.
        """
        self.key = key
        self.content_type = content_type
        self.digest = digest
        self.max_bytes = max_bytes
        self.policy = policy
        self.room: Room | None = None
        self.check_declared()

    def check_declared(self) -> None:
        """See that the declared type may be taken.

        Raises:
            UnsupportedTypeError: it is not, whatever the bytes show.
        """
        if self.content_type is not None and self.policy.mismatch is not Mismatch.CORRECT:
            media.check_allowed(self.policy, self.content_type)

    def accept(self, ref: BlobRef, head: Buffer) -> str:
        """Choose the content type of the bytes that came, which begin with `head`.

        Raises:
            DigestMismatchError: they are not those that were promised.
            UnsupportedTypeError: the policy does not take what they are.
        """
        if self.digest is not None and self.digest != ref.digest:
            raise DigestMismatchError(str(self.digest), str(ref.digest))
        return media.settle(self.policy, self.content_type, head, self.key)


class Upload(Closing, Generic[Placed]):
    """One blob on its way in, and what will be done with its name."""

    def __init__(
        self,
        ingest: Ingest,
        arrival: Arrival,
        placing: Placing[Placed],
    ) -> None:
        self._ingest = ingest
        self._arrival = arrival
        self._placing = placing
        self._sink = ingest.store.sink()
        self._hasher = Hasher()
        self._head = b""

    @property
    def size_bytes(self) -> int:
        """Bytes taken so far."""
        return self._hasher.size_bytes

    def declare(self, content_type: str) -> None:
        """Say the content type late, before the first byte.

        Raises:
            InvalidError: it is none.
            UnsupportedTypeError: it is not taken here.
        """
        self._arrival.content_type = media.check(content_type)
        self._arrival.check_declared()

    def write(self, chunk: Buffer) -> None:
        """Take the next bytes; `chunk` may be reused when this returns.

        Raises:
            TooLargeError, QuotaError: over a limit.
            FullError, UnavailableError: close the upload.
        """
        size_bytes = self._hasher.size_bytes + len(chunk)
        check_size(size_bytes, self._arrival.max_bytes)
        if self._arrival.room is not None:
            self._arrival.room.grow(size_bytes)
        if len(self._head) < limits.SNIFF_BYTES:
            self._head += bytes(chunk[: limits.SNIFF_BYTES])
        if len(chunk) < PARALLEL_BYTES:
            self._hasher.update(chunk)
            self._sink.write(chunk)
            return
        hashing = self._ingest.hash(self._hasher, chunk)
        try:
            self._sink.write(chunk)
        finally:
            hashing.result()

    def ready(self) -> Transaction[Placed]:
        """Check what was written; the blob is named, and is there, when the transaction ends.

        Raises:
            DigestMismatchError: not the promised bytes.
            FullError, UnavailableError: nothing changed.
        """
        ref = self._hasher.ref()
        content_type = self._arrival.accept(ref, self._head)
        return self._placing(ref, content_type, self._ingest.stage(self._sink, ref))

    def finish(self) -> Pending[Placed]:
        """Check, store and name what was written; the future ends when all of it is durable.

        Raises:
            DigestMismatchError, FullError, UnavailableError: as `ready` does.
        """
        reads, planner, blob, _ = self.ready()
        return self._ingest.kv.transact(reads, planner, blob=blob)

    def close(self) -> None:
        """Discard unless finished; a second call does nothing."""
        if self._arrival.room is not None:
            self._arrival.room.release()
        self._sink.close()


def check_size(size_bytes: int, max_bytes: int, what: str = "blob") -> None:
    """Hold the size of something to a limit; 0 means no limit.

    Raises:
        TooLargeError: it is over.
    """
    if 0 < max_bytes < size_bytes:
        raise TooLargeError(what, max_bytes)


def smaller(size_bytes: int, bound: int | None) -> int:
    """The smaller one of two limits, of which 0 and None are none."""
    if bound is None:
        return size_bytes
    return min(size_bytes, bound) if size_bytes else bound
