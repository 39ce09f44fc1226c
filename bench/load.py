"""Drive a server with load.c, or with wrk as a second opinion."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from bench.debian import find
from bench.table import NotRunError

SOURCES = Path(__file__).parent
GRACE_S = 40  # load.c waits 20 s for late answers


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of request: who asks for what over how many connections."""

    method: str
    path: str
    size_bytes: int
    connections: int
    keys: int = 1
    """A GET chooses below this number; a PUT takes all numbers from here on."""
    api_key: str = ""
    """That of the first work goes with all requests of a run."""

    @property
    def argument(self) -> str:
        """How load.c is told."""
        return f"{self.method},{self.connections},{self.size_bytes},{self.keys},{self.path}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one kind of request came to."""

    requests: int
    bytes: int
    errors: int
    seconds: float
    p50_us: float
    p99_us: float
    first_error: str
    generator_part: float
    """Part of one core that the generator used; near 1 it was the bottleneck."""
    server_us: float = 0.0
    """Processor time that the server spent on one request."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def byte_rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds


@dataclass(frozen=True, slots=True)
class Generator:
    """The compiled load.c; every run gets a seed of its own, so no two bodies are alike."""

    program: Path
    seeds: Iterator[int] = field(default_factory=lambda: count(os.getpid() << 20))

    def run(
        self, port: int, *works: Work, seconds: float, requests: int = 0, discard: bool = False
    ) -> list[Measured]:
        """Drive the server on `port` and return one result per work.

        Raises:
            NotRunError: nothing was answered, or an answer was wrong.
        """
        seed = str(next(self.seeds))
        variables = {"DISCARD": "1"} if discard else {}
        if works[0].api_key:
            variables["API_KEY"] = works[0].api_key
        command = [str(self.program), str(port), str(seconds), str(requests), seed]
        done = subprocess.run(
            command + [work.argument for work in works],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_S,
            check=False,
        )
        if done.returncode != 0:
            raise NotRunError(f"the generator ended: {done.stderr.strip()}")
        return [_checked(each) for each in _parse(done.stdout)]

    def fill(self, port: int, path: str, size_bytes: int, blobs: int) -> None:
        """PUT the numbers below `blobs` and check that all arrived."""
        work = Work("PUT", path, size_bytes, min(8, blobs), keys=0)
        self.run(port, work, seconds=120, requests=blobs)


def build(work_directory: Path) -> Generator:
    """Compile load.c.

    Raises:
        NotRunError: there is no C compiler.
    """
    target = work_directory / "load"
    compile_c(SOURCES / "load.c", target)
    return Generator(target)


def compile_c(source: Path, target: Path, *flags: str) -> None:
    """Compile one C file with the compiler at hand."""
    compiler = find("cc", "gcc", "libc6-dev")
    subprocess.run([compiler, "-O2", *flags, "-o", str(target), str(source)], check=True)


def wrk_rate(url: str, connections: int, seconds: float) -> float:
    """Return the requests per second that wrk reaches.

    Raises:
        NotRunError: wrk is missing, or saw errors.
    """
    command = [find("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", url]
    text = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=True
    ).stdout
    found = re.search(r"Requests/sec:\s+([0-9.]+)", text)
    if found is None or "Non-2xx" in text or "Socket errors" in text:
        raise NotRunError("wrk saw errors: " + " ".join(text.split())[-200:])
    return float(found[1])


def _parse(text: str) -> Iterator[Measured]:
    report = json.loads(text)
    seconds = float(report["seconds"])
    for each in report["classes"]:
        yield Measured(
            requests=int(each["requests"]),
            bytes=int(each["bytes"]),
            errors=int(each["errors"]) + int(report["unanswered"]),
            seconds=seconds,
            p50_us=float(each["p50_us"]),
            p99_us=float(each["p99_us"]),
            first_error=str(each["first_error"]),
            generator_part=float(report["cpu_s"]) / seconds,
        )


def _checked(measured: Measured) -> Measured:
    if measured.errors or not measured.requests:
        why = measured.first_error or "no answer"
        raise NotRunError(f"{measured.errors} errors, the first: {why}")
    return measured
