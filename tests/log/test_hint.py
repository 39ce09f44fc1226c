"""Hints: they make a rebuild quick, and whatever is wrong with them, it is the same."""

import errno
import os
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_steps import (
    FIRST,
    begin_blob,
    dump,
    flip,
    holding,
    put_blob,
    put_key,
    segments,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, CorruptError
from holdfast.core.kv import Delete, Put
from holdfast.core.seams import Disk
from holdfast.core.store import Store
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log import rebuild
from holdfast.log.blocks import HEAD, BlockFile, DamagedError
from holdfast.log.changes import TABLES
from holdfast.log.compaction import compact
from holdfast.log.hint import HEADER_BYTES, Hint, hint_path, make_hint, pack_header
from holdfast.log.log import Log
from holdfast.log.scan import Damage, Scan
from holdfast.log.segment import Segment, SegmentHeader, segment_path
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import everything, history

SEGMENT_BYTES = 4000
COUNT = 60
LONG = b"long " * 200


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments, so that there are many."""
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", SEGMENT_BYTES)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1000)


@pytest.fixture
def folder(small: None) -> Iterator[Path]:
    with quick_folder() as base:
        yield base / "store"


def live(log: Log, count: int = COUNT) -> None:
    """Put, replace, delete, with keys of all lengths; ten segments or so."""
    store, kv = SegmentStore(log), EmbeddedKV(log)
    for number in range(count):
        put_blob(log, blob(number))
        put_key(log, b"key %d" % (number % 7), b"%d" % number * 30)
        put_key(log, LONG + b"%d" % (number % 5), b"%d" % number)
        if number % 4 == 3:
            store.remove([Digest.of(blob(number - 2))])
            kv.commit([], [Delete(b"key %d" % (number % 7)), Put(b"n", b"")]).result()
        if number % 11 == 9:
            begin_blob(log, blob(number - 4)).result()  # as one that was damaged


def blob(number: int) -> bytes:
    return b"%d " % number * 20


def make_all(log: Log) -> None:
    for _ in log.make_hints():
        pass


def hints(folder: Path) -> list[Path]:
    return sorted((folder / "log").glob("*.hint"))


def rebuilt(folder: Path, disk: Disk | None = None) -> list[object]:
    """What the index holds that is made of the log, and what watchers see."""
    shutil.rmtree(folder / "index", ignore_errors=True)
    with Log(folder, disk) as log:
        assert (log.recovery.damages, log.recovery.truncated_bytes) == ((), 0)
        return [dump(log), history(EmbeddedKV(log)), log.recovery.records]


def known(folder: Path, count: int = COUNT) -> list[object]:
    """The same of a log that never lost its index."""
    with Log(folder) as log:
        live(log, count)
        make_all(log)
        found = [dump(log), history(EmbeddedKV(log))]
    return [*found, sum(count_records(path) for path in segments(folder))]


def count_records(path: Path) -> int:
    return len(list(Scan(Disk(), Segment.open(Disk(), path.parent, int(path.stem))).records(64)))


def opened(path: Path) -> Hint:
    segment = Segment.open(Disk(), path.parent, int(path.stem))
    return Hint(Disk(), path, segment.header, segment.size_bytes)


def test_a_rebuild_with_hints_is_the_same(folder: Path) -> None:
    expected = known(folder)
    assert len(hints(folder)) == len(segments(folder)) - 1 > 8
    before = [path.stat().st_mtime_ns for path in hints(folder)]
    assert rebuilt(folder) == expected
    assert [path.stat().st_mtime_ns for path in hints(folder)] == before


@pytest.mark.parametrize("kept", ["none", "odd", "first", "last"])
def test_hints_that_are_missing_are_made_by_a_rebuild(folder: Path, kept: str) -> None:
    expected = known(folder)
    all_of_them = hints(folder)
    content = [path.read_bytes() for path in all_of_them]
    for number, path in enumerate(all_of_them):
        keeps = {"odd": number % 2 == 1, "first": number == 0, "last": path == all_of_them[-1]}
        if not keeps.get(kept, False):
            path.unlink()
    assert rebuilt(folder) == expected
    assert [path.read_bytes() for path in hints(folder)] == content


def test_an_index_that_is_behind_takes_hints_too(folder: Path) -> None:
    with Log(folder) as log:
        live(log, 7)
    old = shutil.copytree(folder / "index", folder / "old")
    expected = known(folder)
    shutil.rmtree(folder / "index")
    shutil.move(old, folder / "index")
    with Log(folder) as log:
        assert [dump(log), history(EmbeddedKV(log))] == expected[:2]


def test_a_normal_opening_reads_no_hints(folder: Path) -> None:
    known(folder)
    for path in hints(folder):
        path.write_bytes(b"nonsense")
    with Log(folder) as log:
        assert log.recovery.records == 0
    assert all(path.read_bytes() == b"nonsense" for path in hints(folder))


def test_many_runs_come_to_the_same_hint_as_one(folder: Path) -> None:
    known(folder)
    for path in hints(folder):
        content = path.read_bytes()
        segment = Segment.open(Disk(), path.parent, int(path.stem))
        for run_bytes in (1, 500, 1 << 30):
            path.unlink()
            for _ in make_hint(Disk(), path.parent, segment, segment.size_bytes, run_bytes):
                pass
            assert path.read_bytes() == content
        assert not list(path.parent.glob("*.new")) + list(path.parent.glob("*.run"))


def test_groups_of_hints_come_to_the_same_as_all_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = known(folder)
    for count in (1, 2, 3):
        monkeypatch.setattr(limits, "HINTS_MAX", count)
        assert rebuilt(folder) == expected


# What may be wrong with a hint.


def test_a_hint_with_any_byte_damaged_is_made_again(folder: Path) -> None:
    expected = known(folder, 20)
    chosen = hints(folder)[2]
    content = chosen.read_bytes()
    for at in range(random.SystemRandom().randrange(51), len(content), 51):
        flip(chosen, at)
        assert rebuilt(folder) == expected
        assert (not chosen.exists()) or chosen.read_bytes() == content
        chosen.write_bytes(content)


@pytest.mark.parametrize("missing_bytes", [1, 8, 100, 1000])
def test_half_a_hint_is_none(folder: Path, missing_bytes: int) -> None:
    expected = known(folder)
    for path in hints(folder):
        os.truncate(path, max(0, path.stat().st_size - missing_bytes))
        with pytest.raises(DamagedError):
            opened(path)
    assert rebuilt(folder) == expected


def _swap(folder: Path, other: Path) -> None:
    del other
    first, second = hints(folder)[:2]
    first.rename(first.with_suffix(".aside"))
    second.rename(first)
    first.with_suffix(".aside").rename(second)


def _foreign(folder: Path, other: Path) -> None:
    for theirs in hints(other):
        shutil.copy(theirs, folder / "log" / theirs.name)


def _longer(folder: Path, other: Path) -> None:
    del other
    for path in hints(folder):
        with path.open("ab") as file:
            file.write(b"\x00")


def _newer(folder: Path, other: Path) -> None:
    del other
    for path in hints(folder):
        flip(path, 8, 0x02)  # the version


@pytest.mark.parametrize("change", [_swap, _foreign, _longer, _newer])
def test_a_hint_of_something_else_is_none(
    folder: Path, change: Callable[[Path, Path], None]
) -> None:
    other = folder.with_name("other")
    with Log(other) as log:
        live(log, 40)
        put_blob(log, b"theirs")
        make_all(log)
    expected = known(folder)
    change(folder, other)
    assert rebuilt(folder) == expected


def test_a_hint_that_is_no_file_is_none(folder: Path) -> None:
    expected = known(folder)
    first, second, third = hints(folder)[:3]
    for path in (first, second, third):
        path.unlink()
    os.mkfifo(first)
    second.mkdir()
    third.symlink_to("/dev/zero")
    assert rebuilt(folder) == expected


def test_a_segment_that_compaction_removes_meanwhile_gets_no_hint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its generator may stand between two steps when the segment goes."""
    monkeypatch.setattr(limits, "COMPACT_DEAD_BYTES_MIN", 100)
    with Log(folder) as log:
        for number in range(40):
            put_key(log, b"k", b"%d" % number * 100)
        log.roll()
        making = log.make_hints()
        next(making)
        for _ in compact(log, 0.0):
            pass
        assert not segment_path(log.root, 1).exists()
        for _ in making:
            pass
        assert not hint_path(log.root, 1).exists()


def test_hints_of_segments_that_are_gone_and_halves_of_hints_are_removed(folder: Path) -> None:
    expected = known(folder)
    stray = [f"{900:020d}.hint", f"{1:020d}.hint.new", f"{2:020d}.hint.run"]
    for name in [*stray, "notes.hint", "1.hint.new"]:
        (folder / "log" / name).write_bytes(b"left")
    with Log(folder):
        pass
    assert not [name for name in stray if (folder / "log" / name).exists()]
    assert (folder / "log" / "notes.hint").read_bytes() == b"left"
    assert rebuilt(folder) == expected


def test_a_rotten_blob_is_never_served_from_a_hint(folder: Path) -> None:
    """The hint says where it lies; the read finds out."""
    expected = known(folder)
    first = segments(folder)[0]
    flip(first, FIRST + 72)
    assert rebuilt(folder) == expected
    with Log(folder) as log, pytest.raises(CorruptError):
        read(SegmentStore(log), Digest.of(blob(0)))


def test_a_rotten_commit_lives_on_in_the_hint(folder: Path) -> None:
    """A hint made while all was well keeps names that the log alone would have lost."""
    expected = known(folder)
    commit = FIRST + 72 + len(blob(0))
    flip(segments(folder)[0], commit + 80)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert dump(log) == expected[0]
        with pytest.raises(CorruptError, match="commit record"):
            history(EmbeddedKV(log))


def test_damage_that_was_there_first_is_in_the_hint(folder: Path) -> None:
    known(folder)
    for path in hints(folder):
        path.unlink()
    flip(segments(folder)[1], 64 + 3)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        damages = log.recovery.damages
        before = dump(log)
        assert [each[:2] for each in damages] == [(2, 64)]
    shutil.rmtree(folder / "index")
    assert len(hints(folder)) == len(segments(folder)) - 1
    with Log(folder) as log:
        assert log.recovery.damages == damages
        assert dump(log) == before


def test_a_segment_with_too_many_damaged_places_has_no_hint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DAMAGES_MAX", 0)  # the seal alone is too much
    known(folder)
    assert hints(folder) == []
    monkeypatch.undo()


def test_a_segment_cut_short_is_reported_and_its_hint_keeps_what_it_knows(folder: Path) -> None:
    """The next segment's manifest says where it ended."""
    expected = known(folder)
    second = segments(folder)[1]
    size_bytes = second.stat().st_size
    os.truncate(second, size_bytes - 80)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert log.recovery.damages == (Damage(2, size_bytes - 80, 80),)
        assert dump(log) == expected[0]


# Lies: hints with good checksums that do not say what the log says.


def forge(path: Path, payloads: list[bytes]) -> None:
    """Write a hint whose tables and facts are one block each, whatever they hold."""
    segment = Segment.open(Disk(), path.parent, int(path.stem))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        file = BlockFile(Disk(), descriptor, segment.header.salt)
        starts = [HEADER_BYTES]
        for payload in payloads:
            starts.append(file.write(starts[-1], payload) if payload else starts[-1])
        os.pwrite(descriptor, pack_header(segment.header, segment.size_bytes, starts), 0)
    finally:
        os.close(descriptor)


def told(path: Path) -> list[bytes]:
    """The payloads of the blocks of a small hint."""
    hint = opened(path)
    data = path.read_bytes()
    return [data[span.start + HEAD.size : span.end] for span in hint._spans]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_hint_that_lies_serves_no_wrong_bytes(data: st.DataObject) -> None:
    """Its blocks are damaged under good checksums; names may lie, blobs cannot."""
    with pytest.MonkeyPatch.context() as patch, quick_folder() as base:
        patch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
        patch.setattr(limits, "SEGMENT_BYTES_MAX", SEGMENT_BYTES)
        patch.setattr(limits, "BATCH_BYTES_MAX", 1000)
        folder = base / "store"
        with Log(folder) as log:
            live(log, 20)
            make_all(log)
        path = data.draw(st.sampled_from(hints(folder)))
        payloads = [bytearray(each) for each in told(path)]
        for _ in range(data.draw(st.integers(1, 4))):
            block = data.draw(st.sampled_from([each for each in payloads if each]))
            at = data.draw(st.integers(0, len(block) - 1))
            block[at] = data.draw(st.integers(0, 255))
        forge(path, [bytes(each) for each in payloads])
        shutil.rmtree(folder / "index")
        with Log(folder) as log:
            store: Store = SegmentStore(log)
            for ref in store.scan():
                try:
                    found = read(store, ref.digest)
                except BlobError:
                    continue
                assert found is not None
                assert Digest.of(found) == ref.digest
            everything(EmbeddedKV(log))
            put_key(log, b"after", b"")


def read_all(path: Path, header: SegmentHeader) -> None:
    hint = Hint(Disk(), path, header, 100)
    for number in TABLES:
        list(hint.table(number))


@pytest.mark.parametrize("is_headed", [False, True])
@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=400), salt=st.integers(0, 2**64 - 1))
def test_the_parser_takes_any_bytes(content: bytes, salt: int, *, is_headed: bool) -> None:
    """It says that they are damaged, and never fails in another way."""
    header = SegmentHeader(3, salt, 0)
    with quick_folder() as folder:
        path = folder / "hint"
        middle = HEADER_BYTES + len(content) // 2
        ends = [HEADER_BYTES, HEADER_BYTES, middle, middle, HEADER_BYTES + len(content)]
        path.write_bytes((pack_header(header, 100, ends) if is_headed else b"") + content)
        with pytest.raises(DamagedError):
            read_all(path, header)


# The disk refuses.


@pytest.mark.parametrize("error", [errno.EIO, pytest.param(errno.ENOSPC, marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [False, True])
def test_a_disk_that_refuses_a_hint_costs_nothing_but_time(
    folder: Path, error: int, *, after: bool
) -> None:
    """Every call of a rebuild that writes hints fails in turn."""
    expected = known(folder, 20)
    original = folder.with_name("original")
    for path in hints(folder):
        path.unlink()
    shutil.copytree(folder, original)
    only = frozenset({"open", "pwrite_all", "sync", "rename", "unlink"})
    for number in range(1, 400, 3):
        shutil.rmtree(folder)
        shutil.copytree(original, folder)
        disk = FaultyDisk()
        disk.arm(Fault(number, error=error, after=after, short=not after, only=only))
        shutil.rmtree(folder / "index")
        try:
            Log(folder, disk).close()
        except BlobError:
            assert disk.struck
        assert rebuilt(folder) == expected
        assert len(hints(folder)) == len(segments(folder)) - 1
        assert not [path for path in (folder / "log").iterdir() if path.suffix == ".new"]
        if not disk.struck:
            return
    raise AssertionError


@pytest.mark.parametrize("behind", [False, True])
def test_loading_hints_that_breaks_off_is_begun_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, behind: bool
) -> None:
    """Some of the tables are loaded then, and more of them at each try."""
    monkeypatch.setattr(rebuild, "LOAD_BYTES", 1)
    with Log(folder) as log:
        live(log, 7)
    index = shutil.copytree(folder / "index", folder.with_name("behind"))
    expected = known(folder, 20)
    for number in range(1, 400, 5):
        shutil.rmtree(folder / "index")
        if behind:
            shutil.copytree(index, folder / "index")
        disk = FaultyDisk(Fault(number, only=frozenset({"pread"})))
        try:
            Log(folder, disk).close()
        except BlobError:
            assert disk.struck
        with Log(folder) as log:
            assert [dump(log), history(EmbeddedKV(log))] == expected[:2]
        if not disk.struck:
            return
    raise AssertionError


def test_making_hints_in_the_background_with_any_call_failing(folder: Path) -> None:
    expected = known(folder, 20)
    for path in hints(folder):
        path.unlink()
    for number in range(1, 400):
        disk = FaultyDisk()
        with Log(folder, disk) as log:
            disk.arm(Fault(number))
            try:
                make_all(log)
            except BlobError:
                assert disk.struck
            disk.arm(None)
            assert not list((folder / "log").glob("*.new"))
            assert dump(log) == expected[0]
        if len(hints(folder)) == len(segments(folder)) - 1:
            break
    else:
        raise AssertionError
    assert rebuilt(folder) == expected


def test_hints_are_made_while_others_write(folder: Path) -> None:
    with Log(folder) as log:
        steps: Iterator[int] = iter(())
        for number in range(400):
            put_key(log, b"key %d" % (number % 30), b"%d" % number * 20)
            if next(steps, None) is None:
                steps = log.make_hints()
        make_all(log)
        assert len(hints(folder)) == len(segments(folder)) - 1
        expected = [dump(log), history(EmbeddedKV(log))]
    assert rebuilt(folder)[:2] == expected


def test_one_step_less_leaves_nothing_half_made(folder: Path) -> None:
    with Log(folder) as log:
        live(log, 30)
        for count in range(200):
            steps = log.make_hints()
            for _ in zip(range(count), steps, strict=False):
                pass
            steps.close()  # type: ignore[attr-defined]  # a generator
            assert not list((folder / "log").glob("*.new"))
            for path in hints(folder):
                opened(path)
                path.unlink()


def test_two_who_make_the_same_hint_do_not_meet(folder: Path) -> None:
    with Log(folder) as log:
        live(log, 30)
        one, other = log.make_hints(), log.make_hints()
        next(one)
        for _ in other:
            pass
        for _ in one:
            pass
        assert [opened(path).path for path in hints(folder)] == hints(folder)
        assert len(hints(folder)) == len(segments(folder)) - 1


def test_a_rebuild_from_hints_takes_little_memory() -> None:
    """Of 24,000 blobs in 3 segments, a few blocks at a time."""
    with pytest.MonkeyPatch.context() as patch, quick_folder() as base:
        patch.setattr(limits, "SEGMENT_BYTES_MAX", 8 * limits.MIB + limits.MIB // 2)
        patch.setattr(limits, "RESERVE_BYTES", limits.MIB)  # which is read in windows of 4 MiB
        folder = base / "store"
        with Log(folder) as log:
            for start in range(0, 24_000, 500):
                with holding(log):
                    for number in range(start, start + 500):
                        begin_blob(log, b"%d" % number)
            make_all(log)
            expected = log.index.counts()
        shutil.rmtree(folder / "index")
        tracemalloc.start()
        try:
            with Log(folder) as log:
                assert log.index.counts() == expected == (24_000, 0)
            assert tracemalloc.get_traced_memory()[1] < 6 * limits.MIB
        finally:
            tracemalloc.stop()
