"""`holdfast fsck` as a process on a folder."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import holdfast

PHOTO = Path(__file__).parent.parent / "data" / "hubble_deep_field.jpg"


def _fsck(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "fsck", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_sound_folder_is_well(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        bucket.put("photo.jpg", PHOTO)
        bucket.put("note.txt", b"a note")
    done = _fsck(tmp_path)
    assert done.returncode == 0
    assert re.fullmatch(r"2 blobs, 2 references, 51\d\.\d KiB read: all is well\n", done.stdout)


def test_what_was_checked_is_verified(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        entry = bucket.put("photo.jpg", PHOTO)
        assert bucket.content.verified_at(entry.digest) is None
    time.sleep(0.05)  # files count as new for some ticks of the kernel's clock
    assert _fsck(tmp_path).returncode == 0
    with holdfast.open(tmp_path) as bucket:
        verified_at = bucket.content.verified_at(entry.digest)
        assert verified_at is not None
        assert verified_at > entry.modified_at


def test_damage_is_named_and_exits_with_5(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        entry = bucket.put("photo.jpg", PHOTO)
    path = next((tmp_path / "files").rglob("*.blob"))
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8", b"\x00\xd8", 1))
    done = _fsck(tmp_path, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 5
    assert report["found"] == 1
    assert report["findings"][0]["where"] == str(entry.digest)


def test_a_folder_that_is_no_store_is_not_made_one(tmp_path: Path) -> None:
    done = _fsck(tmp_path / "nothing")
    assert done.returncode == 3
    assert not (tmp_path / "nothing").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        bucket.put("note.txt", b"a note")
        done = _fsck(tmp_path)
    assert done.returncode == 7
    assert "in use" in done.stderr


def test_repair_prints_what_it_did_and_what_is_left(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        lost, whole = bucket.put("photo.jpg", PHOTO), bucket.put("copy.jpg", PHOTO)
        bucket.put("large", b"large" * 100_000)
    assert lost.digest == whole.digest
    (photo,) = (tmp_path / "files").rglob(f"{lost.digest.hex()}.blob")
    photo.write_bytes(photo.read_bytes().replace(b"\xff\xd8", b"\x00\xd8", 1))
    (large,) = set((tmp_path / "files").rglob("*.blob")) - {photo}
    large.write_bytes(large.read_bytes()[:-9])
    done = _fsck(tmp_path, "--repair")
    assert done.returncode == 5
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["restored", f"sha256:{large.stem}"]
    assert lines[1].split() == ["given", "up", str(lost.digest)]
    assert {line.split()[1] for line in lines[2:-1]} == {"default/photo.jpg", "default/copy.jpg"}
    assert lines[-1].endswith("read: 2 damaged, 2 mended")
    done = _fsck(tmp_path, "--repair", "--forget-missing", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["found"], said["findings"]) == (0, 0, [])
    assert {action["where"] for action in said["actions"]} == {
        "default/photo.jpg",
        "default/copy.jpg",
    }
    with holdfast.open(tmp_path) as bucket:
        assert [entry.key for entry in bucket.entries()] == ["large"]
        assert bucket.get("large") == b"large" * 100_000


def test_names_are_forgotten_in_a_repair_only(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as bucket:
        bucket.put("note.txt", b"a note")
    done = _fsck(tmp_path, "--forget-missing")
    assert done.returncode == 2
    assert "--repair" in done.stderr
