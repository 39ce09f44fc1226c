"""Listings: byte order, prefixes, delimiters, cursors, and pages that are full unless the last."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from rawhttp import spell
from serving import Server

KEYS = sorted(
    [
        *(f"a/{n:03}" for n in range(250)),
        *(f"b/{n}/{m}" for n in range(40) for m in range(3)),
        "a",
        "b",
        "c",
        "c//d",
        "é/1",
        "é/2",
        "日本",
        "~",
        "+ &=%",
    ],
    key=str.encode,
)


@pytest.fixture
def full(server: Server) -> tuple[Server, str]:
    """A bucket with all the keys; filled by the first test that needs it."""
    bucket = "listing"
    if not server.keys(bucket):
        with server.connect() as connection:
            for at in range(0, len(KEYS), 50):
                some = KEYS[at : at + 50]
                requests = [spell("PUT", f"/b/{bucket}/{quote(key)}", b"x") for key in some]
                connection.send(b"".join(requests))
                assert all(connection.reply().status == 201 for _ in some)
    return server, bucket


def page(full: tuple[Server, str], **query: str | int) -> Any:
    server, bucket = full
    return server.ask("GET", f"/b/{bucket}?{urlencode(query)}").json()


def pages(full: tuple[Server, str], limit: int, **query: str) -> tuple[list[str], list[str]]:
    """Walk to the end; every page but the last is full."""
    entries: list[str] = []
    prefixes: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        got = page(full, limit=limit, **query, **cursor)
        entries += [entry["key"] for entry in got["entries"]]
        prefixes += got["prefixes"]
        if got["next"] is None:
            assert len(got["entries"]) + len(got["prefixes"]) <= limit
            return entries, prefixes
        assert len(got["entries"]) + len(got["prefixes"]) == limit
        cursor = {"cursor": got["next"]}


def expected(prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The oracle: written anew, from the documentation alone."""
    entries, prefixes = [], []
    for key in KEYS:
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if not found:
            entries.append(key)
        elif (common := prefix + head + delimiter) not in prefixes:
            prefixes.append(common)
    return entries, prefixes


def test_a_page_has_100_entries_unless_asked(full: tuple[Server, str]) -> None:
    got = page(full)
    assert [entry["key"] for entry in got["entries"]] == KEYS[:100]
    assert got["prefixes"] == []
    assert isinstance(got["next"], str)
    assert set(got["entries"][0]) >= {"key", "size_bytes", "digest", "content_type", "version"}


@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [
        ("", ""),
        ("", "/"),
        ("a", ""),
        ("a/", ""),
        ("a/", "/"),
        ("b/", "/"),
        ("b/1", "/"),
        ("b", "/"),
        ("c/", "/"),
        ("é", "/"),
        ("", "é"),
        ("", "//"),
        ("", "0"),
        ("nothing", "/"),
        ("+ &=", ""),
    ],
)
def test_pages_walk_over_all_keys_in_byte_order(
    full: tuple[Server, str], prefix: str, delimiter: str
) -> None:
    for limit in (3, 100, 1000):
        found = pages(full, limit, prefix=prefix, delimiter=delimiter)
        assert found == expected(prefix, delimiter), limit


def test_entries_and_prefixes_of_a_walk_are_in_order(full: tuple[Server, str]) -> None:
    entries, prefixes = pages(full, 3, delimiter="/")
    assert entries == sorted(entries, key=str.encode)
    assert prefixes == sorted(prefixes, key=str.encode)
    assert "a/" in prefixes
    assert "a" in entries


def test_what_comes_and_goes_during_a_walk_disturbs_nothing_else(
    server: Server, bucket: str
) -> None:
    names = [f"{n:02}" for n in range(20)]
    for name in names:
        server.ask("PUT", f"/b/{bucket}/{name}", b"x")
    first = server.ask("GET", f"/b/{bucket}?limit=10").json()
    server.ask("DELETE", f"/b/{bucket}/09")
    server.ask("DELETE", f"/b/{bucket}/10")
    server.ask("PUT", f"/b/{bucket}/00a", b"x")
    server.ask("PUT", f"/b/{bucket}/15a", b"x")
    second = server.ask("GET", f"/b/{bucket}?limit=100&cursor={first['next']}").json()
    assert [entry["key"] for entry in first["entries"]] == names[:10]
    assert [entry["key"] for entry in second["entries"]] == sorted([*names[11:], "15a"])


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=%D9%A1",
        "limit=99999999999999999999",
        "cursor=!",
        "cursor=%FF",
        "cursor=abcde",
        "prefix=%FF",
        "prefix=%zz",
        "unknown=1",
        "limit=1&limit=2",
        "prefix=a&Prefix=b",
        "&",
        "=",
        "limit",
        "disposition=inline",
    ],
)
@pytest.mark.parametrize("path", ["/blob", "/b/listing"])
def test_a_bad_query_is_refused(server: Server, path: str, query: str) -> None:
    assert server.ask("GET", f"{path}?{query}").code == "invalid"


@pytest.mark.parametrize("cursor", ["AA", "_w", "AAAA", "gICA", "7aCA", "////", "a" * 2000])
def test_a_forged_cursor_does_no_harm(server: Server, cursor: str) -> None:
    """It is only a place to begin, or it is refused."""
    reply = server.ask("GET", f"/b/listing?cursor={cursor}")
    assert reply.status in {200, 400}
    assert reply.status == 200 or reply.code == "invalid"


def test_plus_and_percent_20_are_both_blanks_in_a_query(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/a%20b", b"x")
    for query in ("prefix=a+b", "prefix=a%20b"):
        got = server.ask("GET", f"/b/{bucket}?{query}").json()
        assert [entry["key"] for entry in got["entries"]] == ["a b"]
    assert server.ask("GET", f"/b/{bucket}?prefix=a%2Bb").json()["entries"] == []


def test_a_listing_has_a_head(server: Server, bucket: str) -> None:
    reply = server.ask("HEAD", f"/b/{bucket}")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert int(reply.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_a_listing_is_not_written(server: Server, bucket: str, method: str) -> None:
    for path in ("/blob", f"/b/{bucket}"):
        reply = server.ask(method, path)
        assert (reply.code, reply.headers["allow"]) == ("method_not_allowed", "GET, HEAD, POST")
