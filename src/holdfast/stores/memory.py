"""Blobs in a dict: for tests, as an oracle, and for programs that need nothing kept."""

import bisect
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, UnsupportedError
from holdfast.core.many import open_each, put_each
from holdfast.core.pending import Pending, settled
from holdfast.core.seams import Buffer, Clock, SystemClock
from holdfast.core.store import (
    FileRef,
    Keep,
    NativeFile,
    Source,
    Span,
    Traits,
    Usage,
    Verdict,
    clamp,
    no_such_blob,
)

TRAITS = Traits(durable=False, native_file=False)


class MemoryStore:
    """The store contract over a dict; nothing survives the object.

    One lock guards the dict and the sorted list of its keys.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._blobs: dict[Digest, bytes] = {}
        self._stored_us: dict[Digest, int] = {}
        self._digests: list[Digest] = []

    @property
    def traits(self) -> Traits:
        """Neither durable nor in a file."""
        return TRAITS

    def sink(self) -> "MemorySink":
        """Open a way in for one blob."""
        return MemorySink(self)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store blobs one by one."""
        return put_each(self, payloads)

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> "MemorySource":
        """Open a blob or a part of it; never waits."""
        del wait
        data = self._blobs.get(digest)
        if data is None:
            raise no_such_blob(digest)
        return MemorySource(data, clamp(span, len(data)))

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """There are no files."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return [
            UnsupportedError("blobs in memory lie in no file")
            if digest in self._blobs
            else no_such_blob(digest)
            for digest in digests
        ]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        with self._lock:
            return {each: len(self._blobs[each]) for each in digests if each in self._blobs}

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob in digest order; each step sees the store as it is then."""
        while (found := self._next(after)) is not None:
            yield found
            after = found.digest

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs; a missing one is no error."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        with self._lock:
            for digest in digests:
                self._forget(digest)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Look at when each was put last."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        verdicts: dict[Digest, Verdict] = {}
        with self._lock:
            for digest in set(digests) & self._blobs.keys():
                if self._stored_us[digest] >= before_us:
                    verdicts[digest] = Verdict.YOUNG
                else:
                    verdicts[digest] = Verdict.KEPT if keep(digest, None) else Verdict.REMOVED
            for digest, verdict in verdicts.items():
                if verdict is Verdict.REMOVED:
                    self._forget(digest)
        return verdicts

    def usage(self) -> Usage:
        """Nothing, on any medium."""
        return Usage()

    def close(self) -> None:
        """Nothing to let go of."""

    def _next(self, after: Digest | None) -> BlobRef | None:
        with self._lock:
            at = 0 if after is None else bisect.bisect_right(self._digests, after)
            if at == len(self._digests):
                return None
            return BlobRef(self._digests[at], len(self._blobs[self._digests[at]]))

    def _forget(self, digest: Digest) -> None:
        if self._blobs.pop(digest, None) is not None:
            del self._digests[bisect.bisect_left(self._digests, digest)]
            del self._stored_us[digest]

    def _put(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            self._stored_us[digest] = self._clock.now_us()
            if digest not in self._blobs:
                self._blobs[digest] = data
                bisect.insort(self._digests, digest)


class MemorySink(Closing):
    """One blob on its way into a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._data: bytearray | None = bytearray()

    def write(self, chunk: Buffer) -> None:
        """Copy the next bytes."""
        assert self._data is not None
        self._data += chunk

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Make the blob appear at once."""
        assert self._data is not None
        assert len(self._data) == ref.size_bytes
        self._store._put(ref.digest, bytes(self._data))  # noqa: SLF001 - the sink is part of it
        self._data = None
        return settled(None)

    def stage(self, ref: BlobRef) -> None:
        """Make the blob appear at once: there is no log."""
        self.commit(ref)

    def close(self) -> None:
        """Discard unless committed."""
        self._data = None


class MemorySource(Closing):
    """A span of bytes in memory, which stay as long as it is open."""

    turns = 0

    def __init__(self, data: Buffer, span: Span) -> None:
        self._span = memoryview(data)[span.offset : span.offset + span.size_bytes]
        self._size_bytes = span.size_bytes
        self._position = 0

    @property
    def size_bytes(self) -> int:
        """Size of the opened span."""
        return self._size_bytes

    def read(self, size_bytes: int) -> Buffer:
        """Read the next bytes without a copy."""
        assert size_bytes > 0
        part = self._span[self._position : self._position + size_bytes]
        self._position += len(part)
        return part

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset`."""
        assert 0 <= offset <= self._size_bytes
        self._position = offset

    def file(self) -> NativeFile | None:
        """There is none."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Memory is trusted."""
        del wait
        assert window.offset + window.size_bytes <= self._size_bytes
        return True

    def close(self) -> None:
        """Let go of the bytes."""
        self._span = memoryview(b"")
