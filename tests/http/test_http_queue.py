"""`async_write`: answers before anything is durable, and what is seen, refused and lost then."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Server, Servers, wait_until

from holdfast.client import Client
from holdfast.config.load import load
from holdfast.config.settings import Settings
from holdfast.core import limits
from holdfast.core.errors import InvalidError, PreconditionError, UnavailableError
from holdfast.core.pending import Pending
from holdfast.core.policy import Policy
from holdfast.core.preconditions import Conditions
from holdfast.core.seams import Disk
from holdfast.depot.local import open_depot
from holdfast.http import route
from holdfast.http.message import Answer, Request
from holdfast.http.outcome import Intake
from holdfast.http.site import Site

LARGE = bytes(range(256)) * 2000
SOON_S = 20


@pytest.fixture
def server(servers: Servers, ways: dict[str, str]) -> Server:
    return servers.shared(async_write="true", **ways)


# Over sockets


def test_an_upload_and_a_delete_are_answered_202(server: Server) -> None:
    for body in (b"", b"small", LARGE):
        reply = server.ask("PUT", "/b/queued/k", body)
        assert (reply.status, reply.json()) == (202, {"queued": True})
        assert "etag" not in reply.headers
        assert server.ask("GET", "/b/queued/k").body == body
    assert server.ask("POST", "/b/queued/k", b"posted").status == 202
    assert server.ask("GET", "/b/queued/k/metadata").json()["size"] == 6
    assert server.ask("DELETE", "/b/queued/k").status == 202
    assert server.ask("GET", "/b/queued/k").status == 404
    assert server.ask("DELETE", "/b/queued/k").status == 202


def test_who_reads_sees_all_that_was_answered(server: Server) -> None:
    """On connections of their own, with one write of a name behind the other."""
    with server.connect() as writing, server.connect() as reading:
        for number in range(60):
            body = b"%d" % number
            assert writing.ask("PUT", "/b/seen/k", b"before").status == 202
            assert writing.ask("DELETE", "/b/seen/k").status == 202
            assert writing.ask("PUT", "/b/seen/k", body).status == 202
            assert writing.ask("PUT", f"/b/seen/n{number}", body).status == 202
            assert reading.ask("GET", "/b/seen/k").body == body
            assert reading.ask("GET", "/b/seen/k").body == body  # as it is known by now
            assert writing.ask("DELETE", "/b/seen/k").status == 202
            assert reading.ask("GET", "/b/seen/k").status == 404
            assert len(reading.ask("GET", "/b/seen?limit=1000").json()["entries"]) == number + 1


def test_what_many_bring_comes_behind_what_is_queued(server: Server) -> None:
    head = {"Content-Type": "application/vnd.holdfast.many"}
    with server.connect() as writing:
        for number in range(20):
            data = b"%d" % number
            assert writing.ask("PUT", "/b/many/k", b"before").status == 202
            body = b'{"name":"k","body_bytes":%d}\n%b' % (len(data), data)
            assert server.ask("POST", "/b/many", body, head).status == 200
            assert writing.ask("GET", "/b/many/k").body == data


def test_conditions_are_answered_when_they_are_decided(server: Server) -> None:
    new = {"if-none-match": "*"}
    for body in (b"1", LARGE):
        assert server.ask("PUT", "/b/held/k", body, new).status == 201
        assert server.ask("PUT", "/b/held/k", body, new).status == 412
        assert server.ask("DELETE", "/b/held/k").status == 202
        assert server.ask("PUT", "/b/held/k", body, new).status == 201
        etag = server.ask("GET", "/b/held/k").headers["etag"]
        assert server.ask("DELETE", "/b/held/k", headers={"if-match": '"no"'}).status == 412
        assert server.ask("DELETE", "/b/held/k", headers={"if-match": etag}).status == 204


def test_what_can_be_known_at_once_is_refused_at_once(server: Server) -> None:
    assert server.ask("PUT", "/b/NO/k", b"x").status == 400
    wrong = {"repr-digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"}
    assert server.ask("PUT", "/b/queued/wrong", b"x", wrong).status == 422
    assert server.ask("GET", "/b/queued/wrong").status == 404


def test_blobs_by_hash_are_never_queued(server: Server) -> None:
    digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert server.ask("PUT", f"/blobs/{digest}", b"hello").status in (200, 201)


def test_a_server_that_is_stopped_finishes_what_waits(servers: Servers) -> None:
    server = servers.own(async_write="true")
    with server.connect() as connection:
        for number in range(300):
            assert connection.ask("PUT", f"/blob/k{number:03}", b"%d" % number).status == 202
    assert server.stop() == 0
    with open_depot(server.data) as depot:
        for number in range(300):
            assert depot.get(f"k{number:03}") == b"%d" % number


def test_the_client_waits_for_what_it_was_promised(server: Server) -> None:
    """Its verbs mean what they mean everywhere: durable, with the entry."""
    with Client(server.url).bucket("client") as client:
        entry = client.put("k", b"hello")
        assert (entry.key, entry.size_bytes, client.get("k")) == ("k", 5, b"hello")
        assert client.delete("k")
        assert not client.delete("k")
        assert not client.list().entries


def test_who_asks_to_wait_is_answered_in_the_end(server: Server) -> None:
    for prefer in ("wait=10", "respond-async, wait=1", "WAIT = 5"):
        assert server.ask("PUT", "/b/waits/k", b"x", {"prefer": prefer}).status in (200, 201)
    for prefer in ("respond-async", "await=1", ""):
        assert server.ask("PUT", "/b/waits/k", b"x", {"prefer": prefer}).status == 202


def test_what_was_lost_is_counted_and_told(servers: Servers) -> None:
    server = servers.own(async_write="true", log_format="json")
    policy = b'{"quota_entries":1}'
    assert server.ask("PUT", "/admin/policies/small", policy).status in (200, 201)
    assert server.ask("PUT", "/b/small/one", b"1").status == 202
    assert server.ask("PUT", "/b/small/two", b"2").status == 202
    assert server.ask("GET", "/b/small/two").status == 404
    assert server.metric("holdfast_lost_writes_total") == 1
    assert server.metric("holdfast_queued_writes") == 0
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    lost = next(each for each in told if each["event"] == "queue.lost")
    assert (lost["bucket"], lost["key"], lost["code"]) == ("small", "two", "quota_exceeded")


def test_it_is_for_one_process() -> None:
    variables = {"HOLDFAST_ASYNC_WRITE": "true", "HOLDFAST_WORKERS": "2"}
    with pytest.raises(InvalidError, match="async_write"):
        load(environment=variables)


# With a disk that waits


class StuckDisk(Disk):
    """A disk whose syncs wait until they are let go."""

    def __init__(self) -> None:
        self.goes = threading.Event()
        self.goes.set()

    def sync_data(self, descriptor: int) -> None:
        assert self.goes.wait(SOON_S)
        super().sync_data(descriptor)


class Stuck:
    """A site over a disk that is stuck."""

    def __init__(self, site: Site, disk: StuckDisk) -> None:
        self.site = site
        self.disk = disk

    def put(self, name: str, body: bytes = b"x", headers: dict[bytes, bytes] | None = None) -> Any:
        target = route.resolve("PUT", path_of(name))
        pending = self.site.store(asking("PUT", name, headers), target, body)
        return self.site.stored_answer(pending, path_of(name)).status if pending.done() else pending

    def admit(self, name: str, body: bytes, headers: dict[bytes, bytes]) -> Answer:
        target = route.resolve("PUT", path_of(name))
        intake = self.site.admit(asking("PUT", name, headers), target, len(body))
        assert isinstance(intake, Intake)
        answers: list[Answer] = []
        with intake.upload:
            intake.upload.write(body)
            intake.finish(answers.append)
            wait_until(lambda: bool(answers), "no answer")
        return answers[0]

    def delete(self, name: str) -> int:
        answers: list[Answer] = []
        target = route.resolve("DELETE", path_of(name))
        self.site.change(asking("DELETE", name), target, answers.append)
        return answers[0].status

    def read_now(self, name: str) -> Answer | None:
        target = route.resolve("GET", path_of(name))
        return self.site.read_now(asking("GET", name), target, keep=True)

    def known(self, name: str) -> bytes | None:
        known = self.site.recent.find(path_of(name), b"GET ...")
        assert known is not None
        body = self.site.recent.body(known)
        return None if body is None else bytes(body)


def path_of(name: str) -> bytes:
    return b"/b/stuck/" + name.encode()


def asking(method: str, name: str, headers: dict[bytes, bytes] | None = None) -> Request:
    return Request(method, path_of(name), b"", headers or {}, "127.0.0.1")


@contextmanager
def stuck(path: Path, **settings: Any) -> Iterator[Stuck]:
    disk = StuckDisk()
    with open_depot(path, disk=disk) as depot:
        site = Site(depot, settings=Settings(async_write=True, **settings))
        try:
            yield Stuck(site, disk)
        finally:
            disk.goes.set()


def test_an_answer_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    with stuck(tmp_path) as place:
        assert place.put("k", b"old") == 202
        place.site.queue.settle()
        place.disk.goes.clear()
        assert [place.put("k", b"%d" % number) for number in range(50)] == [202] * 50
        assert place.delete("k") == 202
        assert place.site.queue.writes == 51
        new = {b"if-none-match": b"*"}
        pending: Pending[Any] = place.put("k", b"durable", new)
        assert not pending.done()
        place.disk.goes.set()
        assert pending.result().is_new


def test_nobody_is_answered_with_less_than_was_acknowledged(tmp_path: Path) -> None:
    """Also not by the head that was kept, nor at once in the loop: they wait."""
    with stuck(tmp_path) as place:
        assert place.put("k", b"old") == 202
        place.site.queue.settle()
        answer = place.read_now("k")
        assert answer is not None
        assert answer.body == b"old"
        assert place.known("k") == b"old"
        place.disk.goes.clear()
        assert place.put("k", b"new") == 202
        assert place.read_now("k") is None
        assert place.known("k") is None
        target = route.resolve("GET", path_of("k"))
        bodies: list[bytes] = []

        def read() -> None:
            found = place.site.read(asking("GET", "k"), target, wait=True)
            assert found is not None
            bodies.append(found.body)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
        assert bodies == []
        place.disk.goes.set()
        reader.join(SOON_S)
        assert bodies == [b"new"]


def test_other_names_are_read_meanwhile(tmp_path: Path) -> None:
    with stuck(tmp_path) as place:
        assert place.put("other", b"there") == 202
        place.site.queue.settle()
        place.disk.goes.clear()
        assert place.put("k") == 202
        answer = place.read_now("other")
        assert answer is not None
        assert answer.body == b"there"


def test_a_large_upload_is_decided_behind_what_is_queued(tmp_path: Path) -> None:
    with stuck(tmp_path) as place:
        assert place.put("k") == 202
        place.site.queue.settle()
        place.disk.goes.clear()
        assert place.delete("k") == 202
        release = threading.Timer(0.2, place.disk.goes.set)
        release.start()
        assert place.admit("k", LARGE, {b"if-none-match": b"*"}).status == 201
        release.join()
        with pytest.raises(PreconditionError):
            place.site.admit(
                asking("PUT", "k", {b"if-none-match": b"*"}),
                route.resolve("PUT", path_of("k")),
                len(LARGE),
            )


def test_what_may_wait_is_bounded_and_more_is_refused(tmp_path: Path) -> None:
    with stuck(tmp_path, async_writes_max=10) as place:
        place.disk.goes.clear()
        assert [place.put(f"k{number}") for number in range(10)] == [202] * 10
        for refused in (lambda: place.put("more"), lambda: place.delete("k1")):
            with pytest.raises(UnavailableError) as caught:
                refused()
            assert caught.value.retry_after_s == 1
        place.disk.goes.set()
        place.site.queue.settle()
        assert place.put("more") == 202
    with open_depot(tmp_path) as depot:
        found = [entry.key for entry in depot.bucket("stuck").list().entries]
        assert found == [*(f"k{number}" for number in range(10)), "more"]


def test_their_bytes_in_memory_are_bounded(tmp_path: Path) -> None:
    body = bytes(limits.SMALL_BLOB_BYTES_MAX)
    with stuck(tmp_path) as place:
        place.disk.goes.clear()
        for _ in range(limits.QUEUED_BYTES_MAX // limits.SMALL_BLOB_BYTES_MAX):
            assert place.put("k", body) == 202
        with pytest.raises(UnavailableError):
            place.put("k", body)


def test_accounts_are_even_in_the_end(tmp_path: Path) -> None:
    with stuck(tmp_path) as place:
        place.site.depot.bucket("stuck").set_policy(Policy(quota_entries=5))
        threads = [
            threading.Thread(target=lambda at=at: [place.put(f"k{at}-{n}") for n in range(20)])
            for at in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        place.site.queue.settle()
        queue = place.site.queue
        wait_until(lambda: queue.writes == 0, "something still waits")
        assert (queue.size_bytes, queue.failures) == (0, 75)
        assert place.site.depot.bucket("stuck").list().entries[4:][0].key


def test_conditions_of_the_caller_reach_the_commit(tmp_path: Path) -> None:
    with stuck(tmp_path) as place:
        assert place.put("k") == 202
        upload = place.site.depot.bucket("stuck").upload(
            "k", when=Conditions(if_none_match="*"), is_known=False
        )
        with upload:
            upload.write(b"later")
            with pytest.raises(PreconditionError):
                upload.finish().result()


def test_httpx_sees_the_same(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.put("/b/httpx/k", content=b"hello").status_code == 202
        assert client.get("/b/httpx/k").content == b"hello"
