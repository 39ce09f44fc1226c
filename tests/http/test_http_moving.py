"""A real server moves its store while clients write and read: none is refused, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
from rawhttp import Connection, Reply
from receiver import Receiver, hang, receiver
from serving import Server, wait_until

import holdfast
from holdfast.core.digest import Digest
from holdfast.core.errors import ConflictError
from holdfast.core.limits import KIB, MIB
from holdfast.testing.blobs import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRITERS = 3
KEYS = 12
FILLER = 24
SLOWLY = pytest.mark.slow
SIZES = (0, 10, 3000, 300 * KIB)


class Client:
    """Writes, reads and deletes names of its own, a connection for each request."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._dice = random.Random(number)
        self.there: dict[str, bytes] = {}
        self.stored: set[str] = set()
        """The digests of all that was ever acknowledged."""
        self.requests = 0
        self.longest_s = 0.0
        self.wrong: list[str] = []

    def start(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and not self.wrong:
                began_s = time.monotonic()
                self._step()
                self.requests += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.wrong.append(repr(error))

    def _step(self) -> None:
        key = f"{self._number}/{self._dice.randrange(KEYS)}"
        path, kind = f"/blob/{key}", self._dice.choice(["put", "put", "get", "get", "delete"])
        if kind == "put":
            data = make(self._dice.choice(SIZES)) + b"%d/%d" % (self._number, self.requests)
            reply = self._ask("PUT", path, data)
            self._expect(reply.status in {200, 201}, f"{path} was not stored: {reply}")
            self.there[key] = data
            self.stored.add(str(Digest.of(data)))
        elif kind == "delete":
            reply = self._ask("DELETE", path)
            self._expect(reply.status == 204, f"{path} was not deleted: {reply}")
            self.there.pop(key, None)
        else:
            reply, known = self._ask("GET", path), self.there.get(key)
            expected = (404, None) if known is None else (200, known)
            got = (reply.status, None if known is None else reply.body)
            self._expect(got == expected, f"{path}: {reply.status}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        with Connection(self._port, 30) as connection:
            return connection.ask(method, path, body)

    def _expect(self, holds: bool, what: str) -> None:  # noqa: FBT001
        if not holds:
            self.wrong.append(what)


@contextmanager
def writing(clients: list[Client], server: Server) -> Iterator[None]:
    for client in clients:
        client.start(server.port)
    try:
        yield
    finally:
        for client in clients:
            client.stop()


def requests(clients: list[Client]) -> int:
    return sum(client.requests for client in clients)


def has_passed(clients: list[Client], goal: int) -> bool:
    return requests(clients) > goal


def stage(server: Server) -> str:
    moved: dict[str, str] = server.ask("GET", "/stats").json().get("move", {})
    return moved.get("stage", "")


def is_moved(server: Server) -> bool:
    return stage(server) == "moved"


def fill(server: Server) -> dict[str, bytes]:
    there = {f"filler/{number}": make(50 * KIB) + b"%d" % number for number in range(FILLER)}
    for key, data in there.items():
        assert server.ask("PUT", f"/blob/{key}", data).status == 201
    return there


def check(server: Server, there: dict[str, bytes]) -> None:
    assert server.keys("default") == sorted(there)
    for key, data in there.items():
        reply = server.ask("GET", f"/blob/{key}")
        assert (reply.status, reply.body) == (200, data)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


def moving(old: Path, url: str, **more: str) -> Server:
    """A server that moves a store, slowly enough that all stages are seen."""
    settings = {"move_to": url, "move_bytes_s_max": "16MiB", "move_verify": "true", **more}
    return Server(old.parent / f"{old.name}.server", settings, data=old)


@pytest.mark.parametrize(
    ("way", "legs"),
    [
        ("true", 1),
        pytest.param("true", 2, marks=SLOWLY),
        pytest.param("false", 2, marks=SLOWLY),
    ],
)
def test_clients_write_and_read_through_a_move_there_and_back(
    tmp_path: Path, way: str, legs: int
) -> None:
    """From a log to shards, and from these to a log; then the first folder is not opened."""
    first, shards, last = (tmp_path / name for name in ("first", "shards", "last"))
    with Server(tmp_path / "begin", {}, data=first) as server:
        filler = fill(server)
    clients = [Client(number) for number in range(WRITERS)]
    there: dict[str, bytes] = {}
    ways = [(first, f"sqlite://{shards}?shards=3"), (shards, f"segments://{last}?compress=zstd")]
    for old, url in ways[:legs]:
        with moving(old, url, hot_path=way) as server:
            with writing(clients, server):
                wait_until(partial(is_moved, server), "it does not move", 60)
                goal = requests(clients) + 30
                wait_until(partial(has_passed, clients, goal), "it hangs")
            assert [client.wrong for client in clients] == [[]] * WRITERS
            assert max(client.longest_s for client in clients) < 5
            there = filler | {key: data for each in clients for key, data in each.there.items()}
            check(server, there)
            assert server.stop() == 0
            assert not server.traces()
    with pytest.raises(ConflictError, match=f"was moved to {shards}"):
        holdfast.open(first)
    with Server(tmp_path / "end", {}, data=(shards, last)[legs - 1]) as server:
        check(server, there)


@SLOWLY
@pytest.mark.parametrize("url", ["segments://{}", "segments://{}?encrypt=env:MASTER"])
def test_damage_of_the_new_store_is_not_seen_while_the_old_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Behind the window that is verified before the head, while the new store is verified."""
    monkeypatch.setenv("MASTER", "ab" * 32)
    first, new, data = tmp_path / "first", tmp_path / "new", make(9 * MIB)
    with Server(tmp_path / "begin", {}, data=first) as server:
        assert server.ask("PUT", "/blob/large", data).status == 201
    with moving(first, url.format(new), move_bytes_s_max="4MiB") as server:
        wait_until(lambda: stage(server) == "reading", "it does not move", 60)
        with next(new.rglob("*.blob")).open("r+b") as file:
            file.seek(8 * MIB + 500 * KIB)
            file.write(b"no such bytes")
        assert server.ask("GET", "/blob/large").body == data
        assert "copy.damaged" in server.log.read_text()
        wait_until(partial(is_moved, server), "it does not move", 60)
        assert server.ask("GET", "/blob/large").body == data
        assert not server.traces()
    with Server(tmp_path / "end", {"data": url.format(new)}, data=new) as server:
        assert server.ask("GET", "/blob/large").body == data


@SLOWLY
def test_webhooks_are_told_of_all_that_happened_before_and_behind_the_switch(
    tmp_path: Path, there: Receiver
) -> None:
    """Clients write all the time; nothing waits any more when the new store begins."""
    first = tmp_path / "first"
    about = {"webhook_networks": "127.0.0.0/8"}
    with Server(tmp_path / "begin", about, data=first) as server:
        fill(server)
        hook = msgspec.json.encode({"url": there.url, "topics": ["uploaded"]})
        assert server.ask("PUT", "/admin/webhooks/hook", hook).status == 201
    clients = [Client(number) for number in range(WRITERS)]
    with moving(first, f"sqlite://{tmp_path / 'new'}", **about) as server:
        with writing(clients, server):
            wait_until(partial(is_moved, server), "it does not move", 60)
            wait_until(partial(has_passed, clients, requests(clients) + 30), "it hangs")
        assert [client.wrong for client in clients] == [[]] * WRITERS
        stored = set().union(*(client.stored for client in clients))
        told = partial(digests_told, there)
        wait_until(lambda: stored <= told(), "something was not told", 20)
        shown = server.ask("GET", "/admin/webhooks/hook").json()
        assert (shown.get("lost_at"), shown["state"]) == (None, "open")


def digests_told(there: Receiver) -> set[str]:
    return {one.said["data"]["digest"] for one in list(there.got)}


@SLOWLY
def test_a_webhook_whose_receiver_hangs_holds_no_switch(tmp_path: Path, there: Receiver) -> None:
    """What it missed is said."""
    there.act = hang
    first = tmp_path / "first"
    about = {"webhook_networks": "127.0.0.0/8"}
    with Server(tmp_path / "begin", about, data=first) as server:
        hook = msgspec.json.encode({"url": there.url})
        assert server.ask("PUT", "/admin/webhooks/hook", hook).status == 201
        assert server.ask("PUT", "/blob/name", b"bytes").status == 201
    with moving(first, str(tmp_path / "new"), **about) as server:
        wait_until(partial(is_moved, server), "it does not move", 20)
        assert server.ask("GET", "/admin/webhooks/hook").json()["lost_at"] is not None


@SLOWLY
def test_a_switch_that_fails_is_tried_again_and_the_old_store_is_served_on(tmp_path: Path) -> None:
    """Something is in the way of the file in which the new store says that it is ready."""
    first, new = tmp_path / "first", tmp_path / "new"
    with Server(tmp_path / "begin", {}, data=first) as server:
        fill(server)
    clients = [Client(number) for number in range(WRITERS)]
    with moving(first, str(new), move_bytes_s_max="1MiB", move_verify="false") as server:
        in_the_way = new / "HOLDFAST.new"
        in_the_way.mkdir()
        with writing(clients, server):
            wait_until(lambda: "move.failed" in server.log.read_text(), "it does not fail", 30)
            wait_until(partial(has_passed, clients, requests(clients) + 10), "it is not served")
            assert stage(server) == "copying"
            in_the_way.rmdir()
            wait_until(partial(is_moved, server), "it does not move", 60)
        assert [client.wrong for client in clients] == [[]] * WRITERS
        assert not server.traces()
