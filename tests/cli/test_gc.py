"""`holdfast gc` as a process on a folder, and what a server has found."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import holdfast
from holdfast.core.digest import Digest

DEAD = {Digest.of(data): len(data) for data in (b"a", b"b", bytes(1_000_000))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two names, and three blobs without any."""
    with holdfast.open(tmp_path) as bucket:
        bucket.put_many([("a", b"a"), ("large", bytes(1_000_000)), ("b", b"b"), ("c", b"c")])
        bucket.put("a", b"another")
        bucket.delete_many(["large", "b"])
    return tmp_path


def _gc(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _holdfast("gc", *arguments)


def _holdfast(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_has_no_name_is_removed_once_it_is_old(folder: Path) -> None:
    assert _gc(folder).stdout == "0 blobs (0 B) removed, 3 young, 2 live\n"
    time.sleep(2)  # the log counts in seconds
    *found, last = _gc(folder, "--dry-run", "--grace", "0").stdout.splitlines()
    assert last == "3 blobs (976.6 KiB) would be removed, 0 young, 2 live"
    assert [line.split()[:2] for line in found] == [
        [str(digest), f"{size_bytes:,}"] for digest, size_bytes in sorted(DEAD.items())
    ]
    *listed, report = map(
        json.loads, _gc(folder, "--grace=0", "--json", "--dry-run").stdout.split()
    )
    assert {one["digest"]: one["size_bytes"] for one in listed} == {
        str(digest): size_bytes for digest, size_bytes in DEAD.items()
    }
    expected = {"live": 2, "removed": 3, "removed_bytes": 1_000_002}
    assert report == {**expected, "young": 0, "protected": 0, "left": 0}
    assert json.loads(_gc(folder, "--grace=0", "--json").stdout) == report
    assert list((folder / "files").rglob("*.blob")) == []
    assert _gc(folder, "--grace=0").stdout.startswith("0 blobs")
    with holdfast.open(folder) as bucket:
        assert list(bucket.get_many("abc"))[::2] == [b"another", b"c"]


def test_the_grace_begins_when_a_blob_is_found_without_a_name(folder: Path) -> None:
    time.sleep(3)  # so that all of them are old, and were named until now
    assert _gc(folder, "--grace", "2").stdout.startswith("0 blobs (0 B) removed, 3 young")
    time.sleep(2)
    assert _gc(folder, "--grace", "2").stdout.startswith("3 blobs (976.6 KiB) removed, 0 young")


def test_what_has_lost_its_name_gets_one_again(folder: Path) -> None:
    assert _gc(folder).returncode == 0
    large = str(Digest.of(bytes(1_000_000)))
    assert _holdfast("undelete", "c", "--digest", large, "-s", folder).returncode == 4
    back = _holdfast("undelete", "again", "--digest", large, "-s", folder, "--json")
    assert json.loads(back.stdout)["digest"] == large
    assert _gc(folder, "--grace=0").stdout.startswith("2 blobs (2 B) removed, 0 young, 3 live")
    with holdfast.open(folder) as bucket:
        assert bucket.get("again") == bytes(1_000_000)
    gone = _holdfast("undelete", "k", "--digest", str(Digest.of(b"a")), "-s", folder)
    assert gone.returncode == 3


def test_a_folder_that_is_no_store_or_in_use_is_refused(folder: Path, tmp_path: Path) -> None:
    assert _gc(tmp_path / "absent").returncode == 3
    with holdfast.open(folder):
        assert _gc(folder).returncode == 7
    assert _gc(folder, "--grace", "-1").returncode == 2
    assert _gc("http://127.0.0.1:1").returncode == 2
