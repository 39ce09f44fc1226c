"""Connections of a client: taken for a call, and given back."""

from collections.abc import Callable
from typing import Generic, TypeVar

from holdfast.core.errors import UnavailableError

H = TypeVar("H")


class Connections(Generic[H]):
    """Clients of httpx, each of which makes one connection; the one used last is used next.

    A pool of httpx looks at all its connections whenever a request begins or ends, which with a
    hundred of them costs more than the request itself. This looks at none. Safe from any thread.
    """

    def __init__(self, make: Callable[[], H], idle_max: int) -> None:
        self._make = make
        self._idle_max = idle_max
        self._idle: list[H] = []
        self._all: set[H] = set()
        self._is_closed = False

    def take(self) -> H:
        """One for the caller alone, who gives it back; UnavailableError once all were taken."""
        if self._is_closed:
            raise UnavailableError("the client is closed")
        try:
            return self._idle.pop()
        except IndexError:
            one = self._make()
            self._all.add(one)
            return one

    def is_kept(self, one: H) -> bool:
        """Give one back; the caller closes what is not kept, because enough are idle."""
        if len(self._idle) < self._idle_max and not self._is_closed:
            self._idle.append(one)
            return True
        self._all.discard(one)
        return False

    def take_all(self) -> list[H]:
        """All there are, idle or not, to be closed, for there will be no more."""
        self._is_closed = True
        return list(self._all)
