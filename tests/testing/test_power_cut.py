"""The disk that loses power is as mean as disks are: what no sync covered is there or not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing.power_cut import SECTOR_BYTES, Fate, PowerCutDisk, World

LOST = World(Fate.LOST, Fate.LOST)
KEPT = World(Fate.KEPT, Fate.KEPT)
OLD, NEW = b"o" * 5 * SECTOR_BYTES, b"n" * 5 * SECTOR_BYTES
SEEDS = range(200)


@pytest.fixture
def disk(tmp_path: Path) -> PowerCutDisk:
    return PowerCutDisk(tmp_path / "graves")


def create(disk: PowerCutDisk, path: Path, data: bytes = OLD) -> int:
    """Make a file that survives."""
    descriptor = disk.open(path, os.O_RDWR | os.O_CREAT)
    disk.pwrite_all(descriptor, (data,), 0)
    disk.sync(descriptor)
    disk.sync_directory(path.parent)
    return descriptor


def some(tmp_path: Path, *, is_stale: bool = False) -> Iterator[tuple[PowerCutDisk, Path, World]]:
    """Many worlds, each with a disk and a folder of its own."""
    for seed in SEEDS:
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        yield (
            PowerCutDisk(tmp_path / f"graves {seed}"),
            folder,
            World(Fate.SOME, Fate.SOME, is_stale, seed),
        )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_was_synced_is_kept(disk: PowerCutDisk, tmp_path: Path) -> None:
    create(disk, tmp_path / "a")
    disk.lose(LOST)
    assert (tmp_path / "a").read_bytes() == OLD


def test_a_sync_of_one_file_keeps_no_other(disk: PowerCutDisk, tmp_path: Path) -> None:
    a, b = create(disk, tmp_path / "a"), create(disk, tmp_path / "b")
    disk.pwrite_all(a, (NEW,), 0)
    disk.pwrite_all(b, (NEW,), 0)
    disk.sync_data(a)
    disk.lose(LOST)
    assert (tmp_path / "a").read_bytes() == NEW
    assert (tmp_path / "b").read_bytes() == OLD


def test_a_sync_of_a_file_does_not_keep_its_name(disk: PowerCutDisk, tmp_path: Path) -> None:
    descriptor = disk.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    disk.pwrite_all(descriptor, (NEW,), 0)
    disk.sync(descriptor)
    disk.lose(LOST)
    assert names(tmp_path) == {"graves"}


def test_a_sync_of_a_folder_does_not_keep_the_bytes(disk: PowerCutDisk, tmp_path: Path) -> None:
    descriptor = disk.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    disk.pwrite_all(descriptor, (NEW,), 0)
    disk.sync_directory(tmp_path)
    disk.lose(LOST)
    assert (tmp_path / "a").read_bytes() == b""


def test_of_one_write_any_sectors_may_be_kept(tmp_path: Path) -> None:
    found = set()
    for disk, folder, world in some(tmp_path):
        disk.pwrite_all(create(disk, folder / "a"), (NEW,), 0)
        disk.lose(world)
        data = (folder / "a").read_bytes()
        assert len(data) == len(OLD)
        found.add(data[::SECTOR_BYTES])
        assert all(len(set(data[at : at + SECTOR_BYTES])) == 1 for at in range(0, len(data), 512))
    assert len(found) == 2 ** (len(OLD) // SECTOR_BYTES)


def test_a_later_write_may_be_kept_without_an_earlier_one(
    disk: PowerCutDisk, tmp_path: Path
) -> None:
    descriptor = create(disk, tmp_path / "a")
    disk.pwrite_all(descriptor, (NEW,), 0)
    disk.pwrite_all(descriptor, (NEW[:512],), 1024)
    disk.lose(World(Fate.KEPT, Fate.LAST))
    assert (tmp_path / "a").read_bytes() == OLD[:1024] + NEW[:512] + OLD[1536:]


def test_a_torn_write_ends_in_its_middle(disk: PowerCutDisk, tmp_path: Path) -> None:
    disk.pwrite_all(create(disk, tmp_path / "a"), (NEW,), len(OLD))
    disk.lose(World(Fate.KEPT, Fate.TORN))
    assert (tmp_path / "a").read_bytes() == OLD + NEW[: len(NEW) // 2]


def test_what_was_cut_off_may_come_back(tmp_path: Path) -> None:
    found = set()
    for disk, folder, world in some(tmp_path):
        descriptor = create(disk, folder / "a")
        disk.truncate(descriptor, 512)
        disk.lose(world)
        found.add((folder / "a").stat().st_size)
    assert found == {512, len(OLD)}


def test_a_new_size_may_come_without_the_bytes(tmp_path: Path) -> None:
    """Which are zeros then, or old bytes of the disk; those that were allocated are zeros."""
    for is_stale in (False, True):
        found, base = set(), tmp_path / f"{is_stale}"
        base.mkdir()
        for disk, folder, world in some(base, is_stale=is_stale):
            descriptor = create(disk, folder / "a")
            disk.pwrite_all(descriptor, (NEW[:512],), len(OLD))
            disk.allocate(descriptor, len(OLD) + 512, 512)
            disk.lose(world)
            written, allocated = (folder / "a").read_bytes()[len(OLD) :].partition(bytes(512))[:2]
            found.add(written if written in (b"", NEW[:512]) else b"stale")
            assert allocated in (b"", bytes(512))
        assert found == ({b"", NEW[:512], b"stale"} if is_stale else {b"", NEW[:512]})


def test_a_removed_name_may_come_back(tmp_path: Path) -> None:
    found = set()
    for disk, folder, world in some(tmp_path):
        create(disk, folder / "a")
        disk.unlink(folder / "a")
        disk.lose(world)
        found.add(frozenset(names(folder)))
    assert found == {frozenset(), frozenset({"a"})}


def test_names_are_kept_and_lost_each_by_itself(tmp_path: Path) -> None:
    """A later rename may be kept without an earlier one, and a rename is whole."""
    found = set()
    for disk, folder, world in some(tmp_path):
        for name in "ab":
            create(disk, folder / name, name.encode())
        disk.rename(folder / "a", folder / "x")
        disk.rename(folder / "b", folder / "y")
        disk.lose(world)
        found.add(frozenset(names(folder)))
        assert sorted(path.read_bytes() for path in folder.iterdir()) == [b"a", b"b"]
    assert found == {frozenset(pair) for pair in ("ab", "ay", "xb", "xy")}


def test_a_replaced_file_may_come_back(disk: PowerCutDisk, tmp_path: Path) -> None:
    create(disk, tmp_path / "a")
    create(disk, tmp_path / "b", NEW)
    disk.rename(tmp_path / "b", tmp_path / "a")
    disk.lose(LOST)
    assert (tmp_path / "a").read_bytes() == OLD
    assert (tmp_path / "b").read_bytes() == NEW


def test_between_two_folders_a_file_may_be_at_both_names(
    disk: PowerCutDisk, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        disk.make_directory(tmp_path / name)
    create(disk, tmp_path / "one" / "a")
    disk.rename(tmp_path / "one" / "a", tmp_path / "two" / "a")
    disk.sync_directory(tmp_path / "two")
    disk.lose(LOST)
    assert (tmp_path / "one" / "a").read_bytes() == (tmp_path / "two" / "a").read_bytes() == OLD


def test_a_folder_that_is_there_is_synced_like_a_new_one(tmp_path: Path) -> None:
    """Whoever made it may have died before that."""
    disk = PowerCutDisk(tmp_path / "graves", 1)
    with pytest.raises(OSError, match="power"):
        disk.make_directory(tmp_path / "a")
    disk.go_on(100)
    disk.make_directory(tmp_path / "a")
    disk.lose(LOST)
    assert (tmp_path / "a").is_dir()


def test_the_call_that_meets_the_cut_may_have_its_effect(tmp_path: Path) -> None:
    for world, expected in {KEPT: NEW, LOST: OLD}.items():
        disk = PowerCutDisk(tmp_path / "graves", 5)
        descriptor = create(disk, tmp_path / "a")
        with pytest.raises(OSError, match="power fails"):
            disk.pwrite_all(descriptor, (NEW,), 0)
        with pytest.raises(OSError, match="power is off"):
            disk.sync(descriptor)
        disk.lose(world)
        assert (tmp_path / "a").read_bytes() == expected


def test_what_a_failed_sync_has_lost_no_later_one_keeps(tmp_path: Path) -> None:
    disk = PowerCutDisk(tmp_path / "graves", lost_sync=2)
    descriptor = create(disk, tmp_path / "a")
    disk.pwrite_all(descriptor, (NEW,), 0)
    with pytest.raises(OSError, match="disk fails"):
        disk.sync(descriptor)
    disk.pwrite_all(descriptor, (NEW,), len(OLD))
    disk.sync(descriptor)
    assert (tmp_path / "a").read_bytes() == NEW + NEW
    disk.lose(LOST)
    assert (tmp_path / "a").read_bytes() == OLD + NEW
