"""The command line of the bench: `python -m bench [--quick | --full | --huge] [--only PATTERN]`."""

import argparse
import fnmatch
import shlex
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bench import (
    clients,
    engines,
    flat,
    guarded,
    library,
    load,
    machine,
    memory,
    objects,
    reading,
    seaweed,
    sharded,
    writing,
)
from bench.stage import Options, Row, Stage, measure
from bench.table import Line, NotRunError, draw, summary

HERE = Path(__file__).parent
WORK = HERE / ".work"
RESULTS = HERE / "results"
QUICK = Options(
    turn_s=0.5,
    rounds=1,
    blobs=10_000,
    flat_blobs=(1_000, 10_000),
    large_bytes=512 << 20,
    files_per_turn=4,
)
FULL = Options(turn_s=5, rounds=3, blobs=1_000_000, flat_blobs=(10_000, 1_000_000))
HUGE = replace(FULL, flat_blobs=(10_000, 1_000_000, 10_000_000))


def main() -> int:
    """Measure, print the table and keep it; a missed bar is a result, not a failure."""
    arguments = _arguments()
    rows = _chosen(arguments.only)
    if arguments.list:
        print("\n".join(row.name for row in rows))
        return 0
    signal.signal(signal.SIGTERM, _on_terminate)
    shutil.rmtree(WORK / "run", ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    options = _options(arguments)
    stage = Stage(WORK, load.build(WORK), options)
    head = machine.describe(
        WORK, _seaweed_version(), shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    )
    print(head, flush=True)
    began = time.monotonic()
    lines = _measure_all(rows, stage)
    text = f"{draw(lines)}\n{summary(lines)}; {time.monotonic() - began:.0f} s\n"
    print("\n" + text)
    path = _keep(f"{head}\n{text}", _kind(arguments))
    print(f"kept as {path}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--quick", action="store_true", help="rough figures in 90 s")
    length.add_argument("--full", action="store_true", help="long turns and 1 M blobs")
    length.add_argument("--huge", action="store_true", help="the same, and one row with 10 M")
    parser.add_argument("--only", metavar="PATTERN", default="", help="rows whose name matches")
    parser.add_argument("--list", action="store_true", help="print the names of the rows")
    return parser.parse_args()


def _options(arguments: argparse.Namespace) -> Options:
    for is_chosen, options in ((arguments.quick, QUICK), (arguments.full, FULL)):
        if is_chosen:
            return options
    return HUGE if arguments.huge else Options()


def _chosen(pattern: str) -> list[Row]:
    groups = (reading, writing, guarded, memory, library, clients, engines, sharded, objects, flat)
    rows = [row for group in groups for row in group.rows()]
    return [row for row in rows if fnmatch.fnmatch(row.name.lower(), f"*{pattern.lower()}*")]


def _measure_all(rows: list[Row], stage: Stage) -> list[Line]:
    lines: list[Line] = []
    for row in rows:
        began = time.monotonic()
        for line in measure(row, stage):
            lines.append(line)
            print("  ".join(line.cells), flush=True)
            if line.note:
                print("    " + line.note, flush=True)
        print(f"    ({time.monotonic() - began:.0f} s)", flush=True)
    return lines


def _seaweed_version() -> str:
    try:
        return seaweed.version(seaweed.install(WORK))
    except NotRunError as error:
        return f"SeaweedFS absent: {error}"


def _kind(arguments: argparse.Namespace) -> str:
    """Tell short and partial runs from whole ones, which they must not replace."""
    lengths = [name for name in ("quick", "full", "huge") if getattr(arguments, name)]
    return "".join(f"-{kind}" for kind in [*lengths, *(["part"] if arguments.only else [])])


def _keep(text: str, kind: str) -> Path:
    RESULTS.mkdir(exist_ok=True)
    name = f"{time.strftime('%Y-%m-%d')}-{machine.commit().rstrip('+')}{kind}.txt"
    path = RESULTS / name
    path.write_text(text)
    return path.relative_to(HERE.parent)


def _on_terminate(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
