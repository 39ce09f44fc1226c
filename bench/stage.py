"""What every row is given: a place, a generator, how long to measure, and servers on demand."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import NamedTuple

from bench.load import Generator, Measured, Work
from bench.process import Running, Server, start
from bench.table import Bar, Line, NotRunError, median, spell_us

WARM_S = 0.3
NUMBERS_PER_TURN = 10_000_000  # of PUT keys; no turn reaches it


class Target(NamedTuple):
    """Where requests go: the path of a blob holds {n} or {x}, its number."""

    name: str
    running: Running
    port: int
    path: str
    api_key: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    turn_s: float = 2.5
    rounds: int = 2
    blobs: int = 100_000
    """How many the rows about many blobs use."""
    flat_blobs: tuple[int, ...] = (10_000, 100_000)
    """How many a store has each time that the cost of one is measured."""
    large_bytes: int = 2 << 30
    files_per_turn: int = 16
    """Of the 64 MiB upload."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The surroundings of the rows."""

    work: Path
    generator: Generator
    options: Options
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @contextmanager
    def scene(self) -> Iterator["Scene"]:
        """Give a row directories and servers that are gone when the block ends."""
        directory = self.work / "run" / str(next(self.numbers))
        directory.mkdir(parents=True)
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            yield Scene(directory, stack)

    def get(self, target: Target, size_bytes: int, keys: int, connections: int) -> Measured:
        """Fetch blobs at random for one turn; large ones are counted and not copied."""
        work = Work("GET", target.path, size_bytes, connections, keys, target.api_key)
        return self._turn(target, work)[0]

    def put(self, target: Target, size_bytes: int, connections: int) -> Measured:
        """Store new blobs for one turn."""
        return self._turn(target, self.put_work(target, size_bytes, connections))[0]

    def put_work(self, target: Target, size_bytes: int, connections: int) -> Work:
        """Describe PUTs of numbers that no turn has used."""
        first = next(self.numbers) * NUMBERS_PER_TURN
        return Work("PUT", target.path, size_bytes, connections, first, target.api_key)

    def mixed(self, target: Target, *works: Work) -> list[Measured]:
        """Do several kinds of request at once for one turn."""
        return self._turn(target, *works)

    def _turn(self, target: Target, *works: Work) -> list[Measured]:
        os.sync()  # what another server left dirty is not this one's to write
        discard = all(work.method == "GET" for work in works)
        before_s = target.running.cpu_s()
        try:
            results = self.generator.run(
                target.port, *works, seconds=self.options.turn_s, discard=discard
            )
        except NotRunError as error:
            raise NotRunError(f"{target.name}: {error}") from error
        used_us = (target.running.cpu_s() - before_s) * 1e6 / sum(each.requests for each in results)
        return [replace(each, server_us=used_us) for each in results]


@dataclass(frozen=True, slots=True)
class Scene:
    """One row's directories and servers."""

    directory: Path
    stack: ExitStack

    def folder(self, name: str) -> Path:
        """Make an empty directory."""
        folder = self.directory / name
        folder.mkdir()
        return folder

    def start(self, server: Server) -> Running:
        """Start a server that stops with the scene."""
        running = start(server)
        self.stack.callback(running.stop)
        return running


class Row(NamedTuple):
    """A part of the table that is measured in one go."""

    name: str
    run: Callable[[Stage], Iterator[Line]]
    bar: Bar | None = None
    """Shown when nothing can be measured; measured lines bring their own."""


def cost(results: Mapping[str, Sequence[Measured]]) -> str:
    """Say what one request cost each server in processor time."""
    costs = (
        f"{name} {spell_us(median([each.server_us for each in turns]))}"
        for name, turns in results.items()
    )
    return "CPU a request: " + ", ".join(costs)


def measure(row: Row, stage: Stage) -> Iterator[Line]:
    """Run a row; one that cannot run says why and does not vanish."""
    try:
        yield from row.run(stage)
    except NotRunError as error:
        yield Line(row.name, None, row.bar, note=f"not run: {error}")
