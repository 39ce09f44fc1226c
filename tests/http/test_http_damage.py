"""Damaged bytes on the disk: an error or a broken connection, never the bytes."""

import hashlib
from pathlib import Path

import pytest
from rawhttp import spell
from serving import Server

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
def test_a_damaged_chunk_of_a_large_blob_is_never_sent(
    server: Server, bucket: str, offset: int
) -> None:
    data = fresh(bucket, 3 * MIB)
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, data)
    flip(blob_file(server, data), offset)
    with server.connect() as connection:
        connection.send(spell("GET", path))
        received = b""
        try:
            reply = connection.reply()
        except (EOFError, ConnectionResetError):
            pass
        else:
            assert reply.code == "corrupt"
            received = reply.body
        assert received != data
    good = (offset // MIB + 1) % 3 * MIB
    sound = server.ask("GET", path, headers={"Range": f"bytes={good}-{good + 99}"})
    assert (sound.status, sound.body) == (206, data[good : good + 100])


def test_what_was_sent_before_the_damage_is_sound(server: Server, bucket: str) -> None:
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
