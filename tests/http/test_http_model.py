"""Long random conversations, sent in random pieces, against an oracle that is a dictionary."""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from rawhttp import chunked, spell
from serving import Server

MIB = 1024 * 1024
STEPS = 150
SIZES = (0, 1, 100, 5000, 256 * 1024, 256 * 1024 + 1, MIB, 2 * MIB + 3)


class Step(NamedTuple):
    """One request and what must come back; a body of None is not looked at."""

    raw: bytes
    method: str
    status: int
    body: bytes | None = None


class Oracle:
    """Makes requests and knows their answers."""

    def __init__(self, random: random.Random, bucket: str, *, pipelined: bool) -> None:
        self._random = random
        self._bucket = bucket
        self._blobs: dict[str, bytes] = {}
        self._pipelined = pipelined

    def steps(self) -> Iterator[Step]:
        makers: list[Callable[[str], Step]] = [
            *[self._get] * 8,
            *[self._put] * 5,
            *[self._range] * 3,
            self._head,
            self._delete,
            self._copy,
            self._create_only,
            self._listing,
            self._nonsense,
        ]
        if not self._pipelined:
            makers += [self._put_chunks, self._put_form]
        for _ in range(STEPS):
            yield self._random.choice(makers)(f"k{self._random.randrange(6)}")

    def _path(self, key: str) -> str:
        return f"/b/{self._bucket}/{key}"

    def _body(self) -> bytes:
        size = self._random.choice(SIZES)
        return self._random.randbytes(1000) * (size // 1000) + bytes(size % 1000)

    def _get(self, key: str) -> Step:
        found = self._blobs.get(key)
        return Step(spell("GET", self._path(key)), "GET", 404 if found is None else 200, found)

    def _head(self, key: str) -> Step:
        status = 200 if key in self._blobs else 404
        return Step(spell("HEAD", self._path(key)), "HEAD", status, b"")

    def _put(self, key: str) -> Step:
        return self._stored(key, lambda body: spell("PUT", self._path(key), body))

    def _put_chunks(self, key: str) -> Step:
        headers = {"Transfer-Encoding": "chunked"}
        return self._stored(key, lambda b: spell("PUT", self._path(key), chunks(b), headers))

    def _put_form(self, key: str) -> Step:
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        head = b'--edge\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
        path = self._path(key)
        return self._stored(
            key, lambda b: spell("POST", path, head + b + b"\r\n--edge--\r\n", headers)
        )

    def _stored(self, key: str, make: Callable[[bytes], bytes]) -> Step:
        body = self._body()
        status = 200 if key in self._blobs else 201
        self._blobs[key] = body
        return Step(make(body), "PUT", status)

    def _create_only(self, key: str) -> Step:
        raw = spell("PUT", self._path(key), b"new", {"If-None-Match": "*"})
        if key in self._blobs:
            return Step(raw, "PUT", 412)
        self._blobs[key] = b"new"
        return Step(raw, "PUT", 201)

    def _range(self, key: str) -> Step:
        start = self._random.randrange(300_000)
        end = start + self._random.randrange(1, MIB)
        raw = spell("GET", self._path(key), headers={"Range": f"bytes={start}-{end - 1}"})
        found = self._blobs.get(key)
        if found is None:
            return Step(raw, "GET", 404)
        if not found:
            return Step(raw, "GET", 200, b"")
        return (
            Step(raw, "GET", 206, found[start:end]) if start < len(found) else Step(raw, "GET", 416)
        )

    def _delete(self, key: str) -> Step:
        self._blobs.pop(key, None)
        return Step(spell("DELETE", self._path(key)), "DELETE", 204, b"")

    def _copy(self, key: str) -> Step:
        source = f"k{self._random.randrange(6)}"
        headers = {"Holdfast-Copy-From": f"{self._bucket}/{source}"}
        raw = spell("PUT", self._path(key), headers=headers)
        if source not in self._blobs:
            return Step(raw, "PUT", 404)
        status = 200 if key in self._blobs else 201
        self._blobs[key] = self._blobs[source]
        return Step(raw, "PUT", status)

    def _listing(self, key: str) -> Step:
        del key
        return Step(spell("GET", f"/b/{self._bucket}"), "GET", 200)

    def _nonsense(self, key: str) -> Step:
        return Step(spell("GET", self._path(key) + "?x=1"), "GET", 400)


def chunks(body: bytes) -> bytes:
    return chunked(*(body[at : at + 70_000] for at in range(0, len(body), 70_000)))


@pytest.mark.parametrize("number", range(3))
def test_a_pipelined_conversation_is_answered_as_the_oracle_says(
    server: Server, bucket: str, number: int
) -> None:
    """Pieces go out while answers come in, so that neither side waits for the other."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    steps = list(Oracle(chance, bucket, pipelined=True).steps())
    print("seed", seed, number)  # noqa: T201 - shown when the test fails
    with server.connect(30) as connection:
        sender = connection.send_in_pieces(b"".join(step.raw for step in steps), chance)
        for at, step in enumerate(steps):
            reply = connection.reply(step.method)
            assert reply.status == step.status, (at, step.raw[:100])
            assert step.body is None or reply.body == step.body, (at, step.raw[:100])
        sender.join()


@pytest.mark.parametrize("number", range(2))
def test_a_conversation_of_all_kinds_is_answered_as_the_oracle_says(
    server: Server, bucket: str, number: int
) -> None:
    """Chunks and forms too; behind an answer that closes, the next request has a new connection."""
    seed = random.randrange(1 << 32)
    print("seed", seed, number)  # noqa: T201 - shown when the test fails
    connection = server.connect(30)
    for at, step in enumerate(Oracle(random.Random(seed), bucket, pipelined=False).steps()):
        connection.send(step.raw)
        reply = connection.reply(step.method)
        assert reply.status == step.status, (at, step.raw[:100])
        assert step.body is None or reply.body == step.body, (at, step.raw[:100])
        if reply.closes:
            connection.close()
            connection = server.connect(30)
    connection.close()
