"""Rows about the cost of one small blob in a store of few, of many and of very many."""

from collections.abc import Iterator

from bench.library import child
from bench.stage import Row, Stage
from bench.table import Line, spell, spell_us

GROW_STEP = 250_000  # of one child process
READS = 50_000
WRITES = 20_000


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [Row("cost by the number of blobs", _flat)]


def _flat(stage: Stage) -> Iterator[Line]:
    """Measure one store while it grows."""
    written = 0
    with stage.scene() as scene:
        directory = scene.directory / "data"
        for blobs in stage.options.flat_blobs:
            for first in range(written, blobs, GROW_STEP):
                child("grow", directory, first, min(GROW_STEP, blobs - first))
            written = blobs
            yield _line(blobs, child("cost", directory, blobs, READS, WRITES))


def _line(blobs: int, cost: dict[str, float]) -> Line:
    disk = " and ".join(f"{cost[name] / blobs:.0f} B {name}" for name in ("log", "index"))
    return Line(
        f"cost at {spell(blobs)} blobs",
        cost["get_us"],
        None,
        ours=f"get {spell_us(cost['get_us'])}",
        peer=f"put {spell_us(cost['put_us'])}",
        note=f"processor time; {cost['size_bytes']:.0f} B blobs, read at random and put by "
        f"{cost['threads']:.0f} threads; anonymous memory {cost['RssAnon'] / 1e6:.0f} MB; "
        f"disk for each blob {disk}",
    )
