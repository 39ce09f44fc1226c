"""Damaged blobs come back from whatever good copy there is, and from nothing else."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from steps import (
    LARGE,
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
from holdfast.core.errors import CorruptError, UnavailableError
from holdfast.core.inspection import QUARANTINE
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import Buffer
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.repair import Copies, Repair
from holdfast.services.scrub import DAY_S, Scrub
from holdfast.testing.hand_clock import StillClock

SEVEN = Digest.of(small(7))


class Peer:
    """A machine that says that it has copies."""

    def __init__(self, *said: Iterable[Buffer] | Exception) -> None:
        self._said = said
        self.asked: list[tuple[Digest, int | None]] = []

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterable[Buffer]]:
        self.asked.append((digest, size_bytes))
        for said in self._said:
            yield broken(said) if isinstance(said, Exception) else said


def broken(error: Exception) -> Iterator[Buffer]:
    yield LARGE[:MIB]
    raise error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = fill(tmp_path / "store")
    age(segment(folder), blob_file(folder))
    return folder


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


def scrub(depot: Depot, clock: StillClock, *others: Copies, passes: int = 1) -> Scrub:
    """Run whole passes."""
    task = Scrub(depot.engine, others=others, clock=clock)
    for _ in range(passes):
        clock.moved_s += limits.SCRUB_DAYS * DAY_S
        run_pass(task, clock)
    return task


def flip_record(folder: Path, data: bytes, offset: int) -> None:
    """Damage the newest record of a blob: its payload, or its header before that."""
    at = segment(folder).read_bytes().rindex(data)
    flip(segment(folder), at + offset)


def test_a_record_whose_header_alone_is_damaged_is_stored_again(
    folder: Path, clock: StillClock
) -> None:
    flip_record(folder, small(7), -40)
    with open_depot(folder) as depot:
        with pytest.raises(CorruptError):
            depot.get("small/7")
        assert gauges(scrub(depot, clock))["repaired_blobs"] == 1
        assert depot.get("small/7") == small(7)
        assert [kind for kind, _ in found(depot)] == ["record"]


def test_an_older_record_makes_a_newer_one_good(folder: Path, clock: StillClock) -> None:
    with open_depot(folder) as depot:
        depot.engine.store.remove([SEVEN])
        depot.put("small/7", small(7))
    flip_record(folder, small(7), 3)
    with open_depot(folder) as depot:
        with pytest.raises(CorruptError):
            depot.get("small/7")
        task = scrub(depot, clock, passes=2)
        assert gauges(task)["repaired_blobs"] == 1
        assert depot.get("small/7") == small(7)


def test_a_file_makes_a_record_good(folder: Path, clock: StillClock) -> None:
    """After the limit of small blobs was lowered, the same bytes were stored again."""
    with open_depot(folder, Limits(small_blob_bytes_max=0)) as depot:
        depot.put("again", small(7))
    flip_record(folder, small(7), 3)
    with open_depot(folder, Limits(small_blob_bytes_max=0)) as depot:
        assert depot.get("small/7") == small(7), "the other copy is read already"
        task = scrub(depot, clock)
        assert gauges(task)["repaired_blobs"] == 1
        assert gauges(task)["damaged_blobs"] == 0
        assert depot.get("small/7") == small(7)
    assert [path.name for path in (folder / QUARANTINE).iterdir()] == [f"{SEVEN.hex()}.bytes"]
    with open_depot(folder) as depot:
        assert depot.get("small/7") == small(7)


def test_a_record_makes_a_file_good(folder: Path, clock: StillClock) -> None:
    data = small(0) * 1000
    with open_depot(folder, Limits(small_blob_bytes_max=MIB)) as depot:
        depot.put("once", data)
    with open_depot(folder, Limits(small_blob_bytes_max=100 * KIB)) as depot:
        depot.put("twice", data)
    (file,) = (folder / "files").rglob(f"{Digest.of(data).hex()}.blob")
    flip(file, 100)
    with open_depot(folder) as depot:
        task = scrub(depot, clock)
        assert gauges(task)["repaired_blobs"] == 1
        assert found(depot) == []
        assert depot.get("twice") == data
    assert (folder / QUARANTINE / file.name).exists()
    assert not file.exists()


def test_what_recovery_cut_off_makes_a_record_good(folder: Path, clock: StillClock) -> None:
    content = segment(folder).read_bytes()
    at = content.index(small(7))
    torn = segment(folder).with_name(f"{segment(folder).stem}-99.torn")
    torn.write_bytes(b"before it" + content[at - 72 : at + len(small(7))] + b"behind it")
    flip_record(folder, small(7), 3)
    with open_depot(folder) as depot:
        assert gauges(scrub(depot, clock))["repaired_blobs"] == 1
        assert depot.get("small/7") == small(7)


def test_others_are_asked_and_not_believed(folder: Path, clock: StillClock) -> None:
    flip(blob_file(folder), 2 * MIB)
    liar = Peer([b"other bytes"], [LARGE[:-1]], [LARGE, b"more"], UnavailableError("gone"), [])
    honest = Peer([LARGE[:MIB], LARGE[MIB:]])
    with open_depot(folder) as depot:
        assert gauges(scrub(depot, clock, liar))["repaired_blobs"] == 0
        with pytest.raises(CorruptError):
            depot.get("large")
        assert gauges(scrub(depot, clock, liar, honest))["repaired_blobs"] == 1
        assert depot.get("large") == LARGE
        assert found(depot) == []
    assert set(liar.asked + honest.asked) == {(Digest.of(LARGE), len(LARGE))}
    assert list((folder / "files" / "tmp").iterdir()) == []


def test_without_a_copy_nothing_is_changed(folder: Path, clock: StillClock) -> None:
    flip_record(folder, small(7), 3)
    flip(blob_file(folder), 2 * MIB)
    before = {path: path.read_bytes() for path in (segment(folder), blob_file(folder))}
    with open_depot(folder) as depot:
        scrub(depot, clock, passes=2)
        assert [kind for kind, _ in found(depot)] == ["blob", "blob", "record"]
    for path, data in before.items():
        assert path.read_bytes()[: len(data)] == data
    assert not (folder / QUARANTINE).exists()


def test_what_was_given_up_is_missing_and_welcome_again(folder: Path, clock: StillClock) -> None:
    flip_record(folder, small(7), 3)
    flip(blob_file(folder), 2 * MIB)
    with open_depot(folder) as depot:
        scrub(depot, clock)
        repair = Repair(depot.engine)
        for finding in depot.engine.stamps.read().findings():
            if finding.kind == "blob":
                repair.give_up(finding)
        for key in ("small/7", "large"):
            with pytest.raises(CorruptError, match="missing"):
                depot.get(key)
        scrub(depot, clock)
        assert [kind for kind, _ in found(depot)] == ["entry", "entry", "entry", "record"]
        depot.put("a", small(7))
        depot.content.put(LARGE)
        assert depot.get("small/7") == small(7)
        assert depot.get("large") == LARGE
        task = scrub(depot, clock)
        assert gauges(task)["broken_entries"] == gauges(task)["damaged_blobs"] == 0
    kept = {path.name: path.read_bytes() for path in (folder / QUARANTINE).iterdir()}
    assert set(kept) == {f"{SEVEN.hex()}.bytes", f"{Digest.of(LARGE).hex()}.blob"}
    assert len(kept[f"{SEVEN.hex()}.bytes"]) == len(small(7))
