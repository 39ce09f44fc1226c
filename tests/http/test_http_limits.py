"""GET /limits: what a caller may use, and what is left."""

import pytest
from guarded import Guarded
from serving import Servers

NOTHING_USED = {"entries": 0, "entry_bytes": 0, "versions": 0, "version_bytes": 0}


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.shared(auth="keys", **ways))


def test_a_caller_is_told_its_rates_quotas_and_sizes(guarded: Guarded) -> None:
    owner = guarded.owner(quota_bytes=1000, quota_entries=9, bytes_s=1e6, burst_s=3)
    token = guarded.key(owner, requests_s=0.01, burst_s=1000, scopes=["write"], buckets=["photos"])
    policy = b'{"blob_bytes_max":500,"types":["image/*"],"quota_bytes":800}'
    guarded.ask("PUT", f"/admin/policies/{owner}~photos", guarded.server.key, policy)
    guarded.ask("PUT", f"/b/{owner}~photos/k.gif", guarded.server.key, b"GIF89a")
    told = guarded.ask("GET", "/limits?bucket=photos", token)
    assert told.headers["cache-control"] == "no-store"
    used = NOTHING_USED | {"entries": 1, "entry_bytes": 6}
    key_rate = {
        "policy": "key",
        "unit": "requests",
        "per_s": 0.01,
        "burst": 10,
        "left": 9,
        "full_in_s": 100,
    }
    rates = told.json().pop("rates")
    assert rates[0] == key_rate
    assert (rates[1]["policy"], rates[1]["unit"], rates[1]["burst"]) == ("owner", "bytes", 3e6)
    assert told.json() == {
        "rates": rates,
        "body_bytes_max": {"keyed": 31457280, "content": 10_000_000},
        "owner": {"name": owner, "quota_bytes": 1000, "quota_entries": 9, "used": used},
        "bucket": {
            "name": f"{owner}~photos",
            "blob_bytes_max": 500,
            "types": ["image/*"],
            "quota_bytes": 800,
            "quota_entries": None,
            "used": used,
        },
    }


def test_what_is_left_is_what_may_still_be_asked(guarded: Guarded) -> None:
    token = guarded.key(guarded.owner(), requests_s=0.01, burst_s=700)
    lefts = []
    while (reply := guarded.ask("GET", "/limits", token)).status == 200:
        lefts.append(reply.json()["rates"][0]["left"])
    assert lefts == [6, 5, 4, 3, 2, 1, 0]
    assert guarded.ask("HEAD", "/limits", token).status == 429


def test_without_limits_and_keys_there_is_little_to_tell(
    servers: Servers, ways: dict[str, str]
) -> None:
    server = servers.shared(max_body_bytes="0", **ways)
    told = server.ask("GET", "/limits?bucket=b").json()
    assert told["rates"] == []
    assert told["owner"] is None
    assert told["body_bytes_max"] == {"keyed": None, "content": 10_000_000}
    assert told["bucket"]["blob_bytes_max"] is None
    assert told["bucket"]["used"] == NOTHING_USED


def test_who_shows_no_key_is_told_what_holds_for_the_address(
    servers: Servers, ways: dict[str, str]
) -> None:
    server = servers.own(auth="keys", address_bytes_s="1 MB", **ways)
    told = server.ask("GET", "/limits")
    assert told.status == 200
    assert [rate["policy"] for rate in told.json()["rates"]] == ["address"]
    assert told.json()["owner"] is None


def test_limits_of_others_are_not_told(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    his = guarded.key(bob, buckets=["photos"])
    public = b'{"public":true}'
    guarded.ask("PUT", f"/admin/policies/{alice}~album", guarded.server.key, public)
    for path in (f"{alice}~photos", f"{alice}~album", f"{alice}~nothing"):
        reply = guarded.ask("GET", f"/limits?bucket={path}", his)
        assert (reply.status, reply.code) == (404, "not_found")
    assert guarded.ask("GET", "/limits?bucket=other", his).status == 403
    assert guarded.ask("GET", "/limits?bucket=photos").status == 401
    assert guarded.ask("GET", "/limits", his[:-1]).status == 401
    assert guarded.ask("GET", f"/limits?bucket={alice}~photos", guarded.server.key).status == 200


@pytest.mark.parametrize("query", ["bucket=B!", "bucket=a&bucket=b", "owner=a", "bucket=%zz"])
def test_a_bad_question_is_refused(guarded: Guarded, query: str) -> None:
    assert guarded.ask("GET", f"/limits?{query}", guarded.server.key).code == "invalid"
