"""Lives of processes that use the library, each driven to a sudden end and told to a ledger."""

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crash_boot import NO_BOOT
from crash_ledger import Ledger, choose

PROGRAM = Path(__file__).with_name("crash_child.py")
ANSWER_WAIT_S = 30
PIPE_BYTES = 1 << 20
KILLED = -signal.SIGKILL
ON_A_DEAD_DISK = {KILLED, -signal.SIGBUS}
"""How a process may end whose disk has gone: the index is mapped memory."""


class Nursery:
    """The program that forks the processes to be killed, and the lines that it and they write."""

    def __init__(self, program: "subprocess.Popen[bytes]") -> None:
        assert program.stdin is not None
        assert program.stdout is not None
        self._orders = program.stdin
        self._lines = program.stdout.fileno()
        self._buffer = b""
        os.set_blocking(self._lines, False)

    def order(self, line: str) -> None:
        """Write a line to it."""
        self._orders.write(f"{line}\n".encode())
        self._orders.flush()

    def ready(self) -> list[list[bytes]]:
        """The lines that are there already, in words: all that were written before this call."""
        while data := self._read():
            self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        return [line.split() for line in lines]

    def wait(self) -> list[list[bytes]]:
        """The lines that are there, at least one."""
        while True:
            if lines := self.ready():
                return lines
            poll = select.poll()  # select(2) takes no descriptor above 1023
            poll.register(self._lines, select.POLLIN)
            if not poll.poll(ANSWER_WAIT_S * 1000):
                raise TimeoutError("the process says nothing")

    def _read(self) -> bytes | None:
        try:
            return os.read(self._lines, PIPE_BYTES)
        except BlockingIOError:
            return None


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Start the program."""
    source = PROGRAM.parents[2] / "src"
    environment = {**os.environ, "PYTHONPATH": f"{source}:{PROGRAM.parent}"}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
    ) as program:
        try:
            yield Nursery(program)
        finally:
            program.kill()


class Life:
    """One process, from its birth to the last line that it wrote."""

    def __init__(
        self,
        program: Nursery,
        folder: Path,
        ledger: Ledger,
        dice: random.Random,
        boot: Path | None = None,
    ) -> None:
        self._program = program
        self._ledger = ledger
        self._seed = dice.randrange(10**9)
        self._status: int | None = None
        self._first = ledger.figures["requests"]
        self.failed = 0
        """How many requests were refused."""
        program.order(f"{folder} {boot or NO_BOOT} {self._seed} {self._first}")
        (_, pid), *lines = program.wait()
        self._pid = int(pid)
        self._tell(lines)

    def signal(self, number: int) -> None:
        """Stop it, let it go on, or kill it."""
        os.kill(self._pid, number)

    def tell(self) -> None:
        """Enter all that it has said up to now into the ledger."""
        self._tell(self._program.ready())

    def end(self, allowed: set[int]) -> None:
        """Kill it, and enter the rest of what it said; it may have died of something else."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        while self._status is None:
            self._tell(self._program.wait())
        assert self._status in allowed, self._status

    def _tell(self, lines: list[list[bytes]]) -> None:
        for what, *rest in lines:
            if what == b"over":
                self._status = int(rest[0])
            elif what == b"fail":
                self.failed += 1
            else:
                self._enter(what, int(rest[0]), int(rest[1]))

    def _enter(self, what: bytes, worker: int, number: int) -> None:
        figures = self._ledger.figures
        figures["requests"] = max(figures["requests"], number)
        op = choose(random.Random(f"{self._seed}/{worker}/{number}"), worker, number)
        if what == b"begin":
            self._ledger.begin(worker, op)
        else:
            self._ledger.end(worker, op)
