"""Blobs that are held to their SHA-256 before a byte of them is given out.

    from holdfast.stores.verified import VerifiedStore

    VerifiedStore(inner, clock)

For a store of which one does not know what it does to bytes. The first to open a blob reads it
whole; that it was sound is remembered for `limits.VERIFY_AGAIN_S`, of the last few blobs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.many import open_each
from holdfast.core.verify import verify
from holdfast.stores.wrapper import Wrapper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.errors import BlobError
    from holdfast.core.seams import Clock
    from holdfast.core.store import Keep, Source, Span, Store, Verdict


class VerifiedStore(Wrapper):
    """A store around another; `_lock` guards what is remembered."""

    def __init__(self, inner: Store, clock: Clock) -> None:
        super().__init__(inner)
        self._clock = clock
        self._lock = threading.Lock()
        self._verified_s: OrderedDict[Digest, float] = OrderedDict()

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob that was verified lately, or is now.

        Raises:
            NotFoundError, CorruptError, UnsatisfiableError: as the contract has it.
        """
        if not self._is_known(digest):
            if not wait:
                return None
            verify(self.inner, digest)
            self._remember(digest)
        return self.inner.open(digest, span, wait=wait)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs, and that they were sound."""
        self._forget(digests)
        super().remove(digests)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget old blobs that nobody wants, and that they were sound."""
        self._forget(digests)
        return super().expire(digests, before_us, keep)

    def _is_known(self, digest: Digest) -> bool:
        at_s = self._verified_s.get(digest)
        return at_s is not None and self._clock.monotonic_s() < at_s + limits.VERIFY_AGAIN_S

    def _remember(self, digest: Digest) -> None:
        with self._lock:
            self._verified_s[digest] = self._clock.monotonic_s()
            self._verified_s.move_to_end(digest)
            while len(self._verified_s) > limits.VERIFIED_REFS_MAX:
                self._verified_s.popitem(last=False)

    def _forget(self, digests: Collection[Digest]) -> None:
        with self._lock:
            for digest in digests:
                self._verified_s.pop(digest, None)
