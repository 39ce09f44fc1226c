"""Workers that talk to a server until it is gone, and tell a ledger what it acknowledged."""

import http.client
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from crash_boot import NO_BOOT, SWEEP_EVERY_S, SWEPT
from crash_ledger import WORKERS, Ledger, Name, Op, choose, content

OK = {"put": {200, 201}, "shared": {200, 201}, "hold": {200, 201}, "delete": {204}}
OK |= {"release": {204}, "copy": {200, 201, 404}, "move": {200, 201, 404}, "get": {200, 404}}

REFUSED = 500

PROGRAM = Path(__file__).with_name("crash_boot.py")
Server = subprocess.Popen[str]


def start(
    folder: Path, boot: Path | None = None, workers: int = 1, more: Mapping[str, str] | None = None
) -> Server:
    """Start a server, in the boot that a file names, with more settings."""
    command = [sys.executable, str(PROGRAM), str(boot or NO_BOOT)]
    command += ["serve", "--data", str(folder), "--port", "0"]
    command += ["--log-level", "error", "--workers", str(workers)]
    environment = {**os.environ, "HOLDFAST_AUTH": "none"}
    environment |= {"HOLDFAST_SWEEP_EVERY_S": SWEEP_EVERY_S, "HOLDFAST_SWEEP_GRACE_S": "1"}
    environment |= {f"HOLDFAST_{name.upper()}": value for name, value in (more or {}).items()}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def port_of(server: Server) -> int:
    """Wait until it serves."""
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("holdfast serves"), line
    return int(line.rsplit(":", 1)[1])


def kill(server: Server) -> None:
    """End it at once."""
    server.kill()
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


@contextmanager
def killing(server: Server) -> Iterator[None]:
    """End it with the block, whatever happens there: who talks to it waits for that."""
    try:
        yield
    finally:
        kill(server)


def path_of(name: Name) -> str:
    bucket, key = name
    return f"/blobs/{key}" if bucket == "" else f"/b/{bucket}/{quote(key, safe='')}"


def ask(connection: http.client.HTTPConnection, op: Op) -> tuple[int, bytes]:
    """Send one request; the status line is the acknowledgement."""
    headers = {"Content-Type": "text/x-test"}
    if op.kind in {"copy", "move"}:
        headers[f"Holdfast-{op.kind.title()}-From"] = quote("/".join(op.other), safe="/")
    method = {"delete": "DELETE", "release": "DELETE", "get": "GET"}.get(op.kind, "PUT")
    body = content(op.value) if op.kind in {"put", "shared", "hold"} else None
    connection.request(
        method, path_of(op.name), body or (b"" if method == "PUT" else None), headers
    )
    answer = connection.getresponse()
    try:
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        if op.kind == "get":
            raise
        return answer.status, b""


def insist(connection: http.client.HTTPConnection, op: Op) -> tuple[int, bytes]:
    """Ask, again if the bytes were swept before their name came."""
    while SWEPT.encode() in (answer := ask(connection, op))[1]:
        pass
    return answer


class Fleet:
    """Workers, each with a connection of its own, until the server is gone.

    `lock` guards the ledger. Once `dying` is set, a worker whose request is refused asks no more.
    """

    def __init__(
        self, ledger: Ledger, port: int, dice: random.Random, *, keeps: bool = True
    ) -> None:
        """Begin with the next `working`; a worker `keeps` its connection for all requests."""
        self._ledger = ledger
        self._keeps = keeps
        self._port = port
        self.lock = threading.Lock()
        self.dying = threading.Event()
        self.wrong: list[str] = []
        seeds = [dice.randrange(1 << 60) for _ in range(WORKERS)]
        self._threads = [
            threading.Thread(target=self._run, args=(worker, random.Random(seed)))
            for worker, seed in enumerate(seeds)
        ]

    @contextmanager
    def working(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            for thread in self._threads:
                thread.join()

    def _run(self, worker: int, dice: random.Random) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while not self.wrong and self._step(connection, worker, dice):
                if not self._keeps:
                    connection.close()  # a request opens it again
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _step(
        self, connection: http.client.HTTPConnection, worker: int, dice: random.Random
    ) -> bool:
        """Ask for one thing; tell whether to go on."""
        with self.lock:
            self._ledger.figures["requests"] += 1
            op = choose(dice, worker, self._ledger.figures["requests"])
            self._ledger.begin(worker, op)
        status, body = insist(connection, op)
        with self.lock:
            if status >= REFUSED and self.dying.is_set():
                return False
            if status not in OK[op.kind]:
                self.wrong.append(f"{op} was answered {status}: {body[:200]!r}")
                return False
            if op.kind == "get":
                self._compare(worker, op, status, body)
            self._ledger.end(worker, op)
            return True

    def _compare(self, worker: int, op: Op, status: int, body: bytes) -> None:
        value = self._ledger.workers[worker].settled.get(op.name)
        expected = (404, None) if value is None else (200, content(value))
        if (status, body if status == 200 else None) != expected:
            self.wrong.append(f"{op.name} read as {status} with {len(body)} bytes, not {value}")
