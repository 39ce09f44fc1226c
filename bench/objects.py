"""Rows about object stores: ours beside the raw client, both on one SeaweedFS."""

from collections.abc import Iterator
from functools import partial

from bench.library import measure_alone
from bench.seaweed import Seaweed, install
from bench.stage import Row, Stage
from bench.table import Line, faced, in_turn, spell

WORK = (("put", 1 << 20), ("get", 1 << 20), ("put", 64 << 20), ("get", 64 << 20))
RANGES = ("range", 64 << 20)
WAYS = ("ours", "raw")


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [Row(_name(*work), partial(_compare, *work)) for work in (*WORK, RANGES)]


def _name(what: str, size_bytes: int) -> str:
    part = "64 KiB of " if what == "range" else ""
    verb = "put" if what == "put" else "get"
    return f"objects {verb} {part}{size_bytes >> 20} MiB, against obstore"


def _compare(what: str, size_bytes: int, stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        seaweed = Seaweed(scene.directory, install(stage.work))
        scene.start(seaweed.server)
        seaweed.wait()

        def run(way: str) -> float:
            first = next(stage.numbers) * 1_000_000
            numbers = (seaweed.ports["s3"], stage.options.turn_s, size_bytes, first)
            return measure_alone("bench.bucket", (what, way, *map(str, numbers)))["rate"]

        rates = in_turn({way: partial(run, way) for way in WAYS}, stage.options.rounds)
    unit = "/s" if what == "range" else "MB/s"
    name = _name(what, size_bytes)
    yield faced(name, rates, None, "obstore", text=lambda rate: f"{spell(rate)} {unit}")
