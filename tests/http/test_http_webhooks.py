"""Webhooks over HTTP: who may set them, what is shown, and that a killed server loses nothing."""

import fcntl
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import receiver as programs
from guarded import Guarded
from rawhttp import Reply
from receiver import Receiver
from serving import Server, Servers, wait_until

from holdfast.core import limits

_numbers = itertools.count(1)
NETWORKS = "127.0.0.0/8"


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.shared(auth="keys", webhook_networks=NETWORKS, **ways))


@pytest.fixture
def there() -> Iterator[Receiver]:
    with programs.receiver() as found:
        yield found


@pytest.fixture
def hook(guarded: Guarded) -> Iterator[str]:
    """A name that no other test uses, gone afterwards."""
    name = f"hook{next(_numbers)}"
    yield name
    assert guarded.admin("DELETE", f"webhooks/{name}").status == 204


def say(guarded: Guarded, token: str, method: str, path: str, **body: object) -> Reply:
    return guarded.ask(method, f"/admin/{path}", token, msgspec.json.encode(body))


def test_a_webhook_is_told_of_what_its_owner_does(guarded: Guarded, there: Receiver) -> None:
    owner, other = guarded.owner(), guarded.owner()
    token, theirs = guarded.key(owner), guarded.key(other)
    made = say(guarded, token, "PUT", "webhooks/orders", url=there.url, topics=["uploaded"])
    assert made.status == 201
    assert made.json()["name"] == f"{owner}~orders"
    assert made.json()["topics"] == ["_:blob:uploaded"]
    for number in range(20):
        guarded.ask("PUT", f"/b/b/{number}", token, b"x")
        guarded.ask("PUT", f"/b/b/{number}", theirs, b"x")
    guarded.ask("DELETE", "/b/b/0", token)
    wait_until(lambda: len(there.got) >= 20, "not all arrived")
    assert there.keys() == [str(number) for number in range(20)]
    assert {one.said["data"]["bucket"] for one in there.got} == {f"{owner}~b"}
    assert all(one.is_signed_by(made.json()["secret"]) for one in there.got)

    def shown() -> Any:
        return say(guarded, token, "GET", "webhooks/orders").json()

    wait_until(lambda: shown()["delivered"] == 20, "it is not told")
    assert shown()["state"] == "open"
    assert say(guarded, token, "DELETE", "webhooks/orders").status == 204
    assert say(guarded, token, "GET", "webhooks/orders").status == 404


def test_the_same_put_again_changes_nothing(guarded: Guarded, there: Receiver, hook: str) -> None:
    first = guarded.admin("PUT", f"webhooks/{hook}", url=there.url, prefix="p")
    again = guarded.admin("PUT", f"webhooks/{hook}", url=there.url, prefix="p")
    assert (first.status, again.status) == (201, 200)
    secret = first.json().pop("secret")
    assert {**again.json(), "secret": secret} == first.json()
    changed = guarded.admin("PUT", f"webhooks/{hook}", url=there.url)
    assert changed.json()["prefix"] == ""
    assert changed.json()["created_at"] == first.json()["created_at"]


def test_secrets_of_webhooks_are_shown_once_and_logged_never(
    guarded: Guarded, there: Receiver, hook: str
) -> None:
    """A turn that began before the rotation signs by the old secret alone; the next try by both."""
    there.act = programs.status(500)
    url = there.url + "?token=hidden"
    first = guarded.admin("PUT", f"webhooks/{hook}", url=url).json()["secret"]
    second = guarded.admin("POST", f"webhooks/{hook}/rotate").json()["secret"]
    guarded.ask("PUT", f"/b/b/{hook}", guarded.server.key, b"x")
    wait_until(lambda: any(one.is_signed_by(second) for one in there.got), "nothing by both", 20)
    assert all(one.is_signed_by(first) for one in there.got)
    answers = [
        guarded.admin("GET", f"webhooks/{hook}").body,
        guarded.admin("GET", "webhooks").body,
        guarded.admin("PUT", f"webhooks/{hook}", url=url).body,
        guarded.ask("GET", "/metrics", guarded.server.key).body,
        guarded.server.log.read_bytes(),
    ]
    for secret in (first, second):
        assert secret.startswith("whsec_")
        assert not any(secret.removeprefix("whsec_").encode() in answer for answer in answers)
    assert b"hidden" not in answers[-1]


def test_only_who_may_hear_of_names_may_set_a_webhook(guarded: Guarded, there: Receiver) -> None:
    owner = guarded.owner()
    cases: list[tuple[dict[str, object], int]] = [
        ({}, 201),
        ({"scopes": ["admin", "read", "list"]}, 201),
        ({"scopes": ["admin", "read"]}, 403),
        ({"scopes": ["admin"]}, 403),
        ({"scopes": ["read", "write", "delete", "list"]}, 403),
        ({"buckets": ["a"]}, 403),
        ({"networks": ["127.0.0.0/8"]}, 403),
        ({"expires_at": "2999-01-01T00:00:00Z"}, 403),
    ]
    for number, (about, status) in enumerate(cases):
        token = guarded.key(owner, **about)
        reply = say(guarded, token, "PUT", f"webhooks/w{number}", url=there.url)
        assert reply.status == status, about
    assert guarded.ask("GET", "/admin/webhooks").status == 401
    stranger = guarded.key(guarded.owner())
    for method, path in (
        ("GET", f"{owner}~w0"),
        ("PUT", f"{owner}~w0"),
        ("DELETE", f"{owner}~w0"),
        ("POST", f"{owner}~w0/rotate"),
        ("POST", f"{owner}~w0/test"),
        ("GET", f"{owner}~w0/dead"),
        ("POST", f"{owner}~w0/redeliver"),
        ("GET", f"{owner}~nothing"),
    ):
        reply = say(guarded, stranger, method, f"webhooks/{path}", url=there.url)
        assert (reply.status, reply.code) == (404, "not_found")
    assert say(guarded, stranger, "GET", "webhooks").json() == {"webhooks": [], "next": None}
    mine = guarded.key(owner)
    names = [one["name"] for one in say(guarded, mine, "GET", "webhooks").json()["webhooks"]]
    assert names == [f"{owner}~w0", f"{owner}~w1"]
    wrong = say(guarded, mine, "PUT", "webhooks/w", url=there.url, bucket="other~b")
    assert (wrong.status, wrong.code) == (400, "invalid")
    assert guarded.admin("DELETE", f"owners/{owner}").status == 204


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "ftp://example.org"},
        {"url": 1},
        {"url": "http://example.org", "topics": ["all"]},
        {"url": "http://example.org", "topics": [1]},
        {"url": "http://example.org", "topics": "uploaded"},
        {"url": "http://example.org", "bucket": "B!"},
        {"url": "http://example.org", "bucket": 1},
        {"url": "http://example.org", "secret": "whsec_mine"},
        {"url": "http://example.org", "created_at": "2001-01-01T00:00:00Z"},
        {"url": "http://example.org", "name": "other"},
        {"url": "http://example.org", "is_paused": "yes"},
        {"url": "http://example.org", "prefix": "x" * 1025},
    ],
)
def test_a_bad_webhook_is_not_made(guarded: Guarded, body: dict[str, object]) -> None:
    reply = guarded.admin("PUT", "webhooks/bad", **body)
    assert (reply.status, reply.code) == (400, "invalid")
    assert guarded.admin("GET", "webhooks/bad").status == 404


def test_a_prefix_that_is_no_text_is_refused(guarded: Guarded) -> None:
    body = b'{"url":"http://example.org","prefix":"\\ud800"}'
    reply = guarded.ask("PUT", "/admin/webhooks/bad", guarded.server.key, body)
    assert (reply.status, reply.code) == (400, "invalid")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rotate", {"overlap_s": -1}),
        ("rotate", {"overlap_s": True}),
        ("rotate", {"overlap_s": limits.WEBHOOK_OVERLAP_S_MAX + 1}),
        ("rotate", {"other": 1}),
        ("redeliver", {"ids": "all"}),
        ("redeliver", {"ids": [1]}),
        ("redeliver", {"ids": ["x"] * 1001}),
        ("redeliver", {"other": 1}),
    ],
)
def test_a_bad_request_about_a_webhook_is_refused(
    guarded: Guarded, hook: str, path: str, body: dict[str, object]
) -> None:
    guarded.admin("PUT", f"webhooks/{hook}", url="http://example.org")
    reply = guarded.admin("POST", f"webhooks/{hook}/{path}", **body)
    assert (reply.status, reply.code) == (400, "invalid")
    assert guarded.admin("POST", f"webhooks/{hook}x/{path}").status == 404
    assert guarded.admin("GET", f"webhooks/{hook}/nothing").status == 404


@pytest.mark.parametrize("path", ["webhooks", "webhooks/{hook}/dead", "audit"])
@pytest.mark.parametrize("cursor", ["x" * 20_000, "%00", "%C3%A4", "0g", "a~b~c", "ff" * 10_000])
def test_no_cursor_breaks_a_listing(guarded: Guarded, hook: str, path: str, cursor: str) -> None:
    guarded.admin("PUT", f"webhooks/{hook}", url="http://example.org")
    place = f"/admin/{path.format(hook=hook)}?cursor={cursor}"
    assert guarded.ask("GET", place, guarded.server.key).status in {200, 400}


def test_a_ping_says_whether_anybody_is_there(guarded: Guarded, there: Receiver, hook: str) -> None:
    secret = guarded.admin("PUT", f"webhooks/{hook}", url=there.url).json()["secret"]
    said = guarded.admin("POST", f"webhooks/{hook}/test").json()
    assert said == {"delivered": True, "status": 204, "error": None}
    (got,) = there.got
    assert got.said["type"] == "ping"
    assert got.is_signed_by(secret)
    there.act = programs.status(500)
    said = guarded.admin("POST", f"webhooks/{hook}/test").json()
    assert said == {"delivered": False, "status": 500, "error": "answered 500"}
    assert guarded.admin("GET", f"webhooks/{hook}").json()["failed"] == 0


def test_pings_that_hang_hold_nobody_else(servers: Servers, way: str, there: Receiver) -> None:
    server = servers.own(hot_path=way, webhook_networks=NETWORKS, webhook_wait_s="3")
    there.act = programs.hang
    body = msgspec.json.encode({"url": there.url})
    assert server.ask("PUT", "/admin/webhooks/w", body).status == 201
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(server.ask("POST", "/admin/webhooks/w/test").status)
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(statuses) == 18, "too many wait")
    began_s = time.monotonic()
    assert server.ask("PUT", "/blob/k", b"x").status == 201
    assert server.ask("GET", "/blob").status == 200
    assert time.monotonic() - began_s < 1
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 2 + [503] * 18


def test_a_server_reaches_nothing_private_unless_told_to(
    servers: Servers, way: str, there: Receiver
) -> None:
    server = servers.own(hot_path=way)
    port = there.server_address[1]
    for number, host in enumerate(
        ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254")
    ):
        body = msgspec.json.encode({"url": f"http://{host}:{port}/"})
        assert server.ask("PUT", f"/admin/webhooks/w{number}", body).status == 201
        said = server.ask("POST", f"/admin/webhooks/w{number}/test").json()
        assert (said["delivered"], said["status"]) == (False, None)
        assert "webhook_networks" in said["error"]
    server.ask("PUT", "/blob/k", b"x")

    def shown() -> Any:
        return server.ask("GET", "/admin/webhooks/w0").json()

    wait_until(lambda: shown()["state"] == "failing", "it does not fail")
    assert "webhook_networks" in shown()["error"]
    assert there.got == []


def test_dead_letters_are_listed_and_sent_again(
    servers: Servers, way: str, there: Receiver
) -> None:
    server = servers.own(hot_path=way, webhook_networks=NETWORKS, webhook_give_up_s="0")
    there.act = programs.status(500)
    server.ask("PUT", "/admin/webhooks/w", msgspec.json.encode({"url": there.url}))
    for key in "abc":
        server.ask("PUT", f"/blob/{key}", b"x")

    def dead() -> list[dict[str, object]]:
        page = server.ask("GET", "/admin/webhooks/w/dead").json()
        assert page["next"] is None
        found: list[dict[str, object]] = page["dead"]
        return found

    wait_until(lambda: len(dead()) == 3, "they are not given up", 15)
    assert set(dead()[0]) == {"id", "topic", "created_at", "error", "is_asked"}
    there.act = programs.taken
    del there.got[:]
    ids = [str(one["id"]) for one in dead()]
    one = msgspec.json.encode({"ids": [ids[1]]})
    assert server.ask("POST", "/admin/webhooks/w/redeliver", one).json() == {"asked": 1}
    wait_until(lambda: len(dead()) == 2, "it is not sent again")
    assert server.ask("POST", "/admin/webhooks/w/redeliver").json() == {"asked": 2}
    wait_until(lambda: dead() == [], "they are not sent again")
    assert [one.id for one in there.got] == [ids[1], ids[0], ids[2]]


# Killed


def settings(way: dict[str, str]) -> dict[str, str]:
    return {**way, "webhook_networks": NETWORKS}


def write_until(server: Callable[[], Server], is_over: threading.Event, stored: list[str]) -> None:
    """Store one key after the other; keep those that were acknowledged."""
    for number in itertools.count():
        if is_over.is_set():
            return
        key = f"k{number:06}"
        try:
            if server().ask("PUT", f"/blob/{key}", b"x").status == 201:
                stored.append(key)
        except (OSError, EOFError, AssertionError):
            time.sleep(0.02)


def check_told(there: Receiver, stored: list[str]) -> None:
    """Everything that was acknowledged was told, first in order; what came twice had one id."""
    keys = there.keys()
    first = list(dict.fromkeys(keys))
    assert first == sorted(first)
    assert set(stored) <= set(first)
    ids: dict[str, set[str]] = {}
    for one in there.got:
        ids.setdefault(one.key, set()).add(one.id)
    assert all(len(some) == 1 for some in ids.values())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_is_killed_again_and_again_loses_no_message(
    tmp_path: Path, there: Receiver, workers: str
) -> None:
    about = {"workers": workers, "webhook_networks": NETWORKS}
    servers = [Server(tmp_path, about)]
    there.act = programs.taken_slowly
    servers[0].ask("PUT", "/admin/webhooks/w", msgspec.json.encode({"url": there.url}))
    stored: list[str] = []
    is_over = threading.Event()
    writer = threading.Thread(target=write_until, args=(lambda: servers[-1], is_over, stored))
    writer.start()
    try:
        for number in range(3):
            goal = len(there.got) + 20
            wait_until(lambda g=goal: len(there.got) > g, "nothing is told", 60)  # type: ignore[misc]
            if workers == "2" and number % 2:
                _kill_first_worker(servers[-1])
            else:
                _kill(servers[-1])
                servers.append(Server(tmp_path, about))
        is_over.set()
        wait_until(lambda: set(stored) <= set(there.keys()), "something was not told", 60)
    finally:
        is_over.set()
        writer.join()
        code = servers[-1].stop()
    assert code == 0
    check_told(there, stored)
    assert len(stored) > 30


def _kill(server: Server) -> None:
    """Kill a server, and wait until nobody has its folder open any more."""
    server.process.kill()
    server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()
    wait_until(lambda: _is_free(server), "its workers live on", 30)


def _kill_first_worker(server: Server) -> None:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    first = min(int(one) for one in children.read_text().split())
    os.kill(first, signal.SIGKILL)


def _is_free(server: Server) -> bool:
    with (server.data / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_metrics_say_what_became_of_messages(guarded: Guarded, there: Receiver, hook: str) -> None:
    def metric(name: str) -> float:
        text = guarded.ask("GET", "/metrics", guarded.server.key).body.decode()
        lines = [line for line in text.splitlines() if line.startswith(f"holdfast_webhook_{name}")]
        assert len(lines) == 1, text
        return float(lines[0].split()[-1])

    guarded.admin("PUT", f"webhooks/{hook}", url=there.url, bucket=hook)
    delivered = f'messages_total{{outcome="delivered",webhook="{hook}"}}'
    for number in range(3):
        guarded.ask("PUT", f"/b/{hook}/{number}", guarded.server.key, b"x")
    wait_until(lambda: metric(delivered) == 3, "they are not counted")
    there.act = programs.status(500)
    assert metric(f'lag_s{{webhook="{hook}"}}') == 0
    guarded.ask("PUT", f"/b/{hook}/late", guarded.server.key, b"x")
    failed = f'messages_total{{outcome="failed",webhook="{hook}"}}'
    wait_until(lambda: metric(failed) >= 2, "it does not fail")
    assert metric(f'lag_s{{webhook="{hook}"}}') > 0
    assert metric(f'dead{{webhook="{hook}"}}') == 0
