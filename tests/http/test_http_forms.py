"""Paths of encoded blobs, answered at once: each client in its own form, and never in another."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from rawhttp import Reply
from serving import Server, Servers

from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError
from holdfast.core.limits import KIB
from holdfast.core.seams import SystemEntropy
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.http import route
from holdfast.http.message import Request
from holdfast.http.site import Site
from holdfast.stores.compressed import train

MASTER = bytes(range(32))
TEXT = b"".join(b"this is line %d of a text\n" % number for number in range(80))
LONG = TEXT * 300  # of several frames, and in the log all the same where it is compressed
NOISE = SystemEntropy().random_bytes(2 * KIB)
SAMPLES = [TEXT[:200] + b"%d" % number for number in range(900)]
STACKS = {
    "compressed": Stack(compress=True),
    "encrypted": Stack(master=MASTER),
    "both": Stack(compress=True, master=MASTER),
    "dictionary": Stack(compress=True, dictionary=train(SAMPLES, 1024, 3)),
}
ROOM = memoryview(bytearray(512 * KIB))
BROWSER, PLAIN, OTHER = "gzip, deflate, br, zstd", "", "gzip;q=0.5"


@pytest.fixture(params=STACKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def depot(tmp_path: Path, name: str) -> Iterator[Depot]:
    with open_depot(tmp_path, Limits(stack=STACKS[name])) as depot:
        for key, data in {"text": TEXT, "noise": NOISE, "empty": b""}.items():
            depot.put(key, data)
            assert depot.get(key) == data
        yield depot


def read(depot: Depot, data: bytes, coding: str = "") -> bytes | None:
    """What a spot gives of a blob in a segment that is open, twice the same."""
    assert depot.content.get(Digest.of(data)) == data
    spot = depot.engine.spot(Digest.of(data), coding)
    assert spot is not None
    first, second = (None if (view := spot.read(ROOM)) is None else bytes(view) for _ in range(2))
    assert first == second
    return first


def test_a_spot_decodes_what_is_stored(depot: Depot) -> None:
    for data in (TEXT, NOISE, b""):
        assert read(depot, data) == data
    assert depot.engine.spot(Digest.of(b"nowhere")) is None


def test_a_spot_decodes_every_frame(depot: Depot, name: str) -> None:
    depot.put("long", LONG)
    if name == "encrypted":
        assert depot.engine.spot(Digest.of(LONG)) is None
    else:
        assert read(depot, LONG) == LONG


def test_a_spot_gives_what_is_stored_to_who_can_decode_it(depot: Depot, name: str) -> None:
    if name == "encrypted":
        return
    assert read(depot, NOISE, "zstd") is None
    stored = read(depot, TEXT, "zstd")
    if name == "dictionary":
        assert stored is None
        return
    assert stored is not None
    assert (
        zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(stored)
        == TEXT
    )


def test_what_was_answered_is_known_by_what_the_client_takes(depot: Depot) -> None:
    site = Site(depot)
    bodies: dict[tuple[str, str], bytes] = {}
    for accepted in (BROWSER, PLAIN, OTHER) * 2:
        headers = {b"accept-encoding": accepted.encode()} if accepted else {}
        for key in ("text", "noise"):
            path = b"/blob/" + key.encode()
            request = Request("GET", path, b"", headers, "")
            answer = site.read_now(request, route.resolve("GET", path), keep=True)
            assert answer is not None
            known = site.recent.find(site.mark(path, headers), path + accepted.encode())
            assert known is not None
            for _ in range(3):
                assert bytes(site.recent.body(known) or b"") == answer.body
            assert bodies.setdefault((key, accepted), answer.body) == answer.body
            assert (b"content-encoding: zstd" in known.head) == (answer.coding == "zstd")
    assert bodies["noise", BROWSER] == bodies["noise", PLAIN] == NOISE
    assert bodies["text", PLAIN] == bodies["text", OTHER] == TEXT


def test_another_form_in_the_same_place_is_left_to_the_long_way(tmp_path: Path) -> None:
    """As of a blob that was removed, and stored again by another dictionary."""
    with open_depot(tmp_path, Limits(stack=STACKS["compressed"])) as depot:
        depot.put("text", TEXT)
        site, path = Site(depot), b"/blob/text"
        request = Request("GET", path, b"", {b"accept-encoding": b"zstd"}, "")
        assert site.read_now(request, route.resolve("GET", path), keep=True) is not None
        known = site.recent.find(site.mark(path, request.headers), b"head")
        assert known is not None
        assert site.recent.body(known) is not None
        known.body_bytes += 1
        assert site.recent.body(known) is None


def test_no_flipped_bit_is_given_out(tmp_path: Path, name: str) -> None:
    bounds = Limits(stack=STACKS[name])
    with open_depot(tmp_path, bounds) as depot:
        depot.put("text", TEXT)
    (segment,) = (tmp_path / "log").glob("*.seg")
    sound = segment.read_bytes()
    with open_depot(tmp_path, bounds) as depot:
        forms = {"": TEXT}
        if name in {"compressed", "both"}:
            forms["zstd"] = read(depot, TEXT, "zstd") or b""
        for at in range(64, len(sound.rstrip(b"\0")), 29):
            segment.write_bytes(sound[:at] + bytes((sound[at] ^ 16,)) + sound[at + 1 :])
            for coding, form in forms.items():
                assert given(depot, coding) in {None, form}
        segment.write_bytes(sound)
        assert read(depot, TEXT) == TEXT


def given(depot: Depot, coding: str) -> bytes | None:
    spot = depot.engine.spot(Digest.of(TEXT), coding)
    assert spot is not None
    try:
        found = spot.read(ROOM)
    except BlobError:
        return None
    return None if found is None else bytes(found)


@pytest.fixture
def server(servers: Servers, ways: dict[str, str]) -> Server:
    server = servers.shared(**ways, compress="zstd")
    for key, data in {"text": TEXT, "noise": NOISE}.items():
        assert server.ask("PUT", f"/b/forms/{key}", data).status in {200, 201}
    return server


def decoded(reply: Reply) -> bytes:
    if "content-encoding" not in reply.headers:
        return reply.body
    assert reply.headers["content-encoding"] == "zstd"
    return (
        zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(reply.body)
    )


def test_clients_that_take_turns_get_each_their_own_form(server: Server) -> None:
    for _ in range(4):
        for accepted in (BROWSER, PLAIN, OTHER, "zstd;q=0"):
            for key, data in {"text": TEXT, "noise": NOISE}.items():
                headers = {"Accept-Encoding": accepted} if accepted else {}
                reply = server.ask("GET", f"/b/forms/{key}", headers=headers)
                assert decoded(reply) == data
                is_coded = key == "text" and accepted == BROWSER
                assert ("content-encoding" in reply.headers) == is_coded
                assert reply.headers["vary"].lower() == "accept-encoding"
