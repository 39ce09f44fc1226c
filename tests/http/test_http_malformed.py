"""Requests that are no HTTP, or try to be two at once: 400, closed, and nothing is stored."""

from contextlib import ExitStack

import pytest
from rawhttp import Reply, chunked, spell
from serving import Server, Servers

from holdfast.core import limits

HEAD = b"PUT /b/%b/k HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

FRAMING = {
    "both lengths": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    "both lengths, chunked first": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    + CHUNKS,
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "the same length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a plus": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "a length with a minus": HEAD + b"Content-Length: -5\r\n\r\nhello",
    "a length with a space": HEAD + b"Content-Length: 5 5\r\n\r\nhello",
    "a length in hex": HEAD + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with an underscore": HEAD + b"Content-Length: 1_0\r\n\r\nhellohello",
    "a length in other digits": HEAD + b"Content-Length: \xd9\xa5\r\n\r\nhello",
    "no length": HEAD + b"Content-Length:\r\n\r\nhello",
    "a length beyond 64 bits": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "a space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "a space before the coding's colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKS,
    "an unknown coding before chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "a coding behind chunked": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + CHUNKS,
    "a control character in the coding": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "an empty coding": HEAD + b"Transfer-Encoding:\r\n\r\n" + CHUNKS,
    "a folded coding": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a folded header": HEAD + b"X-A: b\r\n c\r\nContent-Length: 5\r\n\r\nhello",
    "a header before the host": b"PUT /b/%b/k HTTP/1.1\r\n X: y\r\nHost: x\r\n\r\n",
    "a bare LF behind the length": HEAD + b"Content-Length: 5\n\r\nhello",
    "a bare LF as the last line": HEAD + b"Content-Length: 5\r\n\nhello",
    "bare LFs": b"PUT /b/%b/k HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello",
    "a bare CR in a header": HEAD + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "NUL in a header": HEAD + b"X: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    "a header without a colon": HEAD + b"Content-Length\r\n\r\n",
    "a header without a name": HEAD + b": 5\r\n\r\n",
    "a space in the name": HEAD + b"Content Length: 5\r\n\r\nhello",
    "a chunk size that is none": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "no chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"5\r\nhelloo\r\n0\r\n\r\n",
    "a chunk shorter than its size": CHUNKED + b"6\r\nhello\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
    "bare LFs between chunks": CHUNKED + b"5\nhello\n0\n\n",
    "a bare CR in a chunk's extension": CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "no host": b"PUT /b/%b/k HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "two hosts": b"PUT /b/%b/k HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 5\r\n\r\nhello",
}

LINES = {
    "NUL in the path": b"GET /blob/a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the path": b"GET /blob/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab in the path": b"GET /blob/a\tb HTTP/1.1\r\nHost: x\r\n\r\n",
    "a raw byte in the path": b"GET /blob/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw UTF-8 in the path": "GET /blob/é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "no slash": b"GET blob/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"BREW /blob/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get /blob/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case http": b"GET /healthz http/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
}


def refused(server: Server, raw: bytes) -> Reply:
    """The one answer, behind which the server closes."""
    (reply,) = server.exchange(raw)
    assert reply.status == 400, reply
    assert reply.closes
    return reply


@pytest.mark.parametrize("name", FRAMING)
def test_what_two_servers_could_read_as_two_requests_is_refused(
    server: Server, bucket: str, name: str
) -> None:
    """A second request hides behind each; it must never be answered."""
    raw = FRAMING[name].replace(b"%b", bucket.encode())
    refused(server, raw + spell("GET", "/healthz"))
    server.check_clean(bucket)


@pytest.mark.parametrize("name", LINES)
def test_what_is_no_request_is_refused(server: Server, bucket: str, name: str) -> None:
    reply = refused(server, LINES[name])
    if server.is_hot:  # uvicorn has its own words
        assert reply.code == "invalid"
    server.check_clean(bucket)


@pytest.mark.parametrize("name", FRAMING)
def test_a_refused_request_spoils_only_its_connection(hot: Server, bucket: str, name: str) -> None:
    """Behind a good request on the same connection, it is refused just the same."""
    raw = FRAMING[name].replace(b"%b", bucket.encode())
    good = spell("PUT", f"/b/{bucket}/good", b"x")
    replies = hot.exchange(good + raw)
    assert [reply.status for reply in replies] == [201, 400]
    hot.check_clean(bucket, ("good",))


@pytest.mark.parametrize("name", ["bare LFs", "both lengths", "a chunk size that is none"])
def test_a_refusal_waits_for_its_turn(server: Server, bucket: str, name: str) -> None:
    """An answer that says that it is the last one makes a refusal of what follows needless."""
    upload = spell("PUT", f"/b/{bucket}/good", headers={"Transfer-Encoding": "chunked"})
    good = upload + chunked(b"hello")
    replies = server.exchange(good * 2 + FRAMING[name].replace(b"%b", bucket.encode()))
    expected = [201] if server.is_hot else [201, 200, 400]
    assert [reply.status for reply in replies] == expected
    assert replies[-1].closes
    server.check_clean(bucket, ("good",))


def test_blanks_around_a_length_belong_to_nothing(server: Server, bucket: str) -> None:
    raw = b"PUT /b/%b/k HTTP/1.1\r\nHost: x\r\nContent-Length: \t 5 \r\n\r\nhello"
    with server.connect() as connection:
        connection.send(raw % bucket.encode())
        assert connection.reply().json()["size_bytes"] == 5


def test_empty_lines_before_a_request_are_passed_over(server: Server) -> None:
    with server.connect() as connection:
        connection.send(b"\r\n\r\n" + spell("GET", "/healthz"))
        assert connection.reply().status == 200


def test_an_absolute_target_is_read_as_its_path(server: Server, bucket: str) -> None:
    """RFC 9112 section 3.2.2: every server must take them."""
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    assert server.ask("GET", f"http://elsewhere/b/{bucket}/k").body == b"x"
    assert server.ask("PUT", f"http://elsewhere:80/b/{bucket}/other", b"y").status == 201
    assert server.keys(bucket) == ["k", "other"]


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "PUT"])
def test_a_star_is_no_path(server: Server, method: str) -> None:
    assert server.ask(method, "*").code == "not_found"


def test_connect_makes_no_tunnel(server: Server) -> None:
    (reply,) = server.exchange(b"CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reply.status in {400, 404, 405}


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "anything"])
def test_an_upgrade_is_ignored(server: Server, bucket: str, protocol: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    headers = {"Connection": "Upgrade", "Upgrade": protocol, "Sec-WebSocket-Version": "13"}
    reply = server.ask("GET", f"/b/{bucket}/k", headers=headers)
    assert (reply.status, reply.body) == (200, b"x")


def test_an_upload_that_asks_for_an_upgrade_is_stored_whole_or_refused(
    server: Server, bucket: str
) -> None:
    """curl --http2 asks so for every upload."""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"}
    with server.connect() as connection:
        reply = connection.ask("PUT", f"/b/{bucket}/k", b"hello", headers)
        assert reply.status == (201 if server.is_hot else 400)
        if server.is_hot:
            assert reply.json()["size_bytes"] == 5
            assert connection.ask("GET", f"/b/{bucket}/k").body == b"hello"


def test_a_chunked_upload_that_asks_for_an_upgrade_is_refused(server: Server, bucket: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "h2c", "Transfer-Encoding": "chunked"}
    (reply,) = server.exchange(spell("PUT", f"/b/{bucket}/k", headers=headers) + chunked(b"hello"))
    assert reply.code == "invalid"
    server.check_clean(bucket)


# Sizes and times of heads


@pytest.mark.parametrize("shape", ["one header", "many headers", "a long path"])
def test_a_head_over_the_limit_is_refused(server: Server, shape: str) -> None:
    size = limits.HEAD_BYTES_MAX
    heads = {
        "one header": spell("GET", "/healthz", headers={"X": "a" * size}),
        "many headers": spell("GET", "/healthz", headers={f"X-{n}": "a" * 20 for n in range(2000)}),
        "a long path": spell("GET", "/blob/" + "a" * size),
    }
    (reply,) = server.exchange(heads[shape])
    assert (reply.status, reply.code) == (431, "head_too_large")


def test_a_head_just_under_the_limit_is_taken(server: Server) -> None:
    used = len(spell("GET", "/healthz", headers={"X": ""}))
    headers = {"X": "a" * (limits.HEAD_BYTES_MAX - used)}
    assert server.ask("GET", "/healthz", headers=headers).status == 200


def test_an_endless_head_is_cut_off(hot: Server) -> None:
    with hot.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        for _ in range(1000):
            connection.try_send(b"X: %b\r\n" % (b"a" * 1000))
        assert connection.reply().status == 431
    assert hot.status("VmRSS") < 200_000


@pytest.fixture(scope="module")
def hasty(servers: Servers) -> Server:
    """Only the hot path watches heads; uvicorn waits for them without end."""
    return servers.shared(hot_path="true", idle_wait_s="1", head_wait_s="1", body_wait_s="1")


def test_a_head_that_does_not_come_is_not_waited_for(hasty: Server) -> None:
    starts = (b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n")
    with ExitStack() as stack:
        waiting = [stack.enter_context(hasty.connect()) for _ in starts]
        for connection, start in zip(waiting, starts, strict=True):
            connection.send(start)
        for connection in waiting:
            assert connection.reply().code == "timeout"
            assert connection.at_end()


def test_a_head_that_trickles_in_has_one_time_for_all_of_it(hasty: Server) -> None:
    with hasty.connect() as connection:
        for byte in spell("GET", "/healthz", headers={"X": "a" * 100}):
            connection.try_send(bytes((byte,)))
            if connection.is_answered(0.1):
                break
        assert connection.reply().status == 408
