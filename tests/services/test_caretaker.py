"""Tasks in turns: rates, waits and failures by a clock that the tests move, and a real thread."""

import logging
import threading
from collections.abc import Iterable, Iterator

import pytest

from holdfast.core import limits
from holdfast.core.errors import FullError, UnavailableError
from holdfast.core.limits import MIB
from holdfast.core.seams import SystemClock
from holdfast.services.caretaker import Caretaker, Done, Task
from holdfast.testing.hand_clock import StillClock


class Script:
    """A task that does what it is told, step by step, and writes down when."""

    def __init__(
        self,
        clock: SystemClock,
        steps: Iterable[Done | Exception],
        bytes_s_max: int = 0,
        name: str = "script",
    ) -> None:
        self.name = name
        self.bytes_s_max = bytes_s_max
        self.at_s: list[float] = []
        self.is_closed = False
        self._clock = clock
        self._steps = iter(steps)

    def step(self) -> Done:
        self.at_s.append(self._clock.monotonic_s())
        done = next(self._steps)
        if isinstance(done, Exception):
            raise done
        return done

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def forever(done: Done | Exception) -> Iterator[Done | Exception]:
    while True:
        yield done


def live(caretaker: Caretaker, clock: StillClock, seconds: float) -> None:
    """Let time pass as the thread would see it."""
    end_s = clock.moved_s + seconds
    while clock.moved_s < end_s:
        clock.moved_s = min(end_s, clock.moved_s + caretaker.take_turns())


def test_no_more_bytes_a_second_than_the_task_allows(clock: StillClock) -> None:
    task = Script(clock, forever(Done(MIB, 0)), bytes_s_max=4 * MIB)
    live(Caretaker([task], clock), clock, 100)
    assert len(task.at_s) == 400
    gaps = {b - a for a, b in zip(task.at_s, task.at_s[1:], strict=False)}
    assert gaps == {0.25}


def test_time_that_a_step_takes_counts_for_its_rate(clock: StillClock) -> None:
    class Slow(Script):
        def step(self) -> Done:
            done = super().step()
            clock.moved_s += 0.2
            return done

    task = Slow(clock, forever(Done(MIB, 0)), bytes_s_max=4 * MIB)
    live(Caretaker([task], clock), clock, 100)
    assert len(task.at_s) == 400


def test_a_task_waits_as_long_as_it_wants_to(clock: StillClock) -> None:
    task = Script(clock, [Done(0, 0), Done(8 * MIB, 1), Done(0, 3600), Done(0, 1e12)], MIB)
    live(Caretaker([task], clock), clock, 10_000)
    assert [at_s - 1000 for at_s in task.at_s] == [0, 0, 8, 3608]


def test_a_slow_task_does_not_hold_up_another(clock: StillClock) -> None:
    slow = Script(clock, forever(Done(MIB, 60)))
    quick = Script(clock, forever(Done(MIB, 0)), bytes_s_max=MIB)
    live(Caretaker([slow, quick], clock), clock, 600)
    assert (len(slow.at_s), len(quick.at_s)) == (10, 600)


def test_a_failing_step_is_told_and_tried_again_later_and_later(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[Done | Exception] = [UnavailableError("the disk refuses")] * 12
    task = Script(clock, [*steps, Done(0, 5), FullError("full"), Done(0, 1e12)])
    other = Script(clock, forever(Done(0, 1)))
    caretaker = Caretaker([task, other], clock)
    live(caretaker, clock, 10_000)
    waits = [b - a for a, b in zip(task.at_s, task.at_s[1:], strict=False)]
    longest = [limits.TASK_RETRY_S_MAX] * 2
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *longest, 5, 1]
    assert len(other.at_s) == 10_000
    told = [record for record in caplog.records if record.getMessage() == "task.failed"]
    assert len(told) == 13
    fields = vars(told[2])["fields"]
    assert fields == {"task": "script", "error": "the disk refuses", "wait_s": 4}
    assert {record.levelno for record in told} == {logging.WARNING}


def test_a_defect_is_told_with_its_trace_and_ends_nothing(
    clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    task = Script(clock, [ZeroDivisionError("oh"), Done(0, 1e12)])
    caretaker = Caretaker([task], clock)
    live(caretaker, clock, 10)
    assert len(task.at_s) == 2
    (told,) = caplog.records
    assert told.getMessage() == "defect"
    assert "ZeroDivisionError" in vars(told)["fields"]["trace"]


def test_nothing_to_do_is_no_reason_to_spin(clock: StillClock) -> None:
    assert Caretaker([], clock).take_turns() > 60


class Work:
    """A task that is done when somebody says so."""

    name = "work"
    bytes_s_max = 0

    def __init__(self, wait_s: float) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.steps = 0
        self.is_closed = False
        self._wait_s = wait_s

    def step(self) -> Done:
        assert not self.is_closed
        self.steps += 1
        self.begun.set()
        self.go.wait()
        return Done(0, self._wait_s)

    def close(self) -> None:
        self.is_closed = True


def test_closing_ends_the_thread_behind_its_step_and_closes_the_tasks() -> None:
    first, second = Work(0), Work(0)
    tasks: list[Task] = [first, second]
    caretaker = Caretaker(tasks)
    with caretaker:
        assert first.begun.wait(20)
        closing = threading.Thread(target=caretaker.close)
        closing.start()
        while not caretaker._stopping.is_set():
            pass
        first.go.set()
        closing.join(20)
        assert not closing.is_alive()
    assert (first.steps, second.steps) == (1, 0)
    assert first.is_closed
    assert second.is_closed
    assert "holdfast-caretaker" not in {thread.name for thread in threading.enumerate()}


def test_a_caretaker_that_waits_for_a_long_time_stops_at_once() -> None:
    task = Work(wait_s=1e9)
    task.go.set()
    with Caretaker([task]):
        assert task.begun.wait(20)
    assert task.is_closed
    assert task.steps == 1


def test_a_caretaker_that_never_began_can_be_closed() -> None:
    task = Work(0)
    caretaker = Caretaker([task])
    caretaker.close()
    caretaker.close()
    assert task.is_closed
    assert task.steps == 0
