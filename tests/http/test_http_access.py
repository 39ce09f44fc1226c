"""Who may do what over HTTP: keys, owners, public buckets, and what nobody must learn."""

import base64
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from guarded import Guarded, bearer
from rawhttp import Reply
from serving import Server, Servers

from holdfast.core.access import ApiKey, Scope
from holdfast.core.entry import moment
from holdfast.core.policy import Owner
from holdfast.core.seams import SystemClock
from holdfast.depot.local import open_depot
from holdfast.http import schemas


@pytest.fixture
def guarded(servers: Servers, ways: dict[str, str]) -> Guarded:
    return Guarded(servers.shared(auth="keys", **ways))


def wrong_keys(guarded: Guarded) -> list[str]:
    """Keys that open nothing: forged, cut, longer, of another's id, revoked, expired, none."""
    owner = guarded.owner()
    good, other = guarded.key(owner), guarded.key(owner)
    revoked = guarded.key(owner)
    guarded.admin("DELETE", f"keys/{revoked.split('_')[1]}")
    expired = guarded.key(owner, expires_at="2001-01-01T00:00:00Z")
    far = guarded.key(owner, networks=["203.0.113.0/24"])
    gone = guarded.owner()
    orphan = guarded.key(gone)
    guarded.admin("DELETE", f"owners/{gone}")
    suspended = guarded.owner()
    stopped = guarded.key(suspended)
    guarded.admin("PUT", f"owners/{suspended}", is_suspended=True)
    swapped = "_".join([*good.split("_")[:2], other.split("_", 2)[2]])
    return [
        good[:-1],
        good + "A",
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        swapped,
        "hf_000000000000_" + "A" * 43,
        *(revoked, expired, far, orphan, stopped),
        *("x", "hf__", "\xff", "a" * 5000),
    ]


def test_without_a_key_there_is_nothing(guarded: Guarded) -> None:
    for method, path in [
        ("GET", "/blob/k"),
        ("HEAD", "/blob/k"),
        ("PUT", "/blob/k"),
        ("DELETE", "/blob/k"),
        ("GET", "/blob/k/metadata"),
        ("GET", "/blob"),
        ("GET", "/b/somebody~photos/k"),
        ("GET", "/blob/k?version=1"),
        ("GET", "/deleted/default"),
        ("POST", "/undelete/default/k"),
        ("GET", "/versions/default/k"),
        ("POST", "/restore/default/k?version=1"),
        ("GET", "/blobs"),
        ("GET", "/blobs/" + "0" * 64),
        ("PUT", "/blobs/" + "0" * 64),
        ("GET", "/stats"),
        ("GET", "/metrics"),
        ("GET", "/admin/keys"),
        ("GET", "/admin/owners"),
        ("POST", "/admin/keys"),
    ]:
        reply = guarded.ask(method, path)
        assert reply.status == 401, (method, path)
        assert "Bearer" in reply.headers["www-authenticate"]
    for path in ("/healthz", "/readyz", "/openapi.json", "/"):
        assert guarded.ask("GET", path).status == 200


def test_what_is_wrong_with_a_key_is_not_told(guarded: Guarded) -> None:
    answers = {
        (reply.status, reply.body)
        for token in wrong_keys(guarded)
        for reply in [guarded.ask("GET", "/blob/k", token), guarded.ask("GET", "/blobs", token)]
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 401


@pytest.mark.parametrize("spelled", ["Bearer {}", "bearer {}", "BEARER   {}", "Bearer   {}"])
def test_a_bearer_may_be_spelled_as_the_standard_has_it(guarded: Guarded, spelled: str) -> None:
    shown = {"Authorization": spelled.format(guarded.server.key)}
    assert guarded.server.ask("GET", "/stats", headers=shown).status == 200


@pytest.mark.parametrize("value", ["Bearer", "Basic", "Basic !!!", "Digest x", "", "Basic eDp5"])
def test_a_malformed_authorization_opens_nothing(guarded: Guarded, value: str) -> None:
    assert guarded.server.ask("GET", "/blob/k", headers={"Authorization": value}).status == 401


def test_a_key_opens_its_owners_buckets_either_way(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner)
    assert guarded.ask("PUT", "/b/photos/k", token, b"mine").status == 201
    assert guarded.ask("GET", "/b/photos/k", token).body == b"mine"
    assert guarded.ask("GET", f"/b/{owner}~photos/k", token).body == b"mine"
    basic = base64.b64encode(f"anybody:{token}".encode()).decode()
    reply = guarded.server.ask("GET", "/b/photos/k", headers={"Authorization": f"Basic {basic}"})
    assert reply.body == b"mine"
    assert guarded.ask("GET", f"/b/{owner}~photos/k", guarded.server.key).body == b"mine"


def test_an_owner_learns_nothing_of_another(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    hers, his = guarded.key(alice), guarded.key(bob)
    data = b"between us" + alice.encode()
    digest = hashlib.sha256(data).hexdigest()
    guarded.ask("PUT", "/b/photos/k", hers, data)

    def differs(make: Callable[[str], Reply]) -> bool:
        """Whether something of hers is answered otherwise than what is not there."""
        there, missing = make("photos/k"), make("nothing/k")
        return (there.status, there.json().get("error", {}).get("code")) != (
            missing.status,
            missing.json().get("error", {}).get("code"),
        )

    for method in ("GET", "PUT", "DELETE"):
        assert not differs(lambda path, m=method: guarded.ask(m, f"/b/{alice}~{path}", his, b"x"))  # type: ignore[misc]
    assert guarded.ask("GET", f"/b/{alice}~photos/k", his).status == 404
    assert guarded.ask("PUT", f"/b/{alice}~photos/k", his, b"x").status == 403
    assert guarded.ask("GET", f"/b/{alice}~photos", his).status == 403
    assert guarded.ask("GET", "/b/photos/k", his).status == 404
    # Knowing a hash is no right to read, nor to learn that somebody has it
    assert guarded.ask("GET", f"/blobs/{digest}", his).status == 404
    assert digest not in guarded.ask("GET", "/blobs", his).body.decode()
    asked = msgspec.json.encode({"hashes": [f"sha256:{digest}"]})
    assert guarded.ask("POST", "/blobs/missing", his, asked).json()["hashes"]
    assert guarded.ask("GET", f"/blobs/{digest}", hers).body == data
    # The same bytes of two owners are two things
    assert guarded.ask("PUT", f"/blobs/{digest}", his, data).status == 201
    assert guarded.ask("PUT", f"/blobs/{digest}", his, data).status == 200
    assert guarded.ask("DELETE", f"/blobs/{digest}", his).status == 204
    assert guarded.ask("GET", f"/blobs/{digest}", his).status == 404
    assert guarded.ask("GET", f"/blobs/{digest}", hers).body == data
    # Nor by a copy
    copy = {"Authorization": f"Bearer {his}", "Holdfast-Copy-From": f"{alice}~photos/k"}
    assert guarded.server.ask("PUT", "/b/photos/stolen", headers=copy).status == 404
    assert guarded.ask("GET", f"/admin/policies/{alice}~photos", his).status == 403
    assert guarded.ask("GET", f"/admin/keys/{hers.split('_')[1]}", his).status == 404
    assert guarded.ask("GET", f"/admin/owners/{alice}", his).status == 403


def test_an_owner_learns_nothing_of_what_another_had(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    hers, his = guarded.key(alice), guarded.key(bob)
    for key in ("k", "gone"):
        guarded.ask("PUT", f"/b/photos/{key}", hers, b"x")
    guarded.ask("DELETE", "/b/photos/gone", hers)
    for method, where in [
        ("POST", "undelete/{}~photos/gone"),
        ("GET", "versions/{}~photos/k"),
        ("POST", "restore/{}~photos/k?version=0"),
        ("GET", "deleted/{}~photos"),
        ("GET", "b/{}~photos/k?version=0"),
    ]:
        there, missing = (
            guarded.ask(method, "/" + where.format(name), his) for name in (alice, "nobody")
        )
        assert there.status == missing.status in {403, 404}
        assert there.code == missing.code


def test_only_who_runs_the_store_names_a_blob_by_its_hash_alone(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    hers, his = guarded.key(alice), guarded.key(bob)
    digest = hashlib.sha256(alice.encode()).hexdigest()
    guarded.ask("PUT", "/b/photos/k", hers, alice.encode())
    for token in (hers, his):
        reply = guarded.ask("POST", f"/undelete/photos/new?digest={digest}", token)
        assert (reply.status, reply.code) == (403, "denied")
        assert guarded.ask("GET", "/admin/nameless", token).status == 403
    assert guarded.ask("POST", f"/undelete/{alice}~photos/new?digest={digest}").status == 401
    path = f"/undelete/{alice}~photos/new?digest={digest}"
    assert guarded.ask("POST", path, guarded.server.key).status == 200
    assert guarded.ask("GET", "/b/photos/new", hers).body == alice.encode()
    assert guarded.ask("POST", "/undelete/b/k?digest=x", guarded.server.key).status == 400


def test_a_list_of_policies_has_what_the_key_is_for(guarded: Guarded) -> None:
    owner, other = guarded.owner(), guarded.owner()
    token, his = guarded.key(owner), guarded.key(other)
    for bucket in ("a", "b"):
        guarded.ask("PUT", f"/b/{bucket}/k", token, b"x")
        guarded.ask("PUT", f"/b/{bucket}/k", his, b"x")
    guarded.ask("PUT", "/admin/policies/c", token, b'{"versions":1}')
    guarded.ask("DELETE", "/b/b/k", token)

    def listed(shown: str) -> list[str]:
        page = guarded.ask("GET", "/admin/policies", shown).json()
        return [one["bucket"] for one in page["policies"]]

    assert listed(token) == [f"{owner}~a", f"{owner}~c"]
    assert listed(guarded.key(owner, buckets=["b", "a"])) == [f"{owner}~a", f"{owner}~b"]
    assert guarded.ask("GET", "/admin/policies", guarded.key(owner, scopes=["read"])).status == 403
    assert guarded.ask("GET", "/admin/policies").status == 401
    one = guarded.ask("GET", f"/admin/policies?cursor={owner}~a", token).json()
    assert [each["bucket"] for each in one["policies"]] == [f"{owner}~c"]


def test_who_runs_the_store_gets_a_key_unless_there_is_one(tmp_path: Path) -> None:
    with open_depot(tmp_path / "data") as depot:
        depot.engine.names.policies.set_owner(Owner(name="alice"))
        depot.engine.keys.create(ApiKey(id="", owner="alice"))
        depot.engine.keys.create(ApiKey(id="", expires_us=1))
        depot.engine.keys.create(ApiKey(id="", scopes=(Scope.READ,)))
    with Server(tmp_path, {"auth": "keys"}) as first:
        assert first.ask("GET", "/admin/keys", headers=bearer(first.key)).status == 200
    with Server(tmp_path, {"auth": "keys"}) as second:
        assert second.key == ""
        assert second.ask("GET", "/admin/keys", headers=bearer(first.key)).status == 200


READS = ("GET", "HEAD", "META", "VERSIONS")
WRITES = ("PUT", "MANY", "COPY", "UNDELETE", "RESTORE")


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"GET", "HEAD", "META", "VERSIONS"}),
        (["write"], {"PUT", "MANY"}),
        (["delete"], {"DELETE"}),
        (["list"], {"LIST", "DELETED"}),
        (["admin"], {"POLICY"}),
        (["read", "write"], {*READS, *WRITES}),
        (["read", "write", "delete"], {*READS, *WRITES, "MOVE", "DELETE"}),
    ],
)
def test_a_key_does_what_its_scopes_say(
    guarded: Guarded, scopes: list[str], allowed: set[str]
) -> None:
    owner = guarded.owner()
    full, token = guarded.key(owner), guarded.key(owner, scopes=scopes)

    def copy(header: str, source: str) -> Callable[[], Reply]:
        headers = {**bearer(token), header: f"b/{source}"}
        return lambda: guarded.server.ask("PUT", "/b/b/copied", headers=headers)

    def bring() -> Reply:
        headers = {**bearer(token), "Content-Type": "application/vnd.holdfast.many"}
        body = b'{"name":"many","body_bytes":1}\nx'
        return guarded.server.ask("POST", "/b/b", body, headers)

    verbs: dict[str, Callable[[], Reply]] = {
        "GET": lambda: guarded.ask("GET", "/b/b/k", token),
        "HEAD": lambda: guarded.ask("HEAD", "/b/b/k", token),
        "META": lambda: guarded.ask("GET", "/b/b/k/metadata", token),
        "PUT": lambda: guarded.ask("PUT", "/b/b/new", token, b"x"),
        "MANY": bring,
        "LIST": lambda: guarded.ask("GET", "/b/b", token),
        "COPY": copy("Holdfast-Copy-From", "k"),
        "MOVE": copy("Holdfast-Move-From", "other"),
        "VERSIONS": lambda: guarded.ask("GET", "/versions/b/k", token),
        "DELETED": lambda: guarded.ask("GET", "/deleted/b", token),
        "UNDELETE": lambda: guarded.ask("POST", "/undelete/b/gone", token),
        "RESTORE": lambda: guarded.ask("POST", "/restore/b/k?version=0", token),
        "DELETE": lambda: guarded.ask("DELETE", "/b/b/k", token),
        "POLICY": lambda: guarded.ask("GET", "/admin/policies/b", token),
    }
    guarded.ask("PUT", "/b/b/k", full, b"x")
    guarded.ask("PUT", "/b/b/other", full, b"x")
    guarded.ask("PUT", "/b/b/gone", full, b"x")
    guarded.ask("DELETE", "/b/b/gone", full)
    for name, verb in verbs.items():
        status = verb().status
        assert (status < 300) == (name in allowed), (name, status)
        assert status < 300 or status == 403


def test_a_key_may_be_for_some_buckets(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, buckets=["a"])
    assert guarded.ask("PUT", "/b/a/k", token, b"x").status == 201
    assert guarded.ask("PUT", "/b/c/k", token, b"x").status == 403
    assert guarded.ask("GET", "/blobs", token).status == 403
    headers = {**bearer(token), "Holdfast-Copy-From": "c/k"}
    assert guarded.server.ask("PUT", "/b/a/copied", headers=headers).status == 403


def test_anybody_reads_a_public_bucket_and_nothing_more(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner)
    path = f"/b/{owner}~album/k"
    guarded.ask("PUT", "/b/album/k", token, b"look")
    assert guarded.ask("GET", path).status == 401
    assert guarded.ask("PUT", "/admin/policies/album", token, b'{"public":true}').status == 200
    for _ in range(3):
        assert guarded.ask("GET", path).body == b"look"
        assert guarded.ask("GET", path, guarded.key(guarded.owner())).body == b"look"
    assert guarded.ask("PUT", path, body=b"x").status == 401
    assert guarded.ask("DELETE", path).status == 401
    assert guarded.ask("GET", f"/b/{owner}~album").status == 401
    assert guarded.ask("GET", f"{path}?version=0").status == 401
    assert guarded.ask("GET", f"{path}?version=0", guarded.key(guarded.owner())).status == 404
    assert guarded.ask("GET", f"/versions/{owner}~album/k").status == 401
    guarded.ask("DELETE", "/admin/policies/album", token)
    assert guarded.ask("GET", path).status == 401


def test_a_revoked_key_opens_nothing_at_once(guarded: Guarded) -> None:
    owner = guarded.owner()
    token, other = guarded.key(owner), guarded.key(owner)
    alias = guarded.key(owner, alias_of=token.split("_")[1])
    guarded.ask("PUT", "/b/b/k", token, b"x")
    with guarded.server.connect() as connection:
        for _ in range(5):  # by now it is remembered, with the bytes of the request
            assert connection.ask("GET", "/b/b/k", headers=bearer(token)).status == 200
            assert connection.ask("GET", "/b/b/k", headers=bearer(alias)).status == 200
        assert guarded.admin("DELETE", f"keys/{token.split('_')[1]}").status == 204
        assert connection.ask("GET", "/b/b/k", headers=bearer(token)).status == 401
        assert connection.ask("GET", "/b/b/k", headers=bearer(alias)).status == 401
        assert connection.ask("GET", "/b/b/k", headers=bearer(other)).status == 200
    with ThreadPoolExecutor(8) as pool:  # on every worker
        ends = pool.map(lambda _: guarded.ask("GET", "/b/b/k", token).status, range(32))
        assert set(ends) == {401}
    assert guarded.admin("DELETE", f"keys/{token.split('_')[1]}").status == 204


def test_a_rotated_key_has_only_its_new_secret(guarded: Guarded) -> None:
    token = guarded.key(guarded.owner())
    new = guarded.admin("POST", f"keys/{token.split('_')[1]}/rotate").json()["key"]
    assert new != token
    assert guarded.ask("GET", "/blob", token).status == 401
    assert guarded.ask("GET", "/blob", new).status == 200


def test_a_key_that_expires_stops_at_its_time(guarded: Guarded) -> None:
    expires_at = moment(SystemClock().now_us() + 1_500_000).isoformat()
    token = guarded.key(guarded.owner(), expires_at=expires_at)
    guarded.ask("PUT", "/blob/k", token, b"x")
    deadline = time.monotonic() + 10
    while (status := guarded.ask("GET", "/blob/k", token).status) == 200:
        assert time.monotonic() < deadline
    assert status == 401


def test_an_alias_shares_what_its_key_may(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, scopes=["read"], buckets=["a"])
    alias = guarded.key("", alias_of=token.split("_")[1])
    assert guarded.ask("GET", "/b/a/k", alias).status == 404
    assert guarded.ask("PUT", "/b/a/k", alias, b"x").status == 403
    assert guarded.ask("GET", "/b/c/k", alias).status == 403
    second = guarded.admin("POST", "keys", alias_of=alias.split("_")[1])
    assert second.code == "invalid"


def test_nobody_makes_a_key_that_may_more(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner, scopes=["admin", "read"], buckets=["a"])

    def create(**about: object) -> Reply:
        return guarded.ask("POST", "/admin/keys", token, msgspec.json.encode(about))

    assert create(scopes=["read"], buckets=["a"]).status == 201
    assert create(scopes=["write"], buckets=["a"]).status == 403
    assert create(scopes=["read"]).status == 403
    assert create(scopes=["read"], buckets=["a", "c"]).status == 403
    assert create(owner="somebody", scopes=["read"], buckets=["a"]).status == 400
    assert guarded.ask("PUT", f"/admin/owners/{owner}", token, b"{}").status == 403
    # Nor takes over one that does, by a new secret or as its alias
    full = guarded.key(owner).split("_")[1]
    assert guarded.ask("POST", f"/admin/keys/{full}/rotate", token).status == 403
    assert create(alias_of=full).status == 403
    own = token.split("_")[1]
    assert create(alias_of=own).status == 201
    assert guarded.ask("POST", f"/admin/keys/{own}/rotate", token).status == 200


@pytest.mark.parametrize(
    ("own", "within", "beyond"),
    [
        (
            {"networks": ["127.0.0.0/8", "10.0.0.0/8"]},
            [{"networks": ["10.1.0.0/16"]}, {"networks": ["127.0.0.1", "10.0.0.0/8"]}],
            [{}, {"networks": ["10.0.0.0/7"]}, {"networks": ["10.0.0.1", "::1"]}],
        ),
        (
            {"expires_at": "2100-01-01T00:00:00Z"},
            [{"expires_at": "2099-01-01T00:00:00Z"}, {"expires_at": "2100-01-01T00:00:00Z"}],
            [{}, {"expires_at": "2100-01-01T00:00:01Z"}],
        ),
        (
            {"requests_s": 1000, "bytes_s": 0},
            [{"requests_s": 1000, "bytes_s": 5}, {"requests_s": 5, "bytes_s": 0}],
            [{}, {"requests_s": 1001, "bytes_s": 0}, {"requests_s": 0, "bytes_s": 0}],
        ),
        ({}, [{}], [{"requests_s": 0}, {"bytes_s": 1}, {"burst_s": 100}]),
    ],
)
def test_a_key_that_is_made_is_held_to_all_that_holds_its_maker(
    guarded: Guarded,
    own: dict[str, object],
    within: list[dict[str, object]],
    beyond: list[dict[str, object]],
) -> None:
    token = guarded.key(guarded.owner(), **own)

    def create(about: dict[str, object]) -> int:
        return guarded.ask("POST", "/admin/keys", token, msgspec.json.encode(about)).status

    assert [create(about) for about in within] == [201] * len(within)
    assert [create(about) for about in beyond] == [403] * len(beyond)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("policies/b", b"[]"),
        ("policies/b", b"{"),
        ("policies/b", b'{"nonsense":1}'),
        ("policies/b", b'{"quota_bytes":-1}'),
        ("policies/b", b'{"quota_bytes":"many"}'),
        ("policies/B!", b"{}"),
        ("owners/B!", b"{}"),
        ("owners/b", b'{"name":"c"}'),
        ("owners/b", b'{"created_us":1}'),
        ("owners/b", b'{"created_at":"2001-01-01T00:00:00Z"}'),
    ],
)
def test_a_bad_admin_request_is_refused(guarded: Guarded, path: str, body: bytes) -> None:
    reply = guarded.ask("PUT", f"/admin/{path}", guarded.server.key, body)
    assert (reply.status, reply.code) == (400, "invalid")


@pytest.mark.parametrize(
    "about",
    [
        {"expires_at": "soon"},
        {"expires_at": 1},
        {"expires_at": "2001-01-01T00:00:00"},
        {"scopes": ["fly"]},
        {"networks": ["here"]},
        {"buckets": ["a~b"]},
        {"label": "x" * 201},
        {"owner": "nobody-made"},
    ],
)
def test_a_bad_key_is_not_made(guarded: Guarded, about: dict[str, object]) -> None:
    reply = guarded.admin("POST", "keys", **about)
    assert (reply.status, reply.code) == (400, "invalid")


@pytest.mark.parametrize("path", schemas.ADMIN)
def test_the_described_methods_are_those_of_the_admin_face(guarded: Guarded, path: str) -> None:
    described = {name.upper() for name in schemas.ADMIN[path]}
    place = path.replace("{owner}", "some").replace("{bucket}", "b").replace("{id}", "0" * 12)
    place = place.replace("{webhook}", "w")
    for method in {"GET", "PUT", "POST", "DELETE"} - described:
        reply = guarded.ask(method, place, guarded.server.key)
        assert reply.status == 405
        assert set(reply.headers["allow"].split(", ")) == described


def test_secrets_are_shown_once_and_logged_never(guarded: Guarded) -> None:
    owner = guarded.owner()
    token = guarded.key(owner)
    guarded.ask("GET", "/blob/k", token)
    guarded.ask("GET", "/blob/k", token[:-1])
    secret = token.split("_", 2)[2]
    shown = guarded.admin("GET", f"keys/{token.split('_')[1]}").body
    assert secret.encode() not in shown
    assert hashlib.sha256(secret.encode()).hexdigest().encode() not in shown
    assert secret not in guarded.server.log.read_text()
    assert secret not in guarded.ask("GET", "/metrics", guarded.server.key).body.decode()


def test_a_removed_owner_leaves_nothing_and_others_stay(guarded: Guarded) -> None:
    alice, bob = guarded.owner(), guarded.owner()
    hers, his = guarded.key(alice), guarded.key(bob)
    digest = hashlib.sha256(b"shared").hexdigest()
    for token in (hers, his):
        for number in range(30):
            guarded.ask("PUT", f"/b/photos/{number}", token, b"%d" % number)
        guarded.ask("DELETE", "/b/photos/7", token)
        guarded.ask("PUT", f"/blobs/{digest}", token, b"shared")
    assert guarded.admin("GET", f"owners/{alice}").json()["used"]["entries"] == 30
    assert guarded.admin("DELETE", f"owners/{alice}").status == 204
    assert guarded.ask("GET", "/b/photos/1", hers).status == 401
    deadline = time.monotonic() + 20
    while guarded.admin("PUT", f"owners/{alice}").status != 201:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    new = guarded.key(alice)
    assert guarded.ask("GET", "/b/photos", new).json()["entries"] == []
    assert guarded.ask("GET", f"/blobs/{digest}", new).status == 404
    assert guarded.ask("GET", "/b/photos/1", hers).status == 401
    assert guarded.admin("GET", f"owners/{alice}").json()["used"]["entry_bytes"] == 0
    assert len(guarded.ask("GET", "/b/photos", his).json()["entries"]) == 29
    assert guarded.ask("GET", f"/blobs/{digest}", his).body == b"shared"


def test_a_quota_is_of_the_owner(guarded: Guarded) -> None:
    owner = guarded.owner(quota_bytes=100)
    token = guarded.key(owner)
    digest = hashlib.sha256(bytes(60)).hexdigest()
    assert guarded.ask("PUT", f"/blobs/{digest}", token, bytes(60)).status == 201
    refused = guarded.ask("PUT", "/b/b/k", token, bytes(41))
    assert (refused.status, refused.code) == (507, "quota_exceeded")
    assert guarded.ask("PUT", "/b/b/k", token, bytes(40)).status == 201
    assert guarded.ask("DELETE", f"/blobs/{digest}", token).status == 204
    assert guarded.ask("PUT", "/b/b/l", token, bytes(60)).status == 201
    assert guarded.ask("PUT", f"/blobs/{digest}", token, bytes(60)).status == 507
