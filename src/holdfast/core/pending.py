"""Results that come later, from another thread.

`Pending` is what callers see; concurrent.futures.Future is one. `Promise` is ours: it makes nothing
to wait on until somebody waits, which matters when thousands a second only ever call back.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

LOGGER = logging.getLogger("holdfast")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Pending(Protocol[T_co]):
    """A result that comes later, or an error; safe from any thread."""

    def done(self) -> bool:
        """Whether it came."""

    def result(self, timeout: float | None = None) -> T_co:
        """Wait for the result, at most `timeout` seconds; raises the error, if that is what came.

        Raises:
            TimeoutError: it did not come in time.
        """

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; the error, or None when there is a result."""

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        """Call `call(self)` when it comes, in the thread that brings it; at once if it came."""


class Promise(Generic[T]):
    """A Pending that its maker settles once.

    There is no lock: a callback is called by whoever takes it out of the list, which only one can,
    either who settles or, when that is over already, who added it.
    """

    __slots__ = ("_callbacks", "_done", "_error", "_result")
    _result: T

    def __init__(self) -> None:
        self._done = False
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        """Whether it was settled."""
        return self._done

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result, or raise the error."""
        if not self._done:
            self._wait(timeout)
        if self._error is not None:
            raise self._error
        return self._result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end; the error, or None when there is a result."""
        if not self._done:
            self._wait(timeout)
        return self._error

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        """Call `call(self)` at the end, or now if that was before."""
        self._callbacks.append(call)
        if self._done:
            with suppress(ValueError):  # who settled has taken it
                self._callbacks.remove(call)
                self._call(call)

    def set_result(self, result: T) -> None:
        """Settle; only once."""
        assert not self._done
        self._result = result
        self._settle()

    def set_exception(self, error: BaseException) -> None:
        """Settle with an error; only once."""
        assert not self._done
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self._done = True
        while self._callbacks:
            try:
                call = self._callbacks.pop(0)
            except IndexError:  # who added the last one has taken it back
                return
            self._call(call)

    def _call(self, call: Callable[[Any], object]) -> None:
        """Call back; who settles must not suffer from a defect of who waits."""
        try:
            call(self)
        except Exception:
            LOGGER.exception("promise.callback")

    def _wait(self, timeout: float | None) -> None:
        gate = threading.Lock()
        gate.acquire()
        self.add_done_callback(lambda _: gate.release())
        if not gate.acquire(timeout=-1 if timeout is None else max(0, timeout)):
            raise TimeoutError


def settled(result: T) -> Promise[T]:
    """A promise that is kept already."""
    promise: Promise[T] = Promise()
    promise.set_result(result)
    return promise
