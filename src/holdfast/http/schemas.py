"""The admin face as OpenAPI: what each request takes and what each answer is.

The schemas are made from the types that bodies are read into and answers are made from, so that
they say what the code does; what the face adds to a value, or keeps to itself, is said here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.access import ApiKey
from holdfast.core.policy import Owner, Policy
from holdfast.core.webhook import TOPICS, Webhook
from holdfast.depot.policies import Used
from holdfast.depot.trail import Deed
from holdfast.depot.webhooks import DeadLetter, Standing
from holdfast.http.members import AT, US

Schema = dict[str, Any]

REFERENCE = "#/components/schemas/"
TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}


class Operation(NamedTuple):
    """One method of a route."""

    about: str
    answers: dict[int, str]
    """The schemas by status; empty where there is no body."""
    body: str = ""
    """The schema of the request, where it has a body."""
    is_list: bool = False


ADMIN: dict[str, dict[str, Operation]] = {
    "/admin/owners": {"get": Operation("Owners by name.", {200: "Owners"}, is_list=True)},
    "/admin/owners/{owner}": {
        "get": Operation("One owner, and what is stored.", {200: "OwnerUsed"}),
        "put": Operation("Make or change an owner.", {201: "Owner", 200: "Owner"}, "OwnerWanted"),
        "delete": Operation("Remove an owner, with all that is stored.", {204: ""}),
    },
    "/admin/keys": {
        "get": Operation("API keys by id.", {200: "Keys"}, is_list=True),
        "post": Operation("Make an API key.", {201: "KeyShown"}, "KeyWanted"),
    },
    "/admin/keys/{id}": {
        "get": Operation("One API key, without its secret.", {200: "Key"}),
        "delete": Operation("Revoke an API key.", {204: ""}),
    },
    "/admin/keys/{id}/rotate": {
        "post": Operation("Give an API key a new secret.", {200: "KeyShown"}),
    },
    "/admin/policies": {
        "get": Operation("Every bucket, by its name.", {200: "Policies"}, is_list=True),
    },
    "/admin/policies/{bucket}": {
        "get": Operation("What a bucket takes and keeps.", {200: "PolicyUsed"}),
        "put": Operation("Set the policy of a bucket.", {200: "PolicyUsed"}, "PolicyWanted"),
        "delete": Operation("Let a bucket be as without a policy.", {200: "PolicyUsed"}),
    },
    "/admin/audit": {
        "get": Operation(
            "What admins did and were refused, newest first.", {200: "Deeds"}, is_list=True
        )
    },
    "/admin/nameless": {
        "get": Operation("Blobs that sweeps found without a name.", {200: "Nameless"}, is_list=True)
    },
    "/admin/webhooks": {"get": Operation("Webhooks by name.", {200: "Webhooks"}, is_list=True)},
    "/admin/webhooks/{webhook}": {
        "get": Operation("One webhook, and where it stands.", {200: "Webhook"}),
        "put": Operation(
            "Make or change a webhook.", {201: "WebhookShown", 200: "Webhook"}, "WebhookWanted"
        ),
        "delete": Operation("Remove a webhook, with its dead letters.", {204: ""}),
    },
    "/admin/webhooks/{webhook}/rotate": {
        "post": Operation("Give a webhook a new secret.", {200: "WebhookShown"}, "RotationWanted"),
    },
    "/admin/webhooks/{webhook}/test": {
        "post": Operation("Send a message that tells of nothing.", {200: "Tested"}),
    },
    "/admin/webhooks/{webhook}/dead": {
        "get": Operation("Messages that were given up.", {200: "DeadLetters"}, is_list=True),
    },
    "/admin/webhooks/{webhook}/redeliver": {
        "post": Operation("Send such messages again.", {200: "Asked"}, "RedeliveryWanted"),
    },
}
"""Every route and method of the admin face."""


def schemas() -> dict[str, Schema]:
    """All that the table names."""
    kinds = (ApiKey, Owner, Policy, Webhook, Standing, DeadLetter, Used, Deed)
    _, found = msgspec.json.schema_components(kinds, ref_template=REFERENCE + "{name}")
    key, owner, policy = (found.pop(kind.__name__) for kind in (ApiKey, Owner, Policy))
    hook, standing = found.pop(Webhook.__name__), found.pop(Standing.__name__)
    letter, deed = found.pop(DeadLetter.__name__), found.pop(Deed.__name__)
    used = _used(found.pop(Used.__name__))
    stands = {**_shown(standing, "is_asked")["properties"], "state": _states()}
    shown_hook = _shown(hook, **stands)
    return {
        **found,
        "Key": _shown(key),
        "KeyShown": _shown(key, key=TEXT),
        "KeyWanted": _wanted(key, "id"),
        "Keys": _page("keys", "Key"),
        "Owner": _shown(owner),
        "OwnerUsed": _shown(owner, used=used),
        "OwnerWanted": _wanted(owner),
        "Owners": _page("owners", "Owner"),
        "NamelessBlob": _all_of({"digest": TEXT, "size_bytes": WHOLE, "since_at": TIME}),
        "Nameless": _page("blobs", "NamelessBlob"),
        "Policies": _page("policies", "PolicyUsed"),
        "PolicyUsed": _shown(policy, bucket=TEXT, used=used),
        "PolicyWanted": _wanted(policy),
        "Webhook": shown_hook,
        "WebhookShown": _shown(hook, **stands, secret=TEXT),
        "WebhookWanted": _topics(_wanted(hook)),
        "Webhooks": _page("webhooks", "Webhook"),
        "DeadLetter": _shown(letter, "body"),
        "DeadLetters": _page("dead", "DeadLetter"),
        "RotationWanted": _object({"overlap_s": _bounded(limits.WEBHOOK_OVERLAP_S_MAX)}, ()),
        "RedeliveryWanted": _object({"ids": _texts(limits.BATCH_REFS_MAX)}, ()),
        "Deed": _shown(deed, about={"type": "object", "additionalProperties": TEXT}),
        "Deeds": _page("deeds", "Deed"),
        "Asked": _all_of({"asked": WHOLE}),
        "Tested": _all_of(
            {
                "delivered": FLAG,
                "status": {"type": ["integer", "null"]},
                "error": {"type": ["string", "null"]},
            }
        ),
    }


def reference(name: str) -> Schema:
    """Where a schema stands."""
    return {"$ref": REFERENCE + name}


def _shown(kind: Schema, *hidden: str, **added: Schema) -> Schema:
    """What an answer shows of a value: all members, and what the face adds."""
    members = {**_members(kind), **added}
    return _all_of({name: one for name, one in members.items() if name not in hidden})


def _wanted(kind: Schema, *given: str) -> Schema:
    """What a request may say of a value; times that the store sets are not among it."""
    members = {
        name: one for name, one in _members(kind).items() if name not in {"created_at", *given}
    }
    needed = [name for name in kind["required"] if name in members and name != "name"]
    return _object(members, needed)


def _members(kind: Schema) -> dict[str, Schema]:
    """The members as JSON has them, where times are RFC 3339."""
    found: dict[str, Schema] = {}
    for name, schema in kind["properties"].items():
        if name.endswith(US):
            found[name.removesuffix(US) + AT] = TIME
        else:
            found[name] = schema
    return found


def _page(name: str, schema: str) -> Schema:
    items = {"type": "array", "items": reference(schema)}
    return _all_of({name: items, "next": {"type": ["string", "null"]}})


def _all_of(members: dict[str, Schema]) -> Schema:
    return _object(members, list(members))


def _object(members: dict[str, Schema], needed: Any) -> Schema:  # noqa: ANN401 - names
    return {
        "type": "object",
        "properties": members,
        "required": list(needed),
        "additionalProperties": False,
    }


def _used(kind: Schema) -> Schema:
    """A tuple here is an object there."""
    del kind
    return _all_of(dict.fromkeys(Used._fields, WHOLE))


def _states() -> Schema:
    return {"enum": ["open", "failing", "gone", "paused"]}


def _topics(schema: Schema) -> Schema:
    """Requests may spell topics plainly, too."""
    plain = [topic.rpartition(":")[2] for topic in TOPICS]
    schema["properties"]["topics"]["items"] = {"enum": [*TOPICS, *plain]}
    return schema


def _bounded(high: int) -> Schema:
    return {**WHOLE, "minimum": 0, "maximum": high}


def _texts(count: int) -> Schema:
    return {"type": "array", "items": TEXT, "maxItems": count}
