"""What an opening says of itself: how far it is, what it did, what is damaged, what was cut."""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from log_steps import (
    contents,
    flip,
    newest,
    put_blob,
    put_key,
    segments,
    survive,
)

from holdfast.core import limits
from holdfast.core.progress import Progress
from holdfast.core.seams import Disk, SystemClock
from holdfast.log.log import Log
from holdfast.log.scan import Damage, Scan
from holdfast.log.segment import Segment
from holdfast.testing.folders import quick_folder


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    with quick_folder() as base:
        yield base / "store"


@pytest.fixture
def many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 4000)
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", 1000)


class RunningClock(SystemClock):
    """A clock on which every look takes a tenth of a second."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic_s(self) -> float:
        self.looks += 1
        return self.looks / 10


def fill(folder: Path, count: int = 30) -> int:
    """Put blobs and keys, and tell where the log ends."""
    with Log(folder) as log:
        for number in range(count):
            put_blob(log, b"blob %d" % number * 10)
            put_key(log, b"key %d" % number, b"%d" % number)
        end = log.index.applied()
        assert end is not None
        return end.offset


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [vars(each)["fields"] for each in caplog.records if each.getMessage() == name]


def records(path: Path) -> list[int]:
    """Where the records of a segment begin."""
    segment = Segment.open(Disk(), path.parent, int(path.stem))
    return [found.offset for found in Scan(Disk(), segment).records(64)]


# What was known and is not there any more.


@pytest.mark.parametrize("filler", [b"\x00", b"\xa5"])
@pytest.mark.parametrize("count", [1, 5])
def test_a_closed_log_whose_end_was_wiped_says_so(folder: Path, filler: bytes, count: int) -> None:
    """The file is as long as it was, so only the index knows that there was more."""
    end = fill(folder)
    start = records(newest(folder))[-count]
    with newest(folder).open("r+b") as file:
        file.seek(start)
        file.write(filler * (end - start))
    with Log(folder) as log:
        assert log.recovery.damages == (Damage(1, start, end - start),)
        assert log.recovery.damaged_bytes == end - start
        assert log.facts()["damaged_bytes"] == end - start
        contents(log)
    with Log(folder) as log:
        assert log.recovery.damages == ()


def test_a_log_that_another_index_was_made_of_has_lost_nothing(folder: Path) -> None:
    fill(folder, 5)
    fill(folder.with_name("other"), 30)
    shutil.rmtree(folder / "index")
    shutil.copytree(folder.with_name("other") / "index", folder / "index")
    os.truncate(newest(folder), 4 * limits.MIB)  # so that the file is not too short for that index
    with Log(folder) as log:
        assert log.recovery.damages == ()
        assert len(contents(log)[0]) == 5


# Damage.


def test_every_damaged_place_is_an_event_with_its_extent(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folder)
    places = records(newest(folder))
    for at in (3, 10, 20):
        flip(newest(folder), places[at])
    shutil.rmtree(folder / "index")
    with caplog.at_level(logging.INFO, "holdfast"), Log(folder) as log:
        damages = log.recovery.damages
        assert [each.offset for each in damages] == [places[at] for at in (3, 10, 20)]
    assert events(caplog, "log.damaged") == [each._asdict() for each in damages]
    (replayed,) = events(caplog, "log.replayed")
    assert (replayed["records"], replayed["commits"]) == (len(places) - 3, 30 - 2)
    assert replayed["records_s"] > 0


def test_damaged_places_are_counted_beyond_those_that_are_kept_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DAMAGES_MAX", 4)
    monkeypatch.setattr(limits, "DAMAGE_EVENTS_MAX", 2)
    fill(folder)
    places = records(newest(folder))
    for at in range(2, 20, 2):
        flip(newest(folder), places[at])
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        recovery = log.recovery
    assert (len(recovery.damages), recovery.damaged_places) == (4, 9)
    assert recovery.damaged_bytes == sum(places[at + 1] - places[at] for at in range(2, 20, 2))
    assert len(events(caplog, "log.damaged")) == 2
    assert events(caplog, "log.damaged_more") == [
        {"places": 7, "size_bytes": recovery.damaged_bytes}
    ]


def test_a_torn_tail_is_an_event_and_is_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        end = fill(folder, 1)
        with newest(folder).open("r+b") as file:
            file.seek(end)
            file.write(b"torn %d" % number)
        survive(folder)
        with Log(folder) as log:
            recovery, facts = log.recovery, log.facts()
        assert (recovery.truncated_bytes, recovery.torn_files) == (6, number)
        assert (facts["truncated_bytes"], facts["torn_bytes"]) == (6, number * 6)
    assert events(caplog, "log.torn") == [{"size_bytes": 6}] * 2


# How far it is.


def watched(folder: Path) -> tuple[list[Progress], int]:
    """What somebody sees who watches an opening, and how many records it applied."""
    seen: list[Progress] = []
    with Log(folder, watch=seen.append) as log:
        return seen, log.recovery.records


@pytest.mark.usefixtures("many_segments")
@pytest.mark.parametrize("hints", ["all", "none", "some"])
def test_who_watches_sees_it_come_to_its_end(folder: Path, hints: str) -> None:
    fill(folder, 60)
    with Log(folder) as log:
        for _ in log.make_hints():
            pass
    found = sorted((folder / "log").glob("*.hint"))
    for path in {"all": [], "none": found, "some": found[::3]}[hints]:
        path.unlink()
    shutil.rmtree(folder / "index")
    seen, count = watched(folder)
    assert len(seen) > 3
    assert seen == sorted(seen)
    log_bytes = sum(path.stat().st_size for path in segments(folder))
    assert seen[-1].records == count > 120
    assert seen[-1].done_bytes == seen[-1].total_bytes == log_bytes - 64


def test_an_opening_that_lacks_nothing_has_nothing_to_show(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folder)
    with caplog.at_level(logging.INFO, "holdfast"):
        assert watched(folder) == ([], 0)
    assert caplog.records == []


@pytest.mark.usefixtures("many_segments")
def test_a_long_replay_is_told_about_once_a_second(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folder, 200)
    shutil.rmtree(folder / "index")
    with caplog.at_level(logging.INFO, "holdfast"), Log(folder, clock=RunningClock()) as log:
        assert log.recovery.took_s > 3
        told = [each["done_bytes"] for each in events(caplog, "log.replay")]
        assert 2 <= len(told) <= log.recovery.took_s
        assert told == sorted(told)
