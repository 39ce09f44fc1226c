"""The caretaker: one thread that looks after an open store while others use it.

It takes tasks in turns, each a bounded step at a time, and never more bytes a second than a task
allows. A step that fails is told as an event and tried again, after a wait that doubles from one
failure to the next; the other tasks go on. Close it before the store:

    with holdfast.open("data") as store, Caretaker([Scrub(store.engine)]) as caretaker:
        ...
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.events import defect, event
from holdfast.core.rates import doubled
from holdfast.core.seams import SystemClock

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from holdfast.core.seams import Clock

IDLE_S = 3600.0  # a caretaker without tasks looks up so often, for nothing


class Done(NamedTuple):
    """What a step did."""

    size_bytes: int
    """Read and written: what counts for the rate."""
    wait_s: float
    """The next step is not wanted earlier; 0 when there is more to do at once."""


class Task(Protocol):
    """Something to do in bounded steps, by one thread at a time."""

    @property
    def name(self) -> str:
        """One word, for events and metrics."""

    @property
    def bytes_s_max(self) -> int:
        """Bytes a second that the steps may need together; 0 means no limit."""

    def step(self) -> Done:
        """Do about `limits.STEP_BYTES_MAX` of work, or less.

        Raises:
            BlobError, OSError: this step failed; the next may not.
        """

    def close(self) -> None:
        """Let go; no step follows."""


class Steps(ABC):
    """A task whose steps come out of a generator; behind an error it is begun anew."""

    def __init__(self) -> None:
        self._work = self._run()

    def step(self) -> Done:
        """Do as much as the generator does until it yields.

        Raises:
            BlobError, OSError: this step failed; the next one begins again.
        """
        try:
            return next(self._work)
        except BaseException:
            self._work = self._run()
            raise

    def close(self) -> None:
        """Stop where the generator stands; what was done stays done."""
        self._work.close()

    @abstractmethod
    def _run(self) -> Generator[Done, None, None]:
        """Work for ever, and yield behind each bounded part; what is left says where to begin."""


class _Turn:
    """A task and when its turn is."""

    def __init__(self, task: Task, due_s: float) -> None:
        self.task = task
        self.due_s = due_s
        self.failures = 0

    def take(self, clock: Clock) -> None:
        """Run one step and work out when the next one is due."""
        begun_s = clock.monotonic_s()
        try:
            done = self.task.step()
        except (BlobError, OSError) as error:
            wait_s = self._wait_longer()
            message = getattr(error, "message", None) or str(error)
            event(logging.WARNING, "task.failed", task=self.task.name, error=message, wait_s=wait_s)
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            wait_s = self._wait_longer()
            defect(error, f"task {self.task.name}")
        else:
            self.failures = 0
            rate = self.task.bytes_s_max
            wait_s = max(done.wait_s, done.size_bytes / rate if rate else 0.0)
        self.due_s = begun_s + wait_s

    def _wait_longer(self) -> float:
        self.failures += 1
        return doubled(limits.TASK_RETRY_S, self.failures - 1, limits.TASK_RETRY_S_MAX)


class Caretaker:
    """Runs tasks in a thread of its own, from `start` to `close`."""

    def __init__(self, tasks: Sequence[Task], clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        now_s = self._clock.monotonic_s()
        self._turns = [_Turn(task, now_s) for task in tasks]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-caretaker", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def close(self) -> None:
        """Stop behind the step that runs, and close the tasks; a second call does nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for turn in self._turns:
            turn.task.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def take_turns(self) -> float:
        """Run one step of every task whose turn it is; return for how long nobody's turn is."""
        for turn in self._turns:
            if turn.due_s <= self._clock.monotonic_s() and not self._stopping.is_set():
                turn.take(self._clock)
        now_s = self._clock.monotonic_s()
        return max(0.0, min((turn.due_s - now_s for turn in self._turns), default=IDLE_S))

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(min(wait_s, threading.TIMEOUT_MAX)):
            wait_s = self.take_turns()
