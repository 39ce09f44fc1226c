"""Depots whose large blobs are spread over disks: what the folder knows of them, and losses."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

import holdfast
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.depot.stack import Place, Stack
from holdfast.services.caretaker import Task
from holdfast.services.check import Report
from holdfast.services.fsck import Action, Fsck, Options
from holdfast.services.marks import marks_of
from holdfast.services.scrub import Scrub
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.testing.blobs import make

SMALL_MAX = 4 * KIB
BLOBS = {f"large {number}": make(20 * KIB, seed=number) for number in range(24)}
BLOBS |= {"larger": make(3 * MIB), "small": make(100), "empty": b""}
LARGE = {key: data for key, data in BLOBS.items() if len(data) > SMALL_MAX}
KEY = "5f" * 32


class Later(SystemClock):
    def now_us(self) -> int:
        return super().now_us() + 60_000_000


def start(base: Path, disks: str = "", *, master: bytes | None = None, zstd: bool = False) -> Depot:
    """Open the store in `base`; `disks` are those of its folders, as in `one*2 other`."""
    pairs = (each.partition("*")[::2] for each in disks.split())
    places = tuple(
        Place(base / name, None if weight == "gone" else float(weight or 1))
        for name, weight in pairs
    )
    for place in places:
        if place.weight is not None:
            place.path.mkdir(exist_ok=True)
    stack = Stack(disks=places, master=master, compress=zstd)
    return open_depot(base / "store", Limits(small_blob_bytes_max=SMALL_MAX, stack=stack))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A store with blobs on two disks, closed."""
    with start(tmp_path, "one*2 other") as depot:
        for key, data in BLOBS.items():
            depot.put(key, data)
    return tmp_path


def held(disk: Path) -> set[Digest]:
    """The blobs whose files are on a disk."""
    return {Digest(bytes.fromhex(file.stem)) for file in disk.glob("blobs/??/*.blob")}


def keys_on(base: Path, *disks: str) -> set[str]:
    found = set[Digest]().union(*(held(base / disk) for disk in disks))
    return {key for key, data in LARGE.items() if Digest.of(data) in found}


def check_all(depot: Depot) -> None:
    assert {key: depot.get(key) for key in BLOBS} == BLOBS
    assert list(depot.get_many(BLOBS)) == list(BLOBS.values())


def fsck(base: Path, *, repair: bool = False) -> tuple[Report, list[Action]]:
    check = Fsck(base / "store", lambda: start(base), Options(repair, forget=False))
    actions = [action for action in check.run() if action is not None]
    return check.report, actions


def fails(task: Task) -> bool:
    try:
        for _ in range(2000):
            if task.step().wait_s > 1:
                return False
    except BlobError:
        return True
    return False


def sweep(depot: Depot) -> int:
    """Remove what nothing names; say how much."""
    work = sweep_of(depot, Manner(grace_s=0, clock=Later()), marks_of(depot.engine))
    while work.step():
        pass
    return work.report.removed


# What lies where


def test_large_blobs_lie_on_the_disks_and_the_folder_remembers_them(base: Path) -> None:
    assert len(held(base / "one")) + len(held(base / "other")) == len(LARGE)
    assert keys_on(base, "one", "other") == set(LARGE)
    assert min(len(held(base / "one")), len(held(base / "other"))) > 2
    assert not list((base / "store" / "files").glob("??/*"))
    with start(base) as depot:
        check_all(depot)
        depot.put("more", make(30 * KIB))
        part = holdfast.Span(2 * MIB - 5, 100)
        assert depot.get("larger", span=part) == BLOBS["larger"][2 * MIB - 5 :][:100]
    assert len(held(base / "one")) + len(held(base / "other")) == len(LARGE) + 1


def test_weights_are_followed(tmp_path: Path) -> None:
    with start(tmp_path, "one*9 other*1 full*0") as depot:
        for number in range(60):
            depot.put(f"{number}", make(5 * KIB, seed=number))
    counts = [len(held(tmp_path / name)) for name in ("one", "other", "full")]
    assert counts[0] > 4 * counts[1]
    assert counts[2] == 0
    with start(tmp_path, "one*0 other*0 full*1") as depot:
        for number in range(60, 70):
            depot.put(f"{number}", make(5 * KIB, seed=number))
        assert all(depot.get(f"{number}") == make(5 * KIB, seed=number) for number in range(70))
    assert len(held(tmp_path / "full")) == 10


def test_files_of_before_stay_where_they_are(tmp_path: Path) -> None:
    with start(tmp_path) as depot:
        depot.put("before", LARGE["larger"])
    with start(tmp_path, "one other") as depot:
        depot.put("behind", make(9 * KIB))
        assert depot.get("before") == LARGE["larger"]
        assert depot.get("behind") == make(9 * KIB)
    assert len(list((tmp_path / "store" / "files").glob("??/*.blob"))) == 1
    report, _ = fsck(tmp_path)
    assert (report.found, report.blobs) == (0, 2)


def test_wrappers_are_around_what_lies_there(tmp_path: Path) -> None:
    url = (
        f"segments://{tmp_path}/store?spread={tmp_path}/one*2,{tmp_path}/other&compress=zstd"
        f"&encrypt=file:{tmp_path}/key&cache=32MiB&verify=digest"
    )
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    text = b"a line that is said again\n" * (64 * KIB)
    for _ in range(2):
        with holdfast.open(url) as bucket:
            bucket.put("text", text)
            bucket.put("noise", LARGE["larger"])
            for _ in range(2):
                assert bucket.get("text") == text
                assert bucket.get("noise") == LARGE["larger"]
    files = [file for disk in ("one", "other") for file in (tmp_path / disk).glob("blobs/??/*")]
    assert files
    assert not any(LARGE["larger"][:100] in file.read_bytes() for file in files)


# What is refused


def test_older_versions_do_not_open_it(base: Path) -> None:
    assert json.loads((base / "store" / "HOLDFAST").read_text())["format"] == 3
    assert json.loads((base / "store" / "wrappers").read_text())["format"] == 2
    (base / "store" / "wrappers").unlink()
    with pytest.raises(CorruptError, match="`wrappers` is gone"):
        start(base)


def test_a_disk_of_another_store_is_refused(base: Path) -> None:
    (base / "second").mkdir()
    for disks in ("../one*2 ../other", "new ../one"):
        with pytest.raises(ConflictError, match="belongs to another store"):
            start(base / "second", disks)
    with start(base / "second", "new"):
        pass
    shutil.move(base / "one", base / "taken away")
    shutil.copytree(base / "second" / "new", base / "one")
    with pytest.raises(ConflictError, match="belongs to another store"):
        start(base)
    shutil.rmtree(base / "one")
    shutil.move(base / "taken away", base / "one")
    with start(base) as depot:
        check_all(depot)


def test_swapped_disks_are_found_and_taken_where_they_are_now(base: Path) -> None:
    for first, second in (("one", "aside"), ("other", "one"), ("aside", "other")):
        (base / first).rename(base / second)
    with pytest.raises(ConflictError, match="is another disk of this store"):
        start(base)
    with start(base, "one*1 other*2") as depot:
        check_all(depot)
    with start(base) as depot:
        check_all(depot)
        before = held(base / "one"), held(base / "other")
        for key, data in LARGE.items():
            depot.put(key + " again", data)
        assert (held(base / "one"), held(base / "other")) == before


def test_a_disk_may_move(base: Path) -> None:
    (base / "one").rename(base / "elsewhere")
    with pytest.raises(ConflictError, match="may have blobs of this store"):
        start(base, "other")
    with start(base, "elsewhere*2 other") as depot:
        check_all(depot)
    with start(base) as depot:
        check_all(depot)


def test_a_copy_of_a_disk_is_refused(base: Path) -> None:
    shutil.copytree(base / "one", base / "copy")
    with pytest.raises(ConflictError, match="is a copy of"):
        start(base, "one*2 other copy")


def test_what_is_no_empty_folder_becomes_no_disk(base: Path) -> None:
    (base / "letters").mkdir()
    (base / "letters" / "a.txt").write_text("to somebody")
    with pytest.raises(ConflictError, match="not empty"):
        start(base, "one*2 other letters")
    with pytest.raises((ConflictError, UnavailableError)):
        start(base, "one*2 other store")
    with start(base) as depot:
        check_all(depot)


def test_a_new_disk_is_made_by_nobody_but_its_owner(base: Path) -> None:
    """Its folder is not there while it is not mounted, and would be made in its place."""
    new = base / "disk" / "blobs"
    places = (Place(base / "one", 2), Place(base / "other"), Place(new))
    bounds = Limits(small_blob_bytes_max=SMALL_MAX, stack=Stack(disks=places))
    with pytest.raises(UnavailableError, match="there is no such folder: make it, or mount"):
        open_depot(base / "store", bounds)
    assert not new.parent.exists()
    with start(base) as depot:
        check_all(depot)
    new.mkdir(parents=True)
    with open_depot(base / "store", bounds) as depot:
        check_all(depot)
    new.rename(base / "away")
    with open_depot(base / "store", bounds):  # it is known, and waited for
        assert not new.exists()


def test_a_disk_is_no_store_and_no_cache(base: Path) -> None:
    with pytest.raises(UnsupportedError, match="another engine"):
        holdfast.open(base / "one")
    stack = Stack(cache_bytes=MIB, cache_dir=base / "one")
    with pytest.raises(UnavailableError, match="in use"):
        open_depot(base / "store", Limits(stack=stack))


def test_what_cannot_go_together_is_refused(tmp_path: Path) -> None:
    url = f"segments://{tmp_path}/store?spread={tmp_path}/one"
    with pytest.raises(InvalidError, match="without `large`"):
        holdfast.open(f"{url}&large=file://{tmp_path}/objects")
    (tmp_path / "objects").mkdir()
    with holdfast.open(f"segments://{tmp_path}/store?large=file://{tmp_path}/objects"):
        pass
    with pytest.raises(ConflictError, match="lie in file:///"):
        holdfast.open(url)
    with pytest.raises(InvalidError, match="engine log"):
        holdfast.open(f"sqlite://{tmp_path}/shards?spread={tmp_path}/one")
    bounds = Limits(stack=Stack(disks=(Place(tmp_path / "one"),)))
    with pytest.raises(UnsupportedError, match="engine log"):
        open_depot(tmp_path / "shards", bounds._replace(shards=2))
    with pytest.raises(UnsupportedError, match="one process"), hold_depot(tmp_path / "p", bounds):
        pass


# What is lost


def emptied(base: Path, disk: str) -> Path:
    """What is seen of a disk that is not mounted; gives where it is."""
    away = base / f"{disk} away"
    (base / disk).rename(away)
    (base / disk).mkdir()
    return away


@pytest.mark.parametrize("lost", ["one", "other"])
def test_a_disk_that_is_not_mounted_is_waited_for(base: Path, lost: str) -> None:
    there = keys_on(base, {"one": "other", "other": "one"}[lost])
    away = emptied(base, lost)
    for disks in ("", "one*2 other"):
        with start(base, disks) as depot:
            for key, data in LARGE.items():
                if key in there:
                    assert depot.get(key) == data
                    continue
                with pytest.raises(UnavailableError, match="is not there"):
                    depot.get(key)
            assert depot.get("small") == BLOBS["small"]
            depot.put("new", make(6 * KIB))
            assert depot.get("new") == make(6 * KIB)
            assert depot.usage().files >= len(there)
    assert not list((base / lost).iterdir())
    (base / lost).rmdir()
    away.rename(base / lost)
    with start(base) as depot:
        check_all(depot)
        assert depot.get("new") == make(6 * KIB)


def test_nothing_is_called_missing_or_removed_while_a_disk_is_away(base: Path) -> None:
    with start(base) as depot:
        depot.delete("large 1")
    away = emptied(base, "one")
    with pytest.raises(UnavailableError, match="is not there"):
        fsck(base)
    with pytest.raises(UnavailableError, match="is not there"):
        fsck(base, repair=True)
    with start(base) as depot:
        assert fails(Scrub(depot.engine))
        with pytest.raises(UnavailableError):
            sweep(depot)
    (base / "one").rmdir()
    away.rename(base / "one")
    report, actions = fsck(base)
    assert (report.found, actions) == (0, [])
    with start(base) as depot:
        rest = {key: data for key, data in BLOBS.items() if key != "large 1"}
        assert {key: depot.get(key) for key in rest} == rest


def test_a_lost_disk_costs_its_blobs_and_the_store_goes_on(base: Path) -> None:
    there = keys_on(base, "other")
    shutil.rmtree(base / "one")
    with start(base, "one*gone other") as depot:
        for key, data in LARGE.items():
            if key in there:
                assert depot.get(key) == data
            else:
                with pytest.raises(CorruptError, match="missing"):
                    depot.get(key)
    report, _ = fsck(base)
    assert report.found == len(LARGE) - len(there)
    with start(base, "other new") as depot:
        for key, data in LARGE.items():
            depot.put(key, data)
        check_all(depot)
    assert fsck(base)[0].found == 0


def test_a_disk_that_was_given_up_can_come_back(base: Path) -> None:
    with start(base, "one*gone other"):
        pass
    with start(base, "one other") as depot:
        check_all(depot)


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_marker_makes_a_disk_absent(base: Path, content: bytes) -> None:
    there = keys_on(base, "other")
    (base / "one" / "HOLDFAST").write_bytes(content)
    with start(base) as depot:
        assert all(depot.get(key) == BLOBS[key] for key in there)
        with pytest.raises(UnavailableError, match="HOLDFAST is damaged"):
            depot.get(next(iter(keys_on(base, "one"))))


def test_a_disk_in_use_is_not_taken_for_absent(base: Path) -> None:
    shutil.copytree(base / "store", base / "copy", ignore=shutil.ignore_patterns("lock"))
    with start(base), pytest.raises(UnavailableError, match="in use"):
        open_depot(base / "copy")


# Who looks after it


def test_a_sound_store_is_found_sound(base: Path) -> None:
    report, actions = fsck(base)
    assert (report.found, actions) == (0, [])
    assert (report.blobs, report.references) == (len(BLOBS), len(BLOBS))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_damage_on_a_disk_is_found_and_set_aside_there(base: Path) -> None:
    for disk in ("one", "other"):
        flip(next((base / disk).glob("blobs/??/*.blob")))
    report, _ = fsck(base)
    assert report.found == 2
    report, actions = fsck(base, repair=True)
    assert [action.what for action in actions] == ["given up"] * 2
    assert len(list((base / "one" / "quarantine").iterdir())) == 1
    with start(base) as depot:
        lost = [key for key, data in BLOBS.items() if _is_lost(depot, key, data)]
        assert len(lost) == 2
        for key in lost:
            depot.put(key, BLOBS[key])
    assert fsck(base)[0].found == 0


def _is_lost(depot: Depot, key: str, data: bytes) -> bool:
    try:
        return depot.get(key) != data
    except CorruptError:
        return True


def test_of_two_copies_the_sound_one_is_kept(base: Path) -> None:
    """As two are made where a disk was away for a while."""
    away = emptied(base, "one")
    lost = sorted(key for key, data in LARGE.items() if Digest.of(data) in held(away))
    with start(base) as depot:
        for key in lost:
            depot.put(key, LARGE[key])
    (base / "one").rmdir()
    away.rename(base / "one")
    for file in (base / "one").glob("blobs/??/*.blob"):
        flip(file)
    report, actions = fsck(base, repair=True)
    assert report.found == 0
    assert len(actions) == len(lost)
    with start(base) as depot:
        check_all(depot)


def test_what_nothing_names_is_collected_from_all_disks(base: Path) -> None:
    with start(base) as depot:
        for key in LARGE:
            depot.delete(key)
        assert sweep(depot) == len(LARGE)
        with pytest.raises(NotFoundError):
            depot.get("larger")
    assert not held(base / "one") | held(base / "other")


def test_names_are_those_of_the_newest_list(base: Path) -> None:
    assert [disk["weight"] for disk in _known(base)] == [2, 1]
    with start(base, "other*3 one*0"):
        pass
    assert {Path(str(disk["path"])).name: disk["weight"] for disk in _known(base)} == {
        "other": 3,
        "one": 0,
    }


def _known(base: Path) -> Sequence[dict[str, object]]:
    found = json.loads((base / "store" / "wrappers").read_text())["disks"]
    assert isinstance(found, list)
    return found
