"""Since when blobs are known to have been stored, or found there, by this process.

An object store says when an object was stored, by its own clock, and nothing of when somebody last
found it there and went on to name it. So this process remembers both, by its own clock. What it
does not know is taken for younger than the object store says by `limits.OBJECT_SKEW_S`, by which
clocks may differ before requests are refused; what it had to forget, for as young as it can be.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from holdfast.core import limits

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.core.seams import Clock

SKEW_US = limits.OBJECT_SKEW_S * 1_000_000


class Ages:
    """Times by digest; `_lock` guards both."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found_us: OrderedDict[Digest, int] = OrderedDict()
        self._forgotten_us = -1
        """Whatever was forgotten had no later time."""

    def note(self, digest: Digest) -> None:
        """Remember that a blob was stored, or found there, just now."""
        with self._lock:
            self._found_us.pop(digest, None)
            self._found_us[digest] = self._clock.now_us()
            if len(self._found_us) > limits.OBJECT_AGES_MAX:
                _, at_us = self._found_us.popitem(last=False)
                self._forgotten_us = max(self._forgotten_us, at_us)

    def forget(self, digest: Digest) -> None:
        """Forget a blob that was removed."""
        with self._lock:
            self._found_us.pop(digest, None)

    def knows(self, digest: Digest) -> bool:
        """Whether it is remembered that a blob is there."""
        with self._lock:
            return digest in self._found_us

    def is_young(self, digest: Digest, modified_us: int, before_us: int) -> bool:
        """Whether a blob may have been stored, or found there, at `before_us` or later."""
        with self._lock:
            found_us = self._found_us.get(digest)
            if found_us is not None:
                return found_us >= before_us
            return max(modified_us + SKEW_US, self._forgotten_us) >= before_us
