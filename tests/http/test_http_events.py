"""GET /events: what became of names, as lines and for browsers, also by several processes."""

import asyncio
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from rawhttp import Connection, spell
from serving import Server, Servers, wait_until

from holdfast.config.settings import Settings
from holdfast.core import limits
from holdfast.core.access import ALL_SCOPES, ApiKey, Scope
from holdfast.core.bucket import Description, Item
from holdfast.core.errors import (
    CompactedError,
    DeniedError,
    NotFoundError,
    UnauthenticatedError,
)
from holdfast.core.policy import Owner, Policy
from holdfast.depot.events import Scope as Names
from holdfast.depot.local import open_depot
from holdfast.http import feed as feeds
from holdfast.http import route
from holdfast.http.counts import Counts, Tally
from holdfast.http.message import Request
from holdfast.http.site import Site

BROWSER = {"Accept": "text/event-stream"}
SOON_S = 5.0


class Message(NamedTuple):
    """What a browser makes of one block of lines (WHATWG HTML, section 9.2.6)."""

    id: str
    kind: str
    data: Any


def messages(body: bytes) -> list[Message]:
    """Read what a browser would be told; blocks without data only move its last id."""
    found = []
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    for block in blocks:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            data = msgspec.json.decode(fields["data"])
            found.append(Message(fields["id"], fields["event"], data))
    return found


def lines(body: bytes) -> list[dict[str, Any]]:
    assert body.endswith(b"\n")
    return [msgspec.json.decode(line) for line in body.splitlines()]


def ask(server: Server, query: str, headers: dict[str, str] | None = None) -> bytes:
    reply = server.ask("GET", f"/events?{query}", headers=headers)
    assert reply.status == 200, reply
    return reply.body


def now(server: Server) -> str:
    (mark,) = lines(ask(server, "from=now"))
    return str(mark["cursor"])


def fill(server: Server, bucket: str) -> list[tuple[str, str]]:
    """Change names, and tell what should be told."""
    with server.connect() as connection:
        for number in range(5):
            connection.ask("PUT", f"/b/{bucket}/k{number}", b"%d" % number)
        connection.ask("DELETE", f"/b/{bucket}/k1")
        connection.ask("DELETE", f"/b/{bucket}/k1")
        connection.ask("PUT", f"/b/{bucket}/x%20y", headers={"Holdfast-Move-From": f"{bucket}/k2"})
        connection.ask("PUT", f"/b/{bucket}/k0", b"again")
    told = [("uploaded", f"k{number}") for number in range(5)]
    told += [("deleted", "k1"), ("deleted", "k2"), ("uploaded", "x y"), ("uploaded", "k0")]
    return told


def nobody_asks() -> Names:
    """Everybody may hear of everything."""
    return Names()


def sockets(server: Server) -> int:
    found = 0
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found += str(link.readlink()).startswith("socket:")
    return found


def test_events_are_told_in_order_from_any_place_on(server: Server, bucket: str) -> None:
    begin = now(server)
    told = fill(server, bucket)
    *events, mark = lines(ask(server, f"from={begin}&bucket={bucket}"))
    assert [(event["kind"], event["key"]) for event in events] == told
    assert mark["kind"] == "mark"
    assert all(event["topic"] == f"_:blob:{event['kind']}" for event in events)
    entry = server.ask("GET", f"/b/{bucket}/k0/metadata").json()
    assert (events[-1]["entry"], events[-1]["digest"]) == (entry, entry["digest"])
    for number, event in enumerate(events, 1):
        assert lines(ask(server, f"from={event['cursor']}&bucket={bucket}"))[:-1] == events[number:]
    assert lines(ask(server, f"from={mark['cursor']}&bucket={bucket}")) == [mark]
    assert [
        event["key"] for event in lines(ask(server, f"from={begin}&bucket={bucket}&prefix=x+"))[:-1]
    ] == ["x y"]


def test_a_browser_is_told_the_same_and_goes_on_where_it_was(server: Server, bucket: str) -> None:
    begin = now(server)
    told = fill(server, bucket)
    query = f"from={begin}&bucket={bucket}&wait_s=0"
    body = ask(server, query, BROWSER)
    assert body.startswith(b"retry: 1000\n\n")
    found = messages(body)
    assert [(one.kind, one.data["key"]) for one in found] == told
    assert [one.data for one in found] == lines(ask(server, query))[:-1]
    assert [one.id for one in found] == [one.data["cursor"] for one in found]
    again = messages(ask(server, query, {**BROWSER, "Last-Event-ID": found[3].id}))
    assert again == found[4:]


def test_a_listener_hears_of_a_change_at_once(server: Server, bucket: str) -> None:
    with server.connect() as listener:
        listener.send(spell("GET", f"/events?from=now&bucket={bucket}&wait_s=60", headers=BROWSER))
        status, headers = listener.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["cache-control"] == "no-store"
        for number in range(3):
            server.ask("PUT", f"/b/{bucket}/k{number}", b"x")
            chunk = b""
            while b"data: " not in chunk:
                assert listener.is_answered(SOON_S)
                chunk += listener.take(int(listener._until(b"\r\n"), 16))
                listener.take(2)
            assert [one.data["key"] for one in messages(chunk)] == [f"k{number}"]


def test_an_answer_ends_when_nothing_came_for_as_long_as_was_asked(
    server: Server, bucket: str
) -> None:
    stop = threading.Event()

    def change_others() -> None:
        while not stop.wait(0.02):
            server.ask("PUT", f"/b/{bucket}-other/k", b"x")

    others = threading.Thread(target=change_others)
    others.start()
    try:
        (mark,) = lines(ask(server, f"from=now&bucket={bucket}&wait_s=1"))
    finally:
        stop.set()
        others.join()
    assert mark["kind"] == "mark"


@pytest.mark.parametrize(
    "query",
    [
        "from=x",
        "from=",
        "from=1.5",
        "from=-1",
        "from=99999999",
        "from=99999999999999999999",
        "from=now&from=now",
        "wait_s=-1",
        "wait_s=3601",
        "wait_s=1.5",
        "wait_s=inf",
        "bucket=",
        "bucket=A",
        "bucket=a%00b",
        "prefix=%FF",
        "limit=1",
    ],
)
def test_what_cannot_be_meant_is_refused(server: Server, query: str) -> None:
    for headers in ({}, BROWSER):
        reply = server.ask("GET", f"/events?{query}", headers=headers)
        assert (reply.status, reply.code) == (400, "invalid")
    assert server.ask("GET", "/events", headers={"Last-Event-ID": "x"}).status == 400


def test_only_get_is_known_and_only_with_chunks(server: Server) -> None:
    for method in ("HEAD", "PUT", "POST", "DELETE"):
        reply = server.ask(method, "/events")
        assert (reply.status, reply.headers["allow"]) == (405, "GET")
    (reply,) = server.exchange(b"GET /events HTTP/1.0\r\n\r\n")
    assert reply.status == 400


def test_a_stop_ends_those_who_listen(servers: Servers, ways: dict[str, str]) -> None:
    server = servers.own(**ways)
    with server.connect() as lines_, server.connect() as browser:
        lines_.send(spell("GET", "/events?from=now&wait_s=3600"))
        browser.send(spell("GET", "/events", headers=BROWSER))
        assert browser.head()[0] == lines_.head()[0] == 200
        server.signal(signal.SIGTERM)
        (mark,) = [line for line in lines(lines_._chunks()) if line["kind"] == "mark"]
        assert messages(browser._chunks()) == []
        assert server.wait(10) == 0
    assert mark["cursor"] == "1"
    assert not server.traces()


def test_more_listeners_than_there_may_be_are_refused(servers: Servers, way: str) -> None:
    server = servers.own(hot_path=way)

    def listen(stack: ExitStack) -> Connection:
        connection = stack.enter_context(server.connect())
        connection.send(spell("GET", "/events?from=now&wait_s=3600"))
        return connection

    def is_room() -> bool:
        with ExitStack() as stack:
            return listen(stack).head()[0] == 200

    with ExitStack() as stack:
        for each in [listen(stack) for _ in range(limits.LISTENERS_MAX)]:
            assert each.head()[0] == 200
        reply = server.ask("GET", "/events")
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "unavailable", "1")
        assert server.ask("PUT", "/blob/k", b"others are served").status == 201
        assert server.metric("holdfast_listeners") == limits.LISTENERS_MAX
    wait_until(is_room, "those who left are still counted")
    wait_until(lambda: server.metric("holdfast_listeners") == 0, "the gauge counts them")


def test_a_listener_that_takes_nothing_is_cut_off(tmp_path: Path, way: str) -> None:
    about = Description(metadata={"long": "x" * 8000})
    with open_depot(tmp_path / "data") as depot:
        assert depot.put_many([Item(f"{number}", b"x", about) for number in range(1500)])
    with Server(tmp_path, {"hot_path": way, "body_wait_s": "1"}) as server:
        before = sockets(server)
        with server.connect() as lazy:
            lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.send(spell("GET", "/events?wait_s=3600"))
            assert lazy.is_answered(SOON_S)
            assert sockets(server) == before + 1
            wait_until(lambda: sockets(server) == before, "it is still connected", 15)
        assert server.ask("GET", "/healthz").status == 200
        assert "did not take the answer in time" in server.log.read_text()
        assert "without completing" not in server.log.read_text()


def test_history_that_is_gone_and_damage_are_told(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        about = Description(metadata={"replaced": "soon" * 1000})
        for number in range(50):
            depot.put(f"{number % 5}", b"%d" % number, about=about)
        request = Request("GET", b"/events", b"", {}, "127.0.0.1")
        waiting = feeds.answer(depot, request, {"from": "1"}, nobody_asks).feed
        browser = feeds.answer(
            depot, request._replace(headers={b"accept": b"text/event-stream"}), {}, nobody_asks
        )
        assert waiting is not None
        assert browser.feed is not None
        for _ in depot.engine.compact(0.0, with_newest=True):
            pass
        with pytest.raises(CompactedError):
            feeds.answer(depot, request, {"from": "1"}, nobody_asks)
        (line,) = lines(waiting.step())
        assert (line["kind"], line["error"]["code"], line["error"]["oldest"]) == (
            "error",
            "compacted",
            51,
        )
        assert waiting.is_broken
        assert messages(browser.feed.step()) == []
        assert browser.feed.is_broken


def test_a_quiet_stream_shows_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EVENTS_MARK_S", 0.1)
    given: list[bytes] = []

    async def give(data: bytes) -> None:
        given.append(data)

    async def is_over() -> bool:
        return len(given) > 5

    with open_depot(tmp_path / "store") as depot:
        depot.bucket("other").put("k", b"x")
        request = Request("GET", b"/events", b"", {b"accept": b"text/event-stream"}, "127.0.0.1")
        quiet = feeds.answer(depot, request, {}, lambda: Names("quiet")).feed
        assert quiet is not None
        listeners = feeds.Listeners(asyncio.to_thread, Counts(Tally()))
        asyncio.run(listeners.tell(quiet, give, is_over))
    assert given[1:] == [b"id: 2\n\n"] * 6


def test_without_a_bucket_a_key_hears_of_all_that_it_opens(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        site = Site(depot, settings=Settings(auth="keys"))
        depot.engine.names.policies.set_owner(Owner(name="alice"))
        for place in ("alice~photos/a", "alice~notes/n", "bob~photos/b", "photos/nobody's"):
            bucket, _, key = place.partition("/")
            depot.bucket(bucket).put(key, b"x")

        def heard(key: ApiKey, query: bytes = b"") -> list[str]:
            token, _ = depot.engine.keys.create(key)
            headers = {b"authorization": b"Bearer " + token.encode()}
            request = Request("GET", b"/events", query, headers, "127.0.0.1")
            found = site.look(request, route.Target(route.EVENTS)).feed
            assert found is not None
            return [line["key"] for line in lines(found.step())]

        assert heard(ApiKey(id="", owner="alice")) == ["a", "n"]
        assert heard(ApiKey(id="", owner="alice"), b"prefix=n") == ["n"]
        assert heard(ApiKey(id="", owner="alice", buckets=("photos", "other"))) == ["a"]
        assert heard(ApiKey(id="", scopes=(Scope.READ, Scope.LIST))) == ["nobody's"]
        assert heard(ApiKey(id="")) == ["a", "n", "b", "nobody's"]


def test_a_key_hears_of_what_it_may_read_until_it_is_revoked(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        keys, site = depot.engine.keys, Site(depot, settings=Settings(auth="keys"))
        depot.engine.names.policies.set_owner(Owner(name="alice"))
        depot.bucket("alice~photos").put("a", b"x")
        depot.bucket("bob~photos").put("b", b"x")
        depot.bucket("alice~public").set_policy(Policy(public=True))
        scopes = {"all": ALL_SCOPES, "reads": (Scope.READ,), "lists": (Scope.LIST,)}
        tokens = {
            name: keys.create(ApiKey(id="", owner="alice", scopes=some))[0]
            for name, some in scopes.items()
        }
        tokens["operator"], operator = keys.create(ApiKey(id=""))

        def listen(query: bytes, token: str = "") -> feeds.Feed:
            headers = {b"authorization": b"Bearer " + token.encode()} if token else {}
            request = Request("GET", b"/events", query, headers, "127.0.0.1")
            found = site.look(request, route.Target(route.EVENTS)).feed
            assert found is not None
            return found

        for query in (b"", b"bucket=photos", b"bucket=alice~photos", b"bucket=alice~public"):
            with pytest.raises(UnauthenticatedError):
                listen(query)
        for query, token in (
            (b"", "reads"),
            (b"", "lists"),
            (b"bucket=photos", "reads"),
            (b"bucket=photos", "lists"),
        ):
            with pytest.raises(DeniedError):
                listen(query, tokens[token])
        with pytest.raises(NotFoundError):
            listen(b"bucket=bob~photos", tokens["all"])
        for query in (b"bucket=photos", b"bucket=alice~photos"):
            assert [line["key"] for line in lines(listen(query, tokens["all"]).step())] == ["a"]
        everything = listen(b"", tokens["operator"])
        assert [line["key"] for line in lines(everything.step())] == ["a", "b"]
        keys.revoke(operator.id)
        depot.bucket("bob~photos").put("secret", b"x")
        assert everything.is_ready()
        (line,) = lines(everything.step())
        assert (line["kind"], line["error"]["code"]) == ("error", "unauthenticated")
        assert everything.is_broken
