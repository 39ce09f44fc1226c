"""The content face: blobs by the hash of their bytes, held by it or by any name."""

import base64
import hashlib

import pytest
from rawhttp import spell
from serving import Server

IMMUTABLE = "public, max-age=31536000, immutable"


def fresh(bucket: str, size: int = 1000) -> tuple[bytes, str]:
    """Bytes that no other test stores, and their hex digest."""
    data = bucket.encode() * (size // len(bucket) + 1)
    return data, hashlib.sha256(data).hexdigest()


def cid(hex_digest: str) -> str:
    raw = bytes.fromhex("01551220" + hex_digest)
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


def spellings(hex_digest: str) -> list[str]:
    return [
        hex_digest,
        f"sha256:{hex_digest}",
        f"sha256-{hex_digest}",
        f"sha256%3A{hex_digest}",
        cid(hex_digest),
    ]


@pytest.mark.parametrize("number", range(5))
def test_every_spelling_names_the_same_blob(server: Server, bucket: str, number: int) -> None:
    data, name = fresh(bucket)
    put = server.ask("PUT", f"/blobs/{spellings(name)[number]}", data)
    assert put.status == 201
    assert put.json() == {"hash": f"sha256:{name}"}
    assert put.headers["etag"] == f'"{name}"'
    for spelled in spellings(name):
        got = server.ask("GET", f"/blobs/{spelled}")
        assert (got.status, got.body) == (200, data)
        assert server.ask("HEAD", f"/blobs/{spelled}").headers["content-length"] == str(len(data))
    assert server.ask("PUT", f"/blobs/{name}", data).status == 200


def test_a_blob_says_that_it_never_changes(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    server.ask("PUT", f"/blobs/{name}", data)
    headers = server.ask("GET", f"/blobs/{name}").headers
    assert headers["cache-control"] == IMMUTABLE
    assert headers["etag"] == f'"{name}"'
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["content-disposition"] == f'attachment; filename="sha256-{name}"'
    inline = server.ask("GET", f"/blobs/{name}?disposition=inline").headers
    assert inline["content-disposition"].startswith("inline")
    again = server.ask("GET", f"/blobs/{name}", headers={"If-None-Match": f'"{name}"'})
    assert (again.status, again.headers["cache-control"]) == (304, IMMUTABLE)


def test_ranges_work_by_hash(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    server.ask("PUT", f"/blobs/{name}", data)
    reply = server.ask("GET", f"/blobs/{name}", headers={"Range": "bytes=2-5"})
    assert (reply.status, reply.body) == (206, data[2:6])
    reply = server.ask("GET", f"/blobs/{name}", headers={"Range": f"bytes={len(data)}-"})
    assert reply.status == 416


BAD = [
    "",
    "x",
    "0" * 63,
    "0" * 65,
    "A" * 64,
    "g" * 64,
    "sha256:",
    "sha256:" + "A" * 64,
    "sha512:" + "0" * 64,
    "SHA256:" + "0" * 64,
    "sha256:sha256:" + "0" * 64,
    "bafkrei",
    "bafkrei" + "a" * 51 + "1",
    "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yer",
    "bafybeibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq",
    "..",
    "%2e%2e%2fetc",
    "%00",
    "%FF",
    "%",
    "0" * 64 + "/x",
]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_hash_is_refused(server: Server, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert server.ask(method, f"/blobs/{name}").code == "invalid", method


def test_other_bytes_are_refused(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    for body in (b"", data + b"!", data * 1000):
        reply = server.ask("PUT", f"/blobs/{name}", body)
        assert (reply.status, reply.code) == (422, "digest_mismatch")
        error = reply.json()["error"]
        assert error["expected"] == f"sha256:{name}"
        assert error["actual"] == f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert server.ask("GET", f"/blobs/{name}").code == "not_found"
    server.check_clean(bucket)


def test_a_promise_of_another_digest_is_refused(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{other}:"}
    assert server.ask("PUT", f"/blobs/{name}", data, headers).code == "invalid"


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_a_known_blob_is_answered_without_its_body(server: Server, bucket: str, size: int) -> None:
    data, name = fresh(bucket, size)
    server.ask("PUT", f"/blobs/{name}", data)
    with server.connect() as connection:
        headers = {"Content-Length": str(len(data))}
        connection.send(spell("PUT", f"/blobs/{name}", headers=headers))
        reply = connection.reply()  # not a byte of the body was sent
        assert (reply.status, reply.json()) == (200, {"hash": f"sha256:{name}"})


def test_a_known_blob_may_be_sent_all_the_same(server: Server, bucket: str) -> None:
    data, name = fresh(bucket, 3_000_000)
    server.ask("PUT", f"/blobs/{name}", data)
    with server.connect() as connection:
        connection.try_send(spell("PUT", f"/blobs/{name}", data))
        assert connection.reply().status == 200


def test_a_known_small_blob_keeps_the_connection(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    with server.connect() as connection:
        for status in (201, 200, 200):
            assert connection.ask("PUT", f"/blobs/{name}", data).status == status
        assert connection.ask("GET", f"/blobs/{name}").body == data


def test_names_and_the_content_face_hold_a_blob_each(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    path = f"/blobs/{name}"
    server.ask("PUT", f"/b/{bucket}/one", data, {"Content-Type": "text/x-one"})
    server.ask("PUT", f"/b/{bucket}-2/two", data)
    assert server.ask("GET", path).body == data
    assert server.ask("PUT", path, data).status == 201, "the face itself did not hold it yet"
    assert server.ask("DELETE", path).status == 204
    assert server.ask("GET", path).body == data
    server.ask("DELETE", f"/b/{bucket}/one")
    assert server.ask("GET", path).body == data
    server.ask("DELETE", f"/b/{bucket}-2/two")
    assert server.ask("GET", path).code == "not_found"
    assert server.ask("DELETE", path).status == 204


def test_the_content_face_outlives_names(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    server.ask("PUT", f"/blobs/{name}", data)
    server.ask("PUT", f"/b/{bucket}/k", data)
    server.ask("DELETE", f"/b/{bucket}/k")
    assert server.ask("GET", f"/blobs/{name}").body == data


def test_the_list_of_hashes_walks_over_all_of_them(server: Server, bucket: str) -> None:
    blobs = dict(fresh(f"{bucket}{n}", 20)[::-1] for n in range(25))
    for name, data in blobs.items():
        server.ask("PUT", f"/blobs/{name}", data)
        server.ask("PUT", f"/b/{bucket}/{name}", data)
    found: list[str] = []
    query = "limit=7"
    while True:
        page = server.ask("GET", f"/blobs?{query}").json()
        found += page["hashes"]
        if page["next"] is None:
            break
        assert len(page["hashes"]) == 7
        query = f"limit=7&cursor={page['next']}"
    assert found == sorted(set(found))
    assert {f"sha256:{name}" for name in blobs} <= set(found)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=x", "prefix=a", "cursor="])
def test_a_bad_query_of_hashes_is_refused(server: Server, query: str) -> None:
    assert server.ask("GET", f"/blobs?{query}").code == "invalid"


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/blobs", "PUT", "GET, HEAD, POST"),
        ("/blobs", "DELETE", "GET, HEAD, POST"),
        ("/blobs/" + "0" * 64, "POST", "GET, HEAD, PUT, DELETE"),
        ("/blobs/" + "0" * 64, "PATCH", "GET, HEAD, PUT, DELETE"),
    ],
)
def test_other_methods_are_refused(server: Server, path: str, method: str, allow: str) -> None:
    reply = server.ask(method, path)
    assert (reply.code, reply.headers["allow"]) == ("method_not_allowed", allow)


def test_a_hash_is_no_target_of_a_copy(server: Server, bucket: str) -> None:
    data, name = fresh(bucket)
    server.ask("PUT", f"/b/{bucket}/k", data)
    headers = {"Holdfast-Copy-From": f"{bucket}/k"}
    assert server.ask("PUT", f"/blobs/{name}", headers=headers).code == "invalid"
