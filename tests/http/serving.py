"""Real server processes for tests: started once, shared, stopped by their id, searched for traces.

`Servers` starts a process for each set of settings that a test asks for and keeps it until the end
of the session. What the process writes on standard error goes to a file, which is shown when a
test fails; a traceback in it fails the session.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
from hatchery import Hatched
from rawhttp import Connection, Reply

SERVE = ("-m", "holdfast", "serve", "--port=0")
Program = subprocess.Popen[bytes]
START_S = 20
STOP_S = 40
SETTLE_S = 8
_numbers = itertools.count(1)


class Server:
    """One `holdfast serve` on a free port."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, str],
        prefix: tuple[str, ...] = (),
        data: Path | None = None,
    ) -> None:
        self.data = data or folder / "data"
        self.log = folder / "stderr"
        self.is_hot = settings.get("hot_path") != "false"
        folder.mkdir(parents=True, exist_ok=True)
        self.process = self._start(environment(settings), prefix)
        self.key = ""
        self.line = self._ready()
        self.url = self.line.rpartition(" at ")[2].strip()
        self.port = int(self.url.rpartition(":")[2] or 0)

    def _start(self, about: dict[str, str], prefix: tuple[str, ...]) -> Hatched | Program:
        """Start a process: as anybody does where a program is before it, else faster."""
        self.log.touch()
        arguments = [*SERVE, "--data", str(self.data)]
        if not prefix:
            return Hatched(arguments[2:], about, self.log)
        with self.log.open("ab") as log:
            command = [*prefix, sys.executable, *arguments]
            return subprocess.Popen(command, env=about, stdout=subprocess.PIPE, stderr=log)

    def _ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if line.startswith("the key of"):
            self.key = line.split()[-1]
            line = self.process.stdout.readline().decode()
        if not line:
            code = self.process.wait(START_S)
            raise AssertionError(f"the server ended with {code}: {self.log.read_text()}")
        return line

    # Talking

    def connect(self, timeout_s: float = 15, source: str = "") -> Connection:
        return Connection(self.port, timeout_s, source)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.ask(method, path, body, headers)

    def exchange(self, raw: bytes, timeout_s: float = 15) -> list[Reply]:
        """Send raw bytes, then read every answer until the server closes."""
        with self.connect(timeout_s) as connection:
            connection.send(raw)
            return connection.all_replies()

    # Looking into it

    def keys(self, bucket: str) -> list[str]:
        page = self.ask("GET", f"/b/{bucket}?limit=1000").json()
        return [entry["key"] for entry in page["entries"]]

    def check_clean(self, bucket: str, keys: tuple[str, ...] = ()) -> None:
        """Nothing half-written is left, and others are served."""
        assert self.ask("GET", "/healthz").status == 200
        assert self.keys(bucket) == sorted(keys)
        wait_until(lambda: not self.temporary(), "temporary files are left")

    def temporary(self) -> list[Path]:
        return list((self.data / "files" / "tmp").iterdir())

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def status(self, field: str) -> int:
        """A number of /proc/<pid>/status: Threads, VmHWM (kB), VmRSS (kB)."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith(field + ":"))
        return int(line.split()[1])

    def forget_peak(self) -> None:
        """Let VmHWM begin again at what is used now (man 5 proc, clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics").body.decode()
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith((name + " ", name + "{"))
        )

    # Ending

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def refuses(self) -> bool:
        """Whether nobody listens any more, of all workers."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except ConnectionRefusedError:
            return True
        return False

    def wait(self, timeout_s: float = STOP_S) -> int:
        return self.process.wait(timeout_s)

    def begin_to_stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End the process; a second call only tells the exit code."""
        self.begin_to_stop()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code

    def traces(self) -> str:
        """What must never be written: tracebacks and the event loop's complaints."""
        text = self.log.read_text(errors="replace")
        bad = ("Traceback", "never retrieved", "never awaited", "Exception in callback")
        return text if any(mark in text for mark in bad) else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


class Servers:
    """Starts servers and shares them by their settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[tuple[tuple[str, str], ...], Server] = {}
        self._own: list[Server] = []

    def shared(self, **settings: str) -> Server:
        """A server with these settings, for many tests; started when first asked for."""
        name = tuple(sorted(settings.items()))
        if name not in self._shared:
            self._shared[name] = self._start(settings)
        return self._shared[name]

    def own(self, **settings: str) -> Server:
        """A server for one test, which may stop it."""
        self._own.append(self._start(settings))
        return self._own[-1]

    def narrow(self, *limits: str, **settings: str) -> Server:
        """A server with limits of the kernel (man 1 prlimit), such as `fsize=1000000`."""
        prefix = ("prlimit", *(f"--{limit}" for limit in limits))
        self._own.append(self._start(settings, prefix))
        return self._own[-1]

    def _start(self, settings: dict[str, str], prefix: tuple[str, ...] = ()) -> Server:
        return Server(self._folder / f"server{next(_numbers)}", settings, prefix)

    def logs(self) -> Iterator[tuple[str, str]]:
        for server in (*self._shared.values(), *self._own):
            text = server.log.read_text(errors="replace")
            if text:
                yield f"{server.url} {server.log}", text[-4000:]

    def close(self) -> None:
        everyone = (*self._shared.values(), *self._own)
        for server in everyone:
            server.begin_to_stop()
        for server in everyone:
            server.stop()
            shutil.rmtree(server.data, ignore_errors=True)
        traces = [text for server in self._shared.values() if (text := server.traces())]
        assert not traces, "a shared server wrote tracebacks:\n" + "\n".join(traces)[-8000:]


def environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    return kept | {f"HOLDFAST_{name.upper()}": value for name, value in settings.items()}


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = SETTLE_S) -> None:
    """Wait for something that happens soon."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@contextmanager
def steady_descriptors(server: Server, slack: int = 3) -> Iterator[None]:
    """No more files are open afterwards than before, but for a few that are kept on purpose."""
    before = server.descriptors()
    yield
    wait_until(
        lambda: server.descriptors() <= before + slack,
        f"{before} descriptors became {server.descriptors()}",
    )


def decode(body: bytes) -> dict[str, object]:
    """Read a JSON object."""
    return msgspec.json.decode(body, type=dict[str, object])
