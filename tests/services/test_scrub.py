"""A pass over a real depot: it reads everything in time, finds all damage, and goes on."""

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from steps import (
    KEYS,
    LARGE,
    SMALL,
    age,
    blob_file,
    fill,
    flip,
    found,
    gauges,
    run_pass,
    segment,
    small,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.depot.stamps import NAME
from holdfast.services.caretaker import Caretaker
from holdfast.services.scrub import DAY_S, Scrub
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.hand_clock import StillClock


class CountingDisk(Disk):
    """Counts what was read past the page cache."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self.files: list[str] = []

    def open(self, path: Path, flags: int) -> int:
        if flags & os.O_DIRECT:
            self.files.append(path.name)
        return super().open(path, flags)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        got = super().pread_into(descriptor, buffer, offset)
        self.read_bytes += got
        return got


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = fill(tmp_path / "store")
    age(segment(folder), blob_file(folder))
    return folder


@pytest.fixture
def depot(folder: Path) -> Iterator[Depot]:
    with open_depot(folder) as opened:
        yield opened


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [vars(each)["fields"] for each in caplog.records if each.getMessage() == name]


def new_pass(folder: Path, clock: StillClock) -> list[tuple[str, str]]:
    """Open, let a pass become due and run; tell what is known to be wrong then."""
    with open_depot(folder) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        clock.moved_s += limits.SCRUB_DAYS * DAY_S
        run_pass(scrub, clock)
        scrub.close()
        return found(depot)


# What is read


def test_a_sound_store_is_read_to_its_end_and_nothing_is_found(
    depot: Depot, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scrub = Scrub(depot.engine, clock=clock)
    assert gauges(scrub)["pass"] == 0
    run_pass(scrub, clock)
    (told,) = events(caplog, "scrub.completed")
    assert told["blobs"] == KEYS + 1
    assert told["found"] == 0
    assert told["read_bytes"] >= len(LARGE) + KEYS * len(SMALL)
    assert told["read_bytes"] == gauges(scrub)["read_bytes"]
    now = gauges(scrub)
    assert now["pass"] == 1
    assert now["left_bytes"] == now["left_s"] == 0
    assert 0 < now["oldest_s"] <= now["completed_s"]


def test_bytes_come_from_the_disk_and_not_through_the_page_cache(
    folder: Path, clock: StillClock
) -> None:
    disk = CountingDisk()
    with open_depot(folder, disk=disk) as depot:
        run_pass(Scrub(depot.engine, clock=clock), clock)
    assert disk.read_bytes >= segment(folder).stat().st_size + blob_file(folder).stat().st_size
    assert set(disk.files) == {segment(folder).name, blob_file(folder).name}


def test_a_pass_lasts_as_long_as_it_may(
    depot: Depot, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCRUB_BYTES_S_MIN", 1)
    scrub = Scrub(depot.engine, days=10, clock=clock)
    run_pass(scrub, clock)  # the first one cannot know how much it is going to read
    for _ in range(2):
        begun_s = clock.moved_s
        run_pass(scrub, clock)
        assert 9 * DAY_S <= clock.moved_s - begun_s <= 10.01 * DAY_S


def test_a_small_store_is_read_at_once_and_then_not_before_the_pass_is_over(
    depot: Depot, clock: StillClock
) -> None:
    scrub = Scrub(depot.engine, days=10, clock=clock)
    run_pass(scrub, clock)
    assert clock.moved_s < 60
    run_pass(scrub, clock)
    assert 10 * DAY_S <= clock.moved_s < 10 * DAY_S + 60


def test_no_more_is_read_in_a_second_than_is_allowed(
    depot: Depot, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even by a pass that is late."""
    caplog.set_level(logging.INFO)
    scrub = Scrub(depot.engine, days=1e-9, bytes_s_max=64 * KIB, clock=clock)
    caretaker = Caretaker([scrub], clock)
    while not (told := events(caplog, "scrub.completed")):
        clock.moved_s += caretaker.take_turns()
    assert 0.99 * 64 * KIB < told[0]["read_bytes"] / clock.moved_s <= 64 * KIB


def test_a_step_is_bounded(depot: Depot, clock: StillClock) -> None:
    scrub = Scrub(depot.engine, clock=clock)
    for _ in range(1000):
        assert scrub.step().size_bytes <= limits.STEP_BYTES_MAX


def test_what_waits_longest_is_read_first(
    folder: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8 * MIB + 10 * KIB)
    disk = CountingDisk()
    with open_depot(folder, disk=disk) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        for number in range(60):
            depot.put(f"more/{number}", small(number) * 2)
        names = [path.name for path in sorted((folder / "log").glob("*.seg"))]
        assert len(names) > 2
        disk.files.clear()
        run_pass(scrub, clock)
    assert disk.files[: len(names)] == [*names[1:], names[0]]


# Damage


def test_a_flipped_bit_in_the_log_is_found_as_record_and_as_blob(
    folder: Path, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    at = segment(folder).read_bytes().index(small(7))
    flip(segment(folder), at + 3)
    digest = str(Digest.of(small(7)))
    place = f"log/{segment(folder).name} offset {at - 72}"
    assert new_pass(folder, clock) == [("blob", digest), ("record", place)]
    assert [(each["kind"], each["where"]) for each in events(caplog, "scrub.found")] == [
        ("record", place),
        ("blob", digest),
    ]


def test_a_damaged_commit_is_found_as_such(folder: Path, clock: StillClock) -> None:
    at = segment(folder).read_bytes().index(b"edefault\x00small/3")
    flip(segment(folder), at)
    with open_depot(folder) as depot:
        run_pass(Scrub(depot.engine, clock=clock), clock)
        (finding,) = depot.engine.stamps.read().findings()
    assert finding.kind == "record"
    assert "commit" in finding.why


def test_a_segment_that_was_cut_or_zeroed_is_found(
    folder: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8 * MIB + 10 * KIB)
    with open_depot(folder) as depot:
        depot.put("more", b"in another segment")
        size = segment(folder).stat().st_size
        with segment(folder).open("r+b") as file:
            file.seek(size // 2)
            file.write(bytes(size - size // 2))
        run_pass(Scrub(depot.engine, clock=clock), clock)
        kinds = [kind for kind, _ in found(depot)]
    assert kinds.count("record") == 2  # a torn one, and the rest
    assert kinds.count("blob") == 10


@pytest.mark.parametrize("where", ["content", "checksums", "footer", "cut", "empty", "grown"])
def test_damage_of_a_large_file_is_found_wherever_it_is(
    folder: Path, clock: StillClock, where: str
) -> None:
    path = blob_file(folder)
    size = path.stat().st_size
    if where in {"cut", "empty", "grown"}:
        os.truncate(path, {"cut": size - 5, "empty": 0, "grown": size + 8}[where])
    else:
        flip(path, {"content": 2_000_000, "checksums": len(LARGE) + 1, "footer": size - 30}[where])
    is_lost = where in {"content", "empty"}
    expected = [("blob", str(Digest.of(LARGE)))] if is_lost else []
    assert new_pass(folder, clock) == expected  # where its content is whole, it was stored again
    if not is_lost:
        with open_depot(folder) as depot:
            assert depot.get("large") == LARGE


def test_a_lost_file_is_found_by_every_name_that_points_to_it(
    folder: Path, clock: StillClock
) -> None:
    blob_file(folder).unlink()
    with open_depot(folder) as depot:
        depot.content.put(b"held and lost" * 30_000)
    blob_file(folder).unlink()
    lost = str(Digest.of(b"held and lost" * 30_000))
    assert new_pass(folder, clock) == [
        ("entry", "default/large"),
        ("entry", "other/shared"),
        ("entry", lost),
    ]


def test_findings_end_when_the_bytes_come_back(folder: Path, clock: StillClock) -> None:
    """By somebody who stores them again, or who removes the name."""
    flip(segment(folder), segment(folder).read_bytes().index(small(7)) + 3)
    flip(blob_file(folder), 2_000_000)
    with open_depot(folder) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        assert gauges(scrub)["damaged_blobs"] == 2
        depot.put("again", small(7))
        scrub.step()
        assert gauges(scrub)["damaged_blobs"] == 1
        depot.put("again", LARGE)
        scrub.step()
        assert gauges(scrub)["damaged_blobs"] == 0
        assert [kind for kind, _ in found(depot)] == ["record"]


def test_writing_while_it_reads_is_no_damage(
    tmp_path: Path, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 9 * MIB)
    with open_depot(tmp_path) as depot:
        stop = threading.Event()

        def write(worker: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                data = b"%d %d " % (worker, number) * (50_000 if number % 5 == 0 else 500)
                depot.put(f"{worker}/{number % 7}", data)
                depot.delete(f"{worker}/{(number + 3) % 7}")
                depot.engine.store.remove([Digest.of(b"%d %d " % (worker, number - 20) * 500)])

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(3)]
        for thread in threads:
            thread.start()
        scrub = Scrub(depot.engine, clock=clock)
        for _ in range(3):
            clock.moved_s += limits.SCRUB_DAYS * DAY_S
            run_pass(scrub, clock)
            assert found(depot) == []
        stop.set()
        for thread in threads:
            thread.join()


# Going on


def test_a_pass_goes_on_where_it_was_when_the_store_is_opened_again(
    folder: Path, clock: StillClock
) -> None:
    disk = CountingDisk()
    with open_depot(folder, disk=disk) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        whole_bytes, disk.read_bytes = disk.read_bytes, 0
        scrub.close()
    clock.moved_s += limits.SCRUB_DAYS * DAY_S
    openings = 0
    completed = False
    while not completed:
        with open_depot(folder, disk=disk) as depot:
            scrub = Scrub(depot.engine, clock=clock)
            for _ in range(40):
                scrub.step()
            completed = gauges(scrub)["pass"] == 2 and gauges(scrub)["left_bytes"] == 0
            completed &= depot.engine.stamps.read().ended_us > 0
            scrub.close()
            openings += 1
    assert openings > 3
    assert disk.read_bytes <= whole_bytes + len(LARGE) + openings * segment(folder).stat().st_size


def test_stamps_are_believed_in_their_own_folder_only(folder: Path, clock: StillClock) -> None:
    with open_depot(folder) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        scrub.close()
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    with open_depot(folder) as depot, open_depot(copy) as other:
        assert depot.engine.stamps.read().number == 1
        assert other.engine.stamps.read().number == 0
        assert other.content.verified_at(Digest.of(LARGE)) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "zeros", "another version"])
def test_damaged_stamps_are_none(folder: Path, clock: StillClock, damage: str) -> None:
    with open_depot(folder) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        scrub.close()
    path = folder / NAME
    data = path.read_bytes()
    if damage == "flipped":
        flip(path, len(data) // 2)
    elif damage == "another version":
        path.write_bytes(data[:8] + b'{"pass":7}')
    else:
        path.write_bytes({"cut": data[:-9], "empty": b"", "zeros": bytes(len(data))}[damage])
    with open_depot(folder) as depot:
        assert depot.engine.stamps.read().number == 0
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        assert gauges(scrub)["pass"] == 1


def test_a_clock_that_was_put_back_stops_nothing(depot: Depot, clock: StillClock) -> None:
    scrub = Scrub(depot.engine, days=10, clock=clock)
    run_pass(scrub, clock)
    clock.moved_s -= 1000 * DAY_S
    run_pass(scrub, clock)
    scrub.step()
    clock.moved_s -= 1000 * DAY_S
    run_pass(scrub, clock)
    assert gauges(scrub)["pass"] == 3


def test_a_disk_that_fails_costs_a_step_and_makes_no_findings(
    folder: Path, clock: StillClock
) -> None:
    for call in ("open", "pread_into", "pwrite_all", "rename"):
        for number in (1, 2, 3, 7):
            disk = FaultyDisk()
            clock.moved_s += limits.SCRUB_DAYS * DAY_S
            with open_depot(folder, disk=disk) as depot:
                scrub = Scrub(depot.engine, clock=clock)
                failures = 0
                disk.arm(Fault(number, error=5 if call == "rename" else 13, only=frozenset({call})))
                while not (gauges(scrub)["completed_s"] and depot.engine.stamps.read().ended_us):
                    try:
                        scrub.step()
                    except (UnavailableError, OSError):
                        failures += 1
                disk.arm(None)
                assert failures <= 1
                assert found(depot) == []
                scrub.close()


class RottenDisk(Disk):
    """Cannot read a block of one large file, which only the page cache still has."""

    def __init__(self) -> None:
        self._file = 0
        self._has_forgotten = False

    def _is_bad(self, descriptor: int, size_bytes: int, offset: int) -> bool:
        status = os.fstat(descriptor)
        if 3 * MIB < status.st_size < 4 * MIB and status.st_nlink:
            self._file = self._file or status.st_ino
        return status.st_ino == self._file and offset <= 2 * MIB < offset + size_bytes

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        if self._is_bad(descriptor, len(buffer), offset):
            raise OSError(5, "bad block")
        return super().pread_into(descriptor, buffer, offset)

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        if self._has_forgotten and self._is_bad(descriptor, size_bytes, offset):
            raise OSError(5, "bad block")
        return super().pread(descriptor, size_bytes, offset)

    def forget(self, descriptor: int, offset: int, size_bytes: int) -> None:
        self._has_forgotten = True


def test_what_only_the_page_cache_still_has_is_stored_again(
    folder: Path, clock: StillClock, caplog: pytest.LogCaptureFixture
) -> None:
    with open_depot(folder, disk=RottenDisk()) as depot:
        scrub = Scrub(depot.engine, clock=clock)
        run_pass(scrub, clock)
        assert found(depot) == []
        assert gauges(scrub)["repaired_blobs"] == 1
        assert depot.get("large") == LARGE
    (told,) = events(caplog, "scrub.repaired")
    assert told["digest"] == str(Digest.of(LARGE))


# When a blob was verified


def test_every_blob_knows_since_when_it_is_verified(depot: Depot, clock: StillClock) -> None:
    digests = [Digest.of(small(number)) for number in range(KEYS)] + [Digest.of(LARGE)]
    assert {depot.content.verified_at(digest) for digest in digests} == {None}
    clock.moved_s += 1000
    scrub = Scrub(depot.engine, clock=clock)
    begun_us = clock.now_us()
    run_pass(scrub, clock)
    depot.put("new", b"not yet read")
    for digest in digests:
        at = depot.content.verified_at(digest)
        assert at is not None
        assert begun_us <= at.timestamp() * 1e6 + 1 <= clock.now_us()
    assert depot.content.verified_at(Digest.of(b"not yet read")) is None
    with pytest.raises(NotFoundError):
        depot.content.verified_at(Digest.of(b"nobody stored this"))


def test_a_file_stored_since_the_folder_was_read_is_not_verified(
    depot: Depot, clock: StillClock
) -> None:
    run_pass(Scrub(depot.engine, clock=clock), clock)
    assert depot.content.verified_at(Digest.of(LARGE)) is not None
    depot.engine.store.remove([Digest.of(LARGE)])
    assert depot.content.verified_at(Digest.of(LARGE)) is None
    depot.put("large", LARGE)
    assert depot.content.verified_at(Digest.of(LARGE)) is None


def test_a_damaged_blob_is_not_verified_but_its_neighbours_are(
    folder: Path, clock: StillClock
) -> None:
    flip(segment(folder), segment(folder).read_bytes().index(small(7)) + 3)
    with open_depot(folder) as depot:
        clock.moved_s += 1000
        run_pass(Scrub(depot.engine, clock=clock), clock)
        known = [depot.content.verified_at(Digest.of(small(n))) is not None for n in range(KEYS)]
    assert known == [number != 7 for number in range(KEYS)]
