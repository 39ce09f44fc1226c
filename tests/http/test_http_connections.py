"""Connections: many requests in one packet, one request in many packets, and how each ends."""

import time

import pytest
from rawhttp import Connection, Reply, chunked, spell
from serving import Server, Servers, wait_until

LAST = {"Connection": "close"}
BIG = bytes(range(256)) * 4096 * 3  # 3 MiB: a file, sent as a stream


def keep_reading(connection: Connection, count: int) -> list[Reply]:
    return [connection.reply() for _ in range(count)]


def test_one_connection_answers_many_requests_one_after_the_other(
    server: Server, bucket: str
) -> None:
    with server.connect() as connection:
        for number in range(5):
            path = f"/b/{bucket}/{number}"
            assert connection.ask("PUT", path, b"%d" % number).status == 201
            assert connection.ask("GET", path).body == b"%d" % number
            assert connection.ask("HEAD", path).headers["content-length"] == "1"
            assert connection.ask("GET", f"/b/{bucket}").status == 200
            assert connection.ask("GET", f"/b/{bucket}/missing").code == "not_found"
        assert connection.ask("DELETE", f"/b/{bucket}/0").status == 204
        assert connection.ask("GET", f"/b/{bucket}/0").status == 404


def test_connection_close_is_obeyed_and_said(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    for path in (f"/b/{bucket}/k", f"/b/{bucket}", "/healthz", f"/b/{bucket}/missing"):
        for _ in range(2):  # the second time the hot path may know the answer already
            (reply,) = server.exchange(spell("GET", path, headers=LAST))
            assert reply.closes, path
    (reply,) = server.exchange(spell("PUT", f"/b/{bucket}/k", b"y", LAST))
    assert reply.closes


def test_what_comes_behind_connection_close_is_not_answered(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    raw = spell("GET", f"/b/{bucket}/k", headers=LAST) + spell("DELETE", f"/b/{bucket}/k")
    assert [reply.status for reply in server.exchange(raw)] == [200]
    assert server.keys(bucket) == ["k"]


def test_http_1_0_closes_unless_it_asks_to_stay(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    for path in (f"/b/{bucket}/k", "/healthz"):
        raw = f"GET {path} HTTP/1.0\r\n\r\n".encode()
        (reply,) = server.exchange(raw)
        assert (reply.status, reply.closes) == (200, True)


def test_http_1_0_is_told_that_the_connection_stays(hot: Server, bucket: str) -> None:
    hot.ask("PUT", f"/b/{bucket}/k", b"x")
    raw = f"GET /b/{bucket}/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode()
    with hot.connect() as connection:
        for _ in range(3):
            connection.send(raw)
            reply = connection.reply()
            assert (reply.body, reply.headers["connection"]) == (b"x", "keep-alive")


def script(bucket: str) -> list[tuple[bytes, int, bytes | None]]:
    """Requests of every kind, the status of each answer, and its body where that is known."""
    key, other = f"/b/{bucket}/k", f"/b/{bucket}/other"
    return [
        (spell("PUT", key, b"first"), 201, None),
        (spell("GET", key), 200, b"first"),
        (spell("GET", key), 200, b"first"),
        (spell("GET", f"/b/{bucket}?limit=1"), 200, None),
        (spell("PUT", key, b"second"), 200, None),
        (spell("GET", key), 200, b"second"),
        (spell("GET", key, headers={"Range": "bytes=1-2"}), 206, b"ec"),
        (spell("PUT", f"/b/{bucket}/big", BIG), 201, None),
        (spell("GET", f"/b/{bucket}/big"), 200, BIG),
        (spell("PUT", other, headers={"Holdfast-Copy-From": f"{bucket}/k"}), 201, None),
        (spell("GET", other), 200, b"second"),
        (spell("PUT", other, b"", {"If-Match": '"no"'}), 412, None),
        (spell("DELETE", other), 204, b""),
        (spell("GET", other), 404, None),
        (spell("PUT", key, b""), 200, None),
        (spell("GET", key), 200, b""),
    ]


def test_requests_in_one_packet_are_answered_in_their_order(server: Server, bucket: str) -> None:
    steps = script(bucket)
    with server.connect() as connection:
        connection.send(b"".join(raw for raw, _, _ in steps))
        for raw, status, body in steps:
            reply = connection.reply()
            assert reply.status == status, raw[:200]
            assert body is None or reply.body == body, raw[:200]


@pytest.mark.parametrize("step_bytes", [1, 2, 3, 7, 64, 1000])
def test_packets_may_be_cut_anywhere(server: Server, bucket: str, step_bytes: int) -> None:
    steps = [step for step in script(bucket) if len(step[0]) < 1000 and step[2] is not BIG]
    data = b"".join(raw for raw, _, _ in steps)
    with server.connect() as connection:
        for at in range(0, len(data), step_bytes):
            connection.send(data[at : at + step_bytes])
        for raw, status, body in steps:
            reply = connection.reply()
            assert reply.status == status, raw[:200]
            assert body is None or reply.body == body, raw[:200]


def test_a_put_and_a_get_may_be_split_at_every_byte(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    data = spell("PUT", path, b"0123456789") + spell("GET", path)
    with server.connect() as connection:
        for at in range(1, len(data)):
            connection.send(data[:at])
            time.sleep(0.0005)  # lets the server read the first part alone
            connection.send(data[at:])
            put, get = keep_reading(connection, 2)
            assert put.status in {200, 201}, at
            assert get.body == b"0123456789", at


def test_bytes_that_arrive_while_an_answer_is_made_keep_their_order(
    server: Server, bucket: str
) -> None:
    """A slow listing is asked for, and while it is made, parts of more requests trickle in."""
    paths = [f"/b/{bucket}/{number}" for number in range(40)]
    with server.connect() as connection:
        for path in paths:
            connection.ask("PUT", path, path.encode())
        for _ in range(10):
            for path in paths:
                data = spell("GET", f"/b/{bucket}?limit=1000") + spell("GET", path)
                connection.send(data[:-20])
                connection.send(data[-20:-5])
                connection.send(data[-5:])
            for path in paths:
                assert connection.reply().json()["next"] is None
                assert connection.reply().body == path.encode()


def test_a_chunked_upload_on_a_used_connection_is_handed_over_whole(
    server: Server, bucket: str
) -> None:
    path = f"/b/{bucket}/k"
    chunked_put = spell("PUT", path, headers={"Transfer-Encoding": "chunked"})
    data = spell("PUT", path, b"first") + chunked_put + chunked(b"second ", b"one")
    with server.connect() as connection:
        connection.send(data)
        assert [reply.status for reply in keep_reading(connection, 2)] == [201, 200]
    assert server.ask("GET", path).body == b"second one"


def test_a_handed_over_upload_may_be_split_at_every_byte(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    headers = {"Transfer-Encoding": "chunked"}
    data = spell("PUT", path, headers=headers) + chunked(b"0123", b"456789")
    for at in range(1, len(data), 3):
        with server.connect() as connection:
            connection.send(data[:at])
            time.sleep(0.0005)
            connection.send(data[at:])
            assert connection.reply().json()["size_bytes"] == 10, at


def test_a_client_that_stopped_sending_still_gets_its_answers(hot: Server, bucket: str) -> None:
    """Behind the ASGI app it does not: uvicorn takes the end of a request for a lost client."""
    hot.ask("PUT", f"/b/{bucket}/k", b"x")
    with hot.connect() as connection:
        connection.send(spell("GET", f"/b/{bucket}") + spell("GET", f"/b/{bucket}/k") * 3)
        connection.finish_sending()
        started_s = time.monotonic()
        replies = connection.all_replies()
        assert [reply.status for reply in replies] == [200] * 4
        assert time.monotonic() - started_s < 5, "the connection ends with the last answer"


def test_a_client_that_stopped_sending_behind_an_upload_gets_its_answer(
    hot: Server, bucket: str
) -> None:
    with hot.connect() as connection:
        connection.send(spell("PUT", f"/b/{bucket}/k", BIG))
        connection.finish_sending()
        assert [reply.status for reply in connection.all_replies()] == [201]


def test_a_keep_alive_connection_ends_when_it_was_idle_too_long(servers: Servers, way: str) -> None:
    server = servers.shared(hot_path=way, idle_wait_s="1", head_wait_s="1", body_wait_s="1")
    with server.connect() as connection:
        assert connection.ask("GET", "/healthz").status == 200
        assert connection.at_end()


def test_a_closed_connection_is_forgotten(hot: Server) -> None:
    def open_count() -> float:
        return hot.metric("holdfast_http_connections")

    before = open_count()
    connections = [hot.connect() for _ in range(20)]
    wait_until(lambda: open_count() == before + 20, "20 connections are not counted")
    for number, connection in enumerate(connections):
        connection.ask("GET", "/healthz", headers={"Origin": "http://a"} if number % 2 else None)
        connection.close()
    wait_until(lambda: open_count() == before, "connections stay counted")


def test_answers_that_nobody_reads_do_not_pile_up(hot: Server, bucket: str) -> None:
    """Thousands of requests come in one go; the server stops reading them while it cannot send."""
    body = b"x" * 200_000
    path = f"/b/{bucket}/k"
    hot.ask("PUT", path, body)
    hot.ask("GET", path)
    hot.forget_peak()
    before_kb = hot.status("VmHWM")
    count = 2000  # 400 MB of answers to 150 KB of requests
    with hot.connect(30) as connection:
        connection.send(spell("GET", path) * count)
        time.sleep(0.5)
        assert hot.ask("GET", "/healthz").status == 200
        grown_kb = hot.status("VmHWM") - before_kb
        for _ in range(count):
            assert len(connection.reply().body) == len(body)
    assert grown_kb < 32_000
