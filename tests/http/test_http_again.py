"""The same request again and again: what the hot path knows already, and what makes it wrong."""

import time

import pytest
from rawhttp import spell
from serving import Server

TIMES = 4  # parsed, kept, found by its path, found by its bytes


def test_a_request_that_comes_again_gets_what_is_true_then(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    with server.connect() as connection:
        for number in range(3):
            body = b"%d" % number * 1000
            assert connection.ask("PUT", path, body).status in {200, 201}
            for _ in range(TIMES):
                reply = connection.ask("GET", path)
                assert (reply.status, reply.body) == (200, body)
                assert connection.ask("HEAD", path).headers["content-length"] == "1000"
        assert connection.ask("DELETE", path).status == 204
        for _ in range(TIMES):
            assert connection.ask("GET", path).status == 404
        assert connection.ask("PUT", path, b"back").status == 201
        for _ in range(TIMES):
            assert connection.ask("GET", path).body == b"back"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"Range": "bytes=0-0"}, 206),
        ({"If-None-Match": "*"}, 304),
        ({"If-Match": '"x"'}, 412),
        ({"Connection": "close"}, 200),
        ({"Origin": "http://a"}, 200),
    ],
)
def test_a_header_more_makes_it_another_request(
    server: Server, bucket: str, header: dict[str, str], status: int
) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"bytes")
    for _ in range(TIMES):
        assert server.ask("GET", path).status == 200
        reply = server.ask("GET", path, headers=header)
        assert reply.status == status
        assert reply.closes or "Connection" not in header


def test_a_known_request_inside_of_another_is_not_answered(server: Server, bucket: str) -> None:
    """Its bytes come as a packet of their own, but as the end of a head that began before."""
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"bytes")
    raw = spell("GET", path)
    with server.connect() as connection:
        for _ in range(TIMES):
            assert connection.ask("GET", path).body == b"bytes"
        connection.send(b"GET /healthz HTTP/1.1\r\nX: ")
        time.sleep(0.1)
        connection.send(raw)
        assert connection.reply().body == b"ok\n"
        connection.send(raw)
        assert connection.reply().body == b"bytes"


def test_a_known_request_behind_a_body_is_a_part_of_it_or_waits(
    server: Server, bucket: str
) -> None:
    path, other = f"/b/{bucket}/k", f"/b/{bucket}/other"
    server.ask("PUT", path, b"bytes")
    raw = spell("GET", path)
    with server.connect() as connection:
        for _ in range(TIMES):
            assert connection.ask("GET", path).body == b"bytes"
        head = f"PUT {other} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(raw) + 1}\r\n\r\n"
        connection.send(head.encode())
        time.sleep(0.1)
        connection.send(raw)
        time.sleep(0.1)
        connection.send(b"!" + raw)
        assert connection.reply().status == 201
        assert connection.reply().body == b"bytes"
        assert connection.ask("GET", other).body == raw + b"!"
