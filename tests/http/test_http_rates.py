"""How much may be asked, and from where: both ways in, and over two workers."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from crowd import kill_and_await, workers
from guarded import Guarded, bearer
from rawhttp import Connection, Reply, chunked, spell
from serving import Server, Servers

from holdfast.client import Client, ClientOptions
from holdfast.core.errors import RateError

CLIENTS = 64
ELSEWHERE = "127.0.0.2"
LONG_S = 600


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.shared(auth="keys", **ways))


def limited(servers: Servers, ways: dict[str, str], **settings: str) -> Server:
    """A server with limits, shared by nobody."""
    return servers.own(**ways, **settings)


def crowd(server: Server, headers: dict[str, str], wait_s: float) -> tuple[Counter[int], float]:
    """What so many clients are answered who ask as often as they can, and how long it took."""
    began_s = time.monotonic()

    def ask(_: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        connection = server.connect()
        try:
            while time.monotonic() < began_s + wait_s:
                reply = connection.ask("GET", "/b/b/k", headers=headers)
                seen[reply.status] += 1
                if reply.closes:
                    connection.close()
                    connection = server.connect()
        finally:
            connection.close()
        return seen

    with ThreadPoolExecutor(CLIENTS) as pool:
        seen = sum(pool.map(ask, range(CLIENTS)), Counter[int]())
    return seen, time.monotonic() - began_s


def statuses(server: Server, count: int, path: str = "/b/b/k", token: str = "") -> list[int]:
    """What is answered to requests on one connection, or on more if it is closed."""
    return [reply.status for reply in replies(server, count, path, token)]


def replies(server: Server, count: int, path: str, token: str, source: str = "") -> list[Reply]:
    found: list[Reply] = []
    while len(found) < count:
        with server.connect(source=source) as connection:
            while len(found) < count:
                found.append(connection.ask("GET", path, headers=bearer(token) if token else {}))
                if found[-1].closes:
                    break
    return found


def test_sixty_four_clients_of_a_key_get_no_more_than_its_rate(guarded: Guarded) -> None:
    owner = guarded.owner()
    guarded.ask("PUT", "/b/b/k", guarded.key(owner), b"x")
    token = guarded.key(owner, requests_s=50, burst_s=1)
    other = guarded.key(owner)
    seen, took_s = crowd(guarded.server, bearer(token), 1.5)
    assert set(seen) == {200, 429}
    assert 50 <= seen[200] <= 50 + 50 * took_s
    assert guarded.ask("GET", "/b/b/k", other).status == 200


def test_sixty_four_clients_of_an_owner_share_its_rate(guarded: Guarded) -> None:
    owner = guarded.owner()
    first = guarded.key(owner)
    alias = guarded.key("", alias_of=first.split("_")[1])
    guarded.ask("PUT", "/b/b/k", first, b"x")
    guarded.admin("PUT", f"owners/{owner}", requests_s=0.01, burst_s=1000)
    tokens = (first, guarded.key(owner), alias)
    seen = sum(
        (Counter(statuses(guarded.server, 5, token=token)) for token in tokens), Counter[int]()
    )
    assert seen == {200: 10, 429: 5}
    shown = guarded.admin("GET", f"owners/{owner}").json()
    assert (shown["requests_s"], shown["bytes_s"], shown["burst_s"]) == (0.01, None, 1000)


def test_an_alias_shares_the_rate_of_its_key(guarded: Guarded) -> None:
    token = guarded.key(guarded.owner(), requests_s=0.01, burst_s=LONG_S)
    alias = guarded.key("", alias_of=token.split("_")[1], requests_s=1000)
    assert statuses(guarded.server, 3, token=token) == [404] * 3
    assert statuses(guarded.server, 4, token=alias) == [404] * 3 + [429]


def test_what_is_over_is_told_and_nothing_of_it_done(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, requests_s=0.5, burst_s=4)
    assert guarded.ask("PUT", "/b/b/k", token, b"first").status == 201
    assert guarded.ask("PUT", "/b/b/k", token, b"second").status == 200
    refused = guarded.ask("PUT", "/b/b/k", token, b"third")
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert refused.json()["error"]["retryable"] is True
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["ratelimit-policy"] == '"key-requests";q=2;w=4'
    assert refused.headers["ratelimit"] == '"key-requests";r=0;t=2'
    assert guarded.ask("GET", "/b/b/k", guarded.key(owner)).body == b"second"
    time.sleep(2.05)
    assert guarded.ask("DELETE", "/b/b/k", token).status == 204


def test_the_body_of_what_is_over_is_not_read(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, requests_s=0.01, burst_s=100)
    for headers in ({"Content-Length": "20000000"}, {"Transfer-Encoding": "chunked"}):
        guarded.admin("GET", "owners")
        statuses(guarded.server, 1, token=token)
        with guarded.server.connect() as connection:
            waiting = {**bearer(token), "Expect": "100-continue", **headers}
            connection.send(spell("PUT", "/b/b/large", b"", waiting))
            assert connection.interim() == 429
    assert guarded.ask("GET", "/b/b/large", guarded.key(owner)).status == 404


def test_a_known_answer_is_counted_too(guarded: Guarded) -> None:
    """The same bytes of a request again and again, which nobody parses any more."""
    owner = guarded.owner()
    guarded.ask("PUT", "/b/b/k", guarded.key(owner), b"x" * 100)
    token = guarded.key(owner, requests_s=0.01, burst_s=2000)
    assert Counter(statuses(guarded.server, 30, token=token)) == {200: 20, 429: 10}
    token = guarded.key(owner, bytes_s=1, burst_s=1000)
    assert Counter(statuses(guarded.server, 30, token=token)) == {200: 10, 429: 20}


def test_pipelined_requests_are_counted_one_by_one(guarded: Guarded) -> None:
    owner = guarded.owner()
    guarded.ask("PUT", "/b/b/k", guarded.key(owner), b"x")
    token = guarded.key(owner, requests_s=0.01, burst_s=300)
    one = spell("GET", "/b/b/k", headers=bearer(token))
    put = spell("PUT", "/b/b/new", b"body", bearer(token))
    with guarded.server.connect() as connection:
        connection.send(one + put + one + put + one)
        answers = [connection.reply() for _ in range(3)]
        assert [reply.status for reply in answers] == [200, 201, 200]
        assert connection.reply().status == 429
        if guarded.server.is_hot:  # the app closes behind an answer without the body being read
            assert connection.reply().status == 429
            free = spell("GET", "/healthz")
            connection.send(free)
            assert connection.reply().status == 200


def test_bytes_are_charged_both_ways_and_paid_before_more_comes(guarded: Guarded) -> None:
    owner = guarded.owner()
    free = guarded.key(owner)
    data = bytes(10_000)
    guarded.ask("PUT", "/b/b/k", free, data)

    def is_spent(send: str) -> bool:
        """Whether one request takes all of a key, and 5,000 bytes more."""
        token = guarded.key(owner, bytes_s=100, burst_s=50)
        headers = bearer(token)
        with guarded.server.connect() as connection:
            if send == "chunked":
                head = {**headers, "Transfer-Encoding": "chunked"}
                connection.send(spell("PUT", "/b/b/new", chunked(data[:7000], data[7000:]), head))
                assert connection.reply().status < 300
            elif send == "many":
                head = {**headers, "Content-Type": "application/json"}
                assert connection.ask("POST", "/b/b", b'{"get":["k"]}', head).status == 200
            elif send == "GET":
                assert connection.ask("GET", "/b/b/k", headers=headers).status == 200
            else:
                assert connection.ask("PUT", "/b/b/new", data, headers).status < 300
        refused = guarded.ask("HEAD", "/b/b/k", token)
        assert refused.headers["ratelimit-policy"].startswith('"key-bytes";q=5000;w=50;qu="content')
        return refused.status == 429 and 48 <= int(refused.headers["retry-after"]) <= 55

    assert all(is_spent(send) for send in ("PUT", "chunked", "GET", "many"))
    token = guarded.key(owner, bytes_s=100, burst_s=50)
    for _ in range(20):  # an answer without a body is free
        assert guarded.ask("HEAD", "/b/b/k", token).status == 200
    assert guarded.ask("GET", "/b/b/k", token).status == 200


def test_what_is_refused_before_it_is_sent_costs_no_bytes(guarded: Guarded) -> None:
    owner = guarded.owner()
    guarded.ask("PUT", "/b/b/k", guarded.key(owner), b"x")
    token = guarded.key(owner, bytes_s=100, burst_s=50)
    once = {**bearer(token), "If-None-Match": "*", "Expect": "100-continue"}
    for _ in range(3):  # what is refused is not sent, and costs nothing
        with guarded.server.connect() as connection:
            connection.send(spell("PUT", "/b/b/k", headers={**once, "Content-Length": "1000000"}))
            assert connection.reply("HEAD").status == 412
    assert guarded.ask("GET", "/b/nothing/k", token).status == 404


def test_a_client_waits_as_it_is_told(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, requests_s=2, burst_s=0.5)
    with Client(guarded.server.url, options=ClientOptions(key=token)) as client:
        began_s = time.monotonic()
        for number in range(3):
            client.put("k", b"%d" % number)
        assert time.monotonic() - began_s > 0.9
        assert client.get("k") == b"2"
    slow = guarded.key(owner, requests_s=0.01, burst_s=100)
    with Client(guarded.server.url, options=ClientOptions(key=slow)) as client:
        client.head("k")
        with pytest.raises(RateError) as refused:
            client.head("k")
    assert (refused.value.policy, refused.value.limit) == ("key", 1)
    assert 90 < refused.value.retry_after_s <= 100


def test_the_server_has_rates_for_all_keys_but_that_of_who_runs_it(
    servers: Servers, ways: dict[str, str]
) -> None:
    settings = {"auth": "keys", "key_requests_s": "0.01", "rate_burst_s": "300"}
    guarded = Guarded(limited(servers, ways, **settings))
    assert statuses(guarded.server, 10, "/b/b", guarded.server.key) == [200] * 10
    owner = guarded.owner()
    assert statuses(guarded.server, 4, token=guarded.key(owner)) == [404] * 3 + [429]
    assert statuses(guarded.server, 9, token=guarded.key(owner, requests_s=0)) == [404] * 9
    own = guarded.key("", requests_s=0.01, burst_s=100)
    assert statuses(guarded.server, 2, token=own) == [404, 429]


def test_an_address_has_a_rate_and_others_are_not_concerned(
    servers: Servers, ways: dict[str, str]
) -> None:
    server = limited(servers, ways, address_requests_s="0.01", rate_burst_s="500")
    server.ask("PUT", "/b/b/k", b"x")
    assert statuses(server, 6) == [200] * 4 + [429] * 2
    assert server.ask("GET", "/nowhere").status == 429
    forged = {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
    assert server.ask("GET", "/b/b/k", headers=forged).status == 429
    assert [reply.status for reply in replies(server, 2, "/b/b/k", "", ELSEWHERE)] == [200] * 2
    for path in ("/healthz", "/readyz"):
        assert statuses(server, 10, path) == [200] * 10


def test_a_worker_that_takes_anothers_place_knows_what_was_used(servers: Servers) -> None:
    server = servers.own(workers="2", address_requests_s="0.01", rate_burst_s="1000")
    server.ask("PUT", "/b/b/k", b"x")
    assert statuses(server, 8) == [200] * 8
    for process in workers(server):
        kill_and_await(server, process)
    left = 0
    for _ in range(8):
        with suppress(OSError, EOFError):  # that went to a worker who was dying
            left += server.ask("GET", "/b/b/k").status == 200
    assert left <= 1


def test_an_address_that_shows_wrong_keys_is_barred_and_others_are_not(
    servers: Servers, ways: dict[str, str]
) -> None:
    settings = {"auth": "keys", "auth_failures_minute": "20"}
    guarded = Guarded(limited(servers, ways, **settings))
    token = guarded.key(guarded.owner())
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")
    seen = statuses(guarded.server, 40, token=wrong)
    assert seen == [401] * 20 + [429] * 20
    barred = guarded.ask("GET", "/b/other/k", token)
    assert barred.status == 429
    assert barred.headers["ratelimit-policy"] == '"failures-requests";q=20;w=60'
    assert int(barred.headers["retry-after"]) <= 3
    assert replies(guarded.server, 1, "/b/other/k", token, ELSEWHERE)[0].status == 404
    assert guarded.ask("GET", "/healthz").status == 200
    time.sleep(3.1)
    assert guarded.ask("GET", "/b/other/k", token).status == 404


def test_only_some_networks_are_let_in(servers: Servers, ways: dict[str, str]) -> None:
    server = limited(servers, ways, networks="127.0.0.2/32, 2001:db8::/32")
    refused = server.ask("PUT", "/b/b/k", b"x")
    assert (refused.status, refused.code) == (403, "denied")
    for path in ("/", "/healthz", "/b/b/k", "/metrics", "/nowhere"):
        assert server.ask("GET", path).status == 403
    with server.connect(source=ELSEWHERE) as connection:
        assert connection.ask("PUT", "/b/b/k", b"x").status == 201
        assert connection.ask("GET", "/b/b/k").status == 200
    assert server.ask("GET", "/b/b/k").status == 403
    forged = {"X-Forwarded-For": ELSEWHERE, "Forwarded": f"for={ELSEWHERE}"}
    assert server.ask("GET", "/b/b/k", headers=forged).status == 403


def test_pages_from_elsewhere_are_not_even_told_that_they_may(
    servers: Servers, ways: dict[str, str]
) -> None:
    origin = "https://app.example"
    server = limited(servers, ways, networks=ELSEWHERE, cors_origins=origin)
    page = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    assert server.ask("OPTIONS", "/b/b/k", headers=page).status == 403
    with server.connect(source=ELSEWHERE) as connection:
        assert connection.ask("OPTIONS", "/b/b/k", headers=page).status == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded"])
def test_a_trusted_proxy_says_who_asks_and_nobody_else_does(
    servers: Servers, ways: dict[str, str], header: str
) -> None:
    server = limited(
        servers,
        ways,
        networks="203.0.113.0/24,127.0.0.0/8",
        trusted_proxies="127.0.0.1,10.0.0.0/8",
        proxy_header=header,
        address_requests_s="0.01",
        rate_burst_s="300",
    )

    def ask(told: str, connection: Connection) -> int:
        spelled = told if header == "x-forwarded-for" else f"for={told}"
        other = "forwarded" if header == "x-forwarded-for" else "x-forwarded-for"
        headers = {header: spelled, other: "for=203.0.113.9, 203.0.113.9"}
        return connection.ask("GET", "/b/b", headers=headers).status

    with server.connect() as connection:
        assert ask("192.0.2.1", connection) == 403
        assert [ask("203.0.113.1", connection) for _ in range(4)] == [200] * 3 + [429]
        connection.close()
    with server.connect() as connection:
        assert ask("203.0.113.2", connection) == 200
    with server.connect(source=ELSEWHERE) as connection:  # no proxy, but itself let in
        assert ask("192.0.2.1", connection) == 200
        assert ask("203.0.113.1", connection) == 200


@pytest.mark.parametrize(
    "about",
    [
        {"requests_s": -1},
        {"requests_s": 1e30},
        {"requests_s": 1e-9},
        {"requests_s": "many"},
        {"bytes_s": -1},
        {"bytes_s": 1e13},
        {"burst_s": 0},
        {"burst_s": 1_000_000},
    ],
)
def test_a_bad_rate_is_refused(guarded: Guarded, about: dict[str, object]) -> None:
    assert guarded.admin("POST", "keys", **about).code == "invalid"
    assert guarded.admin("PUT", "owners/some", **about).code == "invalid"
