"""Requests with random damage: an answer or a closed connection, and never a defect of ours."""

import random
import re

from rawhttp import chunked, spell
from serving import Server

COUNT = 400
FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
FORM_BODY = (
    b'--edge\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n'
    b"Content-Type: text/plain\r\n\r\nhello\r\n--edge--\r\n"
)
WORDS = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b":",
    b" ",
    b"%",
    b"%00",
    b"\xff",
    b"9" * 20,
    b"chunked",
]
WORDS += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"/",
    b"?",
    b"#",
    b'"',
    b"-1",
]
ANSWER = re.compile(rb"(HTTP/1\.1 [1-5][0-9][0-9] |\Z)")


def seeds(bucket: str) -> list[bytes]:
    path = f"/b/{bucket}/k"
    chunks = {"Transfer-Encoding": "chunked"}
    return [
        spell("PUT", path, b"hello", {"Content-Type": "text/plain", "Holdfast-Meta-A": "b"}),
        spell(
            "PUT",
            path,
            b"hello",
            {"Digest": "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="},
        ),
        spell("PUT", path, chunked(b"hell", b"o"), chunks),
        spell("POST", path, FORM_BODY, FORM),
        spell("PUT", path, headers={"Holdfast-Copy-From": f"{bucket}/k"}),
        spell("GET", path, headers={"Range": "bytes=0-1,3-4", "If-Range": '"x"'}),
        spell("GET", path, headers={"If-None-Match": '"x", W/"y"', "If-Modified-Since": "x"}),
        spell("GET", f"/b/{bucket}?prefix=a&delimiter=/&limit=5&cursor=AAAA"),
        spell("PUT", "/blobs/" + "0" * 64, b"hello"),
        spell("GET", "/blobs/bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"),
        spell("DELETE", path, headers={"If-Match": "*"}),
        spell("HEAD", path) + spell("GET", "/healthz"),
        spell(
            "OPTIONS", path, headers={"Origin": "http://a", "Access-Control-Request-Method": "PUT"}
        ),
    ]


def damaged(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.randrange(1, 12))
        word = chance.choice([b"", chance.choice(WORDS), chance.randbytes(3), data[at:end] * 2])
        data = data[:at] + word + data[chance.choice([at, end]) :]
    return data


def test_damaged_requests_are_answered_or_refused(server: Server, bucket: str) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    requests = seeds(bucket)
    for _ in range(COUNT):
        raw = damaged(chance.choice(requests), chance)
        with server.connect(5) as connection:
            connection.try_send(raw)
            connection.try_finish()
            received = connection.everything()
        assert ANSWER.match(received), raw
        assert b"an internal error" not in received, raw
    assert server.ask("GET", "/healthz").status == 200
    assert server.log.read_text().count("defect") == 0
