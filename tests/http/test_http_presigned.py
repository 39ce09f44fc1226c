"""Presigned URLs: what they open, for how long, and what nobody can make of them."""

import asyncio
import hashlib
import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from crowd import kill_and_await, workers
from guarded import Guarded, bearer
from hypothesis import given
from hypothesis import strategies as st
from rawhttp import Reply, chunked, spell
from serving import Servers

from holdfast import wire
from holdfast.client import AsyncClient, Client, ClientOptions, Presigned
from holdfast.core.access import parse_token
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError
from holdfast.core.limits import PRESIGN_S_MAX, PRESIGN_SKEW_S
from holdfast.core.seams import SystemClock

NOW_US = SystemClock().now_us()


class Signer:
    """An owner's key and what it signs; written by hand from docs/http.md, without our code."""

    def __init__(self, guarded: Guarded, **about: object) -> None:
        self.guarded = guarded
        self.owner = guarded.owner()
        self.token = guarded.key(self.owner, **about)
        self.full = guarded.key(self.owner)

    def query(self, expires_s: int = 600, ahead_s: float = 0, **more: str) -> str:
        at = datetime.now(UTC) + timedelta(seconds=ahead_s)
        pairs = [
            f"key_id={self.token.split('_')[1]}",
            f"signed_at={at:%Y-%m-%dT%H:%M:%SZ}",
            f"expires_s={expires_s}",
            *(f"{name}={value}" for name, value in more.items()),
        ]
        return "&".join(pairs)

    def sign(self, method: str, path: str, query: str) -> str:
        key = hashlib.sha256(self.token.split("_", 2)[2].encode()).digest()
        text = f"holdfast-presigned-1\n{method}\n{path}?{query}"
        made = hmac.new(key, text.encode(), hashlib.sha256).digest()
        return f"{path}?{query}&signature={urlsafe_b64encode(made).decode().rstrip('=')}"

    def url(self, method: str = "GET", path: str = "/b/b/k", **about: object) -> str:
        return self.sign(method, path, self.query(**about))  # type: ignore[arg-type] # of its parameters

    def ask(self, method: str, url: str, body: bytes = b"", /, **headers: str) -> Reply:
        return self.send(method, url, body, {n.replace("_", "-"): v for n, v in headers.items()})

    def send(self, method: str, url: str, body: bytes, headers: dict[str, str]) -> Reply:
        return self.guarded.server.ask(method, url, body, headers)

    def stored(self, path: str = "/b/b/k") -> bytes | None:
        reply = self.guarded.ask("GET", path, self.full)
        return reply.body if reply.status == 200 else None


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.shared(auth="keys", auth_failures_minute="0", **ways))


@pytest.fixture
def signer(guarded: Guarded) -> Signer:
    found = Signer(guarded)
    guarded.ask("PUT", "/b/b/k", found.full, b"secret")
    return found


def test_anybody_fetches_by_a_signed_url_and_nothing_else(signer: Signer) -> None:
    url = signer.url()
    for _ in range(3):
        assert signer.ask("GET", url).body == b"secret"
        assert signer.ask("HEAD", url).headers["content-length"] == "6"
    assert signer.ask("GET", url, Range="bytes=1-3").body == b"ecr"
    for method in ("PUT", "DELETE", "POST"):
        assert signer.ask(method, url, b"x").status == 403, method
    assert signer.ask("GET", "/b/b/k").status == 401
    other = url.replace("/b/b/k", "/b/b/other")
    assert signer.ask("GET", other).status == 403
    inline = signer.sign("GET", "/b/b/k", "disposition=inline&" + signer.query())
    assert signer.ask("GET", inline).headers["content-disposition"].startswith("inline")


def test_an_answer_by_a_signed_url_is_kept_for_nobody(signer: Signer) -> None:
    """Neither by its path nor by the bytes of a request, on one connection."""
    with signer.guarded.server.connect() as connection:
        url = signer.url()
        for _ in range(4):
            assert connection.ask("GET", url).status == 200
            refused = connection.ask("GET", "/b/b/k")
            assert refused.status == 401
            whole = connection.ask("GET", f"/b/{signer.owner}~b/k")
            assert whole.status == 401


def test_the_id_of_a_key_that_has_signed_opens_nothing(signer: Signer) -> None:
    """It stands in every URL, so nothing may be remembered of a caller by it."""
    key_id = signer.token.split("_")[1]
    with signer.guarded.server.connect() as connection:
        for _ in range(3):
            assert connection.ask("GET", signer.url()).status == 200
            for shown in (key_id, f"hf_{key_id}", f"hf_{key_id}_"):
                assert connection.ask("GET", "/b/b/k", headers=bearer(shown)).status == 401


def test_anybody_stores_once_it_is_signed(signer: Signer) -> None:
    url = signer.url("PUT", "/b/b/new")
    assert signer.ask("PUT", url, b"first").status == 201
    assert signer.ask("PUT", url, b"again").status == 200
    assert signer.stored("/b/b/new") == b"again"
    with signer.guarded.server.connect() as connection:
        head = {"Transfer-Encoding": "chunked"}
        connection.send(spell("PUT", url, chunked(b"in ", b"parts"), head))
        assert connection.reply().status == 200
    assert signer.stored("/b/b/new") == b"in parts"
    for header in ("Holdfast-Copy-From", "Holdfast-Move-From"):
        assert signer.send("PUT", url, b"", {header: "b/k"}).status == 403
    assert signer.ask("GET", url).status == 403
    assert signer.ask("DELETE", url).status == 403
    assert signer.stored() == b"secret"


def test_blobs_by_hash_are_signed_too(signer: Signer) -> None:
    digest = hashlib.sha256(b"by hash").hexdigest()
    path = f"/blobs/{digest}"
    assert signer.ask("PUT", signer.url("PUT", path), b"by hash").status == 201
    assert signer.ask("GET", signer.url("GET", path)).body == b"by hash"
    assert signer.ask("PUT", signer.url("PUT", path), b"other").status in {200, 422}


def mangled(signer: Signer) -> dict[str, str]:
    """URLs that open nothing, each for a reason of its own."""
    good = signer.url()
    path, _, query = good.partition("?")
    front, _, signature = query.partition("&signature=")
    first, second, third = front.split("&")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    loose = signature[:-1] + chr(ord(signature[-1]) + 1)  # of the same 32 bytes, if read loosely
    stranger = signer.token.replace(signer.token.split("_")[1], "0" * 12)
    other = Signer(signer.guarded)
    unknown = Signer.__new__(Signer)
    unknown.token = stranger
    reordered = f"{path}?{second}&{first}&{third}&signature={signature}"
    resigned = signer.sign("GET", "/b/b/k", f"{front}&bytes_max=5")
    return {
        "forged": f"{path}?{front}&signature={flipped}",
        "loose": f"{path}?{front}&signature={loose}",
        "truncated": good[:-1],
        "cut": f"{path}?{front}&signature=",
        "without": f"{path}?{front}",
        "key alone": f"{path}?{first}",
        "signature alone": f"{path}?signature={signature}",
        "longer": good + "A",
        "padded": good + "=",
        "reordered": reordered,
        "signature first": f"{path}?signature={signature}&{front}",
        "twice": f"{good}&signature={signature}",
        "with more": f"{good}&disposition=inline",
        "with more in front": f"{path}?disposition=inline&{front}&signature={signature}",
        "stretched": good.replace("expires_s=600", "expires_s=6000"),
        "spelled otherwise": good.replace("expires_s=600", "expires_s=%36%30%30"),
        "of another path": good.replace("/b/b/k", "/b/b/%6B"),
        "expired": signer.url(ahead_s=-601),
        "of the future": signer.url(ahead_s=PRESIGN_SKEW_S + 60),
        "too long": signer.url(expires_s=PRESIGN_S_MAX + 1),
        "for no time": signer.url(expires_s=0),
        "of another method": signer.url("PUT"),
        "of another key": good.replace(signer.token.split("_")[1], other.token.split("_")[1]),
        "of no key": unknown.url(),
        "with what is for uploads": resigned,
        "no time": signer.sign("GET", "/b/b/k", front.replace(second, "signed_at=now")),
        "no such day": signer.sign(
            "GET", "/b/b/k", front.replace(second, "signed_at=2026-02-31T00:00:00Z")
        ),
        "no number": signer.sign("GET", "/b/b/k", front.replace("600", "6e2")),
        "a name twice": signer.sign("GET", "/b/b/k", f"{front}&{third}"),
        "a listing": signer.url("GET", "/b/b"),
        "metadata": signer.url("GET", "/b/b/k/metadata"),
        "what is admin's": signer.url("GET", "/admin/keys"),
        "the events": signer.url("GET", "/events"),
        "no route": signer.url("GET", "/nowhere"),
    }


def test_what_is_wrong_with_a_signature_is_not_told(signer: Signer) -> None:
    answers = {}
    for name, url in mangled(signer).items():
        reply = signer.ask("GET", url)
        answers[name] = (reply.status, reply.body)
    assert set(answers.values()) == {answers["forged"]}, answers
    assert answers["forged"][0] == 403
    # A header beside it opens nothing either, not even that of the same key
    assert signer.send("GET", signer.url(), b"", bearer(signer.full)).status == 403


def test_the_clock_of_who_signs_may_be_ahead_a_little(signer: Signer) -> None:
    assert signer.ask("GET", signer.url(ahead_s=PRESIGN_SKEW_S - 30)).status == 200
    assert signer.ask("GET", signer.url(ahead_s=-590)).status == 200
    assert signer.ask("GET", signer.url(expires_s=PRESIGN_S_MAX)).status == 200


def test_a_url_stops_at_its_time(signer: Signer) -> None:
    url = signer.url(expires_s=2)
    deadline = time.monotonic() + 10
    while (status := signer.ask("GET", url).status) == 200:
        assert time.monotonic() < deadline
    assert status == 403


@pytest.mark.parametrize("end", ["revoke", "rotate", "suspend", "expire"])
def test_urls_end_with_their_key_at_once(guarded: Guarded, end: str) -> None:
    signer = Signer(guarded)
    guarded.ask("PUT", "/b/b/k", signer.full, b"x")
    url, put = signer.url(), signer.url("PUT")
    key_id = signer.token.split("_")[1]
    with guarded.server.connect() as connection:
        for _ in range(3):
            assert connection.ask("GET", url).status == 200
        if end == "revoke":
            guarded.admin("DELETE", f"keys/{key_id}")
        elif end == "rotate":
            assert guarded.admin("POST", f"keys/{key_id}/rotate").status == 200
        elif end == "suspend":
            guarded.admin("PUT", f"owners/{signer.owner}", is_suspended=True)
        else:
            guarded.admin("DELETE", f"owners/{signer.owner}")
        assert connection.ask("GET", url).status == 403
    with ThreadPoolExecutor(8) as pool:  # on every worker
        ends = pool.map(
            lambda n: signer.ask("GET" if n % 2 else "PUT", url if n % 2 else put), range(32)
        )
        assert {reply.status for reply in ends} == {403}


def test_a_url_opens_no_more_than_its_key(guarded: Guarded) -> None:
    reader = Signer(guarded, scopes=["read"])
    guarded.ask("PUT", "/b/b/k", reader.full, b"x")
    assert reader.ask("GET", reader.url()).status == 200
    assert reader.ask("PUT", reader.url("PUT"), b"y").status == 403
    writer = Signer(guarded, scopes=["write"], buckets=["b"])
    assert writer.ask("PUT", writer.url("PUT"), b"y").status == 201
    assert writer.ask("GET", writer.url()).status == 403
    assert writer.ask("PUT", writer.url("PUT", "/b/c/k"), b"y").status == 403
    assert writer.ask("PUT", writer.url("PUT", f"/b/{reader.owner}~b/k"), b"y").status == 403
    far = Signer(guarded, networks=["203.0.113.0/24"])
    guarded.ask("PUT", "/b/b/k", far.full, b"x")
    assert far.ask("GET", far.url()).status == 403
    alias = Signer(guarded)
    alias.token = guarded.key("", alias_of=reader.token.split("_")[1])
    assert alias.ask("GET", alias.url()).body == b"x"
    assert alias.ask("PUT", alias.url("PUT"), b"y").status == 403


def test_the_rate_of_a_key_counts_for_its_urls(guarded: Guarded) -> None:
    signer = Signer(guarded, requests_s=0.01, burst_s=300)
    guarded.ask("PUT", "/b/b/k", signer.full, b"x")
    url = signer.url()
    assert [signer.ask("GET", url).status for _ in range(4)] == [200] * 3 + [429]


def test_an_upload_is_held_to_what_its_url_says(signer: Signer) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    small = signer.url("PUT", "/b/b/1", bytes_max="5")
    assert signer.ask("PUT", small, b"123456").code == "too_large"
    assert signer.ask("PUT", small, b"12345").status == 201
    with signer.guarded.server.connect() as connection:
        head = {"Transfer-Encoding": "chunked"}
        connection.send(spell("PUT", small, chunked(b"123"), head))
        assert connection.reply().status == 400
    typed = signer.url("PUT", "/b/b/2", content_type="image%2Fpng")
    refused = signer.ask("PUT", typed, b"x", Content_Type="text/html")
    assert (refused.status, refused.code) == (415, "unsupported_type")
    assert signer.ask("PUT", typed, b"x", Content_Type="IMAGE/png").json()["content_type"]
    assert signer.ask("PUT", typed, b"x").json()["content_type"] == "image/png"
    exact = signer.url("PUT", "/b/b/3", digest=f"sha256:{digest}")
    assert signer.ask("PUT", exact, b"wrong").code == "digest_mismatch"
    lie = hashlib.sha256(b"wrong").digest()
    told = wire.repr_digest(Digest(lie))
    assert signer.ask("PUT", exact, b"wrong", Content_Digest=told).status in {400, 422}
    assert signer.ask("PUT", exact, b"wrong", Repr_Digest=told).status in {400, 422}
    assert signer.stored("/b/b/3") is None
    assert signer.ask("PUT", exact, b"right").status == 201


def test_a_form_is_held_to_it_too(signer: Signer) -> None:
    def form(url: str, data: bytes) -> Reply:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
            b"Content-Type: text/html\r\n\r\n" + data + b"\r\n--x--\r\n"
        )
        return signer.ask("PUT", url, body, Content_Type="multipart/form-data; boundary=x")

    assert form(signer.url("PUT", "/b/b/1", content_type="image%2Fpng"), b"x").status == 415
    assert form(signer.url("PUT", "/b/b/1", bytes_max="10"), b"x").code == "too_large"
    digest = hashlib.sha256(b"right").hexdigest()
    assert form(signer.url("PUT", "/b/b/1", digest=digest), b"wrong").code == "digest_mismatch"
    assert form(signer.url("PUT", "/b/b/1"), b"good").status == 201
    assert signer.stored("/b/b/1") == b"good"


def test_a_url_that_stores_once_does_so_however_often_it_is_sent(signer: Signer) -> None:
    """Sixty-four at a time, each with bytes of its own."""
    url = signer.url("PUT", "/b/b/once", create_only="true")
    with ThreadPoolExecutor(64) as pool:
        replies = list(pool.map(lambda n: (n, signer.ask("PUT", url, b"%d" % n)), range(64)))
    stored = [n for n, reply in replies if reply.status == 201]
    assert len(stored) == 1
    assert {reply.status for _, reply in replies} == {201, 412}
    assert signer.stored("/b/b/once") == b"%d" % stored[0]
    replaced = signer.ask("PUT", url, b"later", If_None_Match='"0"')
    assert replaced.status == 412
    assert signer.ask("PUT", url, b"later", If_Match="*").status == 412


def test_a_replay_behind_a_crash_stores_nothing(servers: Servers) -> None:
    guarded = Guarded(servers.own(auth="keys", workers="2"))
    signer = Signer(guarded)
    url = signer.url("PUT", "/b/b/once", create_only="true")
    assert signer.ask("PUT", url, b"first").status == 201
    for process in workers(guarded.server):
        kill_and_await(guarded.server, process)
    assert signer.ask("PUT", url, b"again").status == 412
    assert signer.stored("/b/b/once") == b"first"


def test_the_body_of_a_refused_url_is_not_read(signer: Signer) -> None:
    url = signer.url("PUT", "/b/b/new")[:-1]
    with signer.guarded.server.connect() as connection:
        head = {"Content-Length": "20000000", "Expect": "100-continue"}
        connection.send(spell("PUT", url, b"", head))
        assert connection.interim() == 403


def test_wrong_signatures_count_as_wrong_keys(servers: Servers, ways: dict[str, str]) -> None:
    guarded = Guarded(servers.own(auth="keys", auth_failures_minute="10", **ways))
    signer = Signer(guarded)
    old = signer.url(ahead_s=-601)  # a page full of them is no attack
    assert [signer.ask("GET", old).status for _ in range(15)] == [403] * 15
    bad = signer.url()[:-1]
    seen = [signer.ask("GET", bad).status for _ in range(15)]
    assert seen == [403] * 10 + [429] * 5
    assert signer.ask("GET", signer.url()).status == 429


def test_signatures_are_in_no_log_and_no_answer(signer: Signer) -> None:
    urls = [*mangled(signer).values(), signer.url(), signer.url("PUT", bytes_max="1")]
    signatures = {url.rpartition("=")[2] for url in urls if len(url.rpartition("=")[2]) > 20}
    for url in urls:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            body = signer.ask(method, url, b"body").body.decode()
            assert not [each for each in signatures if each in body]
    log = signer.guarded.server.log.read_text()
    metrics = signer.guarded.ask("GET", "/metrics", signer.guarded.server.key).body.decode()
    assert not [each for each in signatures if each in log or each in metrics]


def test_the_server_signs_what_its_caller_may(guarded: Guarded) -> None:
    signer = Signer(guarded, scopes=["read", "write"], buckets=["b"])
    guarded.ask("PUT", "/b/b/k", signer.full, b"x")

    def presign(token: str, **wish: object) -> Reply:
        return guarded.ask("POST", "/presign", token, msgspec.json.encode(wish))

    told = presign(signer.token, path="/b/b/k")
    assert told.headers["cache-control"] == "no-store"
    assert told.json()["method"] == "GET"
    ends = datetime.fromisoformat(told.json()["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < ends <= timedelta(hours=1)
    assert signer.ask("GET", told.json()["url"]).body == b"x"
    wish = {"method": "PUT", "bytes_max": 3, "content_type": "text/x", "create_only": True}
    put = presign(signer.token, path="/b/b/new", expires_s=60, **wish).json()["url"]
    assert signer.ask("PUT", put, b"1234").status == 413
    assert signer.ask("PUT", put, b"123").status == 201
    assert signer.ask("PUT", put, b"123").status == 412
    shown = presign(signer.token, path="/b/b/new", inline=True).json()["url"]
    assert signer.ask("GET", shown).headers["content-disposition"].startswith("inline")
    assert presign(signer.token, path="/b/c/k").status == 403
    assert presign(signer.token, path=f"/b/{guarded.owner()}~b/k").status == 404
    assert presign(signer.token, path="/blobs/" + "0" * 64).status == 403
    assert presign(signer.token[:-1], path="/b/b/k").status == 401
    assert presign("", path="/b/b/k").status == 401


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"path": "/b/b"},
        {"path": "b/b/k"},
        {"path": "/b/b/k?x=1"},
        {"path": "/b/b/k#x"},
        {"path": "/b/b/k\r\n"},
        {"path": "/b/b/ü"},
        {"path": "/admin/keys"},
        {"path": "/b/b/" + "k" * 9000},
        {"path": "/b/b/k", "method": "DELETE"},
        {"path": "/b/b/k", "expires_s": 0},
        {"path": "/b/b/k", "expires_s": PRESIGN_S_MAX + 1},
        {"path": "/b/b/k", "bytes_max": 1},
        {"path": "/b/b/k", "create_only": True},
        {"path": "/b/b/k", "method": "PUT", "inline": True},
        {"path": "/b/b/k", "method": "PUT", "digest": "md5:0"},
        {"path": "/b/b/k", "method": "PUT", "bytes_max": -1},
        {"path": "/b/b/k", "owner": "x"},
        {"path": 7},
    ],
)
def test_a_bad_wish_is_refused(guarded: Guarded, wish: dict[str, object]) -> None:
    reply = guarded.ask("POST", "/presign", guarded.server.key, msgspec.json.encode(wish))
    assert (reply.status, reply.code) == (400, "invalid"), reply.body
    assert guarded.ask("POST", "/presign", guarded.server.key, b"{").code == "invalid"


def test_both_clients_sign_without_a_server(guarded: Guarded) -> None:
    signer = Signer(guarded)
    url = guarded.server.url.replace("http://", f"http://{signer.token}@")
    names = ["k", "a b/c?d#e%f", "x/../y", "é/metadata", "~+:@!$&'()*,;="]
    with Client(url) as client:
        bucket = client.bucket("b")
        for name in names:
            put = bucket.presign(name, Presigned("PUT", 60, content_type="text/plain; charset=x"))
            got = bucket.presign(name, Presigned(inline=True))
            assert put.startswith(guarded.server.url + "/b/b/")
            path = put.removeprefix(guarded.server.url)
            assert signer.ask("PUT", path, name.encode()).status == 201
            assert signer.ask("GET", got.removeprefix(guarded.server.url)).body == name.encode()
        assert sorted(entry.key for entry in bucket.entries()) == sorted(names)
        digest = bucket.head("k").digest
        by_hash = bucket.content.presign(digest).removeprefix(guarded.server.url)
        assert signer.ask("GET", by_hash).body == b"k"

    async def awaited() -> tuple[str, str]:
        options = ClientOptions(key=signer.token)
        async with AsyncClient(guarded.server.url, options=options) as client:
            bucket = client.bucket("b")
            return bucket.presign("k"), bucket.content.presign(digest)

    for found in asyncio.run(awaited()):
        assert signer.ask("GET", found.removeprefix(guarded.server.url)).body == b"k"
    with Client(guarded.server.url) as stranger, pytest.raises(BlobError):
        stranger.presign("k")


def test_a_page_of_another_origin_may_use_them(servers: Servers, ways: dict[str, str]) -> None:
    """As a browser does: it asks whether it may, then sends the upload with its origin."""
    guarded = Guarded(servers.shared(auth="keys", cors_origins="https://app.example", **ways))
    signer = Signer(guarded)
    url = signer.url("PUT", "/b/b/new", content_type="image%2Fpng")
    page = {"Origin": "https://app.example"}
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    allowed = signer.send("OPTIONS", url, b"", page | asked)
    assert allowed.status == 200
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    stored = signer.send("PUT", url, b"x", page | {"Content-Type": "image/png"})
    assert stored.status == 201
    assert stored.headers["access-control-allow-origin"] == "https://app.example"
    read = signer.send("GET", signer.url("GET", "/b/b/new"), b"", page)
    assert (read.status, read.body) == (200, b"x")


# The parser by itself

TOKEN = "hf_0123456789ab_" + "s" * 43
PATH = b"/b/b/k"


def signed(**about: object) -> bytes:
    url = wire.presign(TOKEN, PATH.decode(), Presigned(**about), NOW_US)  # type: ignore[arg-type] # of its members
    return url.encode().partition(b"?")[2]


@given(
    expires_s=st.integers(1, PRESIGN_S_MAX),
    bytes_max=st.none() | st.integers(0, 1 << 40),
    content_type=st.none() | st.text(min_size=1, max_size=40),
    digest=st.none() | st.binary(min_size=32, max_size=32).map(Digest),
    create_only=st.booleans(),
)
def test_what_was_signed_is_what_is_read(**members: object) -> None:
    wanted = Presigned("PUT", **members)  # type: ignore[arg-type] # of its members
    try:
        url = wire.presign(TOKEN, PATH.decode(), wanted, NOW_US).encode()
    except UnicodeEncodeError:
        return  # half a character is none
    shown = wire.parse_presigned("PUT", PATH, url.partition(b"?")[2])
    assert shown is not None
    token = parse_token(TOKEN)
    assert token is not None
    assert shown.is_signed(token.hash)
    assert shown.is_current(NOW_US)
    assert (shown.wanted, shown.rest, shown.key_id) == (wanted, b"", token.id)


@given(
    query=st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [
                b"signature=",
                b"key_id=",
                b"&",
                b"=",
                b"%",
                b"%zz",
                b"%ff",
                b"expires_s=9",
                b"+",
                b"signed_at=2026-01-01T00:00:00Z",
                b"bytes_max=",
                b"digest=",
                b"A" * 43,
                b"\x00",
            ]
        ),
        max_size=20,
    ).map(b"".join),
    method=st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "get", ""]),
)
def test_any_query_is_read_or_none(query: bytes, method: str) -> None:
    shown = wire.parse_presigned(method, PATH, query)
    token = parse_token(TOKEN)
    assert token is not None
    assert shown is None or not shown.is_signed(token.hash)


@given(at=st.integers(0, 400), change=st.integers(1, 255))
def test_a_signed_query_with_one_byte_changed_is_signed_by_nobody(at: int, change: int) -> None:
    query = bytearray(signed(expires_s=600))
    at %= len(query)
    query[at] ^= change
    shown = wire.parse_presigned("GET", PATH, bytes(query))
    token = parse_token(TOKEN)
    assert token is not None
    assert shown is None or not shown.is_signed(token.hash)


def test_the_recipe_of_the_page_signs_as_we_do() -> None:
    page = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
    (recipe,) = re.findall(r"^```python\n(def sign.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names = {"hashlib": hashlib, "hmac": hmac, "urlsafe_b64encode": urlsafe_b64encode}
    exec(recipe, names)
    ours = wire.presign(TOKEN, PATH.decode(), Presigned("PUT", 7, bytes_max=5), NOW_US)
    theirs: Callable[[str, str, str], str] = names["sign"]  # type: ignore[assignment] # the page's
    assert theirs(TOKEN, "PUT", ours.partition("&signature=")[0]) == ours


def test_a_url_is_good_from_a_little_before_until_it_expires() -> None:
    whole_us = NOW_US // 1_000_000 * 1_000_000
    shown = wire.parse_presigned("GET", PATH, signed(expires_s=600))
    assert shown is not None
    for at_s in (0, 599, -PRESIGN_SKEW_S):
        assert shown.is_current(whole_us + at_s * 1_000_000)
    assert not shown.is_current(whole_us + 600_000_000)
    assert not shown.is_current(whole_us - PRESIGN_SKEW_S * 1_000_000 - 1)
