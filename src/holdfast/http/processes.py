"""The processes of one server: what they share, and what they use together."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from holdfast.http.counts import PROCESS, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from holdfast.http.meters import Meters

SMALLEST = {"process_start_time_seconds", "process_max_fds"}
"""What is not added up."""


class Team(NamedTuple):
    """What a worker knows of the server that it is a part of; by default it is alone."""

    tally: Tally
    number: int = 0
    """Its own."""
    supervisor: int = 0
    """The process that started the workers; 0: there is none."""
    opening: Mapping[str, int] = MappingProxyType({})
    """What the log found when the supervisor opened it."""
    meters: Meters | None = None
    """Those of all workers; None: it is alone, and has its own."""

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that does the work in the background."""
        return self.number == 0


class Processes(Collector):
    """The `process_*` metrics of all processes together.

    Time of workers that died is not lost: the kernel adds it to their parent's (proc(5), cutime).
    """

    def __init__(self, team: Team) -> None:
        self._team = team

    def collect(self) -> Iterator[Metric]:
        """Yield what one ProcessCollector yields for one process."""
        found: dict[str, list[Metric]] = {}
        for process in (self._team.supervisor, *_workers(self._team.tally)):
            collector = ProcessCollector(pid=partial(str, process), registry=None)
            for family in collector.collect():
                found.setdefault(family.name, []).append(family)
        for name, families in found.items():
            values = [family.samples[0].value for family in families]
            about = families[0].documentation
            if name == "process_cpu_seconds":
                ended_s = _ended_s(self._team.supervisor)
                yield CounterMetricFamily(name, about, sum(values) + ended_s)
            else:
                yield GaugeMetricFamily(name, about, (min if name in SMALLEST else sum)(values))


def _workers(tally: Tally) -> list[int]:
    return [process for block in tally.blocks if (process := block.numbers[PROCESS])]


def _ended_s(supervisor: int) -> float:
    """Processor time of children that are gone."""
    try:
        fields = Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
