"""Rows about PUT over HTTP."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.load import Measured, Work
from bench.peers import holdfast, nginx
from bench.seaweed import Seaweed, install
from bench.stage import Row, Scene, Stage, Target, cost
from bench.table import Bar, Line, NotRunError, each_second, faced, in_turn, median, ratio
from holdfast.core.seams import Disk

KIB = 1024
BIG_BYTES = 64 * KIB * KIB
CONNECTIONS = 32
BIG_CONNECTIONS = 4
WARM_PUTS = 500
BARS: Mapping[str, Bar] = {
    "nginx WebDAV": Bar(1.5, "x"),
    "SeaweedFS S3": Bar(8, "x"),
    "SeaweedFS filer": Bar(8, "x"),
    "SeaweedFS volume, fsync": Bar(1.7, "x"),
}
HASH_BAR = Bar(0.85, "x")


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    return [
        Row("PUT 1 KiB", _small, BARS["nginx WebDAV"]),
        Row("PUT 1 KiB, 2 workers", _small_by_two),
        Row("PUT 64 MiB", _big, HASH_BAR),
    ]


def _small(stage: Stage) -> Iterator[Line]:
    """Compare durable PUTs with four peers, of which only the last is durable too."""
    with stage.scene() as scene:
        running = scene.start(holdfast(scene.folder("holdfast")))
        targets = [Target("holdfast", running, running.port, "/blob/p{n}")]
        missing: dict[str, str] = {}
        for names, peers in ((list(BARS)[:1], _nginx), (list(BARS)[1:], _seaweed)):
            try:
                targets += peers(stage, scene)
            except NotRunError as error:
                missing |= dict.fromkeys(names, str(error))
        results = _measure_small(stage, targets)
    for name, bar in BARS.items():
        yield _small_line(name, bar, results, missing.get(name, ""))


def _small_by_two(stage: Stage) -> Iterator[Line]:
    """Compare two processes with two, of nginx, and with one of our own."""
    with stage.scene() as scene:
        two = scene.start(holdfast(scene.folder("holdfast"), workers=2))
        one = scene.start(holdfast(scene.folder("one"), workers=1))
        theirs = scene.start(nginx(scene.folder("nginx"), workers=2))
        targets = [
            Target("holdfast", two, two.port, "/blob/p{n}"),
            Target("one worker", one, one.port, "/blob/p{n}"),
            Target("nginx WebDAV", theirs, theirs.port, "/blob/p{n}"),
        ]
        results = _measure_small(stage, targets)
    for name in ("nginx WebDAV", "one worker"):
        yield _small_line(name, None, results, "", row="PUT 1 KiB, 2 workers")


def _measure_small(stage: Stage, targets: Sequence[Target]) -> Mapping[str, list[Measured]]:
    for target in targets:
        work = stage.put_work(target, KIB, CONNECTIONS)
        stage.generator.run(target.port, work, seconds=20, requests=WARM_PUTS)
    runs = {each.name: partial(stage.put, each, KIB, CONNECTIONS) for each in targets}
    return in_turn(runs, stage.options.rounds)


def _small_line(
    name: str,
    bar: Bar | None,
    results: Mapping[str, list[Measured]],
    missing: str,
    row: str = "PUT 1 KiB",
) -> Line:
    row = f"{row} / {name}"
    pair = {each: results[each] for each in ("holdfast", name) if each in results}
    rates = {each: [turn.rate for turn in turns] for each, turns in pair.items()}
    if missing:
        ours = each_second(median(rates["holdfast"]))
        return Line(row, None, bar, ours=ours, note=f"not run: {missing}")
    return faced(row, rates, bar).noted(cost(pair))


def _nginx(stage: Stage, scene: Scene) -> list[Target]:
    del stage
    running = scene.start(nginx(scene.folder("nginx")))
    return [Target("nginx WebDAV", running, running.port, "/blob/p{n}")]


def _seaweed(stage: Stage, scene: Scene) -> list[Target]:
    seaweed = Seaweed(scene.folder("seaweed"), install(stage.work))
    running = scene.start(seaweed.server)
    volume_path = seaweed.wait()
    ports = seaweed.ports
    return [
        Target("SeaweedFS S3", running, ports["s3"], "/bench/p{n}"),
        Target("SeaweedFS filer", running, ports["filer"], "/files/p{n}"),
        Target("SeaweedFS volume, fsync", running, ports["volume"], volume_path),
    ]


def _big(stage: Stage) -> Iterator[Line]:
    files = stage.options.files_per_turn
    with stage.scene() as scene:
        running = scene.start(holdfast(scene.folder("holdfast")))
        target = Target("holdfast", running, running.port, "/blob/b{n}")
        runs = {
            "holdfast": partial(_big_put_rate, stage, target, files, BIG_CONNECTIONS),
            "one": partial(_big_put_rate, stage, target, files // 2, 1),
            "sha256": partial(_hash_rate, files),
            "disk": partial(_disk_rate, scene.directory / "plain", files),
        }
        results = in_turn(runs, stage.options.rounds)
    texts = {name: f"{median(rates) / 1e9:.2f} GB/s" for name, rates in results.items()}
    yield Line(
        "PUT 64 MiB / SHA-256 alone",
        ratio(results["holdfast"], results["sha256"]),
        HASH_BAR,
        ours=texts["holdfast"],
        peer=texts["sha256"] + " sha256",
        note=f"{BIG_CONNECTIONS} connections; one connection {texts['one']}; "
        f"the disk alone, written and synced by one thread, {texts['disk']}",
    )


def _big_put_rate(stage: Stage, target: Target, files: int, connections: int) -> float:
    first = stage.put_work(target, BIG_BYTES, connections).keys
    work = Work("PUT", target.path, BIG_BYTES, connections, first)
    os.sync()
    done = stage.generator.run(target.port, work, seconds=60, requests=files)
    return done[0].byte_rate


def _hash_rate(files: int) -> float:
    data = os.urandom(BIG_BYTES)
    began = time.perf_counter()
    for _ in range(files):
        hashlib.sha256(data)
    return files * BIG_BYTES / (time.perf_counter() - began)


def _disk_rate(path: Path, files: int) -> float:
    data = os.urandom(BIG_BYTES)
    disk = Disk()
    os.sync()
    began = time.perf_counter()
    for number in range(files):
        descriptor = disk.open(path.with_suffix(f".{number}"), os.O_WRONLY | os.O_CREAT)
        disk.pwrite_all(descriptor, [data], 0)
        disk.sync(descriptor)
        disk.close(descriptor)
    rate = files * BIG_BYTES / (time.perf_counter() - began)
    for number in range(files):
        path.with_suffix(f".{number}").unlink()
    return rate
