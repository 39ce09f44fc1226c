"""Rows about GET over HTTP: against nginx, and while others write."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.load import Work, compile_c, wrk_rate
from bench.peers import holdfast, nginx
from bench.process import Server
from bench.stage import Row, Scene, Stage, Target, cost
from bench.table import Bar, Line, each_second, faced, in_turn, median, ratio, spell_us, spread

KIB = 1024
MIB = 1024 * KIB
SLOW_SYNC_US = 5000
READERS = 8
WRITERS = 32
READ_KEYS = 1000
NGINX_BAR = Bar(0.9, "x")
WAIT_BAR = Bar(3.0, "x", at_least=False)


class Size(NamedTuple):
    """A size of blob, how many there are and how many connections fetch them."""

    label: str
    size_bytes: int
    blobs: int
    connections: int


SMALL = Size("1 KiB", KIB, READ_KEYS, 32)
MEDIUM = Size("16 KiB", 16 * KIB, READ_KEYS, 32)
LARGE = Size("1 MiB", MIB, 32, 32)
HUGE = Size("64 MiB", 64 * MIB, 4, 8)


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    against = [
        Row(f"GET {size.label}", partial(_against_nginx, size=size), NGINX_BAR)
        for size in (SMALL, MEDIUM, LARGE, HUGE)
    ]
    without = [Row("GET 1 KiB, nginx without sendfile", _against_copying)]
    by_two = [Row("GET 1 KiB, 2 workers", _by_two)]
    second = [Row("GET 1 KiB, by wrk", _by_wrk, NGINX_BAR)]
    waiting = [
        Row("GET p99 while writing", _while_writing, WAIT_BAR),
        Row("GET p99 while writing, 5 ms fsync", _while_writing_slowly, WAIT_BAR),
    ]
    return against + without + by_two + second + waiting


def _pair(
    stage: Stage, scene: Scene, size: Size, *, sendfile: bool, workers: int = 1
) -> dict[str, Target]:
    """Start holdfast and nginx and give both the same number of blobs."""
    servers = [
        holdfast(scene.folder("holdfast"), workers=workers),
        nginx(scene.folder("nginx"), sendfile=sendfile, workers=workers),
    ]
    return {server.name: _filled(stage, scene, server, size) for server in servers}


def _filled(stage: Stage, scene: Scene, server: Server, size: Size) -> Target:
    running = scene.start(server)
    target = Target(server.name, running, running.port, f"{server.path}g{{n}}")
    stage.generator.fill(target.port, target.path, size.size_bytes, size.blobs)
    stage.generator.run(target.port, _reads(target, size), seconds=0.3)
    return target


def _reads(target: Target, size: Size) -> Work:
    return Work("GET", target.path, size.size_bytes, size.connections, size.blobs)


def _against_nginx(stage: Stage, size: Size) -> Iterator[Line]:
    yield _compare(stage, f"GET {size.label}", size, sendfile=True)


def _against_copying(stage: Stage) -> Iterator[Line]:
    """Compare with nginx as it is fastest for small files; the bar speaks of its usual way."""
    yield _compare(stage, "GET 1 KiB, nginx without sendfile", SMALL, sendfile=False)


def _by_two(stage: Stage) -> Iterator[Line]:
    """Compare two processes with two; the bar speaks of one."""
    yield _compare(stage, "GET 1 KiB, 2 workers", SMALL, sendfile=True, workers=2)


def _compare(stage: Stage, name: str, size: Size, *, sendfile: bool, workers: int = 1) -> Line:
    with stage.scene() as scene:
        targets = _pair(stage, scene, size, sendfile=sendfile, workers=workers)
        runs = {
            peer: partial(stage.get, target, size.size_bytes, size.blobs, size.connections)
            for peer, target in targets.items()
        }
        results = in_turn(runs, stage.options.rounds)
    rates = {peer: [each.rate for each in turns] for peer, turns in results.items()}
    busiest = max(each.generator_part for turns in results.values() for each in turns)
    notes = [cost(results)]
    if busiest > 0.9:
        notes.append(f"generator used up to {busiest:.0%} of a core")
    bar = NGINX_BAR if sendfile and workers == 1 else None
    return _rate_line(name, rates, size, bar, notes)


def _rate_line(
    name: str, rates: Mapping[str, list[float]], size: Size, bar: Bar | None, notes: list[str]
) -> Line:
    def text(rate: float) -> str:
        is_small = size.size_bytes < MIB
        return each_second(rate) if is_small else f"{rate * size.size_bytes / 1e9:.2f} GB/s"

    return faced(name, rates, bar, "nginx", text=text).noted(*notes)


def _by_wrk(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        targets = _pair(stage, scene, SMALL, sendfile=True)
        runs = {
            peer: partial(
                wrk_rate,
                f"http://127.0.0.1:{target.port}{target.path.format(n=7)}",
                SMALL.connections,
                stage.options.turn_s,
            )
            for peer, target in targets.items()
        }
        rates = in_turn(runs, stage.options.rounds)
    yield _rate_line("GET 1 KiB, by wrk", rates, SMALL, NGINX_BAR, [])


def _while_writing(stage: Stage) -> Iterator[Line]:
    with stage.scene() as scene:
        ours = _waits(stage, scene, holdfast(scene.folder("holdfast")))
        theirs = _waits(stage, scene, nginx(scene.folder("nginx")))
    note = f"nginx, the same way: {_waits_text(theirs)}, {_waits_ratio(theirs):.1f} x"
    yield _waits_line("GET p99 while writing", ours, note)


def _while_writing_slowly(stage: Stage) -> Iterator[Line]:
    """Put a library before libc that makes every fsync wait 5 ms more."""
    library = stage.work / "slowsync.so"
    compile_c(Path(__file__).parent / "slowsync.c", library, "-shared", "-fPIC")
    settings = {"LD_PRELOAD": str(library), "SLOW_SYNC_US": str(SLOW_SYNC_US)}
    with stage.scene() as scene:
        ours = _waits(stage, scene, holdfast(scene.folder("holdfast"), variables=settings))
    yield _waits_line("GET p99 while writing, 5 ms fsync", ours, "")


def _waits(stage: Stage, scene: Scene, server: Server) -> Mapping[str, list[float]]:
    """Measure p99 in microseconds of 8 readers, alone and beside 32 writers."""
    target = _filled(stage, scene, server, SMALL)
    reads = Work("GET", target.path, KIB, READERS, READ_KEYS)

    def idle() -> float:
        return stage.mixed(target, reads)[0].p99_us

    def busy() -> float:
        writes = stage.put_work(target, KIB, WRITERS)
        return stage.mixed(target, reads, writes)[0].p99_us

    return in_turn({"idle": idle, "busy": busy}, stage.options.rounds)


def _waits_ratio(waits: Mapping[str, list[float]]) -> float:
    return ratio(waits["busy"], waits["idle"])


def _waits_text(waits: Mapping[str, list[float]]) -> str:
    return f"busy {spell_us(median(waits['busy']))}, idle {spell_us(median(waits['idle']))}"


def _waits_line(name: str, waits: Mapping[str, list[float]], note: str) -> Line:
    return Line(
        name,
        _waits_ratio(waits),
        WAIT_BAR,
        ours=f"busy {spell_us(median(waits['busy']))}",
        peer=f"idle {spell_us(median(waits['idle']))}",
        note="; ".join(filter(None, [note, spread(waits, " us")])),
    )
