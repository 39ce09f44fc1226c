"""Rows about places for bytes: our engines beside databases of others, and what wrappers cost."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.library import measure_alone
from bench.stage import Row, Stage
from bench.table import Line, NotRunError, faced, in_turn

RIVALS = ("rocksdict", "diskcache")
INSTALL_WAIT_S = 300
KEYS = 5000
ENGINES = ("log", "sqlite", "files", "LMDB", "RocksDB", "diskcache")
WRAPPERS = {
    "compressed": ("text", "noise"),
    "encrypted": ("text", "noise"),
    "verified": ("noise",),
    "cached": ("noise",),
    "tiered": ("noise",),
    "spread": ("noise",),
}
"""Each, and what it is measured with."""
WAYS = ("put", "get")


def rows() -> list[Row]:
    """List the rows in the order of the table."""
    engines = [
        Row(_engine_name(what, each), partial(_engine, what, each))
        for what in WAYS
        for each in ENGINES[1:]
    ]
    wrappers = [
        Row(_wrapper_name(what, each, data), partial(_wrapper, what, each, data))
        for each, kinds in WRAPPERS.items()
        for data in kinds
        for what in WAYS
    ]
    return engines + wrappers


def _engine_name(what: str, name: str) -> str:
    return f"log engine against {name}, {what} 1 KiB"


def _wrapper_name(what: str, name: str, data: str) -> str:
    return f"{name} against bare, {what} 16 KiB of {data}"


def _engine(what: str, name: str, stage: Stage) -> Iterator[Line]:
    rates = _measured(stage, what, ("log", name))
    yield faced(_engine_name(what, name), rates, None, name)


def _wrapper(what: str, name: str, data: str, stage: Stage) -> Iterator[Line]:
    names = (f"{name} {data}", f"bare {data}")
    yield faced(_wrapper_name(what, name, data), _measured(stage, what, names), None, "bare")


def _measured(stage: Stage, what: str, names: Sequence[str]) -> dict[str, list[float]]:
    """Measure contenders in turn, each turn of puts in a folder of its own."""
    rivals = _install(stage.work / "rivals")
    with stage.scene() as scene:

        def run(name: str) -> float:
            turn = next(stage.numbers)
            folder = scene.directory / (name if what == "get" else f"{name} {turn}")
            number = KEYS if what == "get" else turn * 10_000_000
            arguments = (what, name, str(folder), str(stage.options.turn_s), str(number))
            return measure_alone("bench.contenders", arguments, rivals)["rate"]

        return in_turn({name: partial(run, name) for name in names}, stage.options.rounds)


def _install(folder: Path) -> Path:
    """Return where the databases of others are, after fetching them if they are absent.

    Raises:
        NotRunError: they cannot be installed.
    """
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(folder),
            *RIVALS,
        ]
        try:
            subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_WAIT_S, check=True
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotRunError(f"{' and '.join(RIVALS)} cannot be installed") from error
        (folder / "ready").touch()
    return folder
