"""Lines to receivers: whom they reach, and that no receiver costs more than its bounds."""

import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import receiver as programs
from receiver import Act, Receiver

from holdfast.core.seams import SystemClock
from holdfast.core.webhook import Outcome
from holdfast.http.dial import WebLine

LOOPBACK = ("127.0.0.0/8", "::1/128")
HEADERS = [("webhook-id", "msg_1")]
QUICK_S = 0.5


def make_line(
    networks: tuple[str, ...] = LOOPBACK, wait_s: float = 10, context: ssl.SSLContext | None = None
) -> WebLine:
    return WebLine(networks, wait_s, context or ssl.create_default_context(), SystemClock())


@pytest.fixture
def line() -> Iterator[WebLine]:
    found = make_line()
    yield found
    found.close()


@pytest.fixture
def there() -> Iterator[Receiver]:
    with programs.receiver() as found:
        yield found


def test_a_message_arrives_as_it_is_and_the_connection_is_used_again(
    line: WebLine, there: Receiver
) -> None:
    ports = []

    def take(handler: programs.Handler) -> None:
        ports.append(handler.client_address)
        handler.answer(200, b"ok")

    there.act = take
    for number in range(3):
        outcome = line.post(there.url + "?a=b", HEADERS, b'{"n":%d}' % number)
        assert outcome == Outcome(200)
    assert [(one.path, one.body) for one in there.got] == [
        ("/hook?a=b", b'{"n":%d}' % number) for number in range(3)
    ]
    headers = there.got[0].headers
    assert headers["host"] == there.url.split("/")[2]
    assert (headers["content-type"], headers["webhook-id"]) == ("application/json", "msg_1")
    assert len(set(ports)) == 1


def test_a_connection_that_was_closed_meanwhile_is_replaced(line: WebLine, there: Receiver) -> None:
    def take_and_hang_up(handler: programs.Handler) -> None:
        handler.answer(200)
        handler.close_connection = True

    there.act = take_and_hang_up
    for _ in range(5):
        assert line.post(there.url, HEADERS, b"{}").is_taken
    assert len(there.got) == 5


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://127.1:{port}/",
        "http://2130706433:{port}/",
        "http://0x7f.0.0.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
def test_no_spelling_of_this_machine_is_reached_unless_allowed(there: Receiver, url: str) -> None:
    line = make_line(networks=("10.20.0.0/16",))
    outcome = line.post(url.format(port=there.server_address[1]), HEADERS, b"{}")
    line.close()
    assert outcome.status == 0
    assert "webhook_networks" in outcome.error
    assert there.got == []


def test_a_redirect_is_an_answer_and_leads_nowhere(line: WebLine, there: Receiver) -> None:
    with programs.receiver() as secret:
        there.act = programs.status(307, Location=secret.url)
        outcome = line.post(there.url, HEADERS, b"{}")
        assert outcome.status == 307
        assert not outcome.is_taken
        assert secret.got == []


def test_the_connection_is_made_to_the_address_that_was_looked_at(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that stands for another address the next time gains nothing by it."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://rebind.example:{there.server_address[1]}/"
    there.act = programs.status(204, Connection="close")
    line = make_line()
    assert line.post(url, HEADERS, b"{}").is_taken
    assert there.got[0].headers["host"] == url.split("/")[2]
    assert len(asked) == 1
    assert "webhook_networks" in line.post(url, HEADERS, b"{}").error
    assert len(asked) == 2
    line.close()


def test_of_several_addresses_only_allowed_ones_are_tried(
    there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    real = socket.create_connection

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> socket.socket:
        reached.append(address[0])
        return real(address, *args, **kwargs)

    addresses = ["10.0.0.1", "169.254.169.254", "127.0.0.9", "127.0.0.1"]
    found = [(2, 1, 6, "", (one, there.server_address[1])) for one in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "create_connection", connect)
    line = make_line()
    outcome = line.post(f"http://several.example:{there.server_address[1]}/", HEADERS, b"{}")
    line.close()
    assert set(reached) <= {"127.0.0.9", "127.0.0.1"}
    assert outcome.is_taken or "127.0.0.9" in reached


def test_a_name_that_is_not_known_is_an_outcome(line: WebLine) -> None:
    outcome = line.post("http://nobody.invalid/", HEADERS, b"{}")
    assert outcome.status == 0
    assert outcome.error


def test_nobody_listens(line: WebLine) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = line.post(f"http://127.0.0.1:{unused.getsockname()[1]}/", HEADERS, b"{}")
    assert (outcome.status, outcome.is_taken) == (0, False)


@pytest.mark.parametrize("act", [programs.hang, programs.trickle, programs.interim])
def test_no_receiver_holds_a_line_for_longer_than_it_waits(there: Receiver, act: Act) -> None:
    there.act = act
    line = make_line(wait_s=QUICK_S)
    began_s = time.monotonic()
    outcome = line.post(there.url, HEADERS, b"{}")
    assert time.monotonic() - began_s < QUICK_S + 1
    line.close()
    assert (outcome.status, outcome.error) == (0, "no answer within 0.5 s")


def test_a_host_that_does_not_answer_at_all_is_given_up(line: WebLine) -> None:
    """A socket whose queue is full answers no SYN."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(4)]
        for one in others:
            one.settimeout(0)
            one.connect_ex(full.getsockname())
        time.sleep(0.05)
        quick = make_line(wait_s=QUICK_S)
        began_s = time.monotonic()
        outcome = quick.post(f"http://127.0.0.1:{full.getsockname()[1]}/", HEADERS, b"{}")
        assert time.monotonic() - began_s < QUICK_S + 1
        for one in others:
            one.close()
    assert outcome.status == 0


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (programs.endless, 200),
        (programs.endless_head, 0),
        (programs.hang_up, 0),
        (programs.nonsense, 0),
        (programs.cut, 500),
        (programs.status(500), 500),
    ],
)
def test_whatever_a_receiver_answers_is_an_outcome_and_takes_no_memory(
    line: WebLine, there: Receiver, act: Act, status: int
) -> None:
    there.act = act
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        outcome = line.post(there.url, HEADERS, b"{}")
        assert outcome.status == status
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    there.act = programs.taken
    assert line.post(there.url, HEADERS, b"{}").is_taken


@pytest.mark.parametrize(
    ("said", "seconds"), [("7", 7), ("99999999", 3600), ("soon", 0), ("-1", 0), ("", 0)]
)
def test_a_receiver_may_ask_to_be_left_alone(
    line: WebLine, there: Receiver, said: str, seconds: int
) -> None:
    there.act = programs.status(429, Retry_After=said)
    assert line.post(there.url, HEADERS, b"{}") == Outcome(429, "", seconds)


def test_what_is_under_way_can_be_ended(there: Receiver) -> None:
    there.act = programs.hang
    line = make_line(wait_s=30)
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(line.post(there.url, HEADERS, b"{}")))
    thread.start()
    while not there.got:
        time.sleep(0.01)
    line.abort()
    thread.join(5)
    assert outcomes
    assert outcomes[0].status == 0
    assert line.post(there.url, HEADERS, b"{}").status == 0
    assert len(there.got) == 1


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example, with its key."""
    file = tmp_path_factory.mktemp("dial") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += f" -subj /CN=hooks -addext subjectAltName=DNS:hooks.example -out {file}.c"
    subprocess.run([*command.split(), "-keyout", f"{file}.k"], check=True, capture_output=True)
    file.write_bytes(Path(f"{file}.k").read_bytes() + Path(f"{file}.c").read_bytes())
    return file


@pytest.fixture
def secure(
    there: Receiver, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """A receiver behind TLS, at any name of this machine; says at which URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    there.socket = context.wrap_socket(there.socket, server_side=True)
    found = [(2, 1, 6, "", ("127.0.0.1", there.server_address[1]))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    return lambda host: f"https://{host}:{there.server_address[1]}/"


def test_a_certificate_must_be_that_of_the_name(
    there: Receiver, secure: Callable[[str], str], certificate: Path
) -> None:
    trusting = make_line(context=ssl.create_default_context(cafile=str(certificate)))
    assert trusting.post(secure("hooks.example"), HEADERS, b"{}").is_taken
    assert there.got[0].headers["host"].startswith("hooks.example:")
    for name in ("other.example", "127.0.0.1"):
        refused = trusting.post(secure(name), HEADERS, b"{}")
        assert refused.status == 0
        assert "certificate" in refused.error.lower()
    strange = make_line()
    assert "certificate" in strange.post(secure("hooks.example"), HEADERS, b"{}").error.lower()
    assert len(there.got) == 1
    trusting.close()
    strange.close()
