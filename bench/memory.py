"""Rows about the memory of the server."""

import time
from collections.abc import Iterator

from bench.load import Work
from bench.peers import holdfast
from bench.stage import Row, Stage
from bench.table import Bar, Line

MEGABYTE = 1e6
IDLE_BAR = Bar(60, "MB", at_least=False)
LARGE_BAR = Bar(150, "MB", at_least=False)
SETTLE_S = 1.0
LARGE_WAIT_S = 180


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [
        Row("memory, idle server", _idle, IDLE_BAR),
        Row("memory, large blob", _large, LARGE_BAR),
    ]


def _idle(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        running = scene.start(holdfast(scene.folder("holdfast")))
        time.sleep(SETTLE_S)
        resident, anonymous = (running.memory(name) / MEGABYTE for name in ("VmRSS", "RssAnon"))
    yield Line(
        "memory, idle server",
        resident,
        IDLE_BAR,
        ours=f"{resident:.0f} MB",
        note=f"{anonymous:.0f} MB of it anonymous",
    )


def _large(stage: Stage) -> Iterator[Line]:
    """Upload and download one blob; the high-water mark of the process is what counts."""
    size_bytes = stage.options.large_bytes
    with stage.scene() as scene:
        running = scene.start(holdfast(scene.folder("holdfast")))
        upload = Work("PUT", "/blob/large{n}", size_bytes, 1, keys=0)
        download = Work("GET", "/blob/large{n}", size_bytes, 1, keys=1)
        rates = {}
        peaks = {}
        for name, work in (("upload", upload), ("download", download)):
            done = stage.generator.run(running.port, work, seconds=LARGE_WAIT_S, requests=1)
            rates[name] = done[0].byte_rate / 1e9
            peaks[name] = running.memory("VmHWM") / MEGABYTE
    yield Line(
        "memory, large blob",
        peaks["download"],
        LARGE_BAR,
        ours=f"{peaks['download']:.0f} MB",
        note=f"{size_bytes / 2**30:.3g} GiB up ({rates['upload']:.2f} GB/s, peak "
        f"{peaks['upload']:.0f} MB) and down ({rates['download']:.2f} GB/s)",
    )
