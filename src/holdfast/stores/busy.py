"""Digests that somebody changes, or opens anew, one at a time."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from holdfast.core.digest import Digest


class Busy:
    """A lock for each digest, in the order of asking; `_changed` guards the list.

    Whoever wants several takes them all at once, so nobody waits with one in hand.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: list[frozenset[Digest]] = []
        """Of all who hold or wait, in the order of asking; as many as there are threads."""

    @contextmanager
    def hold(self, digests: Collection[Digest]) -> Iterator[None]:
        """Hold all of `digests` for the length of a block."""
        own = frozenset(digests)
        with self._changed:
            self._wanted.append(own)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._is_turn(own))
            yield
        finally:
            with self._changed:
                self._forget(own)
                self._changed.notify_all()

    def _is_turn(self, own: frozenset[Digest]) -> bool:
        """Whether nobody who asked before wants any of the same."""
        for each in self._wanted:
            if each is own:
                return True
            if not each.isdisjoint(own):
                return False
        raise AssertionError

    def _forget(self, own: frozenset[Digest]) -> None:
        del self._wanted[next(at for at, each in enumerate(self._wanted) if each is own)]
