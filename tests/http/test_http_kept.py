"""Deleted names and replaced versions over HTTP: listed, read, and brought back."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from serving import Server

from holdfast.core.digest import Digest

ODD = ["a/b", "../x", "x/metadata", "metadata", "a//b", "\u00fc", "u\u0308", "%2F", "k" * 1024]
SMALL, LARGE = b"0123456789", bytes(range(256)) * 1200


def set_policy(server: Server, bucket: str, **policy: object) -> None:
    body = msgspec.json.encode(policy)
    assert server.ask("PUT", f"/admin/policies/{bucket}", body).status == 200


def spelled(key: str) -> str:
    return quote(key, safe="")


def pages(server: Server, path: str, member: str) -> Iterator[Any]:
    """All that a listing has; each page but the last is full."""
    cursor = ""
    while True:
        page = server.ask("GET", f"{path}?limit=2{cursor}").json()
        yield from page[member]
        if page["next"] is None:
            return
        assert len(page[member]) == 2
        cursor = f"&cursor={quote(page['next'])}"


@pytest.fixture
def versioned(server: Server, bucket: str) -> str:
    """A bucket that keeps versions, with a name that has some."""
    set_policy(server, bucket, versions=9)
    for body in (b"zero", b"one", SMALL, LARGE, b"now"):
        server.ask("PUT", f"/b/{bucket}/k", body, {"Content-Type": "text/x-odd"})
    return bucket


@pytest.mark.parametrize("key", ODD)
def test_a_deleted_name_is_listed_and_brought_back(server: Server, bucket: str, key: str) -> None:
    path = f"/b/{bucket}/{spelled(key)}"
    entry = server.ask("PUT", path, b"precious", {"Holdfast-Meta-N": "1"}).json()
    assert server.ask("POST", f"/undelete/{bucket}/{spelled(key)}").code == "conflict"
    server.ask("DELETE", path)
    assert server.ask("GET", path).status == 404
    (grave,) = server.ask("GET", f"/deleted/{bucket}").json()["graves"]
    assert grave["entry"] == entry
    assert entry["updated_at"] < grave["deleted_at"] < grave["until_at"]
    back = server.ask("POST", f"/undelete/{bucket}/{spelled(key)}")
    assert (back.status, back.json()) == (200, entry)
    assert back.headers["etag"].strip('"') == entry["digest"].removeprefix("sha256:")
    assert server.ask("GET", path).body == b"precious"
    assert server.ask("GET", f"/deleted/{bucket}").json() == {"graves": [], "next": None}
    assert server.ask("POST", f"/undelete/{bucket}/{spelled(key)}").status == 409


def test_what_is_gone_for_good_is_not_found(server: Server, bucket: str) -> None:
    set_policy(server, bucket, undelete_s=0)
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    server.ask("DELETE", f"/b/{bucket}/k")
    for key in ("k", "never"):
        reply = server.ask("POST", f"/undelete/{bucket}/{key}")
        assert (reply.status, reply.code) == (404, "not_found")


def test_deleted_names_come_in_pages_by_prefix(server: Server, bucket: str) -> None:
    keys = sorted(f"{folder}/{number}" for folder in "ab" for number in range(5))
    for key in keys:
        server.ask("PUT", f"/b/{bucket}/{key}", b"x")
        server.ask("DELETE", f"/b/{bucket}/{key}")
    path = f"/deleted/{bucket}"
    assert [one["entry"]["key"] for one in pages(server, path, "graves")] == keys
    found = server.ask("GET", f"{path}?prefix=b/").json()["graves"]
    assert [one["entry"]["key"] for one in found] == keys[5:]
    assert server.ask("HEAD", path).status == 200


def test_versions_are_listed_and_read_as_anything_is(server: Server, versioned: str) -> None:
    path = f"/b/{versioned}/k"
    found = list(pages(server, f"/versions/{versioned}/k", "entries"))
    assert [entry["version"] for entry in found] == [4, 3, 2, 1, 0]
    for entry, body in zip(found, [b"now", LARGE, SMALL, b"one", b"zero"], strict=True):
        reply = server.ask("GET", f"{path}?version={entry['version']}")
        assert (reply.status, reply.body) == (200, body)
        assert reply.headers["etag"] == f'"{Digest.of(body).hex()}"'
        assert reply.headers["content-type"] == "text/x-odd"
        about = server.ask("GET", f"{path}/metadata?version={entry['version']}")
        assert about.json() == entry
        head = server.ask("HEAD", f"{path}?version={entry['version']}")
        assert int(head.headers["content-length"]) == len(body)
    assert server.ask("GET", path).body == b"now"


@pytest.mark.parametrize(("version", "body"), [(2, SMALL), (3, LARGE)])
def test_versions_know_ranges_and_conditions(
    server: Server, versioned: str, version: int, body: bytes
) -> None:
    path, etag = f"/b/{versioned}/k?version={version}", f'"{Digest.of(body).hex()}"'

    def ask(**headers: str) -> tuple[int, bytes]:
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = server.ask("GET", path, headers=spelled)
        return reply.status, reply.body

    assert ask(Range="bytes=2-5") == (206, body[2:6])
    assert ask(Range="bytes=-3") == (206, body[-3:])
    assert ask(Range=f"bytes={len(body)}-")[0] == 416
    assert ask(If_None_Match=etag) == (304, b"")
    assert ask(If_Match=etag) == (200, body)
    now = Digest.of(b"now").hex()
    assert ask(If_Match=f'"{now}"')[0] == 412
    assert ask(Range="bytes=0-0", If_Range=f'"{now}"') == (200, body)
    assert server.ask("GET", f"{path}&disposition=inline").status == 200


def test_a_version_becomes_what_the_name_is_again(server: Server, versioned: str) -> None:
    path, restore = f"/b/{versioned}/k", f"/restore/{versioned}/k"
    stale = {"If-Match": f'"{Digest.of(SMALL).hex()}"'}
    assert server.ask("POST", f"{restore}?version=2", headers=stale).status == 412
    current = {"If-Match": f'"{Digest.of(b"now").hex()}"'}
    back = server.ask("POST", f"{restore}?version=2", headers=current)
    assert (back.status, back.json()["version"]) == (200, 5)
    assert server.ask("GET", path).body == SMALL
    assert server.ask("GET", f"{path}?version=4").body == b"now"


def test_a_version_that_is_not_kept_is_told_from_one_that_never_was(
    server: Server, versioned: str
) -> None:
    path, restore = f"/b/{versioned}/k", f"/restore/{versioned}/k"
    set_policy(server, versioned)
    server.ask("PUT", f"{path}2", b"a")
    server.ask("PUT", f"{path}2", b"b")
    for method, one in [
        ("GET", f"{path}2?version=0"),
        ("GET", f"{path}2/metadata?version=0"),
        ("POST", f"{restore}2?version=0"),
    ]:
        reply = server.ask(method, one)
        assert (reply.status, reply.code) == (410, "gone"), one
    for method, one in [
        ("GET", f"{path}2?version=2"),
        ("GET", f"{path}3?version=0"),
        ("POST", f"{restore}2?version=2"),
        ("POST", f"{restore}3?version=0"),
        ("GET", f"/versions/{versioned}/k3"),
    ]:
        reply = server.ask(method, one)
        assert (reply.status, reply.code) == (404, "not_found"), one


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("GET", f"/b/some/k?version={text}") for text in ("", "x", "-1", "1.0", "9" * 20, "%FF")],
        ("GET", "/b/some/k?version=1&version=1"),
        ("GET", "/b/some/k?version=" + "9" * 19),
        ("GET", "/b/some/k/metadata?version=x"),
        ("GET", "/blobs/" + "0" * 64 + "?version=1"),
        ("GET", "/b/some?version=1"),
        ("GET", "/deleted/A"),
        ("GET", "/deleted/"),
        ("GET", "/deleted/some?delimiter=/"),
        ("GET", "/deleted/some?limit=1001"),
        ("GET", "/deleted/some?cursor=!"),
        ("GET", "/versions/some/k?prefix=x"),
        ("GET", "/versions/some/"),
        ("GET", "/versions/some/k%0A"),
        ("POST", "/undelete/some/k?version=1"),
        ("POST", "/undelete/some/" + "k" * 1025),
        ("POST", "/undelete/A/k"),
        ("POST", "/restore/some/k"),
        ("POST", "/restore/some/k?version="),
        ("POST", "/restore/some/k?version=-1"),
    ],
)
def test_what_cannot_be_meant_is_refused(server: Server, method: str, path: str) -> None:
    reply = server.ask(method, path)
    assert (reply.status, reply.code) == (400, "invalid")


def test_what_brings_something_back_has_no_body(server: Server, versioned: str) -> None:
    for path in (f"/undelete/{versioned}/k", f"/restore/{versioned}/k?version=3"):
        reply = server.ask("POST", path, b"x")
        assert (reply.status, reply.code) == (400, "invalid")
    assert server.ask("GET", f"/b/{versioned}/k").body == b"now"
