"""Names in every place of HTTP where one can stand, however they are spelled."""

import itertools
from urllib.parse import quote

import msgspec
import pytest
from serving import Server

PLACES = {
    "put": ("PUT", "/b/{bucket}/{key}"),
    "post": ("POST", "/b/{bucket}/{key}"),
    "get": ("GET", "/b/{bucket}/{key}"),
    "head": ("HEAD", "/b/{bucket}/{key}"),
    "version": ("GET", "/b/{bucket}/{key}?version=0"),
    "metadata": ("GET", "/b/{bucket}/{key}/metadata"),
    "delete": ("DELETE", "/b/{bucket}/{key}"),
    "undelete": ("POST", "/undelete/{bucket}/{key}"),
    "versions": ("GET", "/versions/{bucket}/{key}"),
    "restore": ("POST", "/restore/{bucket}/{key}?version=0"),
}
SPELLED = {
    "a control": "a%00b",
    "a line": "a%0D%0AX:%20y",
    "the last control": "%7F",
    "a slash in two bytes": "%C0%AF",
    "a surrogate": "%ED%A0%80",
    "no UTF-8": "%FF",
    "half a character": "%C3",
    "too far": "%F4%90%80%80",
    "no digits": "%zz",
    "one digit": "a%2",
    "a percent": "100%",
    "of scripts": "%u0041",
    "too long": "k" * 1025,
    "10 kB": "k" * 10_000,
    "too long in UTF-8": "%C3%A9" * 513,
}


@pytest.mark.parametrize("spelled", SPELLED.values(), ids=SPELLED)
def test_what_is_no_name_is_refused_in_every_place(
    server: Server, bucket: str, spelled: str
) -> None:
    for name, (method, path) in PLACES.items():
        reply = server.ask(method, path.format(bucket=bucket, key=spelled))
        assert reply.status == 400, name
        assert method == "HEAD" or reply.code == "invalid", name
    for header, target in itertools.product(
        ("Holdfast-Copy-From", "Holdfast-Move-From"), ("to", spelled)
    ):
        headers = {header: f"{bucket}/{spelled if target == 'to' else 'from'}"}
        reply = server.ask("PUT", f"/b/{bucket}/{target}", headers=headers)
        assert (reply.status, reply.code) == (400, "invalid"), header
    assert server.keys(bucket) == []


@pytest.mark.parametrize("spelled", ["a%00b", "%FF", "%zz", "%ED%A0%80"])
def test_a_beginning_that_is_none_is_refused_or_finds_nothing(
    server: Server, bucket: str, spelled: str
) -> None:
    for path in (f"/b/{bucket}", f"/deleted/{bucket}", "/events"):
        reply = server.ask("GET", f"{path}?prefix={spelled}&limit=1")
        if path == "/events":
            reply = server.ask("GET", f"{path}?from=now&prefix={spelled}")
        if spelled == "a%00b":
            assert reply.status == 200
        else:
            assert (reply.status, reply.code) == (400, "invalid")


def test_the_longest_name_fits_and_a_head_that_is_too_long_is_said(
    server: Server, bucket: str
) -> None:
    key = "\u00e9" * 512
    assert server.ask("PUT", f"/b/{bucket}/{quote(key)}", b"x").json()["key"] == key
    reply = server.ask("PUT", f"/b/{bucket}/{'k' * 40_000}", b"x")
    assert (reply.status, reply.code) == (431, "head_too_large")
    assert server.keys(bucket) == [key]


def test_every_spelling_of_a_name_is_that_name(server: Server, bucket: str) -> None:
    spellings = ["a/%2E%2E/b c", "%61/../b%20c", "a%2F..%2Fb%20c", "a/%2e./b%20%63"]
    for number, spelled in enumerate(one.replace(" ", "%20") for one in spellings):
        entry = server.ask("PUT", f"/b/{bucket}/{spelled}", b"%d" % number).json()
        assert (entry["key"], entry["version"]) == ("a/../b c", number)
    assert server.ask("GET", f"/b/{bucket}/a+b").status == 404  # a plus is a plus in a path
    assert server.keys(bucket) == ["a/../b c"]


@pytest.mark.parametrize("name", ["\x00", "a\nb", "\x7f", "k" * 1025, "k" * 10_000, ""])
def test_one_that_is_no_name_among_many_is_said_in_its_place(
    server: Server, bucket: str, name: str
) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"x")
    for verb in ("get", "head", "delete"):
        reply = server.ask("POST", f"/b/{bucket}", msgspec.json.encode({verb: [name, "k"]}))
        assert reply.status == 200
        first, rest = reply.body.split(b"\n", 1)
        assert msgspec.json.decode(first)["error"]["code"] == "invalid"
        assert b'"error"' not in rest
    reply = server.ask("POST", f"/b/{bucket}", b'{"get":["\\ud800"]}')
    assert reply.status == 400


@pytest.mark.parametrize(
    "name",
    ["A", "%00", "..", "a%2Fb", "%C3%A9", "a%20b", "x" * 64, "x" * 10_000, "a~", "~a", "%FF"],
)
def test_what_is_no_bucket_is_refused_in_every_place(server: Server, name: str) -> None:
    places = [*PLACES.values(), ("GET", "/b/{bucket}"), ("GET", "/deleted/{bucket}")]
    for method, path in (*places, ("GET", "/events?bucket={bucket}")):
        reply = server.ask(method, path.format(bucket=name, key="k"))
        assert reply.status == 400, path
    for header in ("Holdfast-Copy-From", "Holdfast-Move-From"):
        reply = server.ask("PUT", "/b/good/k", headers={header: f"{name}/k"})
        assert reply.status in {400, 404}, header


@pytest.mark.parametrize("name", ["x", "%00", "..%2F", "g" * 64, "0" * 63, "0" * 10_000, "A" * 64])
def test_what_is_no_hash_is_refused_before_a_disk_is_touched(server: Server, name: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert server.ask(method, f"/blobs/{name}").status == 400, method
    assert server.ask("POST", f"/undelete/b/k?digest={name}").status == 400
