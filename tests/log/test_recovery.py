"""Torn tails and rot: every byte of a small log is lost or damaged in turn."""

import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from log_steps import (
    FIRST,
    begin_blob,
    contents,
    cut_power,
    flip,
    holding,
    kill,
    newest,
    put_blob,
    put_key,
    reopened,
    segments,
    survive,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import CompactedError, CorruptError
from holdfast.core.kv import Delete, Put
from holdfast.core.seams import Disk
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.log.record import HEADER_BYTES, MAGIC, Header, Kind, checksum, pack
from holdfast.log.scan import Damage, Record, Scan
from holdfast.log.segment import Segment
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import commit, everything, history

WORLDS = [survive, cut_power]
"""What a folder is after a kill, and after a power cut."""
BATCH = [b"one of the batch", b"another of the batch"]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", limits.KIB)
    with quick_folder() as base:
        yield base / "store"


def records(path: Path) -> list[Record | Damage]:
    """What a segment consists of behind its manifest."""
    disk = Disk()
    segment = Segment.open(disk, path.parent, int(path.stem))
    return list(Scan(disk, segment).records(64))[1:]


class Torn(NamedTuple):
    """A log before its last batch, and the bytes of its segment behind it."""

    folder: Path
    whole: bytes
    ends: list[int]
    """Where the batch begins, and where each of its records ends."""


def tear(folder: Path) -> Torn:
    """Kill a log before a batch of two blobs and a commit, and keep what the batch wrote."""
    with Log(folder) as log:
        put_blob(log, b"first")
        put_key(log, b"key", b"old")
        before = kill(folder, folder.with_name("before"))
        start = log.index.applied()
        assert start is not None
        with holding(log):
            for data in BATCH:
                begin_blob(log, data)
            EmbeddedKV(log).commit([], [Put(b"key", b"new"), Put(b"more", b"!")])
        end = log.index.applied()
        assert end is not None
        kept = newest(folder).read_bytes()[: end.offset]
        found = [each for each in records(newest(folder)) if each.offset >= start.offset]
    assert [each.header.kind for each in found if isinstance(each, Record)] == [1, 1, 2]
    ends = [start.offset, *(each.end for each in found if isinstance(each, Record))]
    return Torn(before, kept, ends)


@pytest.mark.parametrize("happen", WORLDS)
@pytest.mark.parametrize("fill", ["zeros", "nothing", "garbage"])
def test_a_tail_torn_at_any_byte_is_cut_off(
    folder: Path, happen: Callable[[Path], None], fill: str
) -> None:
    """Acknowledged records stay; of the batch that was torn, no commit and no half of a blob."""
    torn = tear(folder)
    blobs, keys = reopened(kill(torn.folder, folder.with_name("expected")))
    whole = newest(torn.folder).stat().st_size
    for at in range(torn.ends[0], torn.ends[-1] + 1, 1 if fill == "zeros" else 5):
        shutil.rmtree(folder)
        kill(torn.folder, folder)
        happen(folder)
        rest = {"zeros": bytes(whole - at), "nothing": b"", "garbage": b"\xa5" * 500}[fill]
        newest(folder).write_bytes(torn.whole[:at] + rest)
        expected_blobs = dict(blobs)
        for end, data in zip(torn.ends[1:3], BATCH, strict=True):
            if at >= end:
                expected_blobs[Digest.of(data)] = data
        expected_keys = keys if at < torn.ends[-1] else {b"key": b"new", b"more": b"!"}
        lost = (torn.whole[:at] + rest)[max(each for each in torn.ends if each <= at) :]
        with Log(folder) as log:
            assert log.recovery.damages == ()
            assert log.recovery.truncated_bytes == len(lost.rstrip(b"\x00"))
            assert contents(log) == (expected_blobs, expected_keys)
            put_key(log, b"after", b"the crash")
        aside = [path.read_bytes() for path in (folder / "log").glob("*.torn")]
        assert aside == ([lost.rstrip(b"\x00")] if lost.strip(b"\x00") else [])
        assert reopened(folder) == (expected_blobs, {**expected_keys, b"after": b"the crash"})


def test_a_hole_in_the_last_batch_is_torn_after_a_power_cut_only(folder: Path) -> None:
    """A disk writes in any order; a killed process does not."""
    torn = tear(folder)
    blobs, keys = reopened(kill(torn.folder, folder.with_name("expected")))
    for happen in WORLDS:
        for at in range(torn.ends[0], torn.ends[1], 7):
            shutil.rmtree(folder)
            kill(torn.folder, folder)
            happen(folder)
            newest(folder).write_bytes(torn.whole)
            flip(newest(folder), at)
            with Log(folder) as log:
                if happen is survive:
                    extent = (torn.ends[0], torn.ends[1] - torn.ends[0])
                    assert log.recovery.damages == (Damage(1, *extent),)
                    found = contents(log)
                    assert Digest.of(BATCH[1]) in found[0]
                    assert found[1] == {b"key": b"new", b"more": b"!"}
                else:
                    assert log.recovery.damages == ()
                    assert log.recovery.truncated_bytes == torn.ends[-1] - torn.ends[0]
                    assert contents(log) == (blobs, keys)


def test_rot_before_the_durable_line_is_never_a_torn_tail(folder: Path) -> None:
    """The last batch is whole, so what lies before it was acknowledged."""
    with Log(folder) as log:
        digests = [put_blob(log, b"blob %d" % number) for number in range(5)]
        killed = kill(folder, folder.with_name("killed"))
    cut_power(killed)
    found = records(newest(killed))
    flip(newest(killed), found[1].offset + 100 - 28)
    with Log(killed) as log:
        rotten = found[1]
        assert isinstance(rotten, Record)
        assert log.recovery.damages == (Damage(1, rotten.offset, rotten.end - rotten.offset),)
        assert log.recovery.truncated_bytes == 0
        assert set(contents(log)[0]) == {*digests} - {digests[1]}


# Rot.


class Story(NamedTuple):
    """A closed log, and what each of its records did."""

    folder: Path
    content: bytes
    parts: list[Record]

    def restore(self) -> None:
        """Let the log be as it was."""
        for path in segments(self.folder):
            path.unlink()
        (self.folder / "log" / "00000000000000000001.seg").write_bytes(self.content)


def tell(folder: Path) -> Story:
    with Log(folder) as log:
        store, kv = SegmentStore(log), EmbeddedKV(log)
        put_blob(log, b"a")
        commit(kv, Put(b"k", b"1"), Put(b"l", b"1"))
        put_blob(log, b"b" * 20)
        put_blob(log, b"c")
        commit(kv, Put(b"k", b"2"))
        store.remove([Digest.of(b"c")])
        commit(kv, Delete(b"l"))
        put_blob(log, b"d")
    found = records(newest(folder))
    parts = [each for each in found if isinstance(each, Record)]
    assert len(parts) == len(found) == 8
    return Story(folder, newest(folder).read_bytes()[: parts[-1].end], parts)


Effects = tuple[set[bytes], dict[bytes, bytes]]


def replayed(numbers: Iterable[int] = range(8)) -> Effects:
    """What some of the records come to, in plain Python."""
    blobs: set[bytes] = set()
    keys: dict[bytes, bytes] = {}
    for number in numbers:
        EFFECTS[number](blobs, keys)
    return blobs, keys


EFFECTS: list[Callable[[set[bytes], dict[bytes, bytes]], object]] = [
    lambda blobs, _: blobs.add(b"a"),
    lambda _, keys: keys.update({b"k": b"1", b"l": b"1"}),
    lambda blobs, _: blobs.add(b"b" * 20),
    lambda blobs, _: blobs.add(b"c"),
    lambda _, keys: keys.update({b"k": b"2"}),
    lambda blobs, _: blobs.discard(b"c"),
    lambda _, keys: keys.pop(b"l", None),
    lambda blobs, _: blobs.add(b"d"),
]


def found_in(log: Log) -> tuple[set[bytes], dict[bytes, bytes], list[Digest]]:
    """The blobs that can be read, the keys, and the blobs that are said to be damaged."""
    store = SegmentStore(log)
    good, bad = set(), []
    for ref in store.scan():
        try:
            data = read(store, ref.digest)
        except CorruptError:
            bad.append(ref.digest)
            continue
        assert data is not None
        assert Digest.of(data) == ref.digest
        good.add(data)
    return good, {item.key: item.value for item in everything(EmbeddedKV(log))}, bad


@pytest.fixture
def story(folder: Path) -> Story:
    told = tell(folder)
    told.restore()
    return told


@pytest.mark.parametrize(
    ("mask", "step"), [(0xFF, 4), (0x01, 3), pytest.param(0xFF, 1, marks=pytest.mark.slow)]
)
def test_rot_with_the_index_kept_is_never_served(story: Story, mask: int, step: int) -> None:
    blobs, keys = replayed()
    for at in range(0, len(story.content), step):
        flip(newest(story.folder), at, mask)
        with Log(story.folder) as log:
            good, found_keys, bad = found_in(log)
            assert found_keys == keys
            assert {Digest.of(data) for data in good} | set(bad) == {*map(Digest.of, blobs)}
            assert len(bad) <= 1
            assert log.recovery.records == 0
            put_key(log, b"k", b"2")
            log.writer.queue.close()
        story.restore()
        shutil.rmtree(story.folder / "index")
        Log(story.folder).close()


@pytest.mark.parametrize("mask", [0xFF, pytest.param(0x10, marks=pytest.mark.slow)])
def test_rot_with_the_index_lost_costs_one_record_and_is_reported(story: Story, mask: int) -> None:
    for at in range(len(story.content)):
        shutil.rmtree(story.folder / "index")
        flip(newest(story.folder), at, mask)
        hit = [part for part in story.parts if part.offset <= at < part.end]
        rest = [number for number, part in enumerate(story.parts) if part not in hit]
        with Log(story.folder) as log:
            assert found_in(log) == (*replayed(rest), [])
            head = (0, 64) if at < 64 else (64, FIRST - 64)  # of the segment, or its manifest
            extent = (hit[0].offset, hit[0].end - hit[0].offset) if hit else head
            if hit == story.parts[-1:]:  # nothing tells it from a torn tail
                assert log.recovery.damages == ()
                assert log.recovery.truncated_bytes == extent[1]
            else:
                assert log.recovery.damages == (Damage(1, *extent),)
                assert log.recovery.truncated_bytes == 0
        story.restore()


def test_a_commit_in_rot_is_an_error_for_those_who_watch(story: Story) -> None:
    flip(newest(story.folder), story.parts[4].offset + HEADER_BYTES)
    with Log(story.folder) as log:
        with pytest.raises(CorruptError, match="commit record"):
            history(EmbeddedKV(log))
        assert [each.key for each in history(EmbeddedKV(log), from_revision=3)] == [b"l"]
    shutil.rmtree(story.folder / "index")
    with Log(story.folder) as log:
        with pytest.raises(CompactedError, match="3"):
            history(EmbeddedKV(log))
        assert [each.revision for each in history(EmbeddedKV(log), from_revision=3)] == [3]
        assert commit(EmbeddedKV(log), Put(b"x", b"")) == 4


def test_a_damaged_blob_may_be_stored_again(story: Story) -> None:
    flip(newest(story.folder), story.parts[2].offset + HEADER_BYTES)
    digest = Digest.of(b"b" * 20)
    with Log(story.folder) as log:
        store = SegmentStore(log)
        with pytest.raises(CorruptError):
            read(store, digest)
        with store.sink() as sink:
            sink.write(b"b" * 20)
            sink.commit(next(ref for ref in store.scan() if ref.digest == digest)).result()
        assert read(store, digest) == b"b" * 20
    shutil.rmtree(story.folder / "index")
    with Log(story.folder) as log:
        assert read(SegmentStore(log), digest) == b"b" * 20
        assert len(log.recovery.damages) == 1


def test_bytes_lost_from_the_middle_cost_what_stood_there(story: Story) -> None:
    """Records are valid in their own places only, so all that moved is damage."""
    shutil.rmtree(story.folder / "index")
    at = story.parts[3].offset
    newest(story.folder).write_bytes(story.content[:at] + story.content[at + 10 :])
    with Log(story.folder) as log:
        assert found_in(log) == (*replayed(range(3)), [])
        assert log.recovery.truncated_bytes == len(story.content) - 10 - at


def test_a_hole_of_zeros_is_damage_with_exact_extents(story: Story) -> None:
    shutil.rmtree(story.folder / "index")
    start, end = story.parts[1].offset, story.parts[4].end
    hole = story.content[:start] + bytes(end - start) + story.content[end:]
    newest(story.folder).write_bytes(hole)
    with Log(story.folder) as log:
        assert log.recovery.damages == (Damage(1, start, end - start),)
        assert found_in(log) == (*replayed([0, 5, 6, 7]), [])


# Bytes of users that look like ours.


def test_a_segment_stored_as_a_blob_is_never_read_as_records(folder: Path) -> None:
    with Log(folder) as log:
        put_key(log, b"secret", b"old")
        put_key(log, b"secret", b"new")
        copy = newest(folder).read_bytes()[: FIRST + log.writer.stats.bytes]
        put_blob(log, copy)
        put_blob(log, copy[64:])
        put_key(log, b"behind", b"")
    hosts = [each for each in records(newest(folder)) if isinstance(each, Record)][2:4]
    for host in hosts:
        flip(newest(folder), host.offset + 3)  # so that recovery looks inside
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert [each.size_bytes for each in log.recovery.damages] == [
            sum(host.end - host.offset for host in hosts)
        ]
        assert contents(log) == ({}, {b"secret": b"new", b"behind": b""})


def test_forged_records_at_every_offset_are_never_taken(folder: Path) -> None:
    """Whoever does not know the salt cannot make a record."""
    forged = b"".join(
        pack(Header(Kind.COMMIT, 0, 0, 0, 0, bytes(32), 0, checksum(b"")), salt, offset)
        for salt in range(10)
        for offset in range(0, 3000, 7)
    )
    with Log(folder) as log:
        put_blob(log, forged)
        put_key(log, b"k", b"v")
    flip(newest(folder), FIRST)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert log.recovery.damages == (Damage(1, FIRST, HEADER_BYTES + len(forged)),)
        assert contents(log) == ({}, {b"k": b"v"})


@pytest.mark.timeout(20)
def test_a_payload_of_nothing_but_beginnings_does_not_hold_recovery_up(folder: Path) -> None:
    payload = (MAGIC * (limits.MIB // len(MAGIC)))[: limits.MIB]
    with Log(folder) as log:
        put_blob(log, payload)
        put_key(log, b"k", b"v")
    flip(newest(folder), FIRST)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert [each.size_bytes for each in log.recovery.damages] == [HEADER_BYTES + limits.MIB]
        assert contents(log) == ({}, {b"k": b"v"})


@pytest.mark.parametrize("size_bytes", [4 * limits.MIB - 100, 4 * limits.MIB, 5 * limits.MIB])
def test_damage_longer_than_a_window_is_measured_right(folder: Path, size_bytes: int) -> None:
    payload = os.urandom(size_bytes - 200) + MAGIC * 50
    with Log(folder) as log:
        put_blob(log, payload)
        put_key(log, b"k", b"v")
        put_blob(log, b"x" * size_bytes)
    flip(newest(folder), FIRST)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert log.recovery.damages == (Damage(1, FIRST, HEADER_BYTES + size_bytes),)
        assert contents(log) == ({Digest.of(b"x" * size_bytes): b"x" * size_bytes}, {b"k": b"v"})


def test_older_segments_are_never_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 3000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1000)
    with Log(folder) as log:
        digests = [put_blob(log, b"%d" % number * 100) for number in range(60)]
    first = segments(folder)[0]
    size_bytes = first.stat().st_size
    last = records(first)[-1]
    flip(first, last.offset + 80)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        extent = Damage(1, last.offset, size_bytes - last.offset)
        assert log.recovery.damages == (extent,)
        assert len(contents(log)[0]) == len(digests) - 1
    assert first.stat().st_size == size_bytes


def test_an_index_is_made_again_in_little_memory(folder: Path) -> None:
    with Log(folder) as log:
        for number in range(240):
            put_blob(log, b"%03d" % number * 85_000)
        expected = [ref.digest for ref in SegmentStore(log).scan()]
    shutil.rmtree(folder / "index")
    tracemalloc.start()
    try:
        with Log(folder) as log:
            assert [ref.digest for ref in SegmentStore(log).scan()] == expected
        assert tracemalloc.get_traced_memory()[1] < 20 * limits.MIB
    finally:
        tracemalloc.stop()
