"""Rows about stores in SQLite: what batches bring to many writers, and what async_write to one."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from bench.load import Measured
from bench.peers import holdfast
from bench.stage import Row, Stage, Target, cost
from bench.table import Bar, Line, faced, in_turn, paired, spell_us

KIB = 1024
WRITERS = 64
BATCHES = "shards, batches of 64 against one by one, PUT 1 KiB by 64 writers"
ASYNC = "shards, async_write against durable, middle time of a PUT of 1 KiB"
BATCH_BAR = Bar(2, "x")
ASYNC_BAR = Bar(0.5, "x", at_least=False)
SHARDS = {"HOLDFAST_SHARDS": "4"}
BATCHED = {**SHARDS, "HOLDFAST_BATCH_SIZE": "64"}


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [Row(BATCHES, _batches, BATCH_BAR), Row(ASYNC, _async, ASYNC_BAR)]


def _batches(stage: Stage) -> Iterator[Line]:
    results = _measured(stage, {"batches": BATCHED, "one by one": SHARDS}, WRITERS)
    rates = {name: [turn.rate for turn in turns] for name, turns in results.items()}
    line = faced(BATCHES, rates, BATCH_BAR, "one by one", figure=paired)
    yield line.noted(cost(results))


def _async(stage: Stage) -> Iterator[Line]:
    settings = {"async": {**BATCHED, "HOLDFAST_ASYNC_WRITE": "true"}, "durable": BATCHED}
    results = _measured(stage, settings, 1)
    times = {name: [turn.p50_us for turn in turns] for name, turns in results.items()}
    yield faced(ASYNC, times, ASYNC_BAR, "durable", figure=paired, text=spell_us)


def _measured(
    stage: Stage, settings: Mapping[str, Mapping[str, str]], connections: int
) -> Mapping[str, Sequence[Measured]]:
    """PUTs of new names on servers with different settings, in turn."""
    with stage.scene() as scene:
        runs = {}
        for name, variables in settings.items():
            folder = scene.folder(name.replace(" ", "-"))
            running = scene.start(holdfast(folder, variables=variables))
            target = Target(name, running, running.port, "/blob/p{n}")
            runs[name] = partial(stage.put, target, KIB, connections)
        return in_turn(runs, stage.options.rounds)
