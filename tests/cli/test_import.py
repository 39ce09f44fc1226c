"""`holdfast import` as a process on folders."""

import json
import subprocess
import sys
from pathlib import Path

import holdfast
from holdfast.stores.bloblog import Shard
from holdfast.testing.blobs import make

LARGE = make(300_000)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "import", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_every_sound_blob_of_every_shard_is_taken_over(tmp_path: Path) -> None:
    source, target = tmp_path / "ferric", tmp_path / "store"
    refs = Shard(source / "blob" / "shard_0").put_many([b"hello", LARGE])
    refs += Shard(source / "blob" / "shard_11").put_many([b"other", b"rotten"])
    segment = source / "blob" / "shard_11" / "segments" / f"{0:020d}.bloblog"
    data = bytearray(segment.read_bytes())
    data[refs[3].offset] ^= 1
    segment.write_bytes(data)
    done = run("ferricstore", source, "-s", target)
    assert done.returncode == 5
    assert done.stdout == (
        f"damaged  {segment}  54 bytes at 53\n3 blobs (293.0 KiB) stored, 1 places damaged\n"
    )
    with holdfast.open(target) as bucket:
        assert list(bucket.content.get_many([ref.digest for ref in refs[:3]])) == [
            b"hello", LARGE, b"other",
        ]  # fmt: skip
        assert len(list(bucket.content.list().digests)) == 3
    again = json.loads(run("ferricstore", source, "-s", target, "--json").stdout)
    assert (again["blobs"], again["size_bytes"], again["damaged"]) == (3, 300_010, 1)
    assert again["places"] == [{"file": str(segment), "offset": 53, "size_bytes": 54}]


def test_another_folder_or_kind_is_refused(tmp_path: Path) -> None:
    assert run("ferricstore", tmp_path, "-s", tmp_path / "store").returncode == 3
    assert run("shoebox", tmp_path, "-s", tmp_path / "store").returncode == 2
    assert not (tmp_path / "store").exists()
