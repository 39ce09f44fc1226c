"""A bar for long work of several phases: how far it is, how fast it goes, how long it may take.

    moving  ========----------  1.5 GiB of 4.0 GiB (1.0 GiB there before), 48.1 MiB/s, 0:00:53 left

How fast is what was done in the last half minute; what was there before the run counts for how far
it is, and not for how fast. Where nobody knows how much there is, the line says so.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.cli.output import display, human_size
from holdfast.core.progress import BYTES
from holdfast.core.seams import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from holdfast.core.progress import Phase
    from holdfast.core.seams import Clock

SAMPLE_S = 0.5
SAMPLES = 60
MINUTE_S = HOUR_MINUTES = 60


@contextmanager
def phase_bar() -> Iterator[Callable[[Phase], None]]:
    """Show a bar on a terminal; the yielded function takes how far it is, again and again."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415 - slow, only for terminals

    line = TextColumn("{task.fields[line]}", markup=False)
    with display(TextColumn("{task.description}"), BarColumn(), line) as bars:
        yield _Shown(bars).show


class _Shown:
    """The bar of the phase that is going on."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._pace = Pace(SystemClock())
        self._name = ""
        self._task: TaskID | None = None

    def show(self, phase: Phase) -> None:
        """Show how far it is; another phase begins another bar."""
        if self._task is None or phase.name != self._name:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._name = phase.name
            self._task = self._bars.add_task(phase.name, total=None, line="")
        line = self._pace.line(phase)
        self._bars.update(self._task, completed=phase.done, total=phase.total, line=line)


class Pace:
    """How fast a phase goes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._name = ""
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        """When so much was done that had not been there."""

    def line(self, phase: Phase) -> str:
        """Say how far it is, and what is known of the rest."""
        parts = [_far(phase)]
        rate = self._rate(phase)
        if rate:
            parts.append(f"{_amount(int(rate), phase.unit)}/s")
            if phase.total is not None:
                parts.append(f"{_time(max(0, phase.total - phase.done) / rate)} left")
        return ", ".join(parts)

    def _rate(self, phase: Phase) -> float:
        """Done in a second, of late; 0 while that cannot be said."""
        now_s, fresh = self._clock.monotonic_s(), phase.done - phase.spared
        if phase.name != self._name:
            self._name = phase.name
            self._samples.clear()
        if not self._samples or now_s - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now_s, fresh))
        first_s, first = self._samples[0]
        elapsed_s = now_s - first_s
        return (fresh - first) / elapsed_s if elapsed_s >= SAMPLE_S else 0.0


def _far(phase: Phase) -> str:
    total = "?" if phase.total is None else _amount(phase.total, phase.unit)
    text = f"{_amount(phase.done, phase.unit)} of {total}"
    if phase.unit != BYTES:
        text = f"{text} {phase.unit}"
    there = f" ({_amount(phase.spared, phase.unit)} there before)" if phase.spared else ""
    return text + there


def _amount(count: int, unit: str) -> str:
    return human_size(count) if unit == BYTES else f"{count:,}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), MINUTE_S)
    hours, minutes = divmod(minutes, HOUR_MINUTES)
    return f"{hours}:{minutes:02}:{rest:02}"
