"""Streams of requests with damage anywhere, against a second opinion of where each one ends.

The reader here shares no code with the server and takes nothing that RFC 9112 does not allow. A
server may refuse more; but an answer to what this reader does not see would be a request that
somebody hid from a proxy. Whatever was answered before stays right, and the one that is refused is
the last one.
"""

import hashlib
import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proofs import Prove
from rawhttp import BODILESS, chunked, parse_head, spell
from serving import Server

QUICK_EXAMPLES = 150
LONG_EXAMPLES = int(os.environ.get("HTTP_EXAMPLES", "20000"))
LINE = re.compile(rb"(GET|HEAD|PUT|POST|DELETE|OPTIONS|PATCH) ([!-~]+) HTTP/1\.([01])")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(;[\t -~\x80-\xff]*)?")
BUCKET = b"stream000000"
HIDDEN = b"PUT /b/stream000000/hidden HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n!"
WORDS = [
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";a=b",
    b"0",
    b"5",
    b"-",
    b"+",
    b"0x",
    b",",
    b"\xff",
    b"0\r\n\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 7\r\n",
    b"content-length:40\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, Content-Length\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"Host: y\r\n",
    b"X: " + b"a" * 40_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
]
_numbers = itertools.count(1)


class Request(NamedTuple):
    """One that RFC 9112 sees."""

    method: str
    body: bytes
    is_last: bool


class Seen(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


# The second opinion


def requests_in(stream: bytes) -> Iterator[Request]:
    """Read requests until there is none that is whole and beyond doubt."""
    while True:
        stream = stream.lstrip(b"\r\n")  # section 2.2, which nobody can hide anything in
        head, end, rest = stream.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        line, fields = LINE.fullmatch(first), [FIELD.fullmatch(each) for each in lines]
        if not end or line is None or None in fields:
            return
        values = _values(fields)
        body = _body(values, rest)
        if body is None or len(values.get(b"host", [])) != 1:
            return
        content, stream = body
        closes = b"close" in b",".join(values.get(b"connection", [])).lower()
        is_last = closes or line[3] == b"0"
        yield Request(line[1].decode(), content, is_last)
        if is_last:
            return


def _values(fields: list[re.Match[bytes] | None]) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for field in fields:
        assert field is not None
        values.setdefault(field[1].lower(), []).append(field[2].strip(b" \t"))
    return values


def _body(values: dict[bytes, list[bytes]], rest: bytes) -> tuple[bytes, bytes] | None:
    """The content of a body, and what follows it; None when that is not beyond doubt."""
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if not lengths and not codings:
        return b"", rest
    if not lengths and [each.lower() for each in codings] == [b"chunked"]:
        return _chunks(rest)
    if codings or len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        return None
    size = int(lengths[0])
    return (rest[:size], rest[size:]) if len(rest) >= size else None


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    content = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        size = SIZE.fullmatch(line)
        if not end or size is None:
            return None
        count = int(size[1], 16)
        if count == 0:
            break
        if rest[count : count + 2] != b"\r\n":
            return None
        content, rest = content + rest[:count], rest[count + 2 :]
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end or (line and FIELD.fullmatch(line) is None):
            return None
        if not line:
            return content, rest


# Streams


class Stream(NamedTuple):
    """Requests for one bucket, in pieces."""

    pieces: list[bytes]

    def __repr__(self) -> str:
        """Show all, but for long runs of a letter."""
        return re.sub(r"(a|x)\1{99,}", r"\1...\1", repr(self.pieces))


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Requests with up to four edits."""
    stream = b"".join(draw(st.lists(REQUESTS, min_size=1, max_size=5)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(stream)))
        if draw(st.booleans()):  # where heads have their structure
            at = stream.rfind(b"\r\n", 0, at) + draw(st.integers(0, 2))
            at = max(at, 0)
        end = at + draw(st.sampled_from([0, 0, 1, 2, 12]))
        stream = stream[:at] + draw(st.sampled_from(WORDS) | st.binary(max_size=3)) + stream[end:]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=3)))
    return Stream([stream[a:b] for a, b in itertools.pairwise([0, *cuts, len(stream)])])


def _request(method: str, key: str, body: bytes, chunk: int) -> bytes:
    path = f"/b/{BUCKET.decode()}/{key}"
    if method != "PUT":
        return spell(method, path)
    if not chunk:
        return spell(method, path, body)
    parts = [body[at : at + chunk] for at in range(0, len(body), chunk)]
    return spell(method, path, headers={"Transfer-Encoding": "chunked"}) + chunked(*parts)


BODIES = st.sampled_from([b"", b"hello", b"0\r\n\r\n", HIDDEN, b"\r\n" + HIDDEN, b"x" * 70_000])
REQUESTS = st.builds(
    _request,
    st.sampled_from(["PUT", "PUT", "GET", "HEAD"]),
    st.sampled_from(["a", "b", "c"]),
    BODIES,
    st.sampled_from([0, 0, 5, 100_000]),
)


# The server


class Answers:
    """Sends the pieces of a stream, and reads what comes."""

    def __init__(self, server: Server, pieces: list[bytes], methods: list[str]) -> None:
        self._received = b""
        self._methods = methods
        self.found: list[Seen] = []
        self.is_reset = False
        """What the server did not read any more may cost what it sent."""
        with server.connect(20) as self._connection:
            for piece in pieces:
                self._connection.try_send(piece)
            self._read(len(methods))
            self._connection.try_finish()  # what is not whole now will never be
            self._read(len(methods) + 100)
        if len(self.found) == len(methods) and (seen := self._take(is_over=True)) is not None:
            self.found.append(seen)
        assert self._received == b"" or self.is_reset

    def _read(self, count: int) -> None:
        """Read until there are so many answers, or the end."""
        while len(self.found) < count and self._more():
            while (seen := self._take()) is not None:
                if seen.status >= 200:
                    self.found.append(seen)

    def _more(self) -> bool:
        try:
            part = self._connection.socket.recv(1 << 16)
        except ConnectionResetError:
            part, self.is_reset = b"", True
        self._received += part
        return part != b""

    def _take(self, *, is_over: bool = False) -> Seen | None:
        """The next answer, once it is whole; a refusal may take for a HEAD what is no request."""
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        status, headers = parse_head(head)
        size = 0 if status in BODILESS else int(headers.get("content-length", 0))
        if [*self._methods, ""][: len(self.found) + 1][-1] == "HEAD" and (
            not rest or rest.startswith(b"HTTP/")
        ):
            size = 0  # but whoever refuses what it cannot read does not know of a HEAD
        if is_over and not rest:
            size = 0
        if len(rest) < size:
            return None
        self._received = rest[size:]
        return Seen(status, headers, rest[:size])


def judge(requests: list[Request], found: list[Seen], *, is_reset: bool) -> dict[str, str]:
    """Compare answers with what was asked; give the digests that were stored, by bucket and key."""
    stored: dict[str, str] = {}
    assert all(each.status < 500 for each in found)
    assert len(found) <= len(requests) + 1
    for request, seen in zip(requests, found, strict=False):
        if request.method == "PUT" and seen.status in {200, 201}:
            entry = msgspec.json.decode(seen.body)
            digest = hashlib.sha256(request.body).hexdigest()
            assert entry["digest"] == f"sha256:{digest}"
            stored[f"{entry['bucket']}/{entry['key']}"] = digest
        if request.method == "GET" and seen.status == 200 and "etag" in seen.headers:
            assert seen.headers["etag"] == f'"{hashlib.sha256(seen.body).hexdigest()}"'
    if len(found) != len(requests) and not is_reset:
        assert found[-1].headers.get("connection") == "close"  # so that what follows is sent again
    if len(found) > len(requests):
        assert found[-1].status >= 400
    return stored


def check(server: Server, stream: Stream) -> None:
    """Send a stream, for a bucket of its own, and compare."""
    bucket = f"stream{next(_numbers):06}"
    pieces = [piece.replace(BUCKET, bucket.encode()) for piece in stream.pieces]
    requests = list(requests_in(b"".join(pieces)))
    answers = Answers(server, pieces, [each.method for each in requests])
    stored = judge(requests, answers.found, is_reset=answers.is_reset)
    if not answers.is_reset:
        keys = [name.partition("/")[2] for name in stored if name.startswith(f"{bucket}/")]
        assert server.keys(bucket) == sorted(keys)


def fuzz(server: Server, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(streams())
    def run(stream: Stream) -> None:
        check(server, stream)

    run()
    assert server.ask("GET", "/healthz").status == 200
    assert server.log.read_text().count("defect") == 0


def test_a_stream_is_read_as_rfc_9112_reads_it_or_refused(server: Server) -> None:
    fuzz(server, QUICK_EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_very_many_streams_are_read_as_rfc_9112_reads_them(hot: Server, prove: Prove) -> None:
    with prove("damaged streams of requests, against a second reader") as figures:
        fuzz(hot, LONG_EXAMPLES)
        figures["rounds"] = LONG_EXAMPLES
