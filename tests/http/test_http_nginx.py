"""Conditions and ranges beside a real nginx on the same file.

Each row is a set of request headers. Every server's own validators are put in, the file has the
second of the entry as its time, and nginx is told to read If-Modified-Since as RFC 9110 does
(`if_modified_since before`). In AGREED both must give the same answer; in APART the RFC, or our
documentation, asks for another answer than nginx gives, and both answers are asserted.
"""

import os
from collections.abc import Iterator
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple

import pytest
from nginx import NGINX, Nginx
from rawhttp import Connection, Reply
from serving import Server

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx here (Debian: nginx-light)")

SIZE = 1000
DATA = b"".join(b"%04d\n" % n for n in range(SIZE // 5))
KEY = "nginx/numbers"


class Seen(NamedTuple):
    """What is compared of an answer."""

    status: int
    content_range: str | None
    parts: list[tuple[str | None, bytes]]
    length: str | None
    has_etag: bool


class Row(NamedTuple):
    """One request: headers with {placeholders} for validators."""

    headers: dict[str, str]
    method: str = "GET"


def rows(*spelled: str, method: str = "GET") -> dict[str, Row]:
    """Read rows such as `Range: bytes=0-1 | If-Range: {etag}`."""
    found = {}
    for line in spelled:
        pairs = (one.split(": ", 1) for one in line.split(" | "))
        headers = {name: value.strip("'") for name, value in pairs}
        found[f"{method} {line}"] = Row(headers, method)
    return found


RANGES = rows(
    "Range: bytes=0-0",
    "Range: bytes=0-9",
    "Range: bytes=500-",
    "Range: bytes=-1",
    "Range: bytes=-500",
    "Range: bytes=-1000",
    "Range: bytes=-5000",
    "Range: bytes=0-",
    "Range: bytes=0-999",
    "Range: bytes=0-1000",
    "Range: bytes=990-5000",
    "Range: bytes=999-999",
    "Range: bytes=1000-",
    "Range: bytes=1000-2000",
    "Range: bytes=5000-",
    "Range: bytes=99999999999-",
    "Range: bytes=-0",
    "Range: bytes=0-0,-1",
    "Range: bytes=0-9,20-29",
    "Range: bytes=20-29,0-9",
    "Range: bytes=0-9,5-14",
    "Range: bytes=0-9,10-19,20-29",
    "Range: bytes=0-9,0-9",
    "Range: bytes=0-9, 20-29",
    "Range: bytes=0-9 ,20-29",
    "Range: bytes=0-9,2000-3000",
    "Range: bytes=2000-3000,0-9",
    "Range: bytes=2000-3000,4000-",
    "Range: bytes=-5,-10",
    "Range: bytes=0-499,500-999",
    "Range: bytes=0-500,500-999",
    "Range: bytes=0-,0-",
    "Range: bytes=0-,-1",
    "Range: bytes= 0-9",
    "Range: bytes=00-09",
    "Range: Bytes=0-9",
    "Range: BYTES=0-9",
    "Range: lines=0-9",
    "Range: bytes",
    "Range: bytes=",
    "Range: bytes 0-9",
    "Range: 0-9",
    "Range: x=0-9",
    "Range: bytes=" + ",".join(f"{n}-{n}" for n in range(0, 100, 2)),
)

CONDITIONS = {
    **rows(
        "If-None-Match: {etag}",
        "If-None-Match: W/{etag}",
        "If-None-Match: *",
        'If-None-Match: "other"',
        'If-None-Match: "other", {etag}',
        'If-None-Match: {etag}, "other"',
        'If-None-Match: "a",W/{etag},"b"',
        'If-None-Match: W/"other"',
        "If-None-Match: unquoted",
        "If-Match: {etag}",
        "If-Match: W/{etag}",
        "If-Match: *",
        'If-Match: "other"',
        'If-Match: "other", {etag}',
        'If-Match: "other","third"',
        "If-Match: unquoted",
        "If-Modified-Since: {modified}",
        "If-Modified-Since: {before}",
        "If-Modified-Since: {after}",
        "If-Modified-Since: {rfc850}",
        "If-Modified-Since: {asctime}",
        "If-Modified-Since: nonsense",
        "If-Unmodified-Since: {modified}",
        "If-Unmodified-Since: {before}",
        "If-Unmodified-Since: {after}",
        "If-Unmodified-Since: {rfc850}",
        "If-Match: {etag} | If-Unmodified-Since: {modified}",
        'If-Match: "other" | If-Unmodified-Since: {modified}',
        "If-None-Match: {etag} | If-Modified-Since: {modified}",
        'If-None-Match: "other" | If-Modified-Since: {before}',
        'If-Match: "other" | If-None-Match: {etag}',
        "If-Match: {etag} | If-None-Match: {etag}",
        "If-Unmodified-Since: {before} | If-None-Match: {etag}",
        "If-Unmodified-Since: {after} | If-Modified-Since: {after}",
    ),
    **rows(
        "If-None-Match: {etag}", 'If-Match: "other"', "If-Modified-Since: {modified}", method="HEAD"
    ),
}

BOTH = rows(
    "Range: bytes=0-9 | If-Range: {etag}",
    'Range: bytes=0-9 | If-Range: "other"',
    "Range: bytes=0-9 | If-Range: W/{etag}",
    "Range: bytes=0-9 | If-Range: {modified}",
    "Range: bytes=0-9 | If-Range: {before}",
    "Range: bytes=0-9 | If-Range: {after}",
    "Range: bytes=0-9 | If-Range: nonsense",
    "Range: bytes=0-9,20-29 | If-Range: {etag}",
    "Range: bytes=2000- | If-Range: {etag}",
    'Range: bytes=2000- | If-Range: "other"',
    "If-Range: {etag}",
    "Range: bytes=0-9 | If-None-Match: {etag}",
    'Range: bytes=0-9 | If-None-Match: "other"',
    "Range: bytes=0-9 | If-Match: {etag}",
    'Range: bytes=0-9 | If-Match: "other"',
    "Range: bytes=2000- | If-None-Match: {etag}",
    'Range: bytes=2000- | If-Match: "other"',
    "Range: bytes=0-9 | If-Modified-Since: {modified}",
    "Range: bytes=0-9 | If-Unmodified-Since: {before}",
    "Range: bytes=0-9 | If-Match: {etag} | If-Range: {etag}",
    'Range: bytes=0-9 | If-Match: {etag} | If-Range: "other"',
)

AGREED = RANGES | CONDITIONS | BOTH

MALFORMED = "the issue and RFC 9110 section 14.2: a malformed range is ignored; nginx answers 416"
APART = {
    "Range: bytes=-": (200, 416, MALFORMED),
    "Range: bytes=a-b": (200, 416, MALFORMED),
    "Range: bytes=9-0": (200, 416, MALFORMED),
    "Range: bytes=0-9,9-0": (
        200,
        206,
        "RFC 9110 section 14.1.1: one invalid range spoils the set; nginx passes over it",
    ),
    "Range: bytes=0-9;": (200, 416, MALFORMED),
    "Range: bytes=0-9,x": (200, 416, MALFORMED),
    "Range: bytes=5": (200, 416, MALFORMED),
    "Range: bytes=--1": (200, 416, MALFORMED),
    "Range: bytes=1-2-3": (200, 416, MALFORMED),
    "Range: bytes=99999999999999999999-": (200, 416, MALFORMED),
    "Range: bytes=0-9,,20-29": (
        206,
        416,
        "RFC 9110 section 5.6.1.2: empty elements of a list are passed over",
    ),
    "If-Match: {etag} | If-Unmodified-Since: {before}": (
        200,
        412,
        "RFC 9110 section 13.1.4: If-Unmodified-Since is ignored beside If-Match",
    ),
    "If-None-Match: {etag} | If-Modified-Since: {before}": (
        304,
        200,
        "RFC 9110 section 13.1.3: If-Modified-Since is ignored beside If-None-Match",
    ),
    "If-Unmodified-Since: nonsense": (
        200,
        412,
        "RFC 9110 section 13.1.4: what is no date is ignored",
    ),
}


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with Nginx(tmp_path_factory.mktemp("nginx")) as nginx:
        yield nginx


def head_of(port: int, path: str) -> dict[str, str]:
    with Connection(port) as connection:
        return connection.ask("HEAD", path).headers


@pytest.fixture
def places(server: Server, nginx: Nginx) -> list[tuple[int, str]]:
    """The same file on both, with the same time: ours first."""
    path = f"/blob/{KEY}"
    if server.ask("HEAD", path).status != 200:
        server.ask("PUT", path, DATA, {"Content-Type": "text/x-numbers"})
    file = nginx.files / ("hot" if server.is_hot else "cold")
    if not file.exists():
        file.write_bytes(DATA)
        moment = parsedate_to_datetime(head_of(server.port, path)["last-modified"]).timestamp()
        os.utime(file, (moment, moment))
    return [(server.port, path), (nginx.port, f"/{file.name}")]


def ask(place: tuple[int, str], row: Row) -> Seen:
    port, path = place
    own = head_of(port, path)
    moment = parsedate_to_datetime(own["last-modified"])
    fields = {
        "etag": own["etag"],
        "modified": own["last-modified"],
        "before": formatdate(moment.timestamp() - 3600, usegmt=True),
        "after": formatdate(moment.timestamp() + 3600, usegmt=True),
        "rfc850": moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        "asctime": moment.strftime("%a %b %e %H:%M:%S %Y"),
    }
    headers = {name: value.format(**fields) for name, value in row.headers.items()}
    with Connection(port) as connection:
        return seen(connection.ask(row.method, path, headers=headers))


def seen(reply: Reply) -> Seen:
    """Bodies of errors are each server's own, as are the boundaries of parts."""
    content_type = reply.headers.get("content-type", "")
    parts: list[tuple[str | None, bytes]] = []
    length = reply.headers.get("content-length")
    if content_type.startswith("multipart/byteranges"):
        parts, length = parts_of(content_type, reply.body), None
    elif reply.status in {200, 206}:
        parts = [(None, reply.body)]
    else:
        length = None
    has_etag = "etag" in reply.headers and reply.status in {200, 206, 304}
    return Seen(reply.status, reply.headers.get("content-range"), parts, length, has_etag)


def parts_of(content_type: str, body: bytes) -> list[tuple[str | None, bytes]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    found: list[tuple[str | None, bytes]] = []
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        assert part["content-type"] == "text/x-numbers"
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        found.append((str(part["content-range"]), data))
    return found


@pytest.mark.parametrize("name", AGREED)
def test_holdfast_answers_as_nginx_does(places: list[tuple[int, str]], name: str) -> None:
    ours, theirs = (ask(place, AGREED[name]) for place in places)
    assert ours == theirs


@pytest.mark.parametrize("name", APART)
def test_holdfast_differs_from_nginx_on_purpose(places: list[tuple[int, str]], name: str) -> None:
    status, their_status, reason = APART[name]
    (row,) = rows(name).values()
    ours, theirs = (ask(place, row) for place in places)
    assert (ours.status, theirs.status) == (status, their_status), reason


def test_head_with_a_range_differs_from_nginx_on_purpose(places: list[tuple[int, str]]) -> None:
    """RFC 9110 section 14.2: Range is defined for GET only; nginx answers 206 to HEAD."""
    ours, theirs = (ask(place, Row({"Range": "bytes=0-9"}, "HEAD")) for place in places)
    assert (ours.status, ours.length) == (200, str(SIZE))
    assert (theirs.status, theirs.length) == (206, "10")


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(AGREED) >= 40
