"""Servers as processes: started with a description, waited for, measured, stopped by their id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from bench.table import NotRunError

READY_WAIT_S = 30.0
STOP_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Server:
    """How to start a server and where its blobs are; `{n}` in a path is the blob's number."""

    name: str
    port: int
    command: Sequence[str]
    directory: Path
    """Holds its data and its output; it exists before the start."""
    path: str
    ready_path: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Running:
    """A started server."""

    server: Server
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def memory(self, name: str) -> int:
        """Bytes of a line of /proc/PID/status (VmRSS, VmHWM, RssAnon), with all child processes."""
        return sum(memory_bytes(pid, name) for pid in _family(self.process.pid))

    def cpu_s(self) -> float:
        """Processor time of it and its children, which a busy machine hardly changes."""
        return sum(_cpu_s(pid) for pid in _family(self.process.pid))

    def kill(self) -> None:
        """Stop it as a power cut would stop the process."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to stop, and kill it when it does not."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        with suppress(ProcessLookupError):  # its group outlives it while children run
            os.killpg(self.process.pid, signal.SIGKILL)


def start(server: Server) -> Running:
    """Start a server and return at its first answer.

    Raises:
        NotRunError: it ended, or did not answer in time.
    """
    log = server.directory / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | dict(server.environment),
            start_new_session=True,
        )
    running = Running(server, process)
    try:
        await_answer(running)
    except NotRunError as error:
        running.stop()
        tail = " ".join(log.read_text(errors="replace").split())[-300:]
        raise NotRunError(f"{server.name}: {error}: {tail}") from error
    return running


@contextmanager
def started(server: Server) -> Iterator[Running]:
    """Run a server for the length of a block."""
    running = start(server)
    try:
        yield running
    finally:
        running.stop()


def await_answer(running: Running, path: str | None = None, *, step_s: float = 0.002) -> int:
    """Return the status of the first answer to a GET of `path`."""
    end = time.monotonic() + READY_WAIT_S
    while time.monotonic() < end:
        answer = ask(running.port, path or running.server.ready_path)
        if answer.status:
            return answer.status
        if running.process.poll() is not None:
            raise NotRunError(f"ended with {running.process.returncode}")
        time.sleep(step_s)
    raise NotRunError("no answer in time")


class Answer(NamedTuple):
    """A status, 0 when nobody answered, and a body."""

    status: int
    body: bytes


def ask(
    port: int, path: str, method: str = "GET", *, body: bytes | None = None, api_key: str = ""
) -> Answer:
    """Send one request on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, HTTPException):
        return Answer(0, b"")
    finally:
        connection.close()


def free_port() -> int:
    """Find a port that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def memory_bytes(pid: int, name: str) -> int:
    """Read one size of /proc/PID/status (proc(5)); 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_s(pid: int) -> float:
    """Add the user and system time of /proc/PID/stat (proc(5)); 0 when the process is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _family(pid: int) -> list[int]:
    """List a process and its descendants."""
    family = [pid]
    for parent in family:
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        except OSError:
            continue
        family.extend(int(child) for child in children.split())
    return family
