"""Answers in other codings: who gets which, what its headers say, and what it decodes to."""

import gzip
import hashlib
from io import BytesIO

import httpx
import pytest
import zstandard
from rawhttp import Reply
from serving import Server, Servers

MIB = 1024 * 1024
BROWSER = "gzip, deflate, br, zstd"
NOISE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(20_000))


def text(size_bytes: int) -> bytes:
    return b"".join(b"a line with number %d\n" % n for n in range(size_bytes // 22))


BLOBS = {
    "small": text(5000),
    "middle": text(900_000),
    "large": text(9 * MIB),
    "noise": NOISE,
    "tiny": b"tiny",
}


def decoded(reply: Reply) -> bytes:
    """What the body comes to; read by others' code."""
    coding = reply.headers.get("content-encoding", "identity")
    if coding == "gzip":
        return gzip.decompress(reply.body)
    if coding == "zstd":
        whole = zstandard.ZstdDecompressor().stream_reader(
            BytesIO(reply.body), read_across_frames=True
        )
        return whole.read()
    assert coding == "identity"
    return reply.body


def fill(server: Server) -> Server:
    if server.ask("HEAD", "/b/coded/tiny").status != 200:
        for name, data in BLOBS.items():
            kind = {"Content-Type": "image/jpeg" if name == "noise" else "text/plain"}
            assert server.ask("PUT", f"/b/coded/{name}", data, kind).status == 201
    return server


@pytest.fixture
def stored(servers: Servers, ways: dict[str, str]) -> Server:
    """A server over compressed blobs."""
    return fill(servers.shared(**ways, compress="zstd"))


@pytest.fixture
def making(servers: Servers, ways: dict[str, str]) -> Server:
    """A server that compresses answers, over blobs that are not."""
    return fill(servers.shared(**ways, output_compression="true"))


def get(server: Server, name: str, accepted: str | None, **headers: str) -> Reply:
    asked = dict(headers) if accepted is None else {"Accept-Encoding": accepted, **headers}
    return server.ask("GET", f"/b/coded/{name}", headers=asked)


@pytest.mark.parametrize("name", BLOBS)
def test_who_takes_zstd_gets_what_is_stored(stored: Server, name: str) -> None:
    digest = hashlib.sha256(BLOBS[name]).hexdigest()
    for path in (f"/b/coded/{name}", f"/blobs/sha256-{digest}"):
        for _ in range(2):
            reply = stored.ask("GET", path, headers={"Accept-Encoding": BROWSER})
            assert reply.status == 200
            assert decoded(reply) == BLOBS[name]
            assert "accept-encoding" in reply.headers["vary"]
            if name in {"noise", "tiny"}:
                assert "content-encoding" not in reply.headers
                assert reply.headers["etag"] == f'"{digest}"'
                continue
            assert reply.headers["content-encoding"] == "zstd"
            assert reply.headers["etag"] == f'"{digest}-zstd"'
            assert "repr-digest" not in reply.headers
            assert len(reply.body) < len(BLOBS[name]) // 3
            assert reply.headers["content-type"] == "text/plain"


@pytest.mark.parametrize("name", BLOBS)
@pytest.mark.parametrize(
    "accepted", [None, "", "identity", "br", "gzip", "zstd;q=0", "*;q=0", "zstd;q=2", "zstd;x=1"]
)
def test_who_does_not_gets_the_blob(stored: Server, name: str, accepted: str | None) -> None:
    reply = get(stored, name, accepted)
    assert reply.body == BLOBS[name]
    assert "content-encoding" not in reply.headers
    assert reply.headers["etag"] == f'"{hashlib.sha256(BLOBS[name]).hexdigest()}"'
    assert "accept-encoding" in reply.headers["vary"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        *(("zstd", "zstd"), ("gzip", "gzip"), ("x-gzip", "gzip"), (BROWSER, "zstd")),
        *(("gzip;q=1, zstd;q=0.5", "gzip"), ("gzip;q=0.5, zstd;q=0.51", "zstd")),
        *(("*", "zstd"), ("*;q=0.1, gzip", "gzip"), ("zstd;q=0, *", "gzip"), ("ZSTD", "zstd")),
        *(("identity, gzip;q=0.9", ""), ("gzip;q=0", ""), ("identity;q=0", ""), ("br", "")),
        *(("gzip;q=0.001", "gzip"), ("gzip;q=1.001", ""), ("gzip;q=-1", ""), ("gzip;q=", "")),
        *((",,gzip;q=1.0,,", "gzip"), ("gzip ; q=0.8", "gzip"), ("a" * 5000 + ",gzip", "")),
    ],
)
def test_the_coding_that_is_liked_best_is_made(making: Server, accepted: str, coding: str) -> None:
    reply = get(making, "small", accepted)
    assert reply.status == 200
    assert reply.headers.get("content-encoding", "") == coding
    assert decoded(reply) == BLOBS["small"]
    digest = hashlib.sha256(BLOBS["small"]).hexdigest()
    assert reply.headers["etag"] == f'"{digest}-{coding}"' if coding else f'"{digest}"'
    assert "accept-encoding" in reply.headers["vary"]


@pytest.mark.parametrize("name", ["noise", "tiny", "large"])
def test_what_gains_nothing_or_is_large_is_sent_as_it_is(making: Server, name: str) -> None:
    reply = get(making, name, BROWSER)
    assert "content-encoding" not in reply.headers
    assert reply.body == BLOBS[name]


def test_one_client_after_another_gets_its_own_form(making: Server) -> None:
    """Also those that repeat a request that was answered before."""
    for _ in range(3):
        for accepted, coding in (("gzip", "gzip"), (None, None), ("zstd", "zstd"), ("br", None)):
            reply = get(making, "small", accepted)
            assert reply.headers.get("content-encoding") == coding
            assert decoded(reply) == BLOBS["small"]


@pytest.mark.parametrize("name", ["small", "middle", "large"])
def test_ranges_are_of_the_blob_itself(stored: Server, name: str) -> None:
    data = BLOBS[name]
    digest = hashlib.sha256(data).hexdigest()
    reply = get(stored, name, BROWSER, Range="bytes=1000-2999")
    assert (reply.status, reply.body) == (206, data[1000:3000])
    assert reply.headers["etag"] == f'"{digest}"'
    assert "content-encoding" not in reply.headers
    whole = get(stored, name, BROWSER, Range="bytes=5-9", **{"If-Range": f'"{digest}-zstd"'})
    assert (whole.status, whole.body) == (200, data)
    part = get(stored, name, BROWSER, Range="bytes=5-9", **{"If-Range": f'"{digest}"'})
    assert (part.status, part.body) == (206, data[5:10])
    behind = get(stored, name, BROWSER, Range=f"bytes={len(data)}-")
    assert behind.status == 416


def test_each_form_is_revalidated_by_its_own_tag(stored: Server) -> None:
    digest = hashlib.sha256(BLOBS["small"]).hexdigest()
    for accepted, tag in ((BROWSER, f'"{digest}-zstd"'), (None, f'"{digest}"')):
        same = get(stored, "small", accepted, **{"If-None-Match": tag})
        assert (same.status, same.headers["etag"]) == (304, tag)
        assert "accept-encoding" in same.headers["vary"]
        other = get(stored, "small", accepted, **{"If-None-Match": f'"{digest}-gzip"'})
        assert other.status == 200
        failed = get(stored, "small", accepted, **{"If-Match": '"another"'})
        assert failed.status == 412


def test_head_says_what_get_would(stored: Server, making: Server) -> None:
    for server, accepted in ((stored, BROWSER), (stored, None), (making, "gzip"), (making, None)):
        asked = {} if accepted is None else {"Accept-Encoding": accepted}
        head = server.ask("HEAD", "/b/coded/small", headers=asked)
        full = server.ask("GET", "/b/coded/small", headers=asked)
        assert head.status == 200
        for name in ("etag", "content-encoding", "vary", "content-type", "last-modified"):
            assert head.headers.get(name) == full.headers.get(name)
        if "content-length" in head.headers:
            assert head.headers["content-length"] == full.headers["content-length"]


def test_a_write_takes_the_tag_of_any_form(stored: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    stored.ask("PUT", path, text(5000))
    tag = stored.ask("GET", path, headers={"Accept-Encoding": "zstd"}).headers["etag"]
    assert tag.endswith('-zstd"')
    assert stored.ask("PUT", path, text(6000), {"If-Match": tag}).status == 200
    assert stored.ask("PUT", path, text(7000), {"If-Match": tag}).status == 412
    new = stored.ask("GET", path, headers={"Accept-Encoding": "zstd"}).headers["etag"]
    assert stored.ask("DELETE", path, headers={"If-Match": new}).status == 204


@pytest.mark.parametrize("name", BLOBS)
def test_a_client_of_others_decodes_it(stored: Server, making: Server, name: str) -> None:
    for server in (stored, making):
        reply = httpx.get(f"{server.url}/b/coded/{name}", headers={"Accept-Encoding": "zstd, gzip"})
        assert reply.content == BLOBS[name]


def test_without_either_nothing_is_negotiated(servers: Servers, ways: dict[str, str]) -> None:
    server = fill(servers.shared(**ways))
    reply = get(server, "small", BROWSER)
    assert "vary" not in reply.headers
    assert "content-encoding" not in reply.headers
    assert reply.body == BLOBS["small"]
