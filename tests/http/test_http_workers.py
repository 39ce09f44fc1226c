"""Several workers: one store to everyone, whoever of them dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from crowd import (
    connect_to,
    is_alive,
    kill_and_await,
    on_each,
    stop_for_now,
    worker_of,
    workers,
)
from rawhttp import Connection, spell
from serving import SERVE, Server, Servers, environment, wait_until

from holdfast.depot.local import open_depot

MIB = 1024 * 1024
ROUNDS = 700
WRITERS = 4


@pytest.fixture
def server(servers: Servers) -> Server:
    """A shared server with two workers."""
    return servers.shared(workers="2", hot_path="true")


@pytest.fixture
def own(servers: Servers) -> Server:
    """A server with two workers, which a test may hurt."""
    return servers.own(workers="2")


@pytest.fixture
def each(server: Server) -> Iterator[list[Connection]]:
    """A connection to each worker."""
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in on_each(server)]


class Writers:
    """Threads that put, each on a connection of its own, as long as that lives."""

    def __init__(self, server: Server, count: int = WRITERS) -> None:
        self._server = server
        self.acknowledged: dict[str, bytes] = {}
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        self._over = threading.Event()
        self.broken = 0
        for thread in self._threads:
            thread.start()

    def _run(self, name: int) -> None:
        number = 0
        while not self._over.is_set():
            try:
                with self._server.connect() as connection:
                    while not self._over.is_set():
                        number += 1
                        self._put(connection, f"{name}-{number:06}", name, number)
            except (OSError, EOFError):
                self.broken += 1
                time.sleep(0.01)

    def _put(self, connection: Connection, key: str, name: int, number: int) -> None:
        body = b"%d %d " % (name, number) * (number % 50 + 1)
        if connection.ask("PUT", f"/b/load/{key}", body).status == 201:
            self.acknowledged[key] = body

    def more(self, count: int = 50) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, "nothing is written", 20)

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def load(own: Server) -> Iterator[Writers]:
    """Writers on `own`."""
    writers = Writers(own)
    yield writers
    writers.stop()


def stored(data: Path, bucket: str = "load") -> dict[str, bytes]:
    """What a server that is gone has left, read without a server."""
    with open_depot(data) as depot:
        found = depot.bucket(bucket)
        return {entry.key: found.get(entry.key) for entry in found.entries()}


def wait_until_free(data: Path) -> None:
    """Wait until the last process has let go of the folder."""

    def is_free() -> bool:
        return subprocess.run(["flock", "-n", data / "lock", "true"], check=False).returncode == 0

    wait_until(is_free, "somebody holds the folder")


# One store


def test_what_one_worker_acknowledged_all_others_read_at_once(
    server: Server, each: list[Connection], bucket: str
) -> None:
    """Under writers on both; every key is new, then replaced, then gone, then there again."""
    background = Writers(server, 2)
    try:
        path = f"/b/{bucket}/k"
        body: bytes | None
        for number in range(ROUNDS):
            writer = each[number % 2]
            if number % 4 == 3:
                body = None
                assert writer.ask("DELETE", path).status == 204
            else:
                body = b"%d" % number
                assert writer.ask("PUT", path, body).status in {200, 201}
            for reader in (*each, *each):  # the second time from what it remembers
                reply = reader.ask("GET", path)
                assert (reply.body if reply.status == 200 else None) == body
    finally:
        background.stop()
    assert background.broken == 0


def test_nobody_sees_an_older_state_after_a_newer_one(
    server: Server, each: list[Connection], bucket: str
) -> None:
    """Also not of a write that was not acknowledged yet."""
    path = f"/b/{bucket}/k"
    each[0].ask("PUT", path, b"0")
    over = threading.Event()

    def write() -> None:
        with server.connect() as connection:
            for number in range(1, ROUNDS):
                connection.ask("PUT", path, b"%d" % number)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    newest = reads = 0
    while not over.is_set():
        for reader in each:
            seen = int(reader.ask("GET", path).body)
            assert seen >= newest
            newest = seen
            reads += 1
    writer.join()
    assert reads > 100
    assert [int(reader.ask("GET", path).body) for reader in each] == [ROUNDS - 1] * 2


def test_large_blobs_of_one_worker_are_those_of_all(
    server: Server, each: list[Connection], bucket: str
) -> None:
    first, second = each
    big = os.urandom(3 * MIB)
    assert first.ask("PUT", f"/b/{bucket}/k", big).status == 201
    assert second.ask("GET", f"/b/{bucket}/k").body == big
    assert second.ask("PUT", f"/b/{bucket}/k2", big).status == 201
    assert first.ask("DELETE", f"/b/{bucket}/k").status == 204
    assert first.ask("GET", f"/b/{bucket}/k2").body == big
    server.check_clean(bucket, ("k2",))


def test_the_same_key_by_all_at_once_has_one_winner_each_time(server: Server, bucket: str) -> None:
    path, created = f"/b/{bucket}/k", []

    def create(connection: Connection) -> None:
        for number in range(50):
            reply = connection.ask("PUT", f"{path}{number}", b"x", {"If-None-Match": "*"})
            created.append(reply.status)

    with ExitStack() as stack:
        connections = [stack.enter_context(one) for one in on_each(server) * 1]
        threads = [threading.Thread(target=create, args=(one,)) for one in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(set(created)) == [201, 412]
    assert created.count(201) == 50


def test_metrics_are_those_of_the_whole_server(own: Server) -> None:
    asked = 'holdfast_http_requests_total{method="GET",route="blob",status="200"}'
    with ExitStack() as stack:
        each = [stack.enter_context(one) for one in on_each(own)]
        each[0].ask("PUT", "/b/m/k", b"x" * 1000)
        for connection in each:
            for _ in range(3):
                connection.ask("GET", "/b/m/k")
        time.sleep(1.2)  # a second is how often each reports
        for connection in each:
            text = connection.ask("GET", "/metrics").body.decode()
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
            assert float(values[asked]) == 6
            assert float(values["holdfast_http_sent_bytes_total"]) > 6000
            assert float(values["holdfast_http_connections"]) == 2
            assert float(values["holdfast_workers"]) == 2
            assert float(values["holdfast_log_batches"]) >= 1
            assert float(values["holdfast_log_healthy"]) == 1
            assert float(values["process_open_fds"]) > 20
            assert float(values["process_resident_memory_bytes"]) > 40 * MIB
            stats = connection.ask("GET", "/stats").json()
            assert (stats["entries"], stats["entry_bytes"]) == (1, 1000)


def test_no_counter_goes_back_when_a_worker_dies(own: Server, load: Writers) -> None:
    names = (
        "holdfast_http_requests_total",
        "holdfast_http_received_bytes_total",
        "holdfast_log_batches",
        "holdfast_log_appended_bytes",
        "process_cpu_seconds_total",
    )
    before = dict.fromkeys(names, 0.0)
    for number in range(3):
        load.more()
        now = {name: own.metric(name) for name in names}
        assert all(now[name] >= before[name] > -1 for name in names)
        before = now
        kill_and_await(own, workers(own)[0])
        assert own.metric("holdfast_worker_restarts_total") == number + 1
    wait_until(lambda: own.metric("holdfast_workers") == 2, "a worker is missing")


def test_connections_are_limited_for_all_workers_together(servers: Servers) -> None:
    server = servers.own(workers="2", max_connections="20")
    with ExitStack() as stack:
        statuses = [
            stack.enter_context(server.connect()).ask("GET", "/healthz").status for _ in range(30)
        ]
    assert statuses.count(200) == 20
    assert statuses.count(503) == 10
    wait_until(lambda: server.ask("GET", "/healthz").status == 200, "it stays full")


def test_more_workers_than_cores_serve_too(servers: Servers) -> None:
    server = servers.own(workers="5")
    assert len(workers(server)) == 5
    with ExitStack() as stack:
        each = [stack.enter_context(one) for one in on_each(server)]
        for number, connection in enumerate(each):
            assert connection.ask("PUT", f"/b/n/{number}", b"x").status == 201
        assert server.keys("n") == [str(number) for number in range(5)]


# Deaths


def test_a_killed_worker_is_replaced_while_the_others_serve(own: Server, load: Writers) -> None:
    for _ in range(3):
        load.more()
        victim, other = workers(own)
        with connect_to(own, other) as connection:
            successor = kill_and_await(own, victim)
            assert connection.ask("GET", "/readyz").status == 200
        with connect_to(own, successor) as connection:
            assert connection.ask("PUT", "/b/after/k", b"x").status in {200, 201}
        load.more()
    load.stop()
    assert load.broken >= 1
    with ExitStack() as stack:
        for connection in [stack.enter_context(one) for one in on_each(own)]:
            for key, body in list(load.acknowledged.items())[::7]:
                assert connection.ask("GET", f"/b/load/{key}").body == body
    assert own.stop() == 0
    assert own.traces() == ""
    assert load.acknowledged.items() <= stored(own.data).items()


def test_what_waits_for_a_killed_worker_is_served_by_its_successor(own: Server) -> None:
    victim, _ = workers(own)
    stop_for_now(victim)
    with ExitStack() as stack:
        waiting = [stack.enter_context(own.connect()) for _ in range(16)]
        for connection in waiting:
            connection.send(spell("GET", "/healthz"))
        silent = [one for one in waiting if not one.is_answered(0.5)]
        assert 0 < len(silent) < 16
        os.kill(victim, signal.SIGKILL)
        for connection in waiting:
            assert connection.reply().status == 200


def test_the_uploads_of_a_killed_worker_leave_nothing(own: Server) -> None:
    victim, other = workers(own)
    with connect_to(own, victim) as lost, connect_to(own, other) as kept:
        for connection in (lost, kept):
            headers = {"Content-Length": str(4 * MIB)}
            connection.send(spell("PUT", "/b/up/k", bytes(2 * MIB), headers))
        wait_until(lambda: len(own.temporary()) == 2, "they did not begin")
        kill_and_await(own, victim)
        wait_until(lambda: len(own.temporary()) == 1, "it was not swept")
        kept.send(bytes(2 * MIB))
        assert kept.reply().status == 201
    own.check_clean("up", ("k",))


def test_a_worker_that_is_asked_to_end_finishes_and_is_replaced(own: Server) -> None:
    victim, _ = workers(own)
    with connect_to(own, victim) as connection:
        connection.send(spell("PUT", "/b/term/k", b"x", {"Content-Length": "10"}))
        time.sleep(0.1)
        os.kill(victim, signal.SIGTERM)
        time.sleep(0.3)
        connection.send(b"x" * 9)
        assert connection.reply().status == 201
    wait_until(lambda: victim not in workers(own) and len(workers(own)) == 2, "not replaced")
    assert own.ask("GET", "/b/term/k").body == b"x" * 10
    assert b"exit code 0" in own.log.read_bytes()


def test_workers_end_with_their_supervisor(own: Server, load: Writers) -> None:
    load.more()
    crowd = workers(own)
    own.process.kill()
    wait_until(lambda: not any(map(is_alive, crowd)), "a worker lives on")
    wait_until_free(own.data)
    load.stop()
    assert load.acknowledged.items() <= stored(own.data).items()


def test_a_folder_is_held_until_the_last_worker_is_gone(own: Server) -> None:
    """One that cannot even see that its supervisor died keeps the next server out."""
    sleeper, other = workers(own)
    with connect_to(own, other) as connection:
        assert connection.ask("PUT", "/b/load/k", b"x").status == 201
    stop_for_now(sleeper)
    own.process.kill()
    wait_until(lambda: not is_alive(other), "a worker lives on")
    assert b"in use" in serve(own.data).stderr
    os.kill(sleeper, signal.SIGCONT)
    wait_until(lambda: not is_alive(sleeper), "a worker lives on")
    wait_until_free(own.data)
    assert stored(own.data) == {"k": b"x"}


def test_all_may_be_killed_at_once(own: Server, load: Writers) -> None:
    load.more()
    for process in (own.process.pid, *workers(own)):
        os.kill(process, signal.SIGKILL)
    own.wait()
    wait_until_free(own.data)
    load.stop()
    assert load.acknowledged.items() <= stored(own.data).items()


def test_a_server_whose_workers_cannot_start_ends(own: Server) -> None:
    (own.data / "HOLDFAST").write_text("rubbish")
    victim, other = workers(own)
    with connect_to(own, other) as connection:
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "worker.failed" in own.log.read_text(), "it starts")
        assert connection.ask("GET", "/readyz").status == 200
    assert own.wait() == 7
    assert not is_alive(other)
    text = own.log.read_text()
    assert "worker 0 cannot start: exit code 1" in text
    assert "the file HOLDFAST is damaged" in text
    assert "Traceback" not in text


# Starting and stopping


def serve(data: Path, *flags: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, *SERVE, "--data", str(data), "--workers=2", *flags]
    return subprocess.run(
        command, capture_output=True, timeout=30, check=False, env=environment({})
    )


def test_a_stop_in_order_leaves_a_clean_folder(own: Server) -> None:
    own.ask("PUT", "/b/load/k", b"x")
    started_s = time.monotonic()
    assert own.stop() == 0
    assert time.monotonic() - started_s < 5
    assert (own.data / "index" / "state").read_text().startswith("clean")
    text = own.log.read_text()
    assert "store.open" in text.splitlines()[0]
    assert "store.closed" in text.splitlines()[-1]
    assert stored(own.data) == {"k": b"x"}


@pytest.mark.parametrize("pause_s", [0, 0.2], ids=["at once", "one by one"])
def test_an_interrupt_from_the_terminal_comes_to_all_and_stops_them_once(
    own: Server, pause_s: float
) -> None:
    with own.connect() as connection:
        connection.send(spell("PUT", "/b/load/k", b"x", {"Content-Length": "2"}))
        time.sleep(0.2)
        for process in (own.process.pid, *workers(own)):
            with suppress(ProcessLookupError):  # one that has nothing to finish
                os.kill(process, signal.SIGINT)
            time.sleep(pause_s)
        time.sleep(0.3)
        connection.send(b"y")
        assert connection.reply().status == 201
    assert own.wait() == 0
    assert stored(own.data) == {"k": b"xy"}


def test_a_second_signal_ends_at_once(own: Server) -> None:
    crowd = workers(own)
    with own.connect() as connection:
        connection.send(spell("PUT", "/b/load/k", b"x", {"Content-Length": "2"}))
        time.sleep(0.2)
        own.signal(signal.SIGTERM)
        time.sleep(0.3)
        assert own.process.poll() is None
        own.signal(signal.SIGTERM)
        assert own.wait() == 130
    assert not any(map(is_alive, crowd))
    assert stored(own.data) == {}


def test_a_second_server_is_refused(server: Server) -> None:
    done = serve(server.data)
    assert (done.returncode, done.stdout) == (7, b"")
    assert f"in use by process {server.process.pid}".encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_port_is_not_shared_with_another_server(server: Server, tmp_path: Path) -> None:
    """Although both would be allowed to by the kernel."""
    done = serve(tmp_path / "data", "--port", str(server.port))
    assert done.returncode == 7
    assert str(server.port).encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_certificate_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("rubbish")
    flags = environment(
        {"tls_certificate": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}
    )
    command = [sys.executable, *SERVE, "--data", str(tmp_path / "data"), "--workers=2"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, env=flags)
    assert done.returncode == 7
    assert b"cannot start" in done.stderr
    assert done.stdout == b""


def test_everything_is_imported_before_the_first_fork(own: Server) -> None:
    """What is loaded later is loaded by every worker for itself."""
    maps = [Path(f"/proc/{process}/maps").read_text() for process in workers(own)]
    supervisor = Path(f"/proc/{own.process.pid}/maps").read_text()
    libraries = {line.split()[-1] for text in maps for line in text.splitlines() if ".so" in line}
    assert [each for each in sorted(libraries) if each not in supervisor] == []


def test_new_connections_are_spread_over_all(server: Server) -> None:
    with ExitStack() as stack:
        found = []
        for _ in range(40):
            connection = stack.enter_context(server.connect())
            assert connection.ask("GET", "/healthz").status == 200
            found.append(worker_of(server, connection))
    assert set(found) == set(workers(server))
    assert min(map(found.count, set(found))) >= 5


def test_sockets_are_closed_at_a_stop_before_requests_end(own: Server) -> None:
    with own.connect() as connection:
        connection.send(spell("PUT", "/b/load/k", b"x", {"Content-Length": "2"}))
        time.sleep(0.2)
        own.signal()
        wait_until(own.refuses, "it takes new connections")
        connection.send(b"y")
        assert connection.reply().status == 201
    assert own.wait() == 0
