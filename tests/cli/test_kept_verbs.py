"""Bringing back, versions and events from the command line, on a folder and on a server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from result import Holdfast


@pytest.fixture
def kept(store: str, holdfast: Holdfast) -> str:
    """A store whose bucket keeps what was."""
    bucket = os.environ["HOLDFAST_BUCKET"]
    assert holdfast("put", "-", "k", "-b", "first", stdin=b"a folder is made by put").code == 0
    assert holdfast("policy", "set", bucket, "--undelete", "1000", "--versions", "5").code == 0
    return store


@pytest.mark.parametrize("key", ["a/b", "../x", "\u00fc \u202e?", "x/metadata", "k" * 1024])
def test_deleted_keys_are_listed_and_come_back(kept: str, holdfast: Holdfast, key: str) -> None:
    put = json.loads(holdfast("put", "-", key, "--json", stdin=b"x").out)
    assert holdfast("undelete", key).code == 4
    assert holdfast("rm", key).code == 0
    (grave,) = [json.loads(line) for line in holdfast("deleted", "--json").lines]
    assert grave["entry"] == put
    assert holdfast("deleted", "none/").lines == []
    (line,) = holdfast("deleted").lines
    assert line.endswith(f"  {key}")
    assert json.loads(holdfast("undelete", key, "--json").out) == put
    assert holdfast("cat", key).out == b"x"
    assert holdfast("deleted").lines == []


def test_each_of_many_keys_is_tried(kept: str, holdfast: Holdfast) -> None:
    for key in ("a", "b"):
        holdfast("put", "-", key, stdin=b"x")
    holdfast("rm", "a", "b")
    done = holdfast("undelete", "a", "absent", "b")
    assert done.code == 3
    assert "absent: no such deleted key" in done.err
    assert holdfast("ls").lines == ["a", "b"]
    assert holdfast("undelete", "").code == 2
    assert holdfast("undelete", "sha256:" + "0" * 64).code == 2


def test_versions_are_listed_read_and_restored(kept: str, holdfast: Holdfast) -> None:
    entries = [json.loads(holdfast("put", "-", "k", "--json", stdin=b).out) for b in (b"0", b"1")]
    assert [json.loads(line) for line in holdfast("versions", "k", "--json").lines] == entries[::-1]
    assert [line.split()[0] for line in holdfast("versions", "k").lines] == ["1", "0"]
    assert holdfast("cat", "k", "--version", "0").out == b"0"
    assert holdfast("get", "k", "old", "--version", "0").code == 0
    assert Path("old").read_bytes() == b"0"
    assert json.loads(holdfast("stat", "k", "--version", "0", "--json").out)["version"] == 0
    assert holdfast("restore", "k", "0", "--if-match", entries[0]["digest"]).code == 4
    restored = holdfast("restore", "k", "0", "--if-match", entries[1]["digest"], "--json")
    assert json.loads(restored.out)["version"] == 2
    assert holdfast("cat", "k").out == b"0"


def test_a_version_that_is_not_there_is_said(kept: str, holdfast: Holdfast) -> None:
    for key in "km":
        holdfast("put", "-", key, stdin=b"0")
    for arguments in (["cat", "k", "--version", "3"], ["restore", "k", "3"], ["versions", "l"]):
        assert holdfast(*arguments).code == 3
    holdfast("policy", "rm", os.environ["HOLDFAST_BUCKET"])
    holdfast("put", "-", "m", stdin=b"1")
    gone = holdfast("cat", "m", "--version", "0")
    assert (gone.code, "not kept any more" in gone.err) == (3, True)
    assert holdfast("cat", "sha256:" + "0" * 64, "--version", "0").code == 2
    assert holdfast("cat", "k", "--version", "-1").code == 2


def test_events_are_told_from_any_place_on(kept: str, holdfast: Holdfast) -> None:
    bucket = os.environ["HOLDFAST_BUCKET"]
    for key in ("a", "b"):
        holdfast("put", "-", key, stdin=b"x")
    holdfast("rm", "a")
    events = [json.loads(line) for line in holdfast("events", "--json").lines]
    assert [(one["kind"], one["key"]) for one in events] == [
        ("uploaded", "a"),
        ("uploaded", "b"),
        ("deleted", "a"),
    ]
    lines = [line.split() for line in holdfast("events", "--from", events[0]["cursor"]).lines]
    assert [line[2:] for line in lines] == [["uploaded", f"{bucket}/b"], ["deleted", f"{bucket}/a"]]
    assert [line[0] for line in lines] == [one["cursor"] for one in events[1:]]
    assert len(holdfast("events", "--prefix", "b").lines) == 1
    assert len(holdfast("events", "--all").lines) >= 3
    assert holdfast("events", "--from", "now").lines == []
    for wrong in (["--from", "x"], ["--from", "999999999"], ["--wait", "-1"]):
        assert holdfast("events", *wrong).code == 2


@pytest.mark.parametrize("store", ["server"], indirect=True)
def test_events_are_followed_until_somebody_ends_it(store: str, holdfast: Holdfast) -> None:
    command = [sys.executable, "-m", "holdfast", "events", "--from", "now", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        time.sleep(1.5)  # until it listens
        for number in range(2):
            holdfast("put", "-", f"k{number}", stdin=b"x")
            assert following.stdout.readline().split()[-1].endswith(b"/k%d" % number)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130
