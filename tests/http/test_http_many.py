"""Many things in one request: lines in the order asked, each with its bytes or its error."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rawhttp import Reply, chunked, spell
from serving import Server, Servers, steady_descriptors, wait_until

MIB = 1024 * 1024
MANY_TYPE = "application/vnd.holdfast.many"
PATHS = ["/blob", "/b/other", "/blobs", "/blobs/missing"]


class Item(NamedTuple):
    line: dict[str, Any]
    body: bytes


def parse(body: bytes) -> list[Item]:
    """Read an answer; this is all that a client needs."""
    items = []
    while body:
        head, _, body = body.partition(b"\n")
        line = json.loads(head)
        size = line["body_bytes"]
        items.append(Item(line, body[:size]))
        assert len(items[-1].body) == size
        body = body[size:]
    return items


def post(server: Server, path: str, doc: object) -> Reply:
    return server.ask("POST", path, json.dumps(doc).encode())


def ask(server: Server, path: str, verb: str, names: Sequence[str]) -> list[Item]:
    reply = post(server, path, {verb: names})
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == MANY_TYPE
    assert reply.headers["transfer-encoding"] == "chunked"
    items = parse(reply.body)
    assert [item.line["name"] for item in items] == list(names)
    return items


def spell_item(name: str, data: bytes, **more: object) -> bytes:
    """A line of a request, and the bytes behind it; this is all that a client needs."""
    return json.dumps({"name": name, "body_bytes": len(data), **more}).encode() + b"\n" + data


def send(server: Server, path: str, body: bytes) -> Reply:
    return server.ask("POST", path, body, headers={"Content-Type": MANY_TYPE})


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blobs(bucket: str) -> dict[str, bytes]:
    mark = bucket.encode()
    return {
        "small": mark,
        "empty": b"",
        "é/ü 100%": mark * 1000,
        "large": mark * 300_000,
        "binary": mark + bytes(range(256)) + b'\n{"name":"x","body_bytes":1}\n',
    }


@pytest.fixture
def filled(server: Server, bucket: str) -> dict[str, bytes]:
    """A bucket with a few blobs."""
    made = blobs(bucket)
    with server.connect() as connection:
        for key, data in made.items():
            path = f"/b/{bucket}/" + "".join(f"%{byte:02x}" for byte in key.encode())
            assert connection.ask("PUT", path, data).status == 201
    return made


def test_many_names_come_with_their_bytes(
    server: Server, bucket: str, filled: dict[str, bytes]
) -> None:
    names = [*filled, *reversed(filled), "small"]
    for name, item in zip(names, ask(server, f"/b/{bucket}", "get", names), strict=True):
        assert item.body == filled[name]
        entry = item.line["entry"]
        assert (entry["key"], entry["digest"]) == (name, digest(filled[name]))
        assert set(item.line) == {"name", "body_bytes", "entry"}
    entry = server.ask("GET", f"/b/{bucket}/small/metadata").json()
    for item in ask(server, f"/b/{bucket}", "head", ["small", "small"]):
        assert item == ({"name": "small", "body_bytes": 0, "entry": entry}, b"")


def test_many_digests_come_with_their_bytes(server: Server, filled: dict[str, bytes]) -> None:
    names = [digest(data) for data in filled.values()]
    spelled = [names[0].replace(":", "-"), names[0].removeprefix("sha256:")]
    items = ask(server, "/blobs", "get", [*names, *spelled])
    assert [item.body for item in items[:-2]] == list(filled.values())
    assert {item.body for item in items[-2:]} == {filled["small"]}
    assert items[-1].line["digest"] == names[0]
    for item, data in zip(ask(server, "/blobs", "head", names), filled.values(), strict=True):
        assert item.line == {
            "name": digest(data),
            "body_bytes": 0,
            "digest": digest(data),
            "size_bytes": len(data),
        }


def test_errors_stand_in_their_places(
    server: Server, bucket: str, filled: dict[str, bytes]
) -> None:
    names = ["absent", "small", "", "k" * 1025, "a\nb", "large"]
    for verb in ("get", "head", "delete"):
        items = ask(server, f"/b/{bucket}", verb, names)
        codes = [item.line.get("error", {}).get("code") for item in items]
        missing = None if verb == "delete" else "not_found"
        assert codes == [missing, None, "invalid", "invalid", "invalid", None]
        assert all(item.line["body_bytes"] == 0 for item in items if "error" in item.line)
    absent = digest(b"absent")
    names = [absent, "nonsense", digest(filled["binary"]), "sha256:" + "A" * 64, ""]
    for verb in ("get", "head", "delete"):
        items = ask(server, "/blobs", verb, names)
        codes = [item.line.get("error", {}).get("code") for item in items]
        missing = None if verb == "delete" else "not_found"
        assert codes == [missing, "invalid", None, "invalid", "invalid"]


def test_many_names_are_deleted_at_once(
    server: Server, bucket: str, filled: dict[str, bytes]
) -> None:
    batches = server.metric("holdfast_log_batches")
    items = ask(server, f"/b/{bucket}", "delete", ["small", "absent", "large", "small"])
    assert [item.line["deleted"] for item in items] == [True, False, True, False]
    assert server.metric("holdfast_log_batches") - batches == 1
    assert server.keys(bucket) == sorted(set(filled) - {"small", "large"}, key=str.encode)


def test_the_content_face_lets_go_of_many(server: Server, bucket: str) -> None:
    data = blobs(bucket)["binary"]
    server.ask("PUT", f"/blobs/{digest(data)}", data)
    assert server.ask("PUT", f"/b/{bucket}/also", data).status == 201
    items = ask(server, "/blobs", "delete", [digest(data)] * 2)
    assert [item.line["deleted"] for item in items] == [True, False]
    assert server.ask("GET", f"/blobs/{digest(data)}").body == data
    ask(server, f"/b/{bucket}", "delete", ["also"])
    assert server.ask("GET", f"/blobs/{digest(data)}").status == 404


def test_missing_tells_which_digests_nothing_holds(
    server: Server, bucket: str, filled: dict[str, bytes]
) -> None:
    absent = [digest(b"absent %d" % number) for number in range(3)]
    held = [digest(data) for data in filled.values()]
    asked = [absent[0], *held, absent[1], absent[0], absent[2].replace(":", "-")]
    reply = post(server, "/blobs/missing", {"hashes": asked})
    assert (reply.status, reply.json()) == (200, {"hashes": absent})
    assert post(server, "/blobs/missing", {"hashes": held}).json() == {"hashes": []}
    ask(server, f"/b/{bucket}", "delete", list(filled))
    gone = [name for name in held if name != digest(b"")]  # which other tests hold
    assert post(server, "/blobs/missing", {"hashes": gone}).json() == {"hashes": gone}


def test_nothing_wanted_is_nothing_answered(server: Server, bucket: str) -> None:
    for path in ("/blob", f"/b/{bucket}", "/blobs"):
        for verb in ("get", "head", "delete"):
            assert ask(server, path, verb, []) == []
    assert post(server, "/blobs/missing", {"hashes": []}).json() == {"hashes": []}


# What is brought.


def test_many_are_stored_by_one_request(server: Server, bucket: str) -> None:
    made = blobs(bucket)
    body = b"".join(spell_item(*each) for each in made.items())
    reply = send(server, f"/b/{bucket}", body)
    assert (reply.status, reply.headers["content-type"]) == (200, MANY_TYPE)
    items = parse(reply.body)
    assert [item.line["name"] for item in items] == list(made)
    for item, (name, data) in zip(items, made.items(), strict=True):
        assert set(item.line) == {"name", "body_bytes", "entry"}
        assert (item.line["entry"]["digest"], item.body) == (digest(data), b"")
        assert item.line["entry"]["key"] == name
    assert [item.body for item in ask(server, f"/b/{bucket}", "get", list(made))] == [
        *made.values()
    ]
    assert send(server, f"/b/{bucket}", b"").body == b""


def test_what_is_said_of_each_is_kept(server: Server, bucket: str) -> None:
    about = {"content_type": "text/x", "metadata": {"by": "me"}, "expire_s": 1000}
    body = spell_item("k", b"data", digest=digest(b"data"), **about) + spell_item("k.png", b"?")
    head = {"Content-Type": MANY_TYPE.upper() + "; version=1"}
    assert server.ask("POST", f"/b/{bucket}", body, headers=head).status == 200
    entry = server.ask("GET", f"/b/{bucket}/k/metadata").json()
    assert (entry["content_type"], entry["metadata"]) == ("text/x", {"by": "me"})
    assert entry["expires_at"] is not None
    assert server.ask("HEAD", f"/b/{bucket}/k.png").headers["content-type"] == "image/png"


def test_each_of_many_is_refused_or_stored_by_itself(server: Server, bucket: str) -> None:
    assert server.ask("PUT", f"/b/{bucket}/there", b"old").status == 201
    body = b"".join(
        [
            spell_item("there", b"new", create_only=True),
            spell_item("a\nb", b"x"),
            spell_item("wrong", b"x", digest=digest(b"y")),
            spell_item("long", b"x", metadata={"k": "v" * 100_000}),
            spell_item("twice", b"first"),
            spell_item("twice", b"second"),
            spell_item("soon", b"x", expire_s=0),
        ]
    )
    items = parse(send(server, f"/b/{bucket}", body).body)
    codes = [item.line.get("error", {}).get("code") for item in items]
    refused = ["precondition_failed", "invalid", "digest_mismatch", "invalid"]
    assert codes == [*refused, None, None, "invalid"]
    listed = server.ask("GET", f"/b/{bucket}").json()["entries"]
    assert [entry["key"] for entry in listed] == ["there", "twice"]
    found = ask(server, f"/b/{bucket}", "get", ["there", "twice"])
    assert [item.body for item in found] == [b"old", b"second"]


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (spell_item("b", b"12345")[:-1], "4 bytes behind line 2"),
        (b'{"name":"b","body_bytes":0}', "line 2 has no end"),
        (b'{"name":"b","body_bytes":-1}\n', "line 2"),
        (b'{"name":"b","body_bytes":true}\n', "line 2"),
        (b'{"name":"b"}\n', "line 2"),
        (b'{"name":"b","body_bytes":0,"content-type":"a/b"}\n', "content-type"),
        (b'{"name":"b","body_bytes":0,"digest":"md5"}\n', "digest"),
        (b'{"get":["a"]}\n', "line 2"),
        (b"\n", "line 2"),
        (spell_item("b", b"") * 1000, "1000"),
    ],
)
def test_nothing_is_stored_of_what_cannot_be_read(
    server: Server, bucket: str, end: bytes, says: str
) -> None:
    reply = send(server, f"/b/{bucket}", spell_item("a", b"whole") + end)
    assert reply.status == (413 if says == "1000" else 400)
    assert says in reply.json()["error"]["message"]
    assert server.ask("GET", f"/b/{bucket}").json()["entries"] == []


# What is refused.


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"x", b"[]", b"{}", b'"get"', b"null", b'{"get":{}}', b'{"get":[1]}', b"{"),
        *(b'{"get":"a"}', b'{"get":[],"head":[]}', b'{"get":[],"more":1}', b'{"put":[]}'),
        *(b'{"get":null}', b'{"get":["\xff"]}', b'{"get":["\\ud800"]}', b'{"get":[null]}'),
        *(b'{"hashes":[null]}', b'{"hashes":["nonsense"]}', b'{"hashes":["sha256:"]}', b"\x00"),
        b'{"get":' * 2000,
    ],
)
def test_what_is_no_request_is_refused(server: Server, path: str, body: bytes) -> None:
    reply = server.ask("POST", path, body)
    assert (reply.status, reply.code) == (400, "invalid")


@pytest.mark.parametrize("path", PATHS)
def test_too_many_names_are_refused(server: Server, path: str) -> None:
    member = "hashes" if path.endswith("missing") else "get"
    names = [digest(b"")] * 1001
    reply = post(server, path, {member: names})
    assert (reply.status, reply.code) == (413, "too_large")
    assert reply.json()["error"]["limit"] == 1000
    assert post(server, path, {member: names[1:]}).status == 200


@pytest.mark.parametrize("path", PATHS)
def test_a_long_body_is_refused_and_never_read_to_its_end(server: Server, path: str) -> None:
    bound = 4 * MIB
    with server.connect() as connection:
        head = {"Content-Length": str(1 << 40)}
        connection.send(spell("POST", path, b"", head))
        reply = connection.reply()
        assert (reply.status, reply.code) == (413, "too_large")
        assert reply.json()["error"]["limit"] == bound
        assert reply.json()["error"]["what"] == "body"
    with server.connect() as connection:
        head = {"Transfer-Encoding": "chunked"}
        connection.send(spell("POST", path, b"", head))
        for _ in range(bound // MIB + 1):
            connection.try_send(b"%x\r\n%b\r\n" % (MIB, b" " * MIB))
        assert connection.reply().status == 413
    received = server.metric("holdfast_http_received_bytes_total")
    assert received < 1 << 39


def test_a_body_in_chunks_is_read_too(
    server: Server, bucket: str, filled: dict[str, bytes]
) -> None:
    body = chunked(b'{"get":', b'["small"', b"]}")
    with server.connect() as connection:
        connection.send(spell("POST", f"/b/{bucket}", b"", {"Transfer-Encoding": "chunked"}) + body)
        (item,) = parse(connection.reply().body)
    assert item.body == filled["small"]


def test_many_blobs_are_as_many_bytes_as_a_request_may_have(server: Server, bucket: str) -> None:
    line = len(spell_item("a", bytes(4_000_000))) - 4_000_000
    body = spell_item("a", bytes(4 * MIB - line))
    assert len(body) == 4 * MIB
    assert send(server, f"/b/{bucket}", body).status == 200
    assert send(server, f"/b/{bucket}", body + b" ").status == 413


def test_a_full_request_of_long_keys_fits(server: Server, bucket: str) -> None:
    keys = [f"{number:04}" + "é" * 510 for number in range(1000)]
    items = parse(post(server, f"/b/{bucket}", {"head": keys}).body)
    assert [item.line["error"]["code"] for item in items] == ["not_found"] * 1000


@pytest.mark.parametrize("path", PATHS)
def test_other_things_are_refused_as_everywhere(server: Server, path: str) -> None:
    body = b'{"get":[]}'
    assert server.ask("POST", path + "?x=1", body).code == "invalid"
    assert server.ask("POST", path + "?limit=5", body).code == "invalid"
    assert server.ask("POST", path, body, {"Content-Encoding": "gzip"}).code == "invalid"
    (old,) = server.exchange(
        b"POST %b HTTP/1.0\r\nContent-Length: 10\r\n\r\n" % path.encode() + body
    )
    assert old.code == "invalid"
    for method in ("PUT", "DELETE", "PATCH"):
        reply = server.ask(method, path, body)
        assert (reply.status, reply.code) == (405, "method_not_allowed")
        assert "POST" in reply.headers["allow"]
    assert server.ask("POST", "/b/BAD", body).code == "invalid"
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert server.ask("POST", path, b"--x--\r\n", form).code == "invalid"


# Damage.


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))


def blob_file(server: Server, data: bytes) -> Path:
    name = hashlib.sha256(data).hexdigest()
    return server.data / "files" / name[:2] / f"{name}.blob"


def test_damage_is_an_error_in_its_place(server: Server, bucket: str) -> None:
    made = {key: os.urandom(size) for key, size in (("a", 99), ("b", 3 * MIB), ("c", 500))}
    for key, data in made.items():
        server.ask("PUT", f"/b/{bucket}/{key}", data)
    flip(blob_file(server, made["b"]), 2 * MIB + 5)
    for _ in range(2):
        a, b, c = ask(server, f"/b/{bucket}", "get", list(made))
        assert (a.body, c.body) == (made["a"], made["c"])
        assert b.line["error"]["code"] == "corrupt"
        a, b, c = ask(server, "/blobs", "get", [digest(data) for data in made.values()])
        assert (a.body, c.body) == (made["a"], made["c"])
        assert b.line["error"]["code"] == "corrupt"
    assert (
        '"request.failed"' in server.log.read_text() or "request.failed" in server.log.read_text()
    )


def test_a_damaged_small_blob_is_an_error_in_its_place(servers: Servers, way: str) -> None:
    server = servers.own(hot_path=way)
    made = {key: os.urandom(200) for key in "abc"}
    for key, data in made.items():
        server.ask("PUT", f"/b/x/{key}", data)
    (segment,) = (server.data / "log").glob("*.seg")
    flip(segment, segment.read_bytes().index(made["b"]) + 7)
    a, b, c = ask(server, "/b/x", "get", list(made))
    assert (a.body, c.body) == (made["a"], made["c"])
    assert b.line["error"]["code"] == "corrupt"


def test_damage_deep_in_a_large_blob_cuts_the_connection(server: Server, bucket: str) -> None:
    """What came before is whole and sound, and the body does not end."""
    made = {key: os.urandom(size) for key, size in (("a", 99), ("b", 9 * MIB), ("c", 500))}
    for key, data in made.items():
        server.ask("PUT", f"/b/{bucket}/{key}", data)
    flip(blob_file(server, made["b"]), 8 * MIB + 5)
    with server.connect() as connection:
        connection.send(spell("POST", f"/b/{bucket}", json.dumps({"get": list("abc")}).encode()))
        received = connection.everything()
    assert made["a"] in received
    assert not received.endswith(b"0\r\n\r\n")
    assert made["c"] not in received
    assert made["b"][8 * MIB : 8 * MIB + 4096] not in received


# Memory, and clients that go away.


def test_memory_stays_flat_however_much_is_asked(servers: Servers, way: str) -> None:
    server = servers.own(hot_path=way)
    data = os.urandom(5 * MIB)
    server.ask("PUT", "/blob/k", data)
    post(server, "/blob", {"get": ["k"] * 3})
    server.forget_peak()
    before = server.status("VmRSS")
    received, end = 0, b""
    with server.connect(60) as connection:
        connection.send(spell("POST", "/blob", json.dumps({"get": ["k"] * 50}).encode()))
        while not end.endswith(b"0\r\n\r\n"):
            part = connection.socket.recv(1 << 20)
            assert part
            received += len(part)
            end = (end + part)[-5:]
    assert received > 50 * len(data)
    assert server.status("VmHWM") - before < 40_000


def test_a_client_that_goes_away_costs_nothing(server: Server, bucket: str) -> None:
    data = os.urandom(3 * MIB)
    server.ask("PUT", f"/b/{bucket}/k", data)
    body = json.dumps({"get": ["k"] * 1000}).encode()
    with steady_descriptors(server):
        for _ in range(3):
            with server.connect() as connection:
                connection.send(spell("POST", f"/b/{bucket}", body))
                connection.take(1000)
                connection.reset()
        sent = server.metric("holdfast_http_sent_bytes_total")
        time.sleep(0.3)
        wait_until(
            lambda: server.metric("holdfast_http_sent_bytes_total") - sent < 100 * MIB,
            "the server goes on for nobody",
        )


def test_a_client_that_takes_nothing_is_let_go(servers: Servers, way: str) -> None:
    server = servers.shared(hot_path=way, body_wait_s="1")
    data = os.urandom(3 * MIB)
    server.ask("PUT", "/blob/k", data)
    with steady_descriptors(server), server.connect() as connection:
        connection.send(spell("POST", "/blob", json.dumps({"get": ["k"] * 200}).encode()))
        connection.take(1000)
        time.sleep(2.5)
        received = connection.everything()
        assert len(received) < 100 * MIB
        assert not received.endswith(b"0\r\n\r\n")


def test_the_connection_serves_again_in_order(server: Server, bucket: str) -> None:
    """Where it stays open; on the hot path the app's answers close it."""
    with server.connect() as connection:
        reply = connection.ask("POST", f"/b/{bucket}", b'{"get":["x"]}')
        if not reply.closes:
            assert connection.ask("GET", "/healthz").status == 200
