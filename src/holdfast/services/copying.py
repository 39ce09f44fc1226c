"""Blobs out of one store into another: small ones many at once, large ones chunk by chunk.

Every blob is hashed on its way. One that cannot be read, or whose bytes are not what its name says,
is told to `note` and left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import BlobError, CorruptError, NotFoundError
from holdfast.core.many import get_many, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdfast.core.store import Source, Store


LOST = (CorruptError, NotFoundError)
"""What is the matter with a blob, and not with its store."""


class Lack(NamedTuple):
    """What of some blobs the new store has not."""

    digests: Sequence[Digest]
    sizes: Mapping[Digest, int]
    """Of those that the old store has."""
    there: Mapping[Digest, int]
    """Sizes of those that the new store has."""


class Copying:
    """From one store to another; for one thread."""

    def __init__(self, old: Store, new: Store, note: Callable[[Digest], object]) -> None:
        self._old = old
        self._new = new
        self._note = note
        self.blobs = 0
        """Stored so far."""

    def lack(self, digests: Sequence[Digest]) -> Lack:
        """See which of some blobs are missing; tell of those that the old store has not either."""
        there = self._new.stat(digests)
        missing = [digest for digest in digests if digest not in there]
        sizes = self._old.stat(missing)
        for digest in missing:
            if digest not in sizes:
                self._note(digest)
        return Lack(missing, sizes, there)

    def copy(self, lack: Lack) -> Iterator[int]:
        """Store what is missing; yield how many bytes each step moved.

        Raises:
            BlobError: a store refuses; what was stored stays.
        """
        refs = [BlobRef(each, lack.sizes[each]) for each in lack.digests if each in lack.sizes]
        for batch in grouped(ref for ref in refs if _is_small(ref)):
            yield self._copy_small([ref.digest for ref in batch])
        for ref in refs:
            if not _is_small(ref):
                yield from self._copy_large(ref.digest)

    def _copy_small(self, digests: Sequence[Digest]) -> int:
        """Store some at once; what is read wrong would get another name, and is told."""
        found = list(get_many(self._old, digests))
        good = [
            data
            for digest, data in zip(digests, found, strict=True)
            if isinstance(data, bytes) and self._is(digest, Digest.of(data))
        ]
        for digest, data in zip(digests, found, strict=True):
            if isinstance(data, LOST):
                self._note(digest)
            elif isinstance(data, BlobError):
                raise data
        for stored in self._new.put_many(good):
            if isinstance(stored, BlobError):
                raise stored
        self.blobs += len(good)
        return sum(map(len, good))

    def _copy_large(self, digest: Digest) -> Iterator[int]:
        """Store one a chunk at a time."""
        hasher = Hasher()
        with self._new.sink() as sink:
            try:
                for chunk in _chunks(self._old, digest):
                    hasher.update(chunk)
                    sink.write(chunk)
                    yield len(chunk)
            except _ReadError:
                self._note(digest)
                return
            ref = hasher.ref()
            if self._is(digest, ref.digest):
                sink.commit(ref).result()
                self.blobs += 1

    def _is(self, digest: Digest, actual: Digest) -> bool:
        if digest != actual:
            self._note(digest)
        return digest == actual


class _ReadError(Exception):
    """The old store could not give a blob."""


def _chunks(store: Store, digest: Digest) -> Iterator[bytes | bytearray | memoryview]:
    """Read a blob of the old store, whose errors are told from those of the new one."""
    try:
        source: Source | None = store.open(digest)
        assert source is not None
        with source:
            while chunk := source.read(limits.CHUNK_BYTES):
                yield chunk
    except LOST as error:
        raise _ReadError from error


def _is_small(ref: BlobRef) -> bool:
    return ref.size_bytes <= limits.SMALL_BLOB_BYTES_MAX
