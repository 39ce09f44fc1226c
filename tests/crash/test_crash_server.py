"""The real server is killed at random moments under concurrent writers, again and again.

CRASH_SEED=123 CRASH_ROUNDS=1000 pytest -m slow tests/crash
"""

import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from crash_ledger import WORKERS, Ledger, Name, Op, choose, content, digest

QUICK_ROUNDS = 50
SLOW_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "500"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(10**6))))
FOLDER_ROUNDS = 100
"""Rounds before a new folder, which bounds the disk that is needed."""

OK = {"put": {200, 201}, "shared": {200, 201}, "hold": {200, 201}, "delete": {204}}
OK |= {"release": {204}, "copy": {200, 201, 404}, "move": {200, 201, 404}, "get": {200, 404}}


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


class Fleet:
    """Workers, each with a connection of its own, until the server is gone."""

    def __init__(self, ledger: Ledger, port: int, dice: random.Random, first: int) -> None:
        self._ledger = ledger
        self._port = port
        self._lock = threading.Lock()
        self.wrong: list[str] = []
        self.number = first
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
            while not self.wrong:
                self._step(connection, worker, dice)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _step(
        self, connection: http.client.HTTPConnection, worker: int, dice: random.Random
    ) -> None:
        with self._lock:
            self.number += 1
            op = choose(dice, worker, self.number)
            self._ledger.begin(worker, op)
        status, body = ask(connection, op)
        with self._lock:
            if status not in OK[op.kind]:
                self.wrong.append(f"{op} was answered {status}: {body[:200]!r}")
                return
            if op.kind == "get":
                self._compare(worker, op, status, body)
            self._ledger.end(worker, op)

    def _compare(self, worker: int, op: Op, status: int, body: bytes) -> None:
        value = self._ledger.workers[worker].settled.get(op.name)
        expected = (404, None) if value is None else (200, content(value))
        if (status, body if status == 200 else None) != expected:
            self.wrong.append(f"{op.name} read as {status} with {len(body)} bytes, not {value}")


def start(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "holdfast", "serve", "--data", str(folder), "--port", "0"]
    command += ["--log-level", "error"]
    environment = {**os.environ, "HOLDFAST_AUTH": "none"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def end(server: "subprocess.Popen[str]", dice: random.Random) -> None:
    """Kill it; sometimes while it is stopping."""
    if dice.random() < 0.15:
        server.terminate()
        time.sleep(dice.random() * 0.1)
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


class Lane:
    """A folder and its server, which starts while another lane works."""

    def __init__(self, base: Path, dice: random.Random) -> None:
        self.ledger = Ledger()
        self._base = base
        self._dice = dice
        self._rounds = 0
        self._start()

    def round(self) -> None:
        """Work, kill, compare, and start again."""
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line.startswith("holdfast serves"), line
        port = int(line.rsplit(":", 1)[1])
        fleet = Fleet(self.ledger, port, self._dice, self.ledger.figures["requests"])
        with fleet.working():
            time.sleep(self._dice.random() * 0.4)
            end(self._server, self._dice)
        self.ledger.figures["requests"] = fleet.number
        assert fleet.wrong == []
        self._check()
        self._start()

    def stop(self) -> None:
        """End it for good."""
        self._server.kill()
        self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()

    def _start(self) -> None:
        folder = self._base / f"{self._rounds // FOLDER_ROUNDS}"
        if self._rounds % FOLDER_ROUNDS == 0:
            self.ledger.begin_anew()
        self._rounds += 1
        self._folder = folder
        self._server = start(folder)
        if self._dice.random() < 0.1:
            time.sleep(self._dice.random() * 0.5)  # killed while it starts
            end(self._server, self._dice)
            self._server = start(folder)

    def _check(self) -> None:
        if self._dice.random() < 0.3:
            (self._folder / "index" / "state").write_text("another boot")
        try:
            self.ledger.check(self._folder)
        except BaseException as error:
            error.add_note(f"seed {SEED}, round {self._rounds}, {self._folder}")
            raise


def run_rounds(base: Path, count: int) -> str:
    """Two lanes in turn; returns a line of figures."""
    dice = random.Random(SEED)
    begin = time.monotonic()
    with ExitStack() as stack:
        lanes = []
        for name in "ab":
            lanes.append(Lane(base / name, dice))
            stack.callback(lanes[-1].stop)
        for number in range(count):
            lanes[number % 2].round()
    figures = lanes[0].ledger.figures + lanes[1].ledger.figures
    report = ", ".join(f"{each} {figures[each]:,}" for each in sorted(figures))
    return f"server killed, seed {SEED}: {report}, {time.monotonic() - begin:.0f} s"


@pytest.mark.timeout(120)
def test_a_killed_server_keeps_every_acknowledged_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_rounds(tmp_path, QUICK_ROUNDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")
    assert digest.cache_info().currsize > 100


@pytest.mark.slow
@pytest.mark.timeout(10 * SLOW_ROUNDS)
def test_a_server_killed_many_times_keeps_every_acknowledged_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run_rounds(tmp_path, SLOW_ROUNDS)
    with capsys.disabled():
        sys.stdout.write(f"\n{report}\n")
