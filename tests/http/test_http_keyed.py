"""The keyed face: names that the client chooses, what is said of them, and when they may change."""

import hashlib
import re
import time
import unicodedata
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

import pytest
from rawhttp import Reply
from serving import Server

from holdfast.core import limits

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_blob_headers(reply: Reply, data: bytes) -> None:
    """What every answer about a blob says."""
    headers = reply.headers
    assert headers["etag"] == f'"{sha(data)}"'
    now = parsedate_to_datetime(headers["date"]) + timedelta(seconds=1)
    assert parsedate_to_datetime(headers["last-modified"]) <= now
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"


# Put, get, head, delete


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("size", [0, 1, 1000, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024 + 7])
def test_bytes_come_back_as_they_were_sent(
    server: Server, bucket: str, method: str, size: int
) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    path = f"/b/{bucket}/k.bin"
    put = server.ask(method, path, data)
    assert put.status == 201
    assert put.headers["etag"] == f'"{sha(data)}"'
    assert put.headers["location"] == path
    got = server.ask("GET", path)
    assert (got.status, got.body) == (200, data)
    check_blob_headers(got, data)
    head = server.ask("HEAD", path)
    drop = {"date"}
    assert {n: v for n, v in head.headers.items() if n not in drop} == {
        n: v for n, v in got.headers.items() if n not in drop
    }
    server.check_clean(bucket, ("k.bin",))


def test_the_answer_to_a_put_is_the_entry(server: Server, bucket: str) -> None:
    headers = {"Content-Type": "text/plain", "Holdfast-Meta-Colour": "red"}
    entry = server.ask("PUT", f"/b/{bucket}/a/b.txt", b"hello", headers).json()
    assert MOMENT.fullmatch(entry.pop("created_at"))
    assert MOMENT.fullmatch(entry.pop("updated_at"))
    assert entry == {
        "key": "a/b.txt",
        "bucket": bucket,
        "size_bytes": 5,
        "size": 5,
        "digest": "sha256:" + sha(b"hello"),
        "content_type": "text/plain",
        "metadata": {"colour": "red"},
        "version": 0,
        "expires_at": None,
    }


def test_a_second_put_replaces_and_counts(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    first = server.ask("PUT", path, b"one").json()
    reply = server.ask("PUT", path, b"two", {"Content-Type": "text/html"})
    second = reply.json()
    assert reply.status == 200
    assert (first["version"], second["version"]) == (0, 1)
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] >= first["updated_at"]
    got = server.ask("GET", path)
    assert (got.body, got.headers["content-type"]) == (b"two", "text/html")


def test_a_deleted_name_is_gone_and_may_be_deleted_again(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"x")
    for _ in range(2):
        reply = server.ask("DELETE", path)
        assert (reply.status, reply.body) == (204, b"")
        assert "content-length" not in reply.headers
    assert server.ask("GET", path).code == "not_found"
    assert server.ask("HEAD", path).status == 404
    assert server.ask("PUT", path, b"y").json()["version"] == 0


def test_the_short_path_is_the_default_bucket(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/blob/{bucket}", b"x")
    assert server.ask("GET", f"/b/default/{bucket}").body == b"x"
    assert server.ask("GET", f"/blob/{bucket}/metadata").json()["bucket"] == "default"
    server.ask("DELETE", f"/b/default/{bucket}")
    assert server.ask("GET", f"/blob/{bucket}").status == 404


def test_buckets_are_strangers(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    assert server.ask("GET", f"/b/{bucket}-2/k").status == 404
    assert server.ask("GET", f"/b/{bucket}-2").json() == {
        "entries": [],
        "prefixes": [],
        "next": None,
    }


@pytest.mark.parametrize("name", ["a", "0", "a.b-c_d", "a" * 63])
def test_good_bucket_names(server: Server, bucket: str, name: str) -> None:
    assert server.ask("PUT", f"/b/{name}/{bucket}", b"x").status == 201
    assert server.ask("DELETE", f"/b/{name}/{bucket}").status == 204


@pytest.mark.parametrize(
    "name", ["", "A", "-a", ".a", "_a", "a" * 64, "a%20b", "%C3%A9", "a%2Fb", "%00", "..", "%"]
)
def test_bad_bucket_names_are_refused(server: Server, name: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        assert server.ask(method, f"/b/{name}/k").code == "invalid", method


# Metadata


def test_the_metadata_route_tells_the_entry(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    put = server.ask("PUT", path, b"x", {"Holdfast-Meta-A": "b"})
    reply = server.ask("GET", f"{path}/metadata")
    assert reply.json() == put.json()
    assert server.ask("HEAD", f"{path}/metadata").status == 200
    assert server.ask("GET", f"/b/{bucket}/missing/metadata").code == "not_found"
    refused = server.ask("PUT", f"{path}/metadata", b"x")
    assert (refused.code, refused.headers["allow"]) == ("method_not_allowed", "GET, HEAD")


def test_a_key_may_end_in_metadata_when_its_slash_is_escaped(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k%2Fmetadata", b"x")
    assert server.keys(bucket) == ["k/metadata"]
    assert server.ask("GET", f"/b/{bucket}/k%2Fmetadata").body == b"x"
    assert server.ask("GET", f"/b/{bucket}/k%2Fmetadata/metadata").json()["key"] == "k/metadata"


def test_user_metadata_comes_back(server: Server, bucket: str) -> None:
    text = "çedilla 100% 日本, ok"
    headers = {"Holdfast-Meta-Title": quote(text), "HOLDFAST-META-x": "1", "Holdfast-Meta-E": ""}
    entry = server.ask("PUT", f"/b/{bucket}/k", b"x", headers).json()
    assert entry["metadata"] == {"title": text, "x": "1", "e": ""}
    for method in ("GET", "HEAD"):
        got = server.ask(method, f"/b/{bucket}/k").headers
        assert got["holdfast-meta-title"] == quote(text, safe="!#$&'()*+-./:;<=>?@[]^_`{|}~")
        assert (got["holdfast-meta-x"], got["holdfast-meta-e"]) == ("1", "")


def test_blanks_around_metadata_belong_to_nothing(server: Server, bucket: str) -> None:
    headers = {"Holdfast-Meta-A": " \t b c \t "}
    entry = server.ask("PUT", f"/b/{bucket}/k", b"x", headers).json()
    assert entry["metadata"] == {"a": "b c"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Holdfast-Meta-": "x"},
        {"Holdfast-Meta-A": "100%"},
        {"Holdfast-Meta-A": "%ff"},
        {"Holdfast-Meta-A": "%00"},
        {"Holdfast-Meta-A": "x%0D%0AX-Evil: 1"},
        {"Holdfast-Meta-A": "é"},
        {f"Holdfast-Meta-{n}": "x" for n in range(limits.METADATA_ITEMS_MAX + 1)},
        {"Holdfast-Meta-A": "x" * (limits.METADATA_BYTES_MAX + 1)},
    ],
    ids=["no name", "bad escape", "no UTF-8", "NUL", "a line end", "raw", "many", "large"],
)
def test_bad_metadata_is_refused_or_harmless(
    server: Server, bucket: str, headers: dict[str, str]
) -> None:
    """Control characters may be stored, but never come back as they are."""
    reply = server.ask("PUT", f"/b/{bucket}/k", b"x", headers)
    if reply.status == 201:
        got = server.ask("GET", f"/b/{bucket}/k").headers
        assert "x-evil" not in got
        assert got["holdfast-meta-a"] == headers["Holdfast-Meta-A"].replace(" ", "%20")
    else:
        assert reply.status in {400, 413}
        assert reply.code in {"invalid", "too_large"}
        server.check_clean(bucket)


# Content types


@pytest.mark.parametrize(
    ("declared", "body", "key", "stored"),
    [
        ("text/plain", PNG, "k.png", "text/plain"),
        ("text/html; charset=utf-8", b"x", "k", "text/html; charset=utf-8"),
        (None, PNG, "k.txt", "image/png"),
        (None, b"x", "k.txt", "text/plain"),
        (None, b"x", "k", "application/octet-stream"),
        (None, b"", "k.json", "application/json"),
        ("application/x-www-form-urlencoded", PNG, "k", "image/png"),
        ("Application/X-WWW-Form-Urlencoded; charset=utf-8", b"x", "k.txt", "text/plain"),
        ("", b"x", "k.txt", "text/plain"),
    ],
)
def test_the_type_is_declared_or_sniffed_or_guessed(
    server: Server, bucket: str, declared: str | None, body: bytes, key: str, stored: str
) -> None:
    headers = {} if declared is None else {"Content-Type": declared}
    assert server.ask("PUT", f"/b/{bucket}/{key}", body, headers).json()["content_type"] == stored
    assert server.ask("GET", f"/b/{bucket}/{key}").headers["content-type"] == stored


@pytest.mark.parametrize(
    "declared", ["nonsense", "a/b/c", "text/", "text/plain; x", "a" * 300, "é/é"]
)
def test_a_bad_type_is_refused(server: Server, bucket: str, declared: str) -> None:
    reply = server.ask("PUT", f"/b/{bucket}/k", b"x", {"Content-Type": declared})
    assert reply.code == "invalid"
    server.check_clean(bucket)


def test_encoded_bodies_are_refused(server: Server, bucket: str) -> None:
    reply = server.ask("PUT", f"/b/{bucket}/k", b"x", {"Content-Encoding": "gzip"})
    assert reply.code == "invalid"
    server.check_clean(bucket)


# Keys


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a", "a"),
        ("a/b/c", "a/b/c"),
        ("a%2Fb", "a/b"),
        ("%61", "a"),
        ("a%20b+c", "a b+c"),
        ("%C3%A9", "é"),
        ("/a", "/a"),
        ("a//b/", "a//b/"),
        ("/", "/"),
        ("..", ".."),
        ("a/../../etc/passwd", "a/../../etc/passwd"),
        ("%2E%2E/%2e", "../."),
        ("a%3Fb%23c%25", "a?b#c%"),
        ("a;b=c&d:e@f!$'()*,~", "a;b=c&d:e@f!$'()*,~"),
        ("metadata", "metadata"),
        ("%F0%9F%98%80", "\U0001f600"),
        ("%C2%80", "\u0080"),
        ("\\..\\a", "\\..\\a"),
        ('"<>^`{|}', '"<>^`{|}'),
    ],
)
def test_a_key_is_what_the_path_says(server: Server, bucket: str, path: str, key: str) -> None:
    assert server.ask("PUT", f"/b/{bucket}/{path}", b"x").json()["key"] == key
    assert server.ask("GET", f"/b/{bucket}/{path}").body == b"x"
    assert server.ask("GET", f"/b/{bucket}/{quote(key, safe='')}").body == b"x"
    assert server.keys(bucket) == [key]


@pytest.mark.parametrize(
    "path",
    [
        *("", "%", "%4", "%zz", "%%", "a%", "%u0041"),
        *("%00", "a%00b", "%1f", "%7F", "%0d%0a"),
        *("%FF", "%C3", "%C3%28", "%ED%A0%80", "%F4%90%80%80", "%C0%AF", "%E2%82"),
        *("a" * 1025, "%C3%A9" * 513),
    ],
)
def test_a_bad_key_is_refused(server: Server, bucket: str, path: str) -> None:
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        reply = server.ask(method, f"/b/{bucket}/{path}")
        assert reply.status == 400, method
        assert method == "HEAD" or reply.code == "invalid"
    server.check_clean(bucket)


def test_the_longest_key(server: Server, bucket: str) -> None:
    for key in ("a" * limits.KEY_BYTES_MAX, "é" * (limits.KEY_BYTES_MAX // 2)):
        path = f"/b/{bucket}/{quote(key)}"
        assert server.ask("PUT", path, b"x").status == 201
        assert server.ask("GET", path).body == b"x"


def test_normal_forms_are_two_keys(server: Server, bucket: str) -> None:
    nfc, nfd = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    server.ask("PUT", f"/b/{bucket}/{quote(nfc)}", b"composed")
    server.ask("PUT", f"/b/{bucket}/{quote(nfd)}", b"decomposed")
    assert server.ask("GET", f"/b/{bucket}/{quote(nfc)}").body == b"composed"
    assert server.ask("GET", f"/b/{bucket}/{quote(nfd)}").body == b"decomposed"
    assert server.keys(bucket) == sorted((nfc, nfd))


# Conditions of writes


def test_create_only(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    when = {"If-None-Match": "*"}
    assert server.ask("PUT", path, b"first", when).status == 201
    assert server.ask("PUT", path, b"second", when).code == "precondition_failed"
    assert server.ask("GET", path).body == b"first"


def test_replace_only_what_was_seen(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    assert server.ask("PUT", path, b"x", {"If-Match": "*"}).status == 412
    etag = server.ask("PUT", path, b"one").headers["etag"]
    assert server.ask("PUT", path, b"two", {"If-Match": f'"other", {etag}'}).status == 200
    for stale in (etag, f"W/{etag}", '"other"', "nonsense", ""):
        reply = server.ask("PUT", path, b"three", {"If-Match": stale})
        assert reply.code == "precondition_failed", stale
    assert server.ask("PUT", path, b"four", {"If-Match": "*"}).status == 200
    assert server.ask("GET", path).body == b"four"


def test_delete_only_what_was_seen(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    etag = server.ask("PUT", path, b"x").headers["etag"]
    assert server.ask("DELETE", path, headers={"If-Match": '"other"'}).status == 412
    assert server.ask("DELETE", path, headers={"If-None-Match": "*"}).status == 412
    assert server.ask("DELETE", path, headers={"If-Match": etag}).status == 204
    assert server.ask("DELETE", path, headers={"If-Match": "*"}).status == 412


def test_dates_hold_writes_back_too(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    old = "Mon, 01 Jan 2001 00:00:00 GMT"
    server.ask("PUT", path, b"x")
    assert server.ask("PUT", path, b"y", {"If-Unmodified-Since": old}).status == 412
    assert server.ask("DELETE", path, headers={"If-Unmodified-Since": old}).status == 412
    now = server.ask("HEAD", path).headers["last-modified"]
    assert server.ask("PUT", path, b"y", {"If-Unmodified-Since": now}).status == 200
    assert server.ask("PUT", path, b"z", {"If-Modified-Since": now}).status == 200


def test_a_condition_that_fails_is_told_before_the_body_is_sent(
    server: Server, bucket: str
) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"x")
    with server.connect() as connection:
        headers = {"Content-Length": "1000000", "If-None-Match": "*"}
        connection.send(f"PUT {path} HTTP/1.1\r\nHost: x\r\n".encode())
        connection.send("".join(f"{n}: {v}\r\n" for n, v in headers.items()).encode() + b"\r\n")
        assert connection.reply().code == "precondition_failed"
    server.check_clean(bucket, ("k",))


def test_a_name_that_expires_is_gone_from_its_time_on(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/brief"
    stored = server.ask("PUT", path, b"x", {"Holdfast-Expire-In": "2"}).json()
    assert stored["expires_at"] > stored["updated_at"]
    deadline = time.monotonic() + 10
    while (reply := server.ask("GET", path)).status == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reply.code == "not_found"
    assert server.ask("PUT", path, b"y").status == 201
    assert server.ask("GET", f"{path}/metadata").json()["expires_at"] is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "", "9" * 30])
def test_a_time_of_life_that_is_none_is_refused(server: Server, bucket: str, text: str) -> None:
    reply = server.ask("PUT", f"/b/{bucket}/k", b"x", {"Holdfast-Expire-In": text})
    assert reply.code == "invalid"
