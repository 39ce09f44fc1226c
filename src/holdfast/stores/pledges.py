"""What stands between storing a blob and naming it, and between removing it and storing it again.

A pledge is given for a blob that was staged, and lives as long as what waits for its commit. While
it does, nobody expires the blob; if it is removed all the same, the pledge is broken and the commit
refused. A doubt is left by a removal of which an answer was lost: the request may be on its way,
and would remove what is stored under that name meanwhile, so until it cannot come any more
(`limits.OBJECT_DOUBT_S`) nothing is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from holdfast.core import limits
from holdfast.core.errors import UnavailableError

if TYPE_CHECKING:
    from holdfast.core.digest import Digest
    from holdfast.core.seams import Clock


class Pledge:
    """One blob that waits for its name."""

    __slots__ = ("__weakref__", "_is_broken", "digest")

    def __init__(self, digest: Digest, *, is_broken: bool) -> None:
        self.digest = digest
        self._is_broken = is_broken

    def is_kept(self) -> bool:
        """Whether the blob is still there; asked in the batch that names it."""
        return not self._is_broken

    def break_off(self) -> None:
        """Refuse the commit."""
        self._is_broken = True


class Pledges:
    """All of one store; `_lock` guards the set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: WeakSet[Pledge] = WeakSet()

    def give(self, digest: Digest, *, is_there: bool) -> Pledge:
        """Give a pledge for a blob, broken at once unless `is_there`."""
        pledge = Pledge(digest, is_broken=not is_there)
        with self._lock:
            self._given.add(pledge)
        return pledge

    def waiting(self) -> set[Digest]:
        """Which blobs wait for their names."""
        with self._lock:
            return {each.digest for each in self._given}

    def break_off(self, digest: Digest) -> None:
        """Refuse the commits that wait for a blob which is going to be removed."""
        with self._lock:
            for each in self._given:
                if each.digest == digest:
                    each.break_off()


class Doubts:
    """Removals whose answers were lost; `_lock` guards them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until_s: dict[Digest, float] = {}

    def add(self, digest: Digest) -> None:
        """Note that a removal may be on its way."""
        with self._lock:
            self._until_s.pop(digest, None)
            self._until_s[digest] = self._clock.monotonic_s() + limits.OBJECT_DOUBT_S

    def check_room(self) -> None:
        """Refuse removals while too many are in doubt.

        Raises:
            UnavailableError: they are.
        """
        with self._lock:
            if len(self._until_s) >= limits.OBJECT_DOUBTS_MAX:
                self._forget()
            if len(self._until_s) >= limits.OBJECT_DOUBTS_MAX:
                raise UnavailableError("too many removals were not answered", 60)

    def check(self, digest: Digest) -> None:
        """Refuse to store what a removal could still reach.

        Raises:
            UnavailableError: it could; says for how long.
        """
        with self._lock:
            rest_s = self._until_s.get(digest, 0.0) - self._clock.monotonic_s()
            if rest_s <= 0:
                self._until_s.pop(digest, None)
                return
        message = "a removal of this blob was not answered, and may still come"
        raise UnavailableError(message, int(rest_s) + 1)

    def _forget(self) -> None:
        now_s = self._clock.monotonic_s()
        for digest in [each for each, until_s in self._until_s.items() if until_s <= now_s]:
            del self._until_s[digest]
