"""`holdfast webhook`: each verb against a server, and a receiver that is there."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
import receiver as programs
from receiver import Receiver
from serving import Server, Servers, wait_until

from holdfast.cli.program import run

Done = tuple[int, str, str]
Command = Callable[..., Done]


@pytest.fixture
def server(servers: Servers) -> Server:
    return servers.own(auth="keys", webhook_networks="127.0.0.0/8", webhook_give_up_s="0")


@pytest.fixture
def holdfast(
    server: Server, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run one command against the server."""
    monkeypatch.setenv("HOLDFAST_STORE", server.url)
    monkeypatch.setenv("HOLDFAST_KEY", server.key)

    def command(*arguments: str) -> Done:
        code = run(list(arguments))
        out, err = capsysbinary.readouterr()
        return code, out.decode(), err.decode()

    return command


@pytest.fixture
def there() -> Iterator[Receiver]:
    with programs.receiver() as found:
        yield found


def test_a_webhook_from_its_beginning_to_its_end(
    server: Server, holdfast: Command, there: Receiver
) -> None:
    code, out, _ = holdfast("webhook", "add", "orders", there.url, "--topic", "uploaded")
    secret = out.split()[-1]
    assert code == 0
    assert secret.startswith("whsec_")
    assert holdfast("webhook", "add", "orders", there.url)[0] == 4
    assert holdfast("webhook", "test", "orders") == (0, "delivered\n", "")
    headers = {"Authorization": f"Bearer {server.key}"}
    server.ask("PUT", "/blob/first", b"x", headers)
    server.ask("DELETE", "/blob/first", b"", headers)
    wait_until(lambda: len(there.got) == 2, "it is not told")
    assert there.got[1].is_signed_by(secret)
    wait_until(lambda: "delivered     1" in holdfast("webhook", "show", "orders")[1], "not kept")
    (line,) = holdfast("webhook", "list")[1].splitlines()
    assert line.split() == ["open", "1", "0", "orders", there.url]
    there.act = programs.status(500)
    server.ask("PUT", "/blob/second", b"x", headers)
    wait_until(lambda: bool(holdfast("webhook", "dead", "orders")[1]), "it is not given up")
    (letter,) = holdfast("webhook", "dead", "orders")[1].splitlines()
    assert letter.endswith("_:blob:uploaded  answered 500")
    code, out, _ = holdfast("webhook", "test", "orders")
    assert (code, out) == (1, "not delivered: answered 500\n")
    there.act = programs.taken
    del there.got[:]
    assert holdfast("webhook", "redeliver", "orders", "msg_none")[1] == "0 to be sent again\n"
    assert holdfast("webhook", "redeliver", "orders", letter.split()[1])[1].startswith("1 ")
    wait_until(lambda: there.keys() == ["second"], "it is not sent again")
    assert holdfast("webhook", "rm", "orders", "nothing") == (0, "", "")
    assert holdfast("webhook", "show", "orders")[0] == 3


def test_what_is_not_said_stays(holdfast: Command, there: Receiver) -> None:
    holdfast("webhook", "add", "w", there.url, "-b", "photos", "--prefix", "2026/")
    before = msgspec.json.decode(holdfast("webhook", "show", "w", "--json")[1])
    assert (before["bucket"], before["prefix"], before["topics"]) == ("photos", "2026/", [])
    assert "secret" not in before
    assert holdfast("webhook", "set", "w", "--paused", "--topic", "deleted")[0] == 0
    after = msgspec.json.decode(holdfast("webhook", "show", "w", "--json")[1])
    changed = {"is_paused": True, "topics": ["_:blob:deleted"], "state": "paused"}
    assert after == {**before, **changed}
    args = ("--resumed", "--bucket", "", "--prefix", "", "--topic", "", "--url", there.url + "2")
    assert holdfast("webhook", "set", "w", *args)[0] == 0
    after = msgspec.json.decode(holdfast("webhook", "list", "--json")[1])
    changed = {"is_paused": False, "bucket": "", "prefix": "", "url": there.url + "2"}
    assert after == {**before, **changed}


def test_a_new_secret_is_printed_and_the_old_one_signs_on(
    holdfast: Command, there: Receiver
) -> None:
    old = msgspec.json.decode(holdfast("webhook", "add", "w", there.url, "--json")[1])["secret"]
    new = holdfast("webhook", "rotate", "w", "--overlap", "100")[1].split()[-1]
    assert holdfast("webhook", "test", "w", "--json")[0] == 0
    assert there.got[0].is_signed_by(old)
    assert there.got[0].is_signed_by(new)
    newest = holdfast("webhook", "rotate", "w", "--overlap", "0")[1].split()[-1]
    holdfast("webhook", "test", "w")
    assert not there.got[1].is_signed_by(new)
    assert there.got[1].is_signed_by(newest)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", "w", "ftp://example.org"), 2),
        (("add", "W", "http://example.org"), 2),
        (("add", "w", "http://example.org", "--topic", "all"), 2),
        (("show", "nothing"), 3),
        (("set", "nothing"), 3),
        (("test", "nothing"), 3),
        (("dead", "nothing"), 3),
        (("redeliver", "nothing"), 3),
        (("rotate", "nothing"), 3),
        (("list", "-s", "./data"), 2),
    ],
)
def test_a_mistake_has_its_exit_code(
    holdfast: Command, arguments: tuple[str, ...], code: int
) -> None:
    got, out, err = holdfast("webhook", *arguments)
    assert (got, out) == (code, "")
    assert err.startswith("holdfast: ")


def test_the_trail_is_printed_newest_first(holdfast: Command, there: Receiver) -> None:
    holdfast("webhook", "add", "w", there.url)
    holdfast("webhook", "rm", "w")
    code, out, _ = holdfast("audit")
    removed, made = out.splitlines()
    assert code == 0
    assert removed.split()[2:] == ["127.0.0.1", "done", "webhook.remove", "webhook=w"]
    assert made.split()[-2:] == ["webhook.set", "webhook=w"]
    assert holdfast("audit", "--limit", "1")[1] == removed + "\n"
    (line,) = holdfast("audit", "--limit", "1", "--json")[1].splitlines()
    assert msgspec.json.decode(line)["action"] == "webhook.remove"


def test_who_may_not_is_told_so(holdfast: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_KEY", "hf_000000000000_" + "A" * 43)
    assert holdfast("webhook", "list")[0] == 8
