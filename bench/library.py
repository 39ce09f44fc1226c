"""Rows about the library, without a server, and about many blobs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.load import Work
from bench.peers import ROOT, holdfast
from bench.process import await_answer, start
from bench.stage import Row, Stage, Target
from bench.table import Bar, Line, NotRunError, faced, in_turn, median, spell

KIB = 1024
CHILD_WAIT_S = 900
FEW_KEYS = 1000
OVERHEAD_BLOBS = 20_000
PUT_BAR = Bar(10, "x")
GET_BAR = Bar(100_000, "/s")
LIST_BAR = Bar(50_000, "/s")
KEY_MEMORY_BAR = Bar(64, "B", at_least=False)
OVERHEAD_BAR = Bar(100, "B", at_least=False)
FIRST_ANSWER_BAR = Bar(1, "s", at_least=False)
REBUILD_BAR = Bar(300_000, "/s")


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [
        Row("library put 1 KiB, 64 threads", _put, PUT_BAR),
        Row("library get 1 KiB, one core", _get, GET_BAR),
        Row("library list", _list, LIST_BAR),
        Row("memory a key", _key_memory, KEY_MEMORY_BAR),
        Row("disk overhead a small blob", _overhead, OVERHEAD_BAR),
        Row("first answer after kill -9", _first_answer, FIRST_ANSWER_BAR),
        Row("index rebuild", _rebuild, REBUILD_BAR),
    ]


def child(name: str, directory: Path, *numbers: float) -> dict[str, float]:
    """Run one measurement of bench.child in a process of its own.

    Raises:
        NotRunError: it failed; the text is the last line of what it said.
    """
    return measure_alone("bench.child", (name, str(directory), *map(str, numbers)))


def measure_alone(module: str, arguments: Sequence[str], *paths: Path) -> dict[str, float]:
    """Run a module that prints figures as JSON, in a process of its own.

    Raises:
        NotRunError: it failed; the text is the last line of what it said.
    """
    command = [sys.executable, "-m", module, *arguments]
    sources = os.pathsep.join(map(str, (ROOT / "src", *paths)))
    environment = os.environ | {"PYTHONPATH": sources}
    os.sync()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=CHILD_WAIT_S,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise NotRunError(f"{' '.join(arguments[:2])}: {last}")
    figures = json.loads(done.stdout)
    return {str(key): float(value) for key, value in figures.items()}


def filled(stage: Stage) -> Path:
    """Return a server's directory with the blobs of the options, made once a run."""
    home = stage.work / "run" / "filled"
    ready = home / "ready"
    if not ready.exists():
        home.mkdir(parents=True, exist_ok=True)
        child("fill", home / "data", stage.options.blobs)
        ready.touch()
    return home


def _put(stage: Stage) -> Iterator[Line]:
    seconds = stage.options.turn_s
    with stage.scene() as scene:

        def run(name: str) -> float:
            first = next(stage.numbers) * 10_000_000
            return child(name, scene.directory / name, seconds, first)["rate"]

        runs = {name: partial(run, name) for name in ("put", "files")}
        rates = in_turn(runs, stage.options.rounds)
    yield faced("library put 1 KiB, 64 threads", rates, PUT_BAR, "file each")


def _get(stage: Stage) -> Iterator[Line]:
    home = filled(stage)
    rates = [
        child("get", home / "data", stage.options.turn_s, stage.options.blobs)["rate"]
        for _ in range(stage.options.rounds + 1)
    ]
    yield _absolute("library get 1 KiB, one core", median(rates), GET_BAR)


def _list(stage: Stage) -> Iterator[Line]:
    home = filled(stage)
    rates = [
        child("list", home / "data", stage.options.blobs)["rate"]
        for _ in range(stage.options.rounds + 1)
    ]
    yield _absolute("library list", median(rates), LIST_BAR)


def _absolute(name: str, value: float, bar: Bar, note: str = "") -> Line:
    return Line(name, value, bar, ours=bar.unit_text(value), note=note)


def _key_memory(stage: Stage) -> Iterator[Line]:
    """Compare a process that read many keys with one that read few as often."""
    keys = stage.options.blobs
    many = child("memory", filled(stage) / "data", keys, keys)
    with stage.scene() as scene:
        child("fill", scene.directory / "few", FEW_KEYS)
        few = child("memory", scene.directory / "few", FEW_KEYS, keys)
    more = {name: (many[name] - few[name]) / (keys - FEW_KEYS) for name in many}
    note = (
        f"anonymous memory; with the index's pages in the page cache {spell(more['VmRSS'])} B; "
        f"{spell(keys)} keys, process {many['RssAnon'] / 1e6:.0f} MB anonymous"
    )
    yield _absolute("memory a key", more["RssAnon"], KEY_MEMORY_BAR, note)


def _overhead(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        figures = child("overhead", scene.directory / "log-only", OVERHEAD_BLOBS)
    yield _absolute(
        "disk overhead a small blob",
        figures["bytes"],
        OVERHEAD_BAR,
        f"{spell(OVERHEAD_BLOBS)} unnamed blobs of 1 KiB; without the 4 MiB kept for deletes",
    )


def _first_answer(stage: Stage) -> Iterator[Line]:
    home = filled(stage)
    waits = [_kill_and_wait(stage, home) for _ in range(stage.options.rounds + 1)]
    yield _absolute(
        "first answer after kill -9",
        median(waits),
        FIRST_ANSWER_BAR,
        f"{spell(stage.options.blobs)} blobs, killed under load; from exec to the blob",
    )


def _kill_and_wait(stage: Stage, home: Path) -> float:
    """Kill a server under PUTs, start it again and time its first blob in seconds."""
    running = start(holdfast(home))
    try:
        target = Target("holdfast", running, running.port, "/blob/x{n}")
        work = stage.put_work(target, KIB, 32)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(_run_until_killed, stage, running.port, work)
            time.sleep(1)
            running.kill()
            load.result()
    finally:
        running.stop()
    began = time.perf_counter()
    again = start(holdfast(home))
    try:
        status = await_answer(again, "/blob/k00000000")
        wait_s = time.perf_counter() - began
    finally:
        again.stop()
    if status != 200:
        raise NotRunError(f"a blob was answered with {status} after the kill")
    return wait_s


def _run_until_killed(stage: Stage, port: int, work: Work) -> None:
    try:
        stage.generator.run(port, work, seconds=3)
    except NotRunError:
        return  # the server was killed under it


def _rebuild(stage: Stage) -> Iterator[Line]:
    figures = child("rebuild", filled(stage) / "data")
    note = (
        f"{spell(figures['records'])} records, finished segments by their hints; "
        f"{spell(figures['cpu_rate'])}/s of processor time; "
        f"{spell(figures['bare_rate'])}/s where no hints were made before"
    )
    yield _absolute("index rebuild", figures["rate"], REBUILD_BAR, note)
