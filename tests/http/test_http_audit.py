"""GET /admin/audit: what admins did and were refused, who, where and when, and no secrets."""

from typing import Any

import msgspec
import pytest
import receiver as programs
from guarded import Guarded
from serving import Servers

from holdfast.core.entry import moment
from holdfast.core.seams import SystemClock


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.own(auth="keys", webhook_networks="127.0.0.0/8", **ways))


def deeds(guarded: Guarded, token: str = "") -> list[dict[str, Any]]:
    reply = guarded.ask("GET", "/admin/audit", token or guarded.server.key)
    assert reply.status == 200, reply
    found: list[dict[str, Any]] = reply.json()["deeds"]
    return found


def test_every_change_leaves_one_deed(guarded: Guarded) -> None:
    owner = "alice"
    guarded.admin("PUT", f"owners/{owner}")
    key = guarded.admin("POST", "keys", owner=owner).json()["id"]
    guarded.admin("POST", f"keys/{key}/rotate")
    guarded.admin("PUT", f"policies/{owner}~photos", public=True)
    guarded.admin("DELETE", f"policies/{owner}~photos")
    with programs.receiver() as there:
        guarded.admin("PUT", "webhooks/w", url=there.url)
        guarded.admin("POST", "webhooks/w/rotate")
        guarded.admin("POST", "webhooks/w/test")
        guarded.admin("POST", "webhooks/w/redeliver")
        guarded.admin("DELETE", "webhooks/w")
        guarded.admin("DELETE", "webhooks/w")
    guarded.admin("DELETE", f"keys/{key}")
    guarded.admin("DELETE", f"keys/{key}")
    guarded.admin("DELETE", f"owners/{owner}")
    guarded.admin("DELETE", f"owners/{owner}")
    for path in ("owners", "keys", "webhooks", "policies/b", "audit"):
        guarded.admin("GET", path)
    found = deeds(guarded)
    assert [(one["action"], one["about"]) for one in reversed(found)] == [
        ("owner.set", {"owner": owner}),
        ("key.create", {"id": key, "owner": owner}),
        ("key.rotate", {"id": key, "owner": owner}),
        ("policy.set", {"bucket": f"{owner}~photos"}),
        ("policy.set", {"bucket": f"{owner}~photos"}),
        ("webhook.set", {"webhook": "w"}),
        ("webhook.rotate", {"webhook": "w"}),
        ("webhook.test", {"webhook": "w"}),
        ("webhook.redeliver", {"webhook": "w"}),
        ("webhook.remove", {"webhook": "w"}),
        ("key.revoke", {"id": key, "owner": owner}),
        ("owner.remove", {"owner": owner}),
    ]
    own_id = guarded.server.key.split("_")[1]
    for one in found:
        assert (one["key"], one["owner"], one["outcome"]) == (own_id, "", "done")
        assert one["address"] == "127.0.0.1"
        assert one["asked_at"] < moment(SystemClock().now_us()).isoformat()


def test_what_is_refused_is_kept_with_who_tried(guarded: Guarded) -> None:
    owner = guarded.owner()
    weak = guarded.key(owner, scopes=["read"])
    admin = guarded.key(owner, scopes=["admin"])
    forged = "hf_000000000000_" + "A" * 43
    before = len(deeds(guarded))
    guarded.ask("PUT", "/admin/policies/b", weak, b"{}")
    guarded.ask("GET", "/admin/keys", weak)
    guarded.ask("PUT", f"/admin/owners/{owner}", admin, b"{}")
    guarded.ask("DELETE", "/admin/owners/other", forged)
    guarded.ask("GET", "/admin/audit")
    guarded.ask("PUT", "/admin/policies/b", admin, b"{")
    guarded.ask("GET", "/admin/policies/B!", admin)  # a mistake that changes nothing
    for path in (weak, weak.replace("_", "%5F"), weak.split("_", 2)[2]):
        guarded.ask("POST", f"/admin/keys/{path}/rotate", admin)
    found = [one for one in deeds(guarded) if one["outcome"] != "done"]
    assert len(deeds(guarded)) - before == 9
    assert [(one["action"], one["key"], one["outcome"]) for one in reversed(found)] == [
        ("PUT policies/b", weak.split("_")[1], "denied"),
        ("GET keys", weak.split("_")[1], "denied"),
        (f"PUT owners/{owner}", admin.split("_")[1], "denied"),
        ("DELETE owners/other", "", "unauthenticated"),
        ("GET audit", "", "unauthenticated"),
        ("PUT policies/b", admin.split("_")[1], "invalid"),
        (f"POST keys/hf_{weak.split('_')[1]}_.../rotate", admin.split("_")[1], "not_found"),
        (f"POST keys/hf_{weak.split('_')[1]}_.../rotate", admin.split("_")[1], "not_found"),
        ("POST keys/.../rotate", admin.split("_")[1], "not_found"),
    ]
    text = guarded.ask("GET", "/admin/audit", guarded.server.key).body.decode()
    for token in (weak, admin, forged, guarded.server.key):
        assert token.split("_", 2)[2] not in text


def test_a_flood_of_refusals_neither_fills_nor_hides(guarded: Guarded) -> None:
    guarded.owner()
    for number in range(100):
        guarded.ask("DELETE", f"/admin/keys/{number}")
    found = deeds(guarded)
    refused = [one for one in found if one["outcome"] != "done"]
    assert 0 < len(refused) <= 2 * 21
    assert [one["action"] for one in found if one["outcome"] == "done"] == ["owner.set"]


def test_an_owner_sees_what_concerns_the_owner_and_no_more(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    hers, his = guarded.key(alice), guarded.key(bob)
    guarded.ask("PUT", "/admin/policies/photos", hers, b'{"public":true}')
    guarded.ask("PUT", "/admin/policies/photos", his, b'{"public":true}')
    seen = deeds(guarded, hers)
    assert [(one["action"], one["about"].get("bucket")) for one in seen] == [
        ("policy.set", f"{alice}~photos"),
        ("key.create", None),
        ("owner.set", None),
    ]
    assert bob not in str(seen)
    weak = guarded.key(alice, scopes=["read", "list"])
    assert guarded.ask("GET", "/admin/audit", weak).status == 403


def test_pages_join(guarded: Guarded) -> None:
    for number in range(120):
        guarded.admin("PUT", f"policies/b{number}", versions=1)
    first = guarded.admin("GET", "audit").json()
    second = guarded.ask("GET", f"/admin/audit?cursor={first['next']}", guarded.server.key).json()
    assert (len(first["deeds"]), len(second["deeds"]), second["next"]) == (100, 20, None)
    buckets = [one["about"]["bucket"] for one in first["deeds"] + second["deeds"]]
    assert buckets == [f"b{number}" for number in reversed(range(120))]
    assert guarded.ask("GET", "/admin/audit?cursor=x", guarded.server.key).code == "invalid"


def test_without_keys_the_address_is_known(servers: Servers) -> None:
    server = servers.own()
    server.ask("PUT", "/admin/policies/b", msgspec.json.encode({"versions": 1}))
    (deed,) = server.ask("GET", "/admin/audit").json()["deeds"]
    assert (deed["key"], deed["address"], deed["action"]) == ("", "127.0.0.1", "policy.set")
