"""Damaged bytes on the disk: an error or a broken connection, never the bytes."""

import hashlib
import os
from pathlib import Path

import pytest
from rawhttp import spell
from serving import Server, Servers

MIB = 1024 * 1024


def fresh(bucket: str, size: int) -> bytes:
    return (bucket.encode() * (size // len(bucket) + 1))[:size]


def blob_file(server: Server, data: bytes) -> Path:
    name = hashlib.sha256(data).hexdigest()
    return server.data / "files" / name[:2] / f"{name}.blob"


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))


@pytest.mark.parametrize("offset", [0, MIB + 5, 3 * MIB - 1])
def test_damage_in_the_first_window_is_an_error(server: Server, bucket: str, offset: int) -> None:
    data = fresh(bucket, 3 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    flip(blob_file(server, data), offset)
    with server.connect() as connection:
        for _ in range(2):
            reply = connection.ask("GET", path)
            assert (reply.status, reply.code) == (500, "corrupt")
        good = (offset // MIB + 1) % 3 * MIB
        sound = connection.ask("GET", path, headers={"Range": f"bytes={good}-{good + 99}"})
        assert (sound.status, sound.body) == (206, data[good : good + 100])


@pytest.mark.parametrize("spelled", ["{at}-{at}", "{at}-", "-1", "{at}-{at},0-0"])
def test_damage_that_a_range_begins_with_is_an_error(
    server: Server, bucket: str, spelled: str
) -> None:
    data = fresh(bucket, 9 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    flip(blob_file(server, data), 8 * MIB + 1)
    wanted = spelled.format(at=8 * MIB + 9)
    reply = server.ask("GET", path, headers={"Range": f"bytes={wanted}"})
    assert (reply.status, reply.code) == (500, "corrupt")


def test_damage_in_a_later_range_cuts_the_connection(server: Server, bucket: str) -> None:
    data = fresh(bucket, 9 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    flip(blob_file(server, data), 8 * MIB + 1)
    with server.connect() as connection:
        connection.send(spell("GET", path, headers={"Range": f"bytes=0-9,{8 * MIB}-"}))
        received = connection.everything()
    assert received.startswith(b"HTTP/1.1 206")
    assert data[:10] in received
    assert not received.endswith(b"--\r\n")


def test_damage_behind_the_first_window_cuts_the_connection(server: Server, bucket: str) -> None:
    """What was sent before is sound, and the body is shorter than was said."""
    data = fresh(bucket, 9 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    flip(blob_file(server, data), 8 * MIB + 1)
    with server.connect() as connection:
        connection.send(spell("GET", path))
        received = connection.everything()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) < len(data)
    assert data.startswith(body)


@pytest.mark.parametrize("behind", [{}, {"engine": "sqlite"}], ids=["files", "rows"])
def test_damage_of_one_of_two_copies_is_not_seen(
    servers: Servers, ways: dict[str, str], tmp_path: Path, behind: dict[str, str]
) -> None:
    """Behind the first window of a file in a cache; the rest comes from the store, file or not."""
    server = servers.own(**ways, **behind, cache="100MiB", cache_dir=str(tmp_path / "cache"))
    data = fresh("cached", 9 * MIB)
    server.ask("PUT", "/blob/k", data)
    assert server.ask("GET", "/blob/k").body == data
    flip(next((tmp_path / "cache").rglob("*.blob")), 8 * MIB + 1)
    assert server.ask("GET", "/blob/k").body == data
    assert "copy.damaged" in server.log.read_text()


def test_a_file_cut_between_two_downloads_is_damaged(server: Server, bucket: str) -> None:
    """It was verified a moment ago, is open, and its page of memory is gone."""
    data = fresh(bucket, 3 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    assert server.ask("GET", path).body == data
    os.truncate(blob_file(server, data), 2 * MIB)
    reply = server.ask("GET", path)
    assert (reply.status, reply.code) == (500, "corrupt")
    assert server.ask("GET", path, headers={"Range": "bytes=5-9"}).body == data[5:10]


def test_a_lost_file_is_said(server: Server, bucket: str) -> None:
    data = fresh(bucket, MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    blob_file(server, data).unlink()
    reply = server.ask("GET", path)
    assert (reply.status, reply.code) == (500, "corrupt")
    assert server.ask("HEAD", path).status in {200, 500}
    assert server.ask("PUT", path, data).status == 200, "a new upload brings the bytes back"
    assert server.ask("GET", path).body == data
