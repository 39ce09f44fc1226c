"""Owners, keys and policies from the command line, on a folder and on a server."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from result import Holdfast, Result

KEY = re.compile(r"hf_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")


@pytest.fixture
def there(store: str, holdfast: Holdfast) -> str:
    """A store; only `put` makes a folder."""
    assert holdfast("put", "-", "k", "-b", "first", stdin=b"x").code == 0
    return store


@pytest.fixture
def name(there: str) -> str:
    """An owner that is not there."""
    return f"o{os.urandom(4).hex()}"


def rows(done: Result) -> dict[str, str]:
    """What a verb said of one thing."""
    pairs = (re.split(r"  +", line, maxsplit=1) for line in done.lines)
    return {pair[0].strip(): pair[1] if len(pair) > 1 else "" for pair in pairs}


def test_an_owner_from_its_beginning_to_its_end(name: str, holdfast: Holdfast) -> None:
    assert holdfast("owner", "show", name).code == 3
    added = holdfast("owner", "add", name, "--quota-bytes", "1KiB", "--json")
    assert json.loads(added.out)["quota_bytes"] == 1024
    assert holdfast("owner", "add", name).code == 4
    assert name in holdfast("owner", "list").lines
    assert json.loads(holdfast("owner", "show", name, "--json").out)["quota_bytes"] == 1024
    assert holdfast("owner", "set", name, "--quota-entries", "5", "--suspended").code == 0
    shown = rows(holdfast("owner", "show", name))
    assert (shown["quota_bytes"], shown["quota_entries"]) == ("1024", "5")
    assert shown["is_suspended"] == "True"
    assert f"{name}  suspended" in holdfast("owner", "list").lines
    holdfast("owner", "set", name, "--quota-bytes", "none", "--resumed")
    shown = rows(holdfast("owner", "show", name))
    assert (shown["quota_bytes"], shown["quota_entries"]) == ("", "5")
    assert holdfast("owner", "rm", name, "--yes").code == 0
    assert holdfast("owner", "show", name).code == 3
    again = holdfast("owner", "rm", name, "--yes")
    assert (again.code, again.err) == (0, f"holdfast: there is no owner {name!r}\n")


def test_what_goes_with_an_owner_is_counted_before(name: str, holdfast: Holdfast) -> None:
    bucket = f"{name}~photos"
    holdfast("owner", "add", name)
    holdfast("key", "add", name)
    holdfast("policy", "set", bucket, "--versions", "3")
    for body in (b"one", b"three"):
        assert holdfast("put", "-", "k", "-b", bucket, stdin=body).code == 0
    counted = "would be removed with {}: 1 entries and 1 versions (8 B), deleted names, and 1 keys"
    assert holdfast("owner", "rm", name, "--dry-run").lines == [counted.format(name)]
    as_json = json.loads(holdfast("owner", "rm", name, "--dry-run", "--json").out)
    assert (as_json["owner"], as_json["entries"], as_json["keys"]) == (name, 1, 1)
    nobody = holdfast("owner", "rm", name)
    assert (nobody.code, "--yes" in nobody.err) == (2, True)
    assert holdfast("cat", "k", "-b", bucket).out == b"three"
    assert holdfast("owner", "rm", name, "--yes").code == 0
    end_s = time.monotonic() + 15
    while holdfast("cat", "k", "-b", bucket).code != 3:
        assert time.monotonic() < end_s
        time.sleep(0.1)


def test_a_key_from_its_beginning_to_its_end(name: str, holdfast: Holdfast) -> None:
    holdfast("owner", "add", name)
    added = holdfast("key", "add", name, "--scope", "read", "-b", "photos", "--label", "phone")
    token = KEY.fullmatch(added.out.decode().strip())
    assert token is not None
    assert token[1] in added.err
    assert token[0] not in added.err
    shown = json.loads(holdfast("key", "show", token[1], "--json").out)
    assert (shown["owner"], shown["scopes"], shown["buckets"]) == (name, ["read"], ["photos"])
    assert rows(holdfast("key", "show", token[1]))["label"] == "phone"
    brief = json.loads(holdfast("key", "add", name, "--expires-in", "60", "--json").out)
    assert brief["expires_at"] > brief["created_at"]


def test_keys_are_shared_listed_renewed_and_revoked(name: str, holdfast: Holdfast) -> None:
    holdfast("owner", "add", name)
    made = json.loads(holdfast("key", "add", name, "--json").out)
    alias = json.loads(holdfast("key", "alias", made["id"], "--json").out)
    assert (alias["alias_of"], alias["owner"]) == (made["id"], name)
    listed = [line.split()[0] for line in holdfast("key", "list", "--owner", name).lines]
    assert listed == sorted([made["id"], alias["id"]])
    everybody = [json.loads(one)["id"] for one in holdfast("key", "list", "--json").lines]
    assert {made["id"], alias["id"]} <= set(everybody)
    rotated = KEY.fullmatch(holdfast("key", "rotate", made["id"]).out.decode().strip())
    assert rotated is not None
    assert rotated[1] == made["id"]
    assert rotated[0] != made["key"]
    assert holdfast("key", "revoke", made["id"], alias["id"]).code == 0
    assert holdfast("key", "revoke", made["id"]).code == 0
    assert holdfast("key", "show", made["id"]).code == 3
    assert holdfast("key", "rotate", made["id"]).code == 3


def test_a_policy_is_changed_member_by_member(name: str, holdfast: Holdfast) -> None:
    bucket = f"{name}-b"
    assert bucket not in holdfast("policy", "list").out.decode()
    said = ("--quota-bytes", "1MiB", "--type", "image/*", "--type", "video/mp4", "--public")
    assert holdfast("policy", "set", bucket, *said).code == 0
    assert holdfast("policy", "set", bucket, "--versions", "3", "--expire", "60").code == 0
    shown = json.loads(holdfast("policy", "show", bucket, "--json").out)
    assert (shown["quota_bytes"], shown["types"]) == (1 << 20, ["image/*", "video/mp4"])
    assert (shown["public"], shown["versions"], shown["expire_s"]) == (True, 3, 60)
    changed = ("--type", "any", "--quota-bytes", "none", "--private", "--expire", "none")
    holdfast("policy", "set", bucket, *changed)
    holdfast("put", "-", "k", "-b", bucket, stdin=b"12345")
    shown = json.loads(holdfast("policy", "show", bucket, "--json").out)
    assert (shown["quota_bytes"], shown["types"], shown["public"]) == (None, [], False)
    assert (shown["versions"], shown["expire_s"], shown["used"]["entry_bytes"]) == (3, None, 5)
    assert rows(holdfast("policy", "show", bucket))["used entry_bytes"] == "5"
    (line,) = [one for one in holdfast("policy", "list").lines if one.endswith(f"  {bucket}")]
    assert line.split() == ["1", "0", "5", "B", bucket]
    assert holdfast("policy", "rm", bucket).code == 0
    assert json.loads(holdfast("policy", "show", bucket, "--json").out)["versions"] == 0


def test_more_buckets_than_a_page_holds_are_listed_each_once(name: str, holdfast: Holdfast) -> None:
    for number in range(0, 130, 65):
        buckets = [f"{name}-{each:03}" for each in range(number, number + 65)]
        for bucket in buckets:
            holdfast("policy", "set", bucket, "--versions", "1")
    listed = [json.loads(line)["bucket"] for line in holdfast("policy", "list", "--json").lines]
    mine = [bucket for bucket in listed if bucket.startswith(f"{name}-")]
    assert mine == [f"{name}-{each:03}" for each in range(130)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("owner", "add", "A!"),
        ("owner", "add", "new", "--quota-bytes", "many"),
        ("owner", "add", "new", "--quota-bytes", "-1"),
        ("owner", "set", "x", "--requests-s", "-1"),
        ("key", "add", "nobody-made-me"),
        ("key", "add", "--scope", "fly"),
        ("key", "add", "--network", "here"),
        ("key", "add", "--expires-in", "0"),
        ("policy", "set", "B!", "--public"),
        ("policy", "set", "b", "--type", "png"),
        ("policy", "set", "b", "--versions", "1000000"),
        ("policy", "set", "b", "--expire", "0"),
        ("policy", "set", "b", "--mismatch", "shrug"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    there: str, holdfast: Holdfast, arguments: tuple[str, ...]
) -> None:
    holdfast("owner", "add", "x")
    done = holdfast(*arguments)
    assert (done.code, done.out) == (2, b"")
    assert done.err


def test_a_folder_that_is_not_there_is_not_made(holdfast: Holdfast, tmp_path: Path) -> None:
    for arguments in (["owner", "add", "x"], ["key", "list"], ["policy", "list"]):
        assert holdfast(*arguments, "-s", tmp_path / "absent").code == 3
    assert list(tmp_path.iterdir()) == []
