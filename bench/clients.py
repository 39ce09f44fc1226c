"""Rows about AsyncClient: ours beside httpx as it comes, both on one server of ours."""

from collections.abc import Iterator
from functools import partial

from bench.library import measure_alone
from bench.peers import holdfast
from bench.process import await_answer
from bench.stage import Row, Stage
from bench.table import Line, faced, in_turn

WAYS = ("ours", "raw")


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [Row(_name(what), partial(_compare, what)) for what in ("put", "get")]


def _name(what: str) -> str:
    return f"AsyncClient {what} 1 KiB, 64 at once, against httpx"


def _compare(what: str, stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        running = scene.start(holdfast(scene.folder("served")))
        await_answer(running)

        def run(way: str) -> float:
            first = next(stage.numbers) * 10_000_000
            numbers = (running.port, stage.options.turn_s, first)
            return measure_alone("bench.awaited", (what, way, *map(str, numbers)))["rate"]

        rates = in_turn({way: partial(run, way) for way in WAYS}, stage.options.rounds)
    yield faced(_name(what), rates, None, "httpx")
