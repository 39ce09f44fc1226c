"""Servers with several workers, seen from outside: who they are, and who has which connection."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rawhttp import Connection
from serving import Server, wait_until

TRIES = 200


def workers(server: Server) -> list[int]:
    """The processes that serve, oldest first."""
    supervisor = server.process.pid
    text = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    return [int(each) for each in text.split()]


def is_alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return _state(process) not in {"", "Z"}


def stop_for_now(process: int) -> None:
    """Let a process stand still, in all of its threads, before anything else happens."""
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: _state(process) == "T", "it does not stand still")


def _state(process: int) -> str:
    """The letter of man 5 proc; empty where there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _server_inode(client: socket.socket, port: int) -> str:
    """The other end of a connection in the kernel's table (man 5 proc, /proc/net/tcp)."""
    ours = client.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(each.rpartition(":")[2], 16) for each in fields[1:3])
        if (local, remote) == (port, ours):
            return fields[9]
    raise AssertionError("the connection is not in the table")


def worker_of(server: Server, connection: Connection) -> int:
    """The worker that has a connection, once it was answered there."""
    link = f"socket:[{_server_inode(connection.socket, server.port)}]"
    for process in workers(server):
        for path in _descriptors(process):
            with suppress(OSError):
                if str(path.readlink()) == link:
                    return process
    raise AssertionError("no worker has the connection")


def _descriptors(process: int) -> Iterator[Path]:
    with suppress(OSError):
        yield from Path(f"/proc/{process}/fd").iterdir()


def connect_to(server: Server, process: int) -> Connection:
    """A connection to a given worker."""
    for _ in range(TRIES):
        connection = server.connect()
        assert connection.ask("GET", "/healthz").status == 200
        if worker_of(server, connection) == process:
            return connection
        connection.close()
    raise AssertionError("no connection came to the worker")


def on_each(server: Server) -> list[Connection]:
    """A connection to every worker."""
    return [connect_to(server, process) for process in workers(server)]


def kill_and_await(server: Server, process: int, number: int = signal.SIGKILL) -> int:
    """End a worker, and return the one that takes its place."""
    before = set(workers(server))
    os.kill(process, number)
    wait_until(lambda: not is_alive(process), "the worker did not end", 15)
    wait_until(lambda: bool(set(workers(server)) - before), "nobody took the place")
    (successor,) = set(workers(server)) - before
    return successor
