"""Marks: what has lost its name stays for the grace from when that was found, whatever happens."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import InvalidError, NotFoundError
from holdfast.core.limits import KIB
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.marks import NAME, Marks, marks_of, nameless
from holdfast.services.sweep import Manner, Report
from holdfast.services.sweeper import Sweeper, sweep_of
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.hand_clock import StillClock

GRACE_S = 3600
LONG_S = 100 * GRACE_S
LARGE = bytes(300 * KIB)
Digests = list[Digest]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def depot(folder: Path, clock: StillClock) -> Iterator[Depot]:
    with open_depot(folder, Limits(), clock=clock) as depot:
        yield depot


def sweep(depot: Depot, clock: StillClock, *, dry_run: bool = False) -> Report:
    """What a program does that begins anew each time."""
    manner = Manner(grace_s=GRACE_S, dry_run=dry_run, clock=clock)
    work = sweep_of(depot, manner, marks_of(depot.engine))
    while work.step():
        pass
    return work.report


def marked(depot: Depot) -> Digests:
    return [digest for digest, _ in marks_of(depot.engine).read().pairs()]


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
def test_what_has_lost_its_name_stays_for_the_grace(
    depot: Depot, clock: StillClock, data: bytes
) -> None:
    depot.put("k", data)
    clock.moved_s += LONG_S
    depot.delete("k")
    assert sweep(depot, clock).young == 1
    clock.moved_s += GRACE_S - 1
    assert sweep(depot, clock).young == 1
    assert depot.undelete("again", digest=Digest.of(data)).size_bytes == len(data)
    clock.moved_s += LONG_S
    assert sweep(depot, clock).live == 1
    assert marked(depot) == []
    assert depot.get("again") == data
    depot.delete("again")
    assert sweep(depot, clock).young == 1
    clock.moved_s += GRACE_S + 1
    assert sweep(depot, clock, dry_run=True).removed == 1
    assert sweep(depot, clock).removed == 1
    assert list(depot.engine.store.scan()) == []
    with pytest.raises(NotFoundError):
        depot.undelete("k", digest=Digest.of(data))
    assert sweep(depot, clock) == Report()


def test_a_dry_run_marks_nothing_and_tells_of_each(depot: Depot, clock: StillClock) -> None:
    depot.engine.store.put_many([b"%d" % number for number in range(5)])
    digests = sorted(Digest.of(b"%d" % number) for number in range(5))
    told: list[tuple[Digest, int]] = []
    manner = Manner(
        grace_s=GRACE_S,
        dry_run=True,
        clock=clock,
        tell=lambda ref, since_us: told.append((ref.digest, since_us)),
    )
    work = sweep_of(depot, manner, marks_of(depot.engine))
    while work.step():
        pass
    assert told == [(digest, clock.now_us()) for digest in digests]
    assert marked(depot) == []


def test_a_sweeper_that_begins_again_goes_by_the_marks(depot: Depot, clock: StillClock) -> None:
    depot.put("k", b"x")
    clock.moved_s += LONG_S
    depot.delete("k")
    for count in (1, 1, 0):
        sweeper = Sweeper(depot, every_s=600, grace_s=GRACE_S, clock=clock)
        for _ in range(4):
            sweeper.step()
        sweeper.close()
        assert len(list(depot.engine.store.scan())) == count
        clock.moved_s += GRACE_S / 2 + 1


def test_no_mark_of_another_folder_or_of_a_damaged_file_is_believed(
    depot: Depot, clock: StillClock, folder: Path, tmp_path: Path
) -> None:
    depot.engine.store.put_many([b"1", b"2"])
    sweep(depot, clock)
    path = folder / NAME
    whole = path.read_bytes()
    assert len(marked(depot)) == 2
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert marked(depot) == []
        path.write_bytes(whole[:at])
        assert marked(depot) == []
    path.write_bytes(whole)
    assert len(marked(depot)) == 2
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(folder / "HOLDFAST", other)
    shutil.copy2(path, other)
    assert len(Marks(other, Disk()).read()) == 0
    path.unlink()
    clock.moved_s += LONG_S
    assert sweep(depot, clock).young == 2


@pytest.mark.parametrize("call", ["open", "rename"])
def test_a_disk_that_refuses_leaves_the_marks_to_this_process(
    folder: Path, tmp_path: Path, call: str
) -> None:
    folder.mkdir()
    disk = FaultyDisk(Fault(1, only=frozenset((call,))))
    marks = Marks(folder, disk)
    digest = Digest.of(b"x")
    marks.save([(digest, 5)])
    assert list(marks.read().pairs()) == [(digest, 5)]
    assert len(Marks(folder, Disk()).read()) == 0
    marks.save([])
    assert list(marks.read().pairs()) == []


def test_more_than_a_pass_takes_keep_their_marks(
    depot: Depot, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.engine.store.put_many([b"%d" % number for number in range(40)])
    monkeypatch.setattr(limits, "SWEEP_REFS_MAX", 25)
    assert sweep(depot, clock).young == 40
    clock.moved_s += GRACE_S + 10
    report = sweep(depot, clock)
    assert (report.removed, report.left + report.young) == (25, 15)
    clock.moved_s += GRACE_S + 10
    assert sweep(depot, clock).removed == 15


def test_blobs_without_a_name_are_listed_in_pages(depot: Depot, clock: StillClock) -> None:
    digests = sorted(Digest.of(b"%d" % number) for number in range(30))
    depot.engine.store.put_many([b"%d" % number for number in range(30)])
    sweep(depot, clock)
    depot.undelete("k", digest=digests[3])
    depot.engine.store.remove([digests[5]])
    found, after = [], ""
    while page := nameless(depot.engine, after, 7):
        found += page
        after = str(page[-1].digest)
    assert [one.digest for one in found] == [*digests[:3], digests[4], *digests[6:]]
    assert {one.since_us for one in found} == {clock.now_us()}
    with pytest.raises(InvalidError):
        nameless(depot.engine, "nonsense", 7)
