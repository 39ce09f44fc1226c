"""Processes of `holdfast serve` that need not import anything: forked from one that has.

That is a fork server of the standard library, which has no threads and waits for its children. A
server that comes out of it is a process of its own as any other: it can be killed and may fork.
"""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from holdfast.cli.program import run

IMPORTED = [
    "certifi",
    "holdfast.cli.serve",
    "holdfast.http.serve",
    "holdfast.http.supervisor",
    "pytest",  # the main module of who starts it, which every process looks at
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.h11_impl",
    "uvloop",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


class Hatched:
    """What `subprocess.Popen` is to a started program, as far as tests use it."""

    def __init__(self, arguments: Sequence[str], settings: Mapping[str, str], log: Path) -> None:
        """Let `holdfast` run with these arguments in this environment."""
        reads, writes = _context.Pipe(duplex=False)
        with reads, writes:
            life = (list(arguments), dict(settings), writes, log)
            self._process = _context.Process(target=_live, args=life, daemon=True)
            self._process.start()
            self.stdout = os.fdopen(os.dup(reads.fileno()), "rb")
        pid = self._process.pid
        assert pid is not None
        self.pid = pid

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it lives."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("holdfast", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _live(arguments: list[str], settings: dict[str, str], out: Connection, log: Path) -> None:
    """Be the server."""
    with out, log.open("ab") as errors:
        os.dup2(out.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    os.environ.clear()
    os.environ.update(settings)
    raise SystemExit(run(arguments))
