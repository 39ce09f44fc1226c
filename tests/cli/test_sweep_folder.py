"""`holdfast sweep` as a process on a folder."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import holdfast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with two names, and three blobs without any."""
    with holdfast.open(tmp_path) as bucket:
        bucket.put_many([("a", b"a"), ("large", bytes(1_000_000)), ("b", b"b"), ("c", b"c")])
        bucket.put("a", b"another")
        bucket.delete_many(["large", "b"])
    return tmp_path


def _sweep(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "sweep", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_has_no_name_is_removed_once_it_is_old(folder: Path) -> None:
    assert _sweep(folder).stdout == "0 blobs (0 B) removed, 3 young, 2 live\n"
    time.sleep(2)  # the log counts in seconds
    expected = "3 blobs (976.6 KiB) would be removed, 0 young, 2 live\n"
    assert _sweep(folder, "--dry-run", "--grace", "0").stdout == expected
    report = json.loads(_sweep(folder, "--grace=0", "--json").stdout)
    assert report == {
        "live": 2,
        "removed": 3,
        "removed_bytes": 1_000_002,
        "young": 0,
        "protected": 0,
        "left": 0,
    }
    assert list((folder / "files").rglob("*.blob")) == []
    assert _sweep(folder, "--grace=0").stdout.startswith("0 blobs")
    with holdfast.open(folder) as bucket:
        assert list(bucket.get_many("abc"))[::2] == [b"another", b"c"]


def test_a_folder_that_is_no_store_or_in_use_is_refused(folder: Path, tmp_path: Path) -> None:
    assert _sweep(tmp_path / "absent").returncode == 3
    with holdfast.open(folder):
        assert _sweep(folder).returncode == 7
    assert _sweep(folder, "--grace", "-1").returncode == 2
