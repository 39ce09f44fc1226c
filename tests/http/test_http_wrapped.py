"""Servers over stores with wrappers: every way to read gives the bytes that were stored."""

import hashlib
import json
from pathlib import Path

import pytest
from serving import Server, Servers

MIB = 1024 * 1024
KEY = "7e" * 32
STACKS = {
    "compressed": {"compress": "zstd"},
    "encrypted": {"encrypt": "file:"},
    "both": {"compress": "zstd", "encrypt": "file:"},
}


def numbers(size_bytes: int) -> bytes:
    return b"".join(b"%07d\n" % n for n in range(size_bytes // 8 + 1))[:size_bytes]


NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(3 * MIB // 32))
BLOBS = {
    "empty": b"",
    "small": numbers(1000),
    "middle": numbers(200_000),
    "large": numbers(5 * MIB + 3),
    "little-noise": NOISE[:5000],
    "noise": NOISE,
}


@pytest.fixture(params=STACKS)
def wrapped(
    request: pytest.FixtureRequest,
    servers: Servers,
    ways: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    settings = dict(STACKS[request.param])
    if "encrypt" in settings:
        file = Path(tmp_path_factory.getbasetemp()) / "master-key"
        file.write_text(KEY)
        settings["encrypt"] += str(file)
    server = servers.shared(**ways, **settings)
    if server.ask("HEAD", "/b/wrapped/noise").status != 200:
        for name, data in BLOBS.items():
            assert server.ask("PUT", f"/b/wrapped/{name}", data).status == 201
    return server


@pytest.mark.parametrize("name", BLOBS)
def test_a_get_gives_what_was_put(wrapped: Server, name: str) -> None:
    data = BLOBS[name]
    digest = hashlib.sha256(data).hexdigest()
    with wrapped.connect() as connection:
        for path in (f"/b/wrapped/{name}", f"/b/wrapped/{name}", f"/blobs/sha256-{digest}"):
            reply = connection.ask("GET", path)
            assert reply.status == 200
            assert reply.body == data
            assert reply.headers["etag"] == f'"{digest}"'
            head = connection.ask("HEAD", path)
            assert head.headers["content-length"] == str(len(data))
            assert head.body == b""
        unchanged = {"If-None-Match": f'"{digest}"'}
        assert connection.ask("GET", f"/b/wrapped/{name}", headers=unchanged).status == 304


@pytest.mark.parametrize("name", [name for name in BLOBS if name != "empty"])
def test_a_range_is_a_part(wrapped: Server, name: str) -> None:
    data = BLOBS[name]
    middle = len(data) // 2
    spans = [(0, 0), (0, len(data) - 1), (middle, middle + 300), (len(data) - 1, len(data) - 1)]
    spans += [(max(0, middle - 262_144), middle)]
    with wrapped.connect() as connection:
        for first, last in spans:
            asked = {"Range": f"bytes={first}-{last}"}
            reply = connection.ask("GET", f"/b/wrapped/{name}", headers=asked)
            assert reply.status == 206
            assert reply.body == data[first : last + 1]
        several = {"Range": f"bytes=0-9,{middle}-{middle + 9}"}
        reply = connection.ask("GET", f"/b/wrapped/{name}", headers=several)
        assert reply.status == 206
        assert data[:10] in reply.body
        assert data[middle : middle + 10] in reply.body
        behind = {"Range": f"bytes={len(data)}-"}
        assert connection.ask("GET", f"/b/wrapped/{name}", headers=behind).status == 416


def test_many_come_in_one_answer(wrapped: Server) -> None:
    names = [*BLOBS, "missing", "small"]
    reply = wrapped.ask("POST", "/b/wrapped", json.dumps({"get": names}).encode())
    rest = reply.body
    for name in names:
        line, _, rest = rest.partition(b"\n")
        size_bytes = json.loads(line)["body_bytes"]
        body, rest = rest[:size_bytes], rest[size_bytes:]
        assert body == BLOBS[name] if name in BLOBS else b"not_found" in line
    assert rest == b""


def test_what_is_stored_is_damaged_in_the_middle(wrapped: Server, bucket: str) -> None:
    """A frame of a file: an error before the first byte, or a connection that is cut."""
    data = numbers(9 * MIB)
    path = f"/b/{bucket}/large"
    assert wrapped.ask("PUT", path, data).status == 201
    before = {file: file.stat().st_mtime_ns for file in wrapped.data.rglob("*.blob")}
    file = max(before, key=lambda each: before[each])
    sound = file.read_bytes()
    for place in (len(sound) // 2, 100):
        file.write_bytes(sound[:place] + bytes((sound[place] ^ 1,)) + sound[place + 1 :])
        with wrapped.connect() as connection:
            connection.send(
                b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            received = connection.rest()
        assert data not in received
        head, _, body = received.partition(b"\r\n\r\n")
        assert b" 500 " in head.split(b"\r\n")[0] or data.startswith(body)
    file.write_bytes(sound)
    assert wrapped.ask("GET", path).body == data
    assert wrapped.ask("DELETE", path).status == 204
