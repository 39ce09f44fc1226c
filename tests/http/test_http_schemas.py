"""The admin face as /openapi.json describes it, held against what a real server takes and gives."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import receiver as programs
from guarded import Guarded
from receiver import Receiver
from schema_check import check
from serving import Servers, wait_until

from holdfast.http import openapi, schemas

DOCUMENT = msgspec.json.decode(openapi.document())
SCHEMAS = DOCUMENT["components"]["schemas"]


class Conversation:
    """Requests that are held against the description, and which of it they have met."""

    def __init__(self, guarded: Guarded) -> None:
        self.guarded = guarded
        self.met: set[tuple[str, str, int]] = set()
        self.told: set[tuple[str, str]] = set()

    def say(
        self, method: str, path: str, body: dict[str, Any] | None = None, **names: str
    ) -> dict[str, Any]:
        """Send what the description allows, and check that the answer is what it promises."""
        operation = DOCUMENT["paths"][path][method]
        place = path
        for name, value in names.items():
            place = place.replace("{" + name + "}", value)
        if body is not None:
            check(body, _json_of(operation["requestBody"]), SCHEMAS, f"{method} {path}")
            self.told.add((path, method))
        sent = b"" if body is None else msgspec.json.encode(body)
        reply = self.guarded.ask(method.upper(), place, self.guarded.server.key, sent)
        assert reply.status < 300, reply
        described = operation["responses"][str(reply.status)]
        self.met.add((path, method, reply.status))
        if "content" not in described:
            assert reply.body == b""
            return {}
        answer: dict[str, Any] = reply.json()
        check(answer, _json_of(described), SCHEMAS, f"{method} {path}")
        return answer


def _json_of(described: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = described["content"]["application/json"]["schema"]
    return found


@pytest.fixture
def there() -> Iterator[Receiver]:
    with programs.receiver() as found:
        yield found


@pytest.fixture
def talk(servers: Servers) -> Conversation:
    settings = {"webhook_networks": "127.0.0.0/8", "webhook_give_up_s": "0"}
    return Conversation(Guarded(servers.own(auth="keys", **settings)))


RATES = {"requests_s": 5.0, "bytes_s": None, "burst_s": 2.5}


def of_owners(talk: Conversation) -> None:
    path = "/admin/owners/{owner}"
    wanted = {"name": "alice", "quota_bytes": 10**9, "quota_entries": None, **RATES}
    talk.say("put", path, wanted, owner="alice")
    talk.say("put", path, {"is_suspended": False}, owner="alice")
    talk.say("put", path, {}, owner="bob")
    talk.say("get", path, owner="alice")
    talk.say("get", "/admin/owners")
    talk.say("delete", path, owner="bob")


def of_keys(talk: Conversation) -> None:
    about = {
        "owner": "alice",
        "scopes": ["read", "list"],
        "buckets": ["photos"],
        "label": "a label",
        "expires_at": "2999-01-01T00:00:00Z",
        "networks": ["10.0.0.0/8"],
        **RATES,
    }
    key = talk.say("post", "/admin/keys", about)["id"]
    talk.say("post", "/admin/keys", {"alias_of": key})
    talk.say("get", "/admin/keys/{id}", id=key)
    talk.say("get", "/admin/keys")
    talk.say("post", "/admin/keys/{id}/rotate", id=key)
    talk.say("delete", "/admin/keys/{id}", id=key)


def of_policies(talk: Conversation) -> None:
    path = "/admin/policies/{bucket}"
    wanted = {"public": True, "types": ["image/*"], "mismatch": "reject", "undelete_s": 5}
    talk.say("put", path, wanted, bucket="alice~photos")
    talk.say("get", path, bucket="alice~photos")
    talk.say("get", "/admin/policies")
    talk.say("get", "/admin/nameless")
    talk.say("delete", path, bucket="alice~photos")


def of_webhooks(talk: Conversation, there: Receiver) -> None:
    path = "/admin/webhooks/{webhook}"
    wanted = {"url": there.url, "bucket": "photos", "prefix": "x", "topics": ["uploaded"]}
    talk.say("put", path, wanted, webhook="alice~w")
    talk.say("put", path, {"url": there.url}, webhook="w")
    talk.say("put", path, {"url": there.url, "is_paused": False}, webhook="w")
    talk.say("get", path, webhook="w")
    talk.say("get", "/admin/webhooks")
    talk.say("post", path + "/rotate", {"overlap_s": 60}, webhook="w")
    talk.say("post", path + "/test", webhook="w")
    there.act = programs.status(500)
    talk.guarded.ask("PUT", "/blob/k", talk.guarded.server.key, b"x")
    dead = path + "/dead"
    wait_until(lambda: bool(talk.say("get", dead, webhook="w")["dead"]), "it is not given up")
    talk.say("post", path + "/test", webhook="w")
    (letter,) = talk.say("get", dead, webhook="w")["dead"]
    talk.say("post", path + "/redeliver", {"ids": [letter["id"]]}, webhook="w")
    talk.say("get", path, webhook="w")
    talk.say("delete", path, webhook="w")


def test_requests_and_answers_are_as_described(talk: Conversation, there: Receiver) -> None:
    of_owners(talk)
    of_keys(talk)
    of_policies(talk)
    of_webhooks(talk, there)
    talk.say("get", "/admin/audit")
    described = {
        (path, method, status)
        for path, methods in schemas.ADMIN.items()
        for method, operation in methods.items()
        for status in operation.answers
    }
    assert talk.met == described
    with_body = {
        (path, method)
        for path, methods in schemas.ADMIN.items()
        for method, operation in methods.items()
        if operation.body
    }
    assert talk.told == with_body


def test_every_schema_is_there_and_used() -> None:
    text = openapi.document().decode()
    for name in SCHEMAS:
        assert f'"#/components/schemas/{name}"' in text, name
    for methods in schemas.ADMIN.values():
        for operation in methods.values():
            assert {operation.body, *operation.answers.values()} - {""} <= set(SCHEMAS)


def test_what_is_not_described_is_refused(talk: Conversation) -> None:
    for path, methods in schemas.ADMIN.items():
        place = path
        for name, value in {"owner": "o", "id": "0" * 12, "bucket": "b", "webhook": "w"}.items():
            place = place.replace("{" + name + "}", value)
        for method, operation in methods.items():
            if operation.body:
                key = talk.guarded.server.key
                reply = talk.guarded.ask(method.upper(), place, key, b'{"other":1}')
                assert (reply.status, reply.code) == (400, "invalid"), (method, path)


def test_the_check_itself_finds_what_is_wrong() -> None:
    good = {"bucket": "b", "mismatch": "accept"}
    schema = {
        "type": "object",
        "properties": {"bucket": {"type": "string"}, "mismatch": {"$ref": "x/Mismatch"}},
        "required": ["bucket"],
        "additionalProperties": False,
    }
    check(good, schema, SCHEMAS)
    wrong: list[Any] = [{}, {"bucket": 1}, {**good, "more": 1}, {**good, "mismatch": "maybe"}, []]
    for bad in wrong:
        with pytest.raises(AssertionError):
            check(bad, schema, SCHEMAS)
