"""What opening a log makes of what it finds: other logs, damage, other processes, newer formats."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from descriptors import descriptors
from log_steps import (
    FIRST,
    contents,
    cut_power,
    dump,
    flip,
    kill,
    newest,
    put_blob,
    put_key,
    reopened,
    segments,
    survive,
)

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, UnavailableError, UnsupportedError
from holdfast.core.seams import boot_id
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.log.segment import Segment, SegmentHeader, segment_path
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import history


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 64 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 4 * limits.KIB)
    with quick_folder() as base:
        yield base / "store"


def fill(folder: Path, count: int = 20, word: str = "") -> None:
    with Log(folder) as log:
        for number in range(count):
            put_blob(log, f"{word} blob {number}".encode())
            put_key(log, b"key %d" % (number % 7), f"{word} {number}".encode())


# The lock.


def test_a_second_opener_is_refused_and_told_by_whom(folder: Path) -> None:
    with Log(folder), pytest.raises(UnavailableError, match=f"process {os.getpid()}$"):
        Log(folder)
    Log(folder).close()


def test_another_process_is_refused_too(folder: Path) -> None:
    program = "import sys, pathlib, holdfast.log.log as l; l.Log(pathlib.Path(sys.argv[1]))"
    with Log(folder):
        command = [sys.executable, "-c", program, str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"in use by process {os.getpid()}" in ended.stderr


def test_the_lock_goes_with_a_failed_opening(folder: Path) -> None:
    fill(folder)
    marker = (folder / "HOLDFAST").read_bytes()
    (folder / "HOLDFAST").write_bytes(b"nonsense")
    before = descriptors(folder)
    for _ in range(3):
        with pytest.raises(CorruptError):
            Log(folder)
    assert descriptors(folder) == before
    (folder / "HOLDFAST").write_bytes(marker)
    assert len(reopened(folder)[0]) == 20


def test_a_close_that_fails_lets_go_and_loses_nothing(folder: Path) -> None:
    fill(folder)
    expected = reopened(folder)
    before = descriptors(folder)
    for number in range(1, 20):
        disk = FaultyDisk()
        log = Log(folder, disk)
        put_blob(log, b"blob %d" % number)
        disk.arm(Fault(number, lasting=True))
        log.close()
        log.close()
        assert descriptors(folder) == before
        expected[0].update(reopened(folder)[0])
        assert reopened(folder) == expected
        if not disk.struck:
            break
    else:
        raise AssertionError
    assert len(expected[0]) == 20 + number


# The file HOLDFAST.


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[1]", b'{"format":"1","id":"a"}', b'{"format":1,"id":"\xb8"}'],
)
def test_a_damaged_marker_is_an_error(folder: Path, content: bytes) -> None:
    fill(folder)
    (folder / "HOLDFAST").write_bytes(content)
    with pytest.raises(CorruptError, match="HOLDFAST"):
        Log(folder)


@pytest.mark.parametrize("more", [{}, {"compression": "zstd"}])
def test_a_newer_format_is_an_error_that_says_so(folder: Path, more: dict[str, str]) -> None:
    fill(folder)
    marker = json.loads((folder / "HOLDFAST").read_bytes())
    assert marker["format"] == 2
    (folder / "HOLDFAST").write_text(json.dumps({**marker, "format": 5, **more}))
    with pytest.raises(UnsupportedError, match="format 5"):
        Log(folder)


def test_the_id_of_a_log_stays_and_is_its_own(folder: Path) -> None:
    with Log(folder) as log, Log(folder / "other") as other:
        assert log.id != other.id
        id_ = log.id
    with Log(folder) as log:
        assert log.id == id_


# The index.


def test_a_lost_index_is_made_again_the_same(folder: Path) -> None:
    fill(folder)
    with Log(folder) as log:
        EmbeddedKV(log)
        put_key(log, b"k" * 3000, b"long")
        put_key(log, b"k" * 3000 + b"\x00", b"longer")
        before, changes = dump(log), history(EmbeddedKV(log))
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert dump(log) == before
        assert history(EmbeddedKV(log)) == changes
        assert log.recovery.records == 43
        assert log.recovery.damages == ()
    with Log(folder) as log:
        assert log.recovery.records == 0
        assert dump(log) == before


def test_an_index_that_is_behind_catches_up(folder: Path) -> None:
    fill(folder)
    old = shutil.copytree(folder / "index", folder / "old")
    fill(folder, 33, "more")
    with Log(folder) as log:
        before = dump(log)
    shutil.rmtree(folder / "index")
    shutil.move(old, folder / "index")
    with Log(folder) as log:
        assert dump(log) == before
        assert log.recovery.records == 66


@pytest.mark.parametrize("damage", ["garbage", "empty", "zeros", "half"])
def test_a_damaged_index_is_made_again(folder: Path, damage: str) -> None:
    fill(folder)
    expected = reopened(folder)
    path = folder / "index" / "data.mdb"
    size_bytes = path.stat().st_size
    content = {"garbage": b"\xff" * size_bytes, "empty": b"", "zeros": bytes(size_bytes)}
    path.write_bytes(content.get(damage, path.read_bytes()[:5000]))
    assert reopened(folder) == expected


def test_a_bit_that_flipped_in_a_closed_index_is_found(folder: Path) -> None:
    """In a value, where LMDB itself would never notice: it has no checksums."""
    fill(folder)
    expected = reopened(folder)
    path = folder / "index" / "data.mdb"
    places = [found.start() for found in re.finditer(b" 19", path.read_bytes())]
    assert places
    for at in places:
        flip(path, at + 1, 0x01)
        with Log(folder) as log:
            assert (log.recovery.records, contents(log)) == (41, expected)


@pytest.mark.parametrize("state", [b"", b"\xff\xfe\x00", b"clea", b"clean", b"x" * 10_000])
def test_a_damaged_state_costs_a_rebuild(folder: Path, state: bytes) -> None:
    fill(folder)
    expected = reopened(folder)
    (folder / "index" / "state").write_bytes(state)
    with Log(folder) as log:
        assert log.recovery.records == 41
    assert reopened(folder) == expected


def test_after_a_power_cut_the_index_is_not_believed(folder: Path) -> None:
    fill(folder)
    with Log(folder) as log:
        put_key(log, b"key", b"value")
        killed = kill(folder, folder.parent / "killed")
        cut = kill(folder, folder.parent / "cut")
    cut_power(cut)
    assert boot_id() in (killed / "index" / "state").read_text()
    with Log(killed) as log:
        assert log.recovery.records == 0
    with Log(cut) as log:
        assert log.recovery.records == 42
    assert reopened(killed) == reopened(cut) == reopened(folder)


def test_a_copy_of_a_running_store_makes_its_index_again(folder: Path) -> None:
    """Its pages may be of several moments; those of the segments are in order."""
    fill(folder)
    with Log(folder) as log:
        put_key(log, b"key", b"value")
        copy = Path(shutil.copytree(folder, folder.with_name("copy")))
        expected = contents(log)
    with Log(copy) as log:
        assert log.recovery.records == 42
        assert contents(log) == expected
    closed = Path(shutil.copytree(folder, folder.with_name("closed")))
    with Log(closed) as log:
        assert log.recovery.records == 0
        assert contents(log) == expected


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_the_index_of_another_log_is_not_believed(folder: Path, end: str) -> None:
    other = folder.parent / "other"
    fill(folder, 30)
    fill(other, 20, "other")
    expected = reopened(folder)
    shutil.rmtree(folder / "index")
    shutil.copytree(other / "index", folder / "index")
    if end == "killed":
        survive(folder)
    assert reopened(folder) == expected


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_an_index_newer_than_its_log_is_not_believed(folder: Path, end: str) -> None:
    """An older copy of the segments was put back, and perhaps written to since."""
    fill(folder)
    backup = shutil.copytree(folder / "log", folder.parent / "backup")
    expected = reopened(folder)
    fill(folder, 20, "more")
    index = shutil.copytree(folder / "index", folder.parent / "newer")
    shutil.rmtree(folder / "log")
    shutil.move(backup, folder / "log")
    if end == "killed":
        survive(folder)
        with newest(folder).open("ab") as segment:
            segment.write(bytes(limits.MIB))  # as space is reserved
    assert reopened(folder) == expected
    fill(folder, 40, "other")
    expected = reopened(folder)
    shutil.rmtree(folder / "index")
    shutil.move(index, folder / "index")
    assert reopened(folder) == expected


def test_a_newest_segment_that_is_shorter_than_it_was_is_reported(folder: Path) -> None:
    fill(folder)
    with Log(folder) as log:
        end = log.index.applied()
        assert end is not None
        size_bytes = end.offset
    os.truncate(newest(folder), size_bytes - 1)
    with Log(folder) as log:
        assert [each[1:] for each in log.recovery.damages] == [(size_bytes - 1, 1)]
        assert log.facts()["damaged_places"] == 1
        assert log.recovery.truncated_bytes > 0
        assert len(list(history(EmbeddedKV(log)))) == 19


def test_lost_segments_are_no_empty_log(folder: Path) -> None:
    fill(folder)
    segment = newest(folder)
    segment.rename(folder / "elsewhere")
    with pytest.raises(CorruptError, match="segments"):
        Log(folder)
    assert segments(folder) == []
    (folder / "elsewhere").rename(segment)
    assert len(reopened(folder)[0]) == 20


# Segments.


def test_a_segment_that_is_a_link_is_refused(folder: Path) -> None:
    fill(folder)
    segment = newest(folder)
    segment.rename(folder / "elsewhere")
    segment.symlink_to(folder / "elsewhere")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="cannot open"):
            Log(folder)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize("number", [1, 2])
def test_a_segment_that_is_no_file_is_refused(folder: Path, make: object, number: int) -> None:
    fill(folder)
    path = segment_path(folder / "log", number)
    path.unlink(missing_ok=True)
    make(path)  # type: ignore[operator]  # one of two functions
    with pytest.raises(BlobError):
        Log(folder)


def test_a_segment_under_another_ones_name_is_refused(folder: Path) -> None:
    fill(folder)
    shutil.copy(newest(folder), segment_path(folder / "log", 2))
    with pytest.raises(CorruptError, match="header"):
        Log(folder)


def test_other_files_among_the_segments_are_left_alone(folder: Path) -> None:
    fill(folder)
    expected = reopened(folder)
    names = ["lost+found", "1.seg", "x.seg", "00000000000000000002.seg.new", ".hidden"]
    for name in names:
        (folder / "log" / name).write_bytes(b"foreign")
    (folder / "log" / "00000000000000000002.new").write_bytes(b"a crash left this")
    assert reopened(folder) == expected
    assert all((folder / "log" / name).read_bytes() == b"foreign" for name in names)


def test_one_damaged_byte_of_a_header_is_survived(folder: Path) -> None:
    fill(folder)
    expected = reopened(folder)
    segment = newest(folder)
    for offset in range(64):
        flip(segment, offset)
        shutil.rmtree(folder / "index")
        with Log(folder) as log:
            assert [each[:3] for each in log.recovery.damages] == [(1, 0, 64)]
        assert reopened(folder) == expected
        flip(segment, offset)


def test_a_segment_whose_salt_is_lost_is_refused(folder: Path) -> None:
    fill(folder)
    flip(newest(folder), 20)
    flip(newest(folder), 44)
    with pytest.raises(CorruptError, match="header"):
        Log(folder)


def test_a_new_segment_takes_the_place_of_a_half_made_one(folder: Path) -> None:
    with Log(folder) as log:
        header = SegmentHeader(7, 1, 2)
        (folder / "log" / "00000000000000000007.new").write_bytes(b"x" * 1000)
        Segment.create(log.disk, folder / "log", header)
        assert Segment.open(log.disk, folder / "log", 7).header == header


# Closing and reopening.


def test_closing_gives_reserved_space_back(folder: Path) -> None:
    with Log(folder) as log:
        put_blob(log, b"x" * 1000)
        assert newest(folder).stat().st_size == limits.SEGMENT_ALLOCATE_BYTES
        used = log.writer.stats.bytes
    assert newest(folder).stat().st_size == FIRST + used + limits.RESERVE_BYTES


def test_reopening_many_times_does_not_grow_the_log(folder: Path) -> None:
    fill(folder)
    before = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for _ in range(20):
        Log(folder).close()
    assert before == {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_first_opening_with_any_call_failing_can_be_tried_again(folder: Path) -> None:
    before = descriptors(folder)
    for number in range(1, 60):
        struck = False
        for fault in (Fault(number), Fault(number, after=True), Fault(number, lasting=True)):
            disk = FaultyDisk(fault)
            try:
                Log(folder, disk).close()
            except UnavailableError:
                assert disk.struck
            struck = struck or disk.struck
            fill(folder, 2)
            assert len(reopened(folder)[0]) == 2
            shutil.rmtree(folder)
        if not struck:
            break
    else:
        raise AssertionError
    assert descriptors(folder) == before


def test_an_opening_with_any_call_failing_loses_nothing(folder: Path) -> None:
    fill(folder)
    original = folder.parent / "original"
    with Log(folder) as log:
        put_key(log, b"key", b"value")
        kill(folder, original)
    expected = reopened(folder)
    for number in range(1, 60):
        struck = False
        for fault in (Fault(number), Fault(number, after=True), Fault(number, lasting=True)):
            shutil.rmtree(folder)
            kill(original, folder)
            disk = FaultyDisk(fault)
            try:
                Log(folder, disk).close()
            except UnavailableError:
                assert disk.struck
            struck = struck or disk.struck
            assert reopened(folder) == expected
        if not struck:
            return
    raise AssertionError


def test_a_closed_log_says_so(folder: Path) -> None:
    fill(folder)
    log = Log(folder)
    log.close()
    kv = EmbeddedKV(log)
    with pytest.raises(UnavailableError, match="closed"):
        put_key(log, b"a", b"b")
    for call in (lambda: kv.get(b"key 1"), lambda: kv.scan(b"a", b"z", limit=9)):
        with pytest.raises(UnavailableError, match="closed"):
            call()
