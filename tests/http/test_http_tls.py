"""TLS: the same answers, though neither sendfile nor half-closed connections exist there."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from rawhttp import Connection, spell
from serving import Server, Servers, steady_descriptors, wait_until

MIB = 1024 * 1024
BIG = bytes(range(256)) * (6 * MIB // 256)
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl here to make a certificate")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    assert OPENSSL is not None
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(files[0])]
    subprocess.run([*command, "-keyout", str(files[1])], check=True, capture_output=True)
    return files


@pytest.fixture
def secure(servers: Servers, way: str, certificate: tuple[Path, Path]) -> Server:
    """A server that speaks TLS only."""
    cert, key = map(str, certificate)
    return servers.shared(hot_path=way, tls_certificate=cert, tls_key=key)


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


def connect(server: Server, context: ssl.SSLContext) -> Connection:
    connection = Connection(server.port)
    connection.socket = context.wrap_socket(connection.socket, server_hostname="127.0.0.1")
    return connection


def test_everything_works_over_tls(secure: Server, context: ssl.SSLContext, bucket: str) -> None:
    assert secure.url == f"https://127.0.0.1:{secure.port}"
    small, big = f"/b/{bucket}/small", f"/b/{bucket}/big"
    with connect(secure, context) as connection:
        assert connection.ask("PUT", small, b"hello").status == 201
        assert connection.ask("PUT", big, BIG).status == 201
        for _ in range(2):
            assert connection.ask("GET", small).body == b"hello"
            assert connection.ask("GET", big).body == BIG
            assert connection.ask("GET", big, headers={"Range": "bytes=5-9"}).body == BIG[5:10]
        ranges = {"Range": "bytes=0-9,2000000-5000000"}
        assert len(connection.ask("GET", big, headers=ranges).body) > 3_000_000
        connection.send(spell("GET", big) + spell("GET", small) + spell("DELETE", small))
        assert connection.reply().body == BIG
        assert connection.reply().body == b"hello"
        assert connection.reply().status == 204
        assert connection.ask("GET", small).code == "not_found"


def test_compressed_blobs_come_back_over_tls(
    servers: Servers, way: str, certificate: tuple[Path, Path], context: ssl.SSLContext
) -> None:
    cert, key = map(str, certificate)
    server = servers.shared(hot_path=way, tls_certificate=cert, tls_key=key, compress="zstd")
    with connect(server, context) as connection:
        for size_bytes in (1000, 200_000, len(BIG)):
            path, data = f"/b/compressed/{size_bytes}", BIG[:size_bytes]
            connection.ask("PUT", path, data)
            assert connection.ask("GET", path).body == data
            part = connection.ask("GET", path, headers={"Range": "bytes=900-"}).body
            assert part == data[900:]


def test_the_answer_to_the_last_request_ends_the_connection(
    secure: Server, context: ssl.SSLContext, bucket: str
) -> None:
    path = f"/b/{bucket}/k"
    with connect(secure, context) as connection:
        connection.ask("PUT", path, BIG)
        connection.send(spell("GET", path, headers={"Connection": "close"}))
        (reply,) = connection.all_replies()
        assert (reply.body == BIG, reply.closes) == (True, True)


def test_plain_http_is_no_tls(secure: Server, context: ssl.SSLContext) -> None:
    with Connection(secure.port) as connection:
        connection.send(spell("GET", "/healthz"))
        assert not connection.everything().startswith(b"HTTP/")
    with connect(secure, context) as connection:
        assert connection.ask("GET", "/healthz").status == 200


def test_vanished_clients_leave_nothing_open(
    secure: Server, context: ssl.SSLContext, bucket: str
) -> None:
    path = f"/b/{bucket}/k"
    with connect(secure, context) as connection:
        connection.ask("PUT", path, BIG)
    with steady_descriptors(secure):
        for number in range(12):
            with connect(secure, context) as connection:
                if number % 2:
                    headers = {"Content-Length": str(len(BIG))}
                    connection.send(spell("PUT", path, BIG[:-5], headers))
                else:
                    connection.send(spell("GET", path))
                    connection.take(100_000)
                connection.reset()
    with connect(secure, context) as connection:
        assert connection.ask("GET", path).body == BIG
    wait_until(lambda: not secure.temporary(), "temporary files are left")


def test_a_slow_reader_gets_every_byte(
    secure: Server, context: ssl.SSLContext, bucket: str
) -> None:
    with connect(secure, context) as connection:
        connection.ask("PUT", f"/b/{bucket}/k", BIG)
        connection.send(spell("GET", f"/b/{bucket}/k"))
        assert connection.head()[0] == 200
        assert b"".join(connection.take(MIB) for _ in range(6)) == BIG
