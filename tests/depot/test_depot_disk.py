"""What a depot says of its disk: what opening found there, and what it takes."""

import shutil
from pathlib import Path

from holdfast.core.limits import KIB
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.testing.blobs import make


def sizes(folder: Path, suffix: str) -> list[int]:
    return [path.stat().st_size for path in folder.rglob(f"*{suffix}")]


def test_opening_says_what_it_found_and_what_it_cut(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        assert depot.recovery.truncated_bytes == depot.recovery.damaged_places == 0
        depot.put("k", b"acknowledged")
        shutil.copytree(tmp_path / "store", tmp_path / "killed")
    (segment,) = (tmp_path / "killed" / "log").glob("*.seg")
    data = segment.read_bytes()
    end = len(data.rstrip(b"\x00")) + 200
    segment.write_bytes(data[:end] + make(300) + data[end + 300 :])
    with open_depot(tmp_path / "killed") as depot:
        found = depot.recovery
        assert (found.segments, found.records > 0, found.commits) == (1, True, 1)
        assert 300 <= found.truncated_bytes < 600
        assert (found.damaged_places, found.damages) == (0, ())
        assert depot.usage().torn_files == 1
        assert depot.get("k") == b"acknowledged"
    with open_depot(tmp_path / "killed") as depot:
        assert depot.recovery.truncated_bytes == 0


def test_usage_is_what_lies_in_the_folder(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        for number in range(50):
            depot.put(f"{number}", make(1000, seed=number))
        depot.put("large", make(300 * KIB))
        with depot.upload("coming") as upload:
            upload.write(make(500 * KIB))
            usage = depot.usage()
            assert [usage.temporary_bytes] == sizes(tmp_path / "files" / "tmp", ".tmp")
            assert usage.temporary_files == 1
        usage = depot.usage()
        assert usage.temporary_files == 0
        files, segments = sizes(tmp_path / "files", ".blob"), sizes(tmp_path / "log", ".seg")
        assert (usage.files, usage.file_bytes) == (len(files), sum(files))
        assert (usage.segments, usage.segment_bytes) == (len(segments), sum(segments))
        assert 50 * 1000 < usage.live_bytes < 50 * 1300
        before = usage.dead_bytes
        depot.engine.store.remove([depot.head(f"{number}").digest for number in range(50)])
        assert depot.usage().dead_bytes > before + 50 * 1000


def test_a_threshold_of_zero_keeps_every_byte_in_files(tmp_path: Path) -> None:
    with open_depot(tmp_path, Limits(small_blob_bytes_max=0)) as depot:
        for data in (b"", b"small", make(300 * KIB)):
            depot.put("k", data)
            assert depot.get("k") == data
        assert depot.usage().files == len(sizes(tmp_path / "files", ".blob")) == 2
