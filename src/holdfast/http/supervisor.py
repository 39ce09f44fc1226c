"""Starts the workers of a server, watches them and ends them; serves nothing itself.

It has one thread, no event loop and no open index, so that it can fork at any time and has little
that could fail. Signals are blocked and waited for, so nothing ever interrupts it. It keeps every
socket open: what waits at that of a dead worker is served by the next.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from holdfast.core import limits
from holdfast.core.errors import BlobError, UnavailableError
from holdfast.core.events import defect, event
from holdfast.core.rates import doubled
from holdfast.core.seams import SystemEntropy
from holdfast.depot.local import sweep_uploads
from holdfast.http import journal
from holdfast.http.counts import PROCESS, READY, RESTARTS, Tally
from holdfast.http.meters import Meters
from holdfast.http.processes import Team
from holdfast.http.server import STOP_SIGNALS
from holdfast.http.worker import work

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.config.settings import Settings
    from holdfast.core.seams import Clock

SIGNALS = frozenset((*STOP_SIGNALS, signal.SIGCHLD))
LOOK_S = 0.02  # how often a starting worker is looked at
REST_S = 60.0
AGAIN_S = 0.1  # before the second try to start a worker; doubles each time
AGAIN_S_MAX = 5.0
KILL_S = 10.0  # what a worker gets beyond `stop_wait_s`
FAILED = 1  # exit code of a worker that met a defect


class Seat:
    """The place of one worker, whoever has it."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener = listener
        self.process = 0
        """0: nobody."""
        self.failures = 0
        """How many ended in a row before they took requests."""
        self.due_s = 0.0
        """When the next one is started."""


class Supervisor:
    """Keeps a worker in every seat until it is told to stop."""

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[socket.socket],
        opening: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """Plan for a worker at each of `listeners`; `opening` is what opening the store found."""
        self._settings = settings
        self._clock = clock
        self._opening = opening
        self._tally = Tally(len(listeners))
        self._meters = Meters(clock, SystemEntropy(), shared=True)
        self._seats = [Seat(number, listener) for number, listener in enumerate(listeners)]
        self._lifeline, self._own_end = os.pipe()
        self._is_serving = False

    def run(self, on_start: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, then let the workers finish; a second signal ends them.

        `on_start` is called when all workers take requests for the first time.

        Raises:
            UnavailableError: a worker could not start, again and again.
            KeyboardInterrupt: a second signal came.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._serve(on_start)
        finally:
            try:
                self._stop()
            finally:
                self._kill()

    def _serve(self, on_start: Callable[[], None]) -> None:
        self._start_due()
        while self._wait(self._rest_s()) not in STOP_SIGNALS:
            self._replace_dead()
            self._start_due()
            if not self._is_serving and all(map(self._is_ready, self._seats)):
                self._is_serving = True
                on_start()

    # Waiting

    def _wait(self, wait_s: float) -> int:
        """The next signal; 0 when none comes in time."""
        came = signal.sigtimedwait(SIGNALS, max(0.0, wait_s))
        return 0 if came is None else came.si_signo

    def _rest_s(self) -> float:
        if not self._is_serving:
            return LOOK_S
        empty = [seat.due_s for seat in self._seats if not seat.process]
        return min(empty) - self._clock.monotonic_s() if empty else REST_S

    def _is_ready(self, seat: Seat) -> bool:
        return self._tally.blocks[seat.number].numbers[READY] == 1

    # Starting

    def _start_due(self) -> None:
        now_s = self._clock.monotonic_s()
        for seat in self._seats:
            if not seat.process and seat.due_s <= now_s:
                self._start(seat)

    def _start(self, seat: Seat) -> None:
        process = os.fork()
        if process == 0:
            self._become(seat)
        seat.process = self._tally.blocks[seat.number].numbers[PROCESS] = process

    def _become(self, seat: Seat) -> NoReturn:
        """Be the worker, in the process that was just forked; nothing above may go on in it."""
        settings = self._settings
        code = FAILED
        try:
            journal.start(settings.log_level, settings.log_format, worker=seat.number)
            os.close(self._own_end)
            for other in self._seats:
                if other is not seat:
                    other.listener.close()
            team = Team(self._tally, seat.number, os.getppid(), self._opening, self._meters)
            work(settings, team, seat.listener, self._lifeline)
            code = 0
        except BlobError as error:
            event(logging.ERROR, "worker.failed", error=error.message)
        except BaseException as error:  # noqa: BLE001 - nobody above would hear of it
            defect(error, "worker")
        finally:
            os._exit(code)

    # Replacing

    def _replace_dead(self) -> None:
        """Plan for the successors of workers that died.

        Raises:
            UnavailableError: too many died before they took requests.
        """
        for seat in self._seats:
            if (status := self._ended(seat)) is None:
                continue
            numbers = self._tally.blocks[seat.number].numbers
            seat.failures = 0 if numbers[READY] else seat.failures + 1
            numbers[READY] = 0
            if not self._is_serving or seat.failures >= limits.WORKER_STARTS_MAX:
                raise UnavailableError(f"worker {seat.number} cannot start: {status}")
            wait_s = doubled(AGAIN_S, seat.failures, AGAIN_S_MAX) if seat.failures else 0.0
            seat.due_s = self._clock.monotonic_s() + wait_s
            numbers[RESTARTS] += 1
            event(
                logging.WARNING, "worker.restart", worker=seat.number, status=status, wait_s=wait_s
            )

    def _ended(self, seat: Seat) -> str | None:
        """How the worker of a seat ended, whose traces are removed; None while it lives."""
        if not seat.process:
            return None
        process, status = os.waitpid(seat.process, os.WNOHANG)
        if not process:
            return None
        seat.process = self._tally.blocks[seat.number].numbers[PROCESS] = 0
        with suppress(OSError):
            sweep_uploads(self._settings.data, process)
        code = os.waitstatus_to_exitcode(status)
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    # Stopping

    def _stop(self) -> None:
        """Take no more connections, and let the workers finish."""
        for seat in self._seats:
            seat.listener.close()
        self._signal(signal.SIGTERM)
        until_s = self._clock.monotonic_s() + self._settings.stop_wait_s + KILL_S
        while any(self._ended(seat) is None and seat.process for seat in self._seats):
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                event(logging.WARNING, "worker.killed")
                return
            if self._wait(left_s) in STOP_SIGNALS:
                raise KeyboardInterrupt

    def _kill(self) -> None:
        """End what is left, at once."""
        self._signal(signal.SIGKILL)
        for seat in self._seats:
            if seat.process:
                os.waitpid(seat.process, 0)
                seat.process = 0

    def _signal(self, number: int) -> None:
        for seat in self._seats:
            if seat.process:  # not waited for yet, so the number is still its own
                os.kill(seat.process, number)
