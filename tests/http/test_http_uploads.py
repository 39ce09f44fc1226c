"""Bodies on their way in: digests, chunks, forms, the word before the body, and sizes."""

import base64
import hashlib

import pytest
from rawhttp import Connection, chunked, spell
from serving import Server, Servers

from holdfast.core import limits

MIB = 1024 * 1024
CHUNKED = {"Transfer-Encoding": "chunked"}
EXPECT = {"Expect": "100-continue"}


def sf(data: bytes) -> str:
    """An RFC 9530 digest."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def old(data: bytes) -> str:
    """An RFC 3230 digest."""
    return f"sha-256={base64.b64encode(hashlib.sha256(data).digest()).decode()}"


SPELLINGS = {"Content-Digest": sf, "Repr-Digest": sf, "Digest": old}
BODIES = {"empty": b"", "small": b"hello", "large": b"hello" * 100_000}


# Digests


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("size", BODIES)
def test_a_promised_digest_is_checked(server: Server, bucket: str, name: str, size: str) -> None:
    data, spelling = BODIES[size], SPELLINGS[name]
    assert server.ask("PUT", f"/b/{bucket}/good", data, {name: spelling(data)}).status == 201
    reply = server.ask("PUT", f"/b/{bucket}/bad", data, {name: spelling(data + b"!")})
    assert (reply.status, reply.code) == (422, "digest_mismatch")
    error = reply.json()["error"]
    assert error["expected"] == "sha256:" + hashlib.sha256(data + b"!").hexdigest()
    assert error["actual"] == "sha256:" + hashlib.sha256(data).hexdigest()
    server.check_clean(bucket, ("good",))


def test_a_mismatch_leaves_the_old_blob(server: Server, bucket: str) -> None:
    path = f"/b/{bucket}/k"
    server.ask("PUT", path, b"old")
    assert server.ask("PUT", path, b"new", {"Repr-Digest": sf(b"other")}).status == 422
    assert server.ask("GET", path).body == b"old"


def test_the_connection_goes_on_behind_a_mismatch(server: Server, bucket: str) -> None:
    with server.connect() as connection:
        path = f"/b/{bucket}/k"
        assert connection.ask("PUT", path, b"x", {"Digest": old(b"y")}).status == 422
        assert connection.ask("PUT", path, b"y", {"Digest": old(b"y")}).status == 201


@pytest.mark.parametrize(
    "header",
    [
        f"md5=:AAAA:, {sf(b'hello')}",
        f"{sf(b'hello')}, sha-512=:AAAA:",
        "md5=:AAAA:",
        "sha-512=:AAAA:",
    ],
)
def test_other_algorithms_are_passed_over(server: Server, bucket: str, header: str) -> None:
    assert server.ask("PUT", f"/b/{bucket}/k", b"hello", {"Content-Digest": header}).status == 201


@pytest.mark.parametrize(
    "header", ["sha-256=:AAAA:", "sha-256=", "sha-256=:!!!!:", "sha-256=:" + "A" * 44, "sha-256=é"]
)
def test_a_malformed_digest_is_refused(server: Server, bucket: str, header: str) -> None:
    reply = server.ask("PUT", f"/b/{bucket}/k", b"hello", {"Content-Digest": header})
    assert reply.code == "invalid"
    server.check_clean(bucket)


def test_digests_that_contradict_each_other_are_refused(server: Server, bucket: str) -> None:
    headers = {"Content-Digest": sf(b"hello"), "Digest": old(b"other")}
    assert server.ask("PUT", f"/b/{bucket}/k", b"hello", headers).code == "invalid"
    server.check_clean(bucket)


def test_a_download_says_its_digest(server: Server, bucket: str) -> None:
    server.ask("PUT", f"/b/{bucket}/k", b"hello")
    for headers in ({}, {"Range": "bytes=1-2"}):
        assert server.ask("GET", f"/b/{bucket}/k", headers=headers).headers["repr-digest"] == sf(
            b"hello"
        )


# Chunks


@pytest.mark.parametrize(
    "chunks",
    [(), (b"a",), (b"a", b"bc", b"d" * 1000), (b"x" * MIB,) * 3, (b"y",) * 5000],
    ids=["none", "one", "three", "large", "many"],
)
def test_a_chunked_body_is_stored(server: Server, bucket: str, chunks: tuple[bytes, ...]) -> None:
    path = f"/b/{bucket}/k"
    with server.connect() as connection:
        connection.send(spell("PUT", path, headers=CHUNKED) + chunked(*chunks))
        assert connection.reply().json()["size_bytes"] == sum(map(len, chunks))
    assert server.ask("GET", path).body == b"".join(chunks)


def test_chunk_extensions_and_trailers_are_passed_over(server: Server, bucket: str) -> None:
    body = b'5;a=b;c="d"\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n'
    with server.connect() as connection:
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=CHUNKED) + body)
        assert connection.reply().json()["size_bytes"] == 5


def test_a_chunked_body_is_checked_against_its_digest(server: Server, bucket: str) -> None:
    for data, status in ((b"hello", 201), (b"other", 422)):
        with server.connect() as connection:
            headers = CHUNKED | {"Repr-Digest": sf(b"hello")}
            connection.send(spell("PUT", f"/b/{bucket}/k{status}", headers=headers))
            connection.send(chunked(data))
            assert connection.reply().status == status
    server.check_clean(bucket, ("k201",))


# The word before the body


def test_an_admitted_client_is_told_to_go_on(server: Server, bucket: str) -> None:
    for number, body in enumerate((b"hello", b"x" * MIB)):
        with server.connect() as connection:
            headers = EXPECT | {"Content-Length": str(len(body))}
            connection.send(spell("PUT", f"/b/{bucket}/{number}", headers=headers))
            assert connection.interim() == 100
            connection.send(body)
            assert connection.reply().json()["size_bytes"] == len(body)


def test_an_admitted_client_with_chunks_is_told_to_go_on(server: Server, bucket: str) -> None:
    with server.connect() as connection:
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=EXPECT | CHUNKED))
        assert connection.interim() == 100
        connection.send(chunked(b"hello"))
        assert connection.reply().status == 201


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-Match": '"other"'}, 412),
        ({"Content-Type": "nonsense"}, 400),
        ({"Content-Length": "999999999999"}, 413),
        ({"Holdfast-Meta-A": "%"}, 400),
        ({"Digest": "sha-256=x"}, 400),
    ],
)
def test_a_refusal_comes_instead_of_the_word(
    server: Server, bucket: str, headers: dict[str, str], status: int
) -> None:
    with server.connect() as connection:
        all_headers = EXPECT | {"Content-Length": "100000"} | headers
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=all_headers))
        assert connection.interim() == status
    server.check_clean(bucket)


def test_a_blob_that_is_there_needs_no_word(server: Server, bucket: str) -> None:
    data = bucket.encode() * 1000
    path = f"/blobs/{hashlib.sha256(data).hexdigest()}"
    assert server.ask("PUT", path, data).status == 201
    with server.connect() as connection:
        connection.send(spell("PUT", path, headers=EXPECT | {"Content-Length": str(len(data))}))
        assert connection.interim() == 200


# Sizes


@pytest.fixture
def strict(servers: Servers, way: str) -> Server:
    """A server with small limits."""
    return servers.shared(
        hot_path=way, max_body_bytes="600000", content_max_body_bytes="1000", idle_wait_s="5"
    )


def test_the_largest_body_is_taken_and_one_byte_more_is_not(strict: Server, bucket: str) -> None:
    assert strict.ask("PUT", f"/b/{bucket}/k", b"x" * 600_000).status == 201
    reply = strict.ask("PUT", f"/b/{bucket}/more", b"x" * 600_001)
    assert (reply.status, reply.code) == (413, "too_large")
    assert reply.json()["error"]["limit"] == 600_000
    strict.check_clean(bucket, ("k",))


@pytest.mark.parametrize("length", [600_001, 10**12, 2**63 - 1, 2**64 - 1])
def test_a_declared_length_over_the_limit_is_refused_before_the_body(
    strict: Server, bucket: str, length: int
) -> None:
    with strict.connect() as connection:
        headers = {"Content-Length": str(length)}
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=headers))
        assert connection.reply().code == "too_large"
    strict.check_clean(bucket)


def test_chunks_over_the_limit_are_refused_while_they_come(strict: Server, bucket: str) -> None:
    with strict.connect() as connection:
        connection.send(spell("PUT", f"/b/{bucket}/k", headers=CHUNKED))
        for _ in range(200):
            connection.try_send(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
            if connection.is_answered(0):
                break
        assert connection.reply().code == "too_large"
    strict.check_clean(bucket)


def test_a_form_over_the_limit_is_refused(strict: Server, bucket: str) -> None:
    body, headers = form(part('name="file"; filename="f"', b"x" * 700_000))
    assert strict.ask("POST", f"/b/{bucket}/k", body, headers).code == "too_large"
    strict.check_clean(bucket)


def test_the_content_face_has_its_own_limit(strict: Server) -> None:
    for size, status in ((1000, 201), (1001, 413)):
        data = b"x" * size
        path = f"/blobs/{hashlib.sha256(data).hexdigest()}"
        assert strict.ask("PUT", path, data).status in {status, 200 if status == 201 else status}


def test_the_client_may_send_all_of_a_refused_body_and_then_read_why(
    strict: Server, bucket: str
) -> None:
    """Clients that write first and read later must not meet a reset."""
    body = b"x" * (8 * MIB)
    with strict.connect() as connection:
        connection.try_send(spell("PUT", f"/b/{bucket}/k", body))
        assert connection.reply().code == "too_large"
    strict.check_clean(bucket)


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_every_blob_may_be_a_file(servers: Servers, way: str, bucket: str, size: int) -> None:
    server = servers.shared(hot_path=way, small_blob_bytes_max="0")
    data = (bucket.encode() * size)[:size]
    assert server.ask("PUT", f"/b/{bucket}/k", data).status == 201
    assert server.ask("GET", f"/b/{bucket}/k").body == data
    if size:
        name = hashlib.sha256(data).hexdigest()
        assert (server.data / "files" / name[:2] / f"{name}.blob").is_file()
    server.check_clean(bucket, ("k",))


# Forms

EDGE = b"----edge"
FORM = {"Content-Type": f"multipart/form-data; boundary={EDGE.decode()}"}


def part(disposition: str, data: bytes, content_type: str = "") -> bytes:
    lines = f"Content-Disposition: form-data; {disposition}\r\n"
    if content_type:
        lines += f"Content-Type: {content_type}\r\n"
    return b"--%b\r\n%b\r\n%b\r\n" % (EDGE, lines.encode(), data)


def form(*parts: bytes) -> tuple[bytes, dict[str, str]]:
    return b"".join(parts) + b"--%b--\r\n" % EDGE, FORM


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_the_file_of_a_form_is_stored(server: Server, bucket: str, method: str) -> None:
    data = b"\r\n--not the edge\r\n" * 10
    body, headers = form(
        part('name="note"', b"ignored"),
        part('name="upload"; filename="cat.png"', data, "image/x-cat"),
        part('name="behind"', b"ignored too"),
    )
    entry = server.ask(method, f"/b/{bucket}/k", body, headers).json()
    assert (entry["size_bytes"], entry["content_type"]) == (len(data), "image/x-cat")
    assert server.ask("GET", f"/b/{bucket}/k").body == data


@pytest.mark.parametrize("name", ["file", "blob"])
def test_a_field_named_file_or_blob_needs_no_file_name(
    server: Server, bucket: str, name: str
) -> None:
    body, headers = form(part(f'name="{name}"', b"hello"))
    entry = server.ask("POST", f"/b/{bucket}/k.txt", body, headers).json()
    assert (entry["size_bytes"], entry["content_type"]) == (5, "text/plain")


def test_a_large_file_of_a_form_is_stored(server: Server, bucket: str) -> None:
    data = bytes(range(256)) * 12_000
    body, headers = form(part('name="f"; filename="big"', data))
    assert server.ask("POST", f"/b/{bucket}/k", body, headers).status == 201
    assert server.ask("GET", f"/b/{bucket}/k").body == data


def test_a_form_in_chunks_of_one_byte_is_stored(server: Server, bucket: str) -> None:
    data = b"\r\n----edge\r\n--" * 3
    body, headers = form(part('name="f"; filename="x"', data))
    with server.connect() as connection:
        connection.send(spell("POST", f"/b/{bucket}/k", headers=headers | CHUNKED))
        connection.send(chunked(*(body[at : at + 1] for at in range(len(body)))))
        assert connection.reply().json()["size_bytes"] == len(data)
    assert server.ask("GET", f"/b/{bucket}/k").body == data


def test_the_digest_of_a_form_upload_is_that_of_the_file(server: Server, bucket: str) -> None:
    """Repr-Digest speaks of what will be served."""
    body, headers = form(part('name="f"; filename="x"', b"hello"))
    good = headers | {"Repr-Digest": sf(b"hello")}
    assert server.ask("POST", f"/b/{bucket}/k", body, good).status == 201
    bad = headers | {"Repr-Digest": sf(b"other")}
    assert server.ask("POST", f"/b/{bucket}/bad", body, bad).status == 422
    server.check_clean(bucket, ("k",))


FILE = part('name="f"; filename="x"', b"hello")
HOSTILE = {
    "no file": form(part('name="note"', b"x")),
    "nothing": (b"", FORM),
    "an empty form": (b"--%b--\r\n" % EDGE, FORM),
    "two files": form(FILE, FILE),
    "no end": (FILE, FORM),
    "half a file": (FILE[:-4], FORM),
    "half a header": (FILE[:30], FORM),
    "no boundary": (FILE, {"Content-Type": "multipart/form-data"}),
    "an empty boundary": (FILE, {"Content-Type": 'multipart/form-data; boundary=""'}),
    "a long boundary": (FILE, {"Content-Type": "multipart/form-data; boundary=" + "a" * 71}),
    "another boundary": (FILE, {"Content-Type": "multipart/form-data; boundary=other"}),
    "a long header": form(part('name="f"; filename="' + "a" * 20_000 + '"', b"x")),
    "a bad type": form(part('name="f"; filename="x"', b"x", "nonsense")),
    "a header without an end": (b"--%b\r\nContent-Disposition: form-data" % EDGE, FORM),
    "NUL in a header": form(part('name="f"; filename="x"\0', b"x")),
    "another kind": (FILE, {"Content-Type": "multipart/mixed; boundary=----edge"}),
    "endless headers": (b"--%b\r\n" % EDGE + b"X: y\r\n" * 10_000 + b"\r\n", FORM),
    "endless headers without a value": (b"--%b\r\n" % EDGE + b"X:\r\n" * 20_000 + b"\r\n", FORM),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_form_stores_nothing(server: Server, bucket: str, name: str) -> None:
    body, headers = HOSTILE[name]
    reply = server.ask("POST", f"/b/{bucket}/k", body, headers)
    if reply.status == 201:  # what is no form-data is bytes like any other
        assert name in {"another kind", "NUL in a header"}
        return
    assert (reply.status, reply.code) == (400, "invalid")
    server.check_clean(bucket)


def test_a_form_that_never_ends_is_held_to_the_limit(strict: Server, bucket: str) -> None:
    """Parts that are dropped count too."""
    with strict.connect() as connection:
        connection.send(spell("POST", f"/b/{bucket}/k", headers=FORM | CHUNKED))
        junk = part('name="note"', b"x" * 100_000)
        sent = endless(connection, b"%x\r\n%b\r\n" % (len(junk), junk))
        assert sent < 100
        assert connection.reply().code == "too_large"
    strict.check_clean(bucket)


def endless(connection: Connection, data: bytes) -> int:
    """Send the same until there is an answer."""
    for count in range(100):
        connection.try_send(data)
        if connection.is_answered(0.01):
            return count
    return 100


def test_the_declared_size_of_a_form_may_exceed_the_limit_a_little(
    strict: Server, bucket: str
) -> None:
    """The limit is for the file; the form around it is not counted against it."""
    body, headers = form(part('name="f"; filename="x"', b"x" * 600_000))
    assert strict.ask("POST", f"/b/{bucket}/k", body, headers).status == 201


def test_a_mime_type_of_a_form_on_the_content_face(server: Server, bucket: str) -> None:
    data = bucket.encode()
    body, headers = form(part('name="f"; filename="x"', data, "text/x-mine"))
    path = f"/blobs/{hashlib.sha256(data).hexdigest()}"
    assert server.ask("PUT", path, body, headers).status == 201
    assert server.ask("GET", path).headers["content-type"] == "text/x-mine"


def test_keys_over_the_limit_in_the_head_do_not_wait_for_the_body(
    server: Server, bucket: str
) -> None:
    with server.connect() as connection:
        path = f"/b/{bucket}/" + "k" * (limits.KEY_BYTES_MAX + 1)
        connection.send(spell("PUT", path, headers={"Content-Length": "1000000"}))
        assert connection.reply().code == "invalid"
