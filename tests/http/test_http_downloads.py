"""Bytes on their way out: ranges, dispositions, copies and moves, and what HEAD says of them.

How conditions and ranges are read is compared with nginx in test_http_nginx.py.
"""

import hashlib
import re
from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import quote

import pytest
from rawhttp import Reply
from serving import Server

MIB = 1024 * 1024
SIZES = {"small": 1000, "large": 3 * MIB + 5}


def data_of(size: int) -> bytes:
    """Bytes of which every part looks different."""
    return b"".join(b"%07d\n" % n for n in range(size // 8 + 1))[:size]


@pytest.fixture(params=SIZES)
def stored(request: pytest.FixtureRequest, server: Server) -> tuple[Server, str, bytes]:
    """A blob in the log or in a file of its own."""
    data = data_of(SIZES[request.param])
    path = f"/b/downloads/{request.param}"
    if server.ask("HEAD", path).status != 200:
        server.ask("PUT", path, data, {"Content-Type": "text/x-numbers"})
    return server, path, data


def parts_of(reply: Reply) -> list[tuple[str, bytes]]:
    """The parts of a multipart/byteranges, read by Python's own parser."""
    head = f"Content-Type: {reply.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP.clone(max_line_length=None)).parsebytes(head + reply.body)
    assert not message.defects
    found = []
    for part in message.iter_parts():
        assert part["content-type"] == "text/x-numbers"
        body = part.get_payload(decode=True)
        assert isinstance(body, bytes)
        found.append((str(part["content-range"]), body))
    return found


@pytest.mark.parametrize("spelled", ["0-0", "1-9", "-1", "-10", "5-", "0-", "990-", "999-2000"])
def test_a_range_is_a_part(stored: tuple[Server, str, bytes], spelled: str) -> None:
    server, path, data = stored
    first, _, last = spelled.partition("-")
    start = int(first) if first else len(data) - int(last)
    end = min(int(last) + 1, len(data)) if first and last else len(data)
    reply = server.ask("GET", path, headers={"Range": f"bytes={spelled}"})
    assert reply.status == 206
    assert reply.body == data[start:end]
    assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
    assert reply.headers["content-length"] == str(end - start)
    assert reply.headers["content-type"] == "text/x-numbers"


def test_ranges_across_chunks_and_windows(server: Server) -> None:
    data = data_of(9 * MIB + 77)
    path = "/b/downloads/windows"
    assert server.ask("PUT", path, data).status in {200, 201}
    edges = [MIB, 2 * MIB, 4 * MIB, 8 * MIB]
    for edge in edges:
        for start, end in ((edge - 1, edge + 1), (edge, edge + MIB), (edge - 3, 9 * MIB)):
            reply = server.ask("GET", path, headers={"Range": f"bytes={start}-{end - 1}"})
            assert reply.body == data[start:end]
    assert server.ask("GET", path).body == data


def test_several_ranges_come_as_parts(stored: tuple[Server, str, bytes]) -> None:
    server, path, data = stored
    reply = server.ask("GET", path, headers={"Range": "bytes=0-9, 500-599,-5"})
    assert reply.status == 206
    assert "content-range" not in reply.headers
    size = len(data)
    assert parts_of(reply) == [
        (f"bytes 0-9/{size}", data[:10]),
        (f"bytes 500-599/{size}", data[500:600]),
        (f"bytes {size - 5}-{size - 1}/{size}", data[-5:]),
    ]


def test_many_ranges_of_a_large_blob(server: Server) -> None:
    data = data_of(3 * MIB + 5)
    path = "/b/downloads/large-too"
    server.ask("PUT", path, data, {"Content-Type": "text/x-numbers"})
    spans = [(n * 50_000, n * 50_000 + 30_000) for n in range(60)]
    header = ",".join(f"{start}-{end - 1}" for start, end in spans)
    reply = server.ask("GET", path, headers={"Range": f"bytes={header}"})
    assert [body for _, body in parts_of(reply)] == [data[start:end] for start, end in spans]


def test_a_range_outside_is_unsatisfiable(stored: tuple[Server, str, bytes]) -> None:
    server, path, data = stored
    for spelled in (f"{len(data)}-", f"{len(data)}-{len(data) + 5}", "99999999999-", "-0"):
        reply = server.ask("GET", path, headers={"Range": f"bytes={spelled}"})
        assert reply.code == "unsatisfiable_range", spelled
        assert reply.headers["content-range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize(
    "header",
    [
        *("bytes=", "bytes=-", "bytes=a-b", "bytes=2-1", "bytes 0-1", "lines=0-1", "0-1"),
        *("bytes=0-1;", "bytes=0-1,x", "bytes=1", "bytes=--1", "bytes=0--1", "bytes=0x0-1"),
        *("", "bytes=0-1-2", "bytes=" + "0-0," * 70, "bytes=" + "1" * 30 + "-"),
        "bytes=\N{ARABIC-INDIC DIGIT ONE}-",
    ],
)
def test_a_malformed_range_is_ignored(stored: tuple[Server, str, bytes], header: str) -> None:
    server, path, data = stored
    reply = server.ask("GET", path, headers={"Range": header.encode().decode("latin-1")})
    assert (reply.status, reply.body) == (200, data)


def test_ranges_that_repeat_a_blob_are_not_sent_twice(stored: tuple[Server, str, bytes]) -> None:
    """No request costs more than the whole."""
    server, path, data = stored
    for header in ("bytes=0-,0-", "bytes=" + ",".join(["0-"] * 60), "bytes=0-,-5"):
        reply = server.ask("GET", path, headers={"Range": header})
        assert len(reply.body) <= len(data) + 1000


def test_an_empty_blob_has_no_ranges(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"")
    for header in ("bytes=0-0", "bytes=-1", "bytes=0-"):
        reply = server.ask("GET", f"/b/{bucket}/k", headers={"Range": header})
        assert (reply.status, reply.body) in {(200, b""), (416, reply.body)}


def test_head_ignores_ranges(stored: tuple[Server, str, bytes]) -> None:
    server, path, data = stored
    reply = server.ask("HEAD", path, headers={"Range": "bytes=0-1"})
    assert (reply.status, reply.headers["content-length"]) == (200, str(len(data)))


def test_if_range_guards_a_range(stored: tuple[Server, str, bytes]) -> None:
    server, path, data = stored
    head = server.ask("HEAD", path).headers
    for good in (head["etag"], head["last-modified"]):
        reply = server.ask("GET", path, headers={"Range": "bytes=0-1", "If-Range": good})
        assert (reply.status, reply.body) == (206, data[:2])
    for bad in ('"other"', "W/" + head["etag"], "Mon, 01 Jan 2001 00:00:00 GMT", "nonsense", ""):
        reply = server.ask("GET", path, headers={"Range": "bytes=0-1", "If-Range": bad})
        assert (reply.status, reply.body) == (200, data), bad


def test_a_copy_that_is_current_is_not_sent_again(stored: tuple[Server, str, bytes]) -> None:
    server, path, _ = stored
    head = server.ask("HEAD", path).headers
    for method in ("GET", "HEAD"):
        for name, value in (
            ("If-None-Match", head["etag"]),
            ("If-None-Match", f'"x", W/{head["etag"]}'),
            ("If-None-Match", "*"),
            ("If-Modified-Since", head["last-modified"]),
        ):
            reply = server.ask(method, path, headers={name: value})
            assert (reply.status, reply.body) == (304, b"")
            assert reply.headers["etag"] == head["etag"]
            assert reply.headers["last-modified"] == head["last-modified"]
            assert reply.headers["cache-control"] == "no-cache"
            assert "content-length" not in reply.headers


def test_the_hot_path_sees_every_change_at_once(server: Server, bucket: str) -> None:
    """What was served before may be remembered, but never when it is no longer true."""
    path, other = f"/b/{bucket}/k", f"/b/{bucket}/other"
    with server.connect() as connection:
        for number in range(30):
            data = b"%d" % number
            etag = connection.ask("PUT", path, data, {"Content-Type": f"x/{number}"}).headers
            for _ in range(3):
                reply = connection.ask("GET", path)
                assert (reply.body, reply.headers["etag"]) == (data, etag["etag"])
                assert reply.headers["content-type"] == f"x/{number}"
            connection.ask("PUT", other, b"x")
            connection.ask("PUT", path, headers={"Holdfast-Copy-From": f"{bucket}/other"})
            assert connection.ask("GET", path).body == b"x"
            connection.ask("DELETE", path)
            assert connection.ask("GET", path).status == 404


# Dispositions


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("holiday.jpg", "holiday.jpg"),
        ("a/b/c.txt", "c.txt"),
        ('a"b\\c%d.txt', "a_b_c_d.txt"),
        ("é.txt", "_.txt"),
        ("dir/", ""),
        ("x;filename=evil", "x;filename=evil"),
        ("a b", "a b"),
    ],
)
def test_a_download_is_named_after_its_key(
    server: Server, bucket: str, key: str, plain: str
) -> None:
    path = f"/b/{bucket}/{quote(key)}"
    server.ask("PUT", path, b"x")
    name = key.rpartition("/")[2]
    tail = "" if name == plain else f"; filename*=UTF-8''{quote(name, safe='')}"
    for query, kind in (("", "attachment"), ("?disposition=inline", "inline")):
        got = server.ask("GET", path + query).headers
        assert got["content-disposition"] == f'{kind}; filename="{plain}"{tail}'
        assert got["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("query", ["disposition=x", "disposition=", "x=1", "disposition", "%"])
def test_a_bad_query_of_a_blob_is_refused(server: Server, bucket: str, query: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    assert server.ask("GET", f"/b/{bucket}/k?{query}").code == "invalid"
    assert server.ask("HEAD", f"/b/{bucket}/k?{query}").status == 400


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "GET"])
def test_an_unknown_query_changes_nothing(server: Server, bucket: str, method: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    assert server.ask(method, f"/b/{bucket}/k?x=1").code == "invalid"
    assert server.ask("GET", f"/b/{bucket}/k").body == b"x"


# Copy and move


@pytest.mark.parametrize("header", ["Holdfast-Copy-From", "Holdfast-Move-From"])
def test_a_copy_or_move_brings_everything_along(server: Server, bucket: str, header: str) -> None:
    about = {"Content-Type": "text/x-mine", "Holdfast-Meta-A": "b"}
    source, target = f"/b/{bucket}/from%20%25", f"/b/{bucket}-2/to"
    server.ask("PUT", source, b"hello", about)
    reply = server.ask("PUT", target, headers={header: f"{bucket}/from%20%25"})
    assert reply.status == 201
    entry = reply.json()
    assert (entry["bucket"], entry["key"], entry["version"]) == (f"{bucket}-2", "to", 0)
    assert (entry["content_type"], entry["metadata"]) == ("text/x-mine", {"a": "b"})
    assert entry["digest"] == "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert server.ask("GET", target).body == b"hello"
    assert server.ask("GET", source).status == (200 if "Copy" in header else 404)


@pytest.mark.parametrize("header", ["Holdfast-Copy-From", "Holdfast-Move-From"])
def test_a_copy_that_is_refused_changes_nothing(server: Server, bucket: str, header: str) -> None:
    server.ask("PUT", f"/b/{bucket}/a", b"a")
    server.ask("PUT", f"/b/{bucket}/b", b"b")
    target = f"/b/{bucket}/b"
    cases = [
        ({header: f"{bucket}/missing"}, b"", 404),
        ({header: f"{bucket}/a", "If-None-Match": "*"}, b"", 412),
        ({header: f"{bucket}/a", "If-Match": '"x"'}, b"", 412),
        ({header: f"{bucket}/a"}, b"a body", 400),
        ({header: f"{bucket}"}, b"", 400),
        ({header: f"{bucket}/%"}, b"", 400),
        ({header: "BAD/a"}, b"", 400),
        ({header: ""}, b"", 400),
        ({header: f"/b/{bucket}/a"}, b"", 400),
    ]
    for headers, body, status in cases:
        assert server.ask("PUT", target, body, headers).status == status, headers
    assert server.ask("GET", target).body == b"b"
    server.check_clean(bucket, ("a", "b"))


def test_a_copy_onto_itself_keeps_the_blob(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"x")
    for header in ("Holdfast-Copy-From", "Holdfast-Move-From"):
        assert server.ask("PUT", path, headers={header: f"{bucket}/k"}).status == 200
        assert server.ask("GET", path).body == b"x"


def test_an_etag_is_the_hex_of_the_bytes(stored: tuple[Server, str, bytes]) -> None:
    server, path, data = stored
    etag = server.ask("HEAD", path).headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{64}"', etag)
    assert etag == f'"{hashlib.sha256(data).hexdigest()}"'
