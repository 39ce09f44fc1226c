"""Repair: bring back a damaged blob from a good copy, if anybody has one.

What may be a copy is written to a sink while it is hashed, and committed only if it is that blob:
nothing is guessed. Where copies come from is a hook: those of this store's own media, and whatever
else is given (other machines, one day).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Protocol

from holdfast.core.digest import Digest, Hasher
from holdfast.core.errors import BlobError, NotFoundError
from holdfast.core.inspection import QUARANTINE
from holdfast.depot.content import ContentDepot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.core.digest import BlobRef
    from holdfast.core.inspection import Finding, Medium, Place
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Sink
    from holdfast.depot.engine import Engine


class Copies(Protocol):
    """A place that may have good copies of blobs."""

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterable[Buffer]]:
        """Yield what may be the bytes of a blob, each as chunks; nobody believes them unseen.

        `size_bytes` is that of the blob, where it is known.
        """


class Repair:
    """Repairs blobs of one store; for one thread at a time."""

    def __init__(self, engine: Engine, others: Sequence[Copies] = ()) -> None:
        self._store = engine.store
        self._media = engine.media
        self._quarantine = engine.stamps.folder / QUARANTINE
        self._content = ContentDepot(engine)
        self._others = others

    def restore(self, finding: Finding, found: Iterable[Buffer] | None = None) -> bool:
        """Make a damaged blob whole, from `found` or from any other copy; False without one.

        What was damaged of it is given up where another medium has it whole.

        Raises:
            FullError, UnavailableError: there may be a copy, but the disk refuses now.
        """
        digest = Digest.parse(finding.digest)
        damaged = [medium for medium in self._media if medium.place(digest) == finding.place]
        if self._is_elsewhere(digest, damaged):
            for medium in damaged:
                medium.discard(digest, self._quarantine)
            return True
        places: Sequence[Copies] = (*self._media, *self._others)
        size_bytes = self._size_bytes(digest)
        given = () if found is None else (found,)
        candidates = chain(given, *(each.copies(digest, size_bytes) for each in places))
        return any(self._store_again(digest, chunks) for chunks in candidates)

    def is_over(self, finding: Finding) -> bool:
        """Whether what was damaged is whole where it was, since something else was mended."""
        digest = Digest.parse(finding.digest)
        return any(
            each.place(digest) == finding.place and each.is_sound(digest) for each in self._media
        )

    def give_up(self, finding: Finding) -> None:
        """Let go of a damaged blob that nobody has whole, so that it is missing and can come back.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        digest = Digest.parse(finding.digest)
        assert not self._is_elsewhere(digest, ())
        for medium in self._media:
            medium.discard(digest, self._quarantine)
        self._store.remove([digest])

    def _is_elsewhere(self, digest: Digest, damaged: Sequence[Medium]) -> bool:
        return any(medium not in damaged and medium.is_sound(digest) for medium in self._media)

    def _size_bytes(self, digest: Digest) -> int | None:
        try:
            return self._content.stat(digest)
        except NotFoundError:
            return None

    def _store_again(self, digest: Digest, chunks: Iterable[Buffer]) -> bool:
        before = self._places(digest)
        with self._store.sink() as sink:
            ref = _copy(chunks, sink)
            if ref is None or ref.digest != digest:
                return False
            for medium in self._media:
                medium.forget(digest)  # or the store takes what the page cache has for sound
            sink.commit(ref).result()
        return self._places(digest) != before

    def _places(self, digest: Digest) -> list[Place | None]:
        return [medium.place(digest) for medium in self._media]


def _copy(chunks: Iterable[Buffer], sink: Sink) -> BlobRef | None:
    """Write and hash; None when the copy breaks off."""
    hasher, rest = Hasher(), iter(chunks)
    while True:
        try:
            chunk = next(rest, None)
        except BlobError:
            return None
        if chunk is None:
            return hasher.ref()
        hasher.update(chunk)
        sink.write(chunk)
