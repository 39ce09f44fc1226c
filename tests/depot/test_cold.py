"""Depots with a cold store: what goes there and when, and that nobody notices."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli.tier import tier
from holdfast.config.explain import explain
from holdfast.config.load import load
from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    FullError,
    InvalidError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.policy import Policy
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.local import hold_depot, open_depot
from holdfast.services.caretaker import Caretaker
from holdfast.services.fsck import Fsck, Options
from holdfast.services.migration import Migration
from holdfast.services.mirror import Mirror
from holdfast.services.reshard import Reshard
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.services.tiering import Tiering
from holdfast.shards.folder import Shape
from holdfast.testing.blobs import make
from holdfast.testing.buckets import come_and_go
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.hand_clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Callable

DAY_S = 86_400
SMALL, LARGE, HUGE = make(1000), make(300 * KIB), make(9 * MIB + 5)
BLOBS = {"empty": b"", "small": SMALL, "middle": make(200 * KIB), "large": LARGE, "huge": HUGE}


class World:
    """A folder, its cold store, and a clock."""

    def __init__(self, path: Path, options: str = "", engine: str = "segments") -> None:
        self.folder = path / "data"
        self.bucket = path / "cold"
        self.bucket.mkdir(parents=True)
        self.clock = StillClock()
        self.target = f"{engine}://{self.folder}?cold=file://{self.bucket}{options}"

    def open(self, target: str | Path | None = None, disk: Disk | None = None) -> Depot:
        located = locate(self.target if target is None else target)
        return open_depot(located.folder, bounds_of(located), disk, self.clock)

    def fill(self, blobs: dict[str, bytes] = BLOBS) -> None:
        with self.open() as depot:
            for key, data in blobs.items():
                depot.put(key, data)

    def cool(self) -> None:
        """Fill it, and let all be moved."""
        self.fill()
        self.clock.moved_s += 31 * DAY_S
        with self.open() as depot:
            assert move(depot) == len(BLOBS)

    def cold(self) -> set[str]:
        """The digests of blobs that lie in the cold store."""
        names = [
            each.name.removesuffix(".blob") for each in (self.bucket / "blobs").rglob("*.blob")
        ]
        return {*names, *(each.parent.name for each in (self.bucket / "large").glob("*/*/*"))}

    def path_of(self, data: bytes) -> Path:
        """The object of a blob of one part."""
        name = Digest.of(data).hex()
        return self.bucket / "blobs" / name[:2] / f"{name}.blob"


def move(depot: Depot, days: float = 30) -> int:
    """Move what is old; return how many blobs that were."""
    assert depot.engine.tier is not None
    return sum(moved.blobs for moved in depot.engine.tier.move(days * DAY_S))


def is_here(depot: Depot, data: bytes) -> bool:
    """Whether a blob lies in the log or in a file."""
    tiering = depot.engine.tier
    assert tiering is not None
    return bool(tiering._store.here.stat([Digest.of(data)]))


def digests(*blobs: bytes) -> set[str]:
    return {Digest.of(data).hex() for data in blobs}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=["segments", "sqlite"])
def each_world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """One over each engine; of shards there are three."""
    return World(tmp_path, "" if request.param == "segments" else "&shards=3", request.param)


# What goes there.


def test_old_blobs_are_moved_and_read_as_before(each_world: World) -> None:
    world = each_world
    world.fill()
    with world.open() as depot:
        assert move(depot) == 0
        world.clock.moved_s += 31 * DAY_S
        depot.put("young", make(500))
        assert move(depot) == len(BLOBS)
        assert world.cold() == digests(*BLOBS.values())
        assert not any(is_here(depot, data) for data in BLOBS.values())
        assert is_here(depot, make(500))
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        with depot.open("huge") as file:
            file.seek(8 * MIB - 3)
            assert file.read(6) == HUGE[8 * MIB - 3 : 8 * MIB + 3]
        assert list(depot.get_many(BLOBS)) == list(BLOBS.values())
        assert move(depot) == 0
    with world.open(world.folder) as depot:  # it remembers where they are
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        assert {each.digest for each in depot.engine.store.scan()} == {
            Digest.of(data) for data in (*BLOBS.values(), make(500))
        }


def test_a_blob_is_as_old_as_the_newest_name_that_holds_it(world: World) -> None:
    with world.open() as depot:
        for key in ("replaced", "named again", "copied", "held"):
            depot.put(key, make(500, seed=len(key)))
        depot.put("old", SMALL)
        depot.content.put(make(100))
        world.clock.moved_s += 31 * DAY_S
        depot.put("replaced", make(900))
        depot.put("another", make(500, seed=len("named again")))
        depot.copy("copied", "copy")
        depot.content.put(make(500, seed=len("held")))
        assert move(depot) == 2
        assert world.cold() == digests(SMALL, make(100))
        world.clock.moved_s += 31 * DAY_S
        assert move(depot) == 4


def test_what_waits_to_come_back_gets_old_too(each_world: World) -> None:
    world = each_world
    with world.open() as depot:
        depot.set_policy(Policy(versions=3, undelete_s=10 * DAY_S))
        for number in range(3):
            depot.put("versions", make(500, seed=number))
        depot.put("deleted", SMALL)
        depot.delete("deleted")
        world.clock.moved_s += DAY_S / 2
        assert move(depot, 0.1) == 4
        depot.undelete("deleted")
        assert depot.get("deleted") == SMALL
        assert depot.get("versions", version=0) == make(500)


@pytest.mark.parametrize("engine", ["segments", "sqlite"])
def test_encoded_blobs_move_as_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("BLOBS_KEY", "ab" * 32)
    world = World(tmp_path, "&compress=zstd&encrypt=env:BLOBS_KEY", engine)
    text = b"a line of text that is easy to find\n" * 100_000
    world.fill({"text": text, "noise": HUGE, "small": SMALL})
    world.clock.moved_s += 31 * DAY_S
    with world.open() as depot:
        assert move(depot) == 3
        assert depot.get("text") == text
        assert depot.get("noise") == HUGE
        assert depot.get("small") == SMALL
    stored = b"".join(each.read_bytes() for each in world.bucket.rglob("*") if each.is_file())
    assert b"easy to find" not in stored
    assert HUGE[1000:1100] not in stored
    assert not world.cold() & digests(text, HUGE, SMALL)
    assert fsck(world) == []


# What is put again.


def test_what_is_put_again_is_found_there_and_not_stored_here(each_world: World) -> None:
    world = each_world
    world.cool()
    with world.open() as depot:
        for key, data in BLOBS.items():
            depot.put(f"{key} again", data)
        assert not any(is_here(depot, data) for data in BLOBS.values())
        depot.content.put_many([SMALL, LARGE])
        assert depot.engine.store.put_many([SMALL, make(77)])
        assert not is_here(depot, SMALL)
        assert is_here(depot, make(77))
        assert depot.get("huge again") == HUGE


def test_what_is_damaged_there_is_stored_here_and_read(each_world: World) -> None:
    world = each_world
    world.cool()
    for data in (SMALL, LARGE):
        path = world.path_of(data)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
    with world.open() as depot:
        with pytest.raises(CorruptError):
            depot.get("small")
        for data in (SMALL, LARGE):
            depot.put("again", data)
            assert is_here(depot, data)
            assert depot.get("again") == data
        assert depot.get("small") == SMALL
        world.clock.moved_s += 31 * DAY_S
        assert move(depot) == 2  # which replaces what is damaged
        assert not is_here(depot, SMALL)
        assert depot.get("small") == SMALL


# Who looks after it.


def fsck(world: World) -> list[str]:
    located = locate(world.target)
    check = Fsck(located.folder, lambda *_, **__: world.open(), Options(repair=False, forget=False))
    for _ in check.run():
        pass
    return sorted(each.kind for each in check.report.findings)


def sweep(depot: Depot, clock: StillClock) -> int:
    work = sweep_of(depot, Manner(grace_s=0, clock=clock))
    while work.step():
        pass
    return work.report.removed


def test_what_loses_its_name_is_collected_there_too(each_world: World) -> None:
    world = each_world
    world.cool()
    with world.open() as depot:
        depot.set_policy(Policy(undelete_s=0))
        for key in ("small", "huge"):
            depot.delete(key)
        world.clock.moved_s += 2 * limits.OBJECT_SKEW_S
        assert sweep(depot, world.clock) == 2
        assert world.cold() == digests(*(BLOBS[key] for key in ("empty", "middle", "large")))
        assert sweep(depot, world.clock) == 0
        depot.put("small", SMALL)
        assert is_here(depot, SMALL)
        assert depot.get("large") == LARGE


def test_fsck_and_scrub_find_what_is_there_and_what_is_not(each_world: World) -> None:
    world = each_world
    world.cool()
    assert fsck(world) == []
    world.path_of(SMALL).unlink()
    path = world.path_of(LARGE)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert fsck(world) == ["blob", "entry"]


def test_what_no_row_names_is_found_again(each_world: World) -> None:
    """As after a loss of rows with a part of the log, or with a folder out of a backup."""
    world = each_world
    world.fill()
    shutil.copytree(world.folder, world.folder.parent / "backup")
    world.clock.moved_s += 31 * DAY_S
    with world.open() as depot:
        assert move(depot) == len(BLOBS)
        cooled = depot.engine.tier._store  # type: ignore[union-attr]  # there is one
        cooled.register.remove([Digest.of(SMALL), Digest.of(HUGE)])
        with pytest.raises(CorruptError):
            depot.get("small")
        for _ in depot.engine.sweep_uploads(0):
            pass
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
    shutil.rmtree(world.folder)
    shutil.copytree(world.folder.parent / "backup", world.folder)
    with world.open() as depot:
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        assert move(depot) == len(BLOBS)
        assert {key: depot.get(key) for key in BLOBS} == BLOBS


def test_a_store_moves_to_another_without_its_rows(world: World, tmp_path: Path) -> None:
    world.cool()
    with world.open() as depot, holdfast.open(tmp_path / "new") as new:
        assert isinstance(new, Depot)
        for _ in Migration(depot, new).run():
            pass
        assert {key: new.get(key) for key in BLOBS} == BLOBS
    with holdfast.open(tmp_path / "new") as new:
        assert new.get("huge") == HUGE


def test_a_store_that_is_moved_into_one_with_a_cold_store_leaves_its_rows(
    world: World, tmp_path: Path
) -> None:
    """The copy goes on behind moves, and takes none of their rows for the old store's."""
    with world.open() as depot, holdfast.open(tmp_path / "old") as old:
        assert isinstance(old, Depot)
        for key, data in BLOBS.items():
            old.put(key, data)
        mirror = Mirror(old.engine, depot.engine)
        for _ in range(3):
            for _ in Migration(old, depot).run():
                pass
            for _ in mirror.run():
                pass
            world.clock.moved_s += 31 * DAY_S
            move(depot)
            assert {key: depot.get(key) for key in BLOBS} == BLOBS
        assert world.cold() == digests(*BLOBS.values())


def test_the_service_moves_what_is_old_and_counts_it(world: World) -> None:
    world.fill()
    with world.open() as depot:
        assert depot.engine.tier is not None
        caretaker = Caretaker([Tiering(depot.engine.tier, 30 * DAY_S, world.clock)], world.clock)
        for day in range(40):
            world.clock.moved_s = day * DAY_S
            for _ in range(40):
                world.clock.moved_s += max(0.1, min(60, caretaker.take_turns()))
        assert world.cold() == digests(*BLOBS.values())
        assert depot.engine.names.moved() == (len(BLOBS), sum(map(len, BLOBS.values())))
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        caretaker.close()


def test_the_verb_moves_what_is_old(world: World) -> None:
    world.clock.moved_s = -31 * DAY_S
    world.fill({"small": SMALL, "empty": b""})
    world.clock.moved_s = 0
    world.fill({"young": make(500)})
    run = CliRunner().invoke
    assert run(tier, [world.target, "--after", "40d"]).output == "0 blobs (0 B) moved, 0 damaged\n"
    dry = run(tier, [str(world.folder), "--dry-run", "--json"])
    assert json.loads(dry.output) == {"moved": 2, "moved_bytes": 1000, "damaged": 0}
    assert world.cold() == set()
    done = run(tier, [str(world.folder)])
    assert done.output == "2 blobs (1000 B) moved, 0 damaged\n"
    assert world.cold() == digests(SMALL, b"")
    with world.open() as depot:
        assert depot.get("small") == SMALL
        assert depot.engine.names.moved() == (2, 1000)


def test_a_dry_run_gives_a_folder_no_cold_store(world: World) -> None:
    """What the URL names is looked at, and not claimed."""
    world.clock.moved_s = -31 * DAY_S
    with world.open(world.folder) as depot:
        depot.put("key", SMALL)

    def dry() -> Result:
        return CliRunner().invoke(tier, [world.target, "--dry-run"])

    assert dry().output == "1 blobs (1000 B) would be moved, 0 damaged\n"
    assert not (world.folder / "cold").exists()
    assert not list(world.bucket.iterdir())
    holdfast.open(world.target.replace(str(world.folder), f"{world.folder}-2")).close()
    assert isinstance(dry().exception, ConflictError)


def test_a_folder_without_a_cold_store_is_told_so(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "data"):
        pass
    found = CliRunner().invoke(tier, [str(tmp_path / "data")])
    assert isinstance(found.exception, UnsupportedError)
    wrong = CliRunner().invoke(tier, [str(tmp_path / "data"), "--after", "soon"])
    assert "30d" in wrong.output


@pytest.mark.parametrize("age", ["30x", "-1", "", "1e9d", "99999999999d"])
def test_an_age_that_is_none_is_refused(world: World, age: str) -> None:
    with pytest.raises(InvalidError, match="cold_after"):
        world.open(f"{world.target}&cold_after={age or '%20'}")


def test_ages_are_read_with_their_units(world: World) -> None:
    for text, after_s in {"90d": 90 * DAY_S, "12h": 43200, "15m": 900, "7": 7, "1.5s": 1.5}.items():
        assert locate(f"{world.target}&cold_after={text}").wanted.cold_after_s == after_s


def test_what_is_cold_is_read_and_found_while_a_disk_is_away(
    tmp_path: Path,
) -> None:
    disks = [tmp_path / "one", tmp_path / "two"]
    for disk in disks:
        disk.mkdir()
    world = World(tmp_path, f"&spread={disks[0]},{disks[1]}")
    blobs = {f"{number}": make(300 * KIB, seed=number) for number in range(6)}
    world.fill(blobs)
    world.clock.moved_s += 31 * DAY_S
    with world.open() as depot:
        assert move(depot) == len(blobs)
    shutil.move(disks[0], tmp_path / "away")
    disks[0].mkdir()
    with world.open() as depot:
        assert {key: depot.get(key) for key in blobs} == blobs
        assert list(depot.get_many(blobs)) == list(blobs.values())
        for key, data in blobs.items():
            depot.put(f"{key} again", data)
            assert depot.get(f"{key} again") == data


def test_a_full_disk_does_not_keep_what_would_free_it(world: World) -> None:
    disk = FaultyDisk()
    with world.open(disk=disk) as depot:
        depot.put("small", SMALL)
        world.clock.moved_s += 31 * DAY_S
        disk.arm(Fault(1, errno.ENOSPC, lasting=True, only=frozenset({"allocate"})))
        for size_bytes in (250 * KIB, 10 * KIB, 500, 1):  # until not even a name has room
            with suppress(FullError):
                for number in range(100):
                    depot.put(f"{size_bytes} {number}", make(size_bytes, seed=number))
        with pytest.raises(FullError):
            depot.put("more", b"!")
        assert move(depot) == 1
        assert depot.get("small") == SMALL
        disk.arm(None)


def test_the_example_and_the_picture_have_a_cold_store(world: World) -> None:
    settings = load(Path(__file__).parents[2] / "examples" / "cold.toml").settings
    assert (settings.cold, settings.cold_after) == ("s3://photos/old", 90 * DAY_S)
    world.fill({})
    lines = "\n".join(explain(locate(world.folder), 256 * KIB))
    assert f"old: objects in file://{world.bucket}" in lines


# Whose it is.


def test_a_cold_store_serves_one_folder_in_one_way(world: World, tmp_path: Path) -> None:
    world.cool()
    other = tmp_path / "other"
    with pytest.raises(ConflictError, match="belongs to another store"):
        world.open(f"segments://{other}?cold=file://{world.bucket}")
    with pytest.raises(ConflictError, match="lie in file://"):
        world.open(f"segments://{world.folder}?cold=file://{tmp_path / 'elsewhere'}")
    with pytest.raises(UnsupportedError, match=r"cold blobs of .* lie in .*`large` does not"):
        world.open(f"segments://{world.folder}?large=file://{world.bucket}")
    with pytest.raises(InvalidError, match="large"):
        world.open(f"{world.target}&large=file://{world.bucket}")
    with pytest.raises(UnsupportedError, match="--workers 1"), hold_depot(world.folder):
        pass
    with pytest.raises(ConflictError, match="belongs to another store"):
        world.open(f"sqlite://{tmp_path / 'shards'}?cold=file://{world.bucket}")


def test_a_folder_that_forgot_its_cold_store_is_not_opened(each_world: World) -> None:
    world = each_world
    world.cool()
    (world.folder / "cold").unlink()
    with pytest.raises(CorruptError, match="`cold` is gone"):
        world.open(world.folder)
    with world.open() as depot:
        assert depot.get("huge") == HUGE


def test_no_variable_gives_a_folder_a_cold_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDFAST_COLD", f"file://{world.bucket}")
    with world.open(world.folder) as depot:
        assert depot.engine.tier is None
    assert not list(world.bucket.iterdir())


def test_a_cold_store_that_is_not_mounted_is_not_begun_anew(world: World) -> None:
    world.cool()
    shutil.move(world.bucket, world.bucket.parent / "away")
    world.bucket.mkdir()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="mounted"):
            world.open(world.folder)
    assert not list(world.bucket.iterdir())


def test_nothing_moves_to_a_folder_that_is_not_mounted(world: World) -> None:
    """Whatever is in its place then is not what comes back."""
    world.fill()
    world.clock.moved_s += 31 * DAY_S
    with world.open() as depot:
        shutil.move(world.bucket, world.bucket.parent / "away")
        world.bucket.mkdir()
        with pytest.raises(UnavailableError, match="HOLDFAST"):
            move(depot)
        assert world.cold() == set()
        shutil.rmtree(world.bucket)
        shutil.move(world.bucket.parent / "away", world.bucket)
        assert move(depot) == len(BLOBS)
        assert {key: depot.get(key) for key in BLOBS} == BLOBS


# All at once.


def test_nobody_loses_a_name_to_moves_and_sweeps_that_never_stop(each_world: World) -> None:
    """At most nine names come and go for nine contents: some lose theirs, and some are moved."""
    world, stop = each_world, threading.Event()
    sizes = (500, 5000, 300 * KIB)
    blobs = [make(size_bytes, seed=seed) for size_bytes in sizes for seed in range(3)]
    late = StillClock()
    late.moved_s = DAY_S

    def work_on(step: Callable[[], int]) -> int:
        """Until all is written, and then until something was done at least."""
        done, end_s = 0, time.monotonic() + 30
        while not stop.is_set() or (done == 0 and time.monotonic() < end_s):
            with suppress(UnavailableError):
                done += step()
        return done

    with world.open() as depot, ThreadPoolExecutor(5) as pool:
        steps = (partial(move, depot, -1), partial(sweep, depot, late))
        working = [pool.submit(work_on, step) for step in steps]
        writing = [pool.submit(come_and_go, depot, blobs, thread, 60) for thread in range(3)]
        try:
            for each in writing:
                each.result()
        finally:
            stop.set()
        assert all(each.result() > 0 for each in working)
        for entry in depot.entries():
            assert Digest.of(depot.get(entry.key)) == entry.digest


def test_shards_with_a_cold_store_are_not_resharded(tmp_path: Path) -> None:
    """The copy would lack what is cold, and could not share it."""
    world = World(tmp_path, "&shards=2", "sqlite")
    world.cool()
    with pytest.raises(UnsupportedError, match="use `holdfast migrate`"):
        for _ in Reshard(world.folder, tmp_path / "copy", Shape(3)).run():
            pass
    assert not (tmp_path / "copy").exists()


# Broken off.


@pytest.mark.parametrize(
    ("step", "after"),
    [
        (7, False),
        pytest.param(1, False, marks=pytest.mark.slow),
        pytest.param(1, True, marks=pytest.mark.slow),
    ],
)
def test_a_move_that_is_broken_off_anywhere_loses_nothing(
    tmp_path: Path, step: int, *, after: bool
) -> None:
    """The disk of the folder fails at call 1, 2, 3 ... of a move, and stays so."""
    blobs = {"small": SMALL, "large": LARGE}
    number = 1
    while True:
        path = tmp_path / str(number)
        world = World(path)
        world.fill(blobs)
        world.clock.moved_s += 31 * DAY_S
        disk = FaultyDisk()
        with world.open(disk=disk) as depot:
            disk.arm(Fault(number, after=after, lasting=True))
            with suppress(OSError, BlobError):
                move(depot)
            struck = disk.struck
            disk.arm(None)
        with world.open() as depot:
            assert {key: depot.get(key) for key in blobs} == blobs
            move(depot)
            assert world.cold() == digests(SMALL, LARGE)
            assert {key: depot.get(key) for key in blobs} == blobs
            assert not is_here(depot, SMALL)
        shutil.rmtree(path)
        if not struck:
            break
        number += step
    assert number > 20
