"""Depots whose large blobs lie in an object store: what is where, whose it is, and disasters."""

from __future__ import annotations

import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from fault_proxy import Fault, FaultProxy
from object_steps import names, s3
from obstore.store import LocalStore

import holdfast
from holdfast.cli.gc import gc
from holdfast.config.load import load
from holdfast.config.objects import connect
from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    ConflictError,
    CorruptError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.depot.stack import Stack
from holdfast.services.fsck import Fsck, Options
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import Sweeper, sweep_of
from holdfast.stores.naming import MARKER
from holdfast.stores.objects import ObjectStore
from holdfast.stores.remote import Remote
from holdfast.testing.blobs import make, put, read
from holdfast.testing.buckets import come_and_go
from holdfast.testing.faults import Fault as DiskFault
from holdfast.testing.faults import FaultyDisk
from holdfast.testing.hand_clock import StillClock

if TYPE_CHECKING:
    from holdfast.core.seams import Clock, Entropy

    Checked = tuple[list[str], list[str]]

pytestmark = pytest.mark.xdist_group("seaweed")
SMALL, LARGE, HUGE = make(1000), make(300 * KIB), make(9 * MIB + 5)
BLOBS = {"small": SMALL, "large": LARGE, "huge": HUGE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    path = tmp_path / "bucket"
    path.mkdir()
    return path


@pytest.fixture
def target(folder: Path, bucket: Path) -> str:
    return f"segments://{folder}?large=file://{bucket}"


def opened(target: str | Path) -> Depot:
    depot = holdfast.open(target)
    assert isinstance(depot, Depot)
    return depot


def fill(target: str) -> None:
    with opened(target) as depot:
        for key, data in BLOBS.items():
            depot.put(key, data)


def objects(bucket: Path) -> list[str]:
    return [each for each in names(LocalStore(bucket)) if each != MARKER]


# What is where, and whose it is.


def test_large_blobs_go_to_the_object_store_and_names_and_small_ones_do_not(
    target: str, folder: Path, bucket: Path
) -> None:
    fill(target)
    digest = Digest.of(LARGE).hex()
    found = objects(bucket)
    assert f"blobs/{digest[:2]}/{digest}.blob" in found
    assert [each.split("/")[0] for each in found] == ["blobs", "large", "parts", "parts"]
    assert not list((folder / "files").rglob("*.blob"))
    with opened(folder) as depot:  # it remembers where they are
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        with depot.open("huge") as file:
            file.seek(8 * MIB - 3)
            assert file.read(6) == HUGE[8 * MIB - 3 : 8 * MIB + 3]


def test_large_blobs_that_were_files_stay_files(folder: Path, target: str, bucket: Path) -> None:
    with opened(folder) as depot:
        depot.put("old", LARGE)
    fill(target)
    with opened(folder) as depot:
        assert depot.get("old") == LARGE
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
    assert len(list((folder / "files").rglob("*.blob"))) == 1
    assert objects(bucket)


def test_what_belongs_to_one_folder_is_given_to_no_other(
    target: str, folder: Path, bucket: Path, tmp_path: Path
) -> None:
    fill(target)
    with pytest.raises(ConflictError, match="belongs to another store"):
        opened(f"segments://{tmp_path / 'other'}?large=file://{bucket}")
    with pytest.raises(ConflictError, match="lie in file://"):
        opened(f"segments://{folder}?large=file://{tmp_path / 'elsewhere'}")
    with opened(target) as depot:
        assert depot.get("huge") == HUGE


def test_a_marker_that_cannot_be_read_is_not_written_over(
    target: str, folder: Path, bucket: Path
) -> None:
    fill(target)
    (bucket / MARKER).write_bytes(b"?")
    with pytest.raises(CorruptError):
        opened(folder)
    (bucket / MARKER).write_bytes(b'{"format":9,"id":""}')
    with pytest.raises(UnsupportedError):
        opened(folder)
    (folder / "large").write_bytes(b"?")
    with pytest.raises(CorruptError):
        opened(folder)


def test_several_processes_are_refused(target: str, folder: Path) -> None:
    fill(target)
    with pytest.raises(UnsupportedError, match="--workers 1"), hold_depot(folder):
        pass
    with pytest.raises(UnsupportedError, match="file://"):
        open_depot(folder)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://x/y", "s3://", "s3:///y", "s3://key:secret@bucket/x", "s3://b/x?secret=1", "x"),
        "file://",
        "s3://[",
    ],
)
def test_a_url_that_is_none_is_refused_and_its_secrets_are_not_told(folder: Path, url: str) -> None:
    with pytest.raises(InvalidError) as caught:
        connect(url, SystemClock(), SystemEntropy())
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidError):
        opened(f"segments://{folder}?large={url.replace('?', '%3f')}")
    assert not folder.exists()


def test_wrong_variables_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "me")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "very-secret")
    with pytest.raises(InvalidError) as caught:
        connect("az://container/x", SystemClock(), SystemEntropy())
    assert "very-secret" not in repr(caught.value)
    assert caught.value.__cause__ is None


def test_no_variable_sends_the_blobs_of_a_folder_elsewhere(
    folder: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a setting of one server, and a command may be about another folder."""
    monkeypatch.setenv("HOLDFAST_LARGE", f"file://{bucket}")
    with opened(folder) as depot:
        depot.put("large", LARGE)
    assert not list(bucket.iterdir())
    assert load(environment=os.environ).settings.large == f"file://{bucket}"


class Watched(FaultyDisk):
    """A disk that notes what it was told to sync."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))


def test_objects_in_a_folder_survive_a_power_cut(bucket: Path) -> None:
    disk, clock, entropy = Watched(), SystemClock(), SystemEntropy()
    remote = connect(f"file://{bucket}", clock, entropy, disk)
    (bucket / MARKER).write_bytes(b"")
    remote._pause = lambda _: None
    store = ObjectStore(remote, entropy, clock)
    digest = put(store, LARGE).digest
    file = bucket / "blobs" / digest.hex()[:2] / f"{digest.hex()}.blob"
    chain = [str(each) for each in (file, file.parent, bucket / "blobs", bucket)]
    assert disk.synced[-4:] == chain
    assert str(bucket.parent) in disk.synced[:-4]
    disk.synced.clear()
    store.remove([digest])
    assert disk.synced == chain[1:]
    disk.arm(DiskFault(1, only=frozenset({"sync"})))
    put(store, SMALL)
    assert read(store, Digest.of(SMALL)) == SMALL
    disk.arm(DiskFault(1, only=frozenset({"sync"}), lasting=True))
    with pytest.raises(UnavailableError):
        put(store, LARGE)
    disk.arm(None)
    assert [each.digest for each in store.scan()] == [Digest.of(SMALL)]
    store.close()


def test_wrappers_are_around_what_lies_there_too(
    folder: Path, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOBS_KEY", "ab" * 32)
    text = b"a line of text that is easy to find\n" * 100_000
    target = f"segments://{folder}?large=file://{bucket}&compress=zstd&encrypt=env:BLOBS_KEY"
    with opened(target) as depot:
        depot.put("text", text)
        depot.put("noise", HUGE)
    stored = b"".join((bucket / each).read_bytes() for each in objects(bucket))
    assert b"easy to find" not in stored
    assert HUGE[1000:1100] not in stored
    assert Digest.of(HUGE).hex() not in "".join(objects(bucket))
    with opened(target) as depot:
        assert depot.get("text") == text
        assert depot.get("noise") == HUGE
    assert fsck(target) == ([], [])


@pytest.mark.parametrize("what", ["large", "cold"])
def test_looking_for_a_folder_makes_none(tmp_path: Path, what: str) -> None:
    """Neither one that is named first, nor one that is known, nor anything in its place."""
    place, folder = tmp_path / "disk" / "blobs", tmp_path / "data"
    url = f"segments://{folder}?{what}=file://{place}"
    with pytest.raises(UnavailableError, match="no such folder: make it, or mount its disk"):
        holdfast.open(url)
    assert not place.parent.exists()
    place.mkdir(parents=True)
    holdfast.open(url).close()
    place.rename(tmp_path / "away")
    with pytest.raises(UnavailableError, match="no such folder"):
        holdfast.open(folder)
    assert not place.exists()
    place.mkdir()
    with pytest.raises(UnavailableError, match="is it mounted"):
        holdfast.open(folder)
    assert not list(place.iterdir())
    place.rmdir()
    (tmp_path / "away").rename(place)
    holdfast.open(folder).close()


def test_nothing_is_acknowledged_in_the_place_of_a_disk_that_was_unmounted(
    target: str, bucket: Path, tmp_path: Path
) -> None:
    with opened(target) as depot:
        depot.put("large", LARGE)
        bucket.rename(tmp_path / "away")
        bucket.mkdir()
        with pytest.raises(UnavailableError, match="it is not mounted"):
            depot.put("other", make(400 * KIB))
        assert not [each for each in bucket.rglob("*") if each.is_file()]
        shutil.rmtree(bucket)
        (tmp_path / "away").rename(bucket)
        assert depot.get("large") == LARGE
        depot.put("other", make(400 * KIB))
        assert [each.key for each in depot.entries()] == ["large", "other"]


# Looking after it.


def fsck(target: str, *, repair: bool = False, forget: bool = False) -> Checked:
    """What is wrong, and what was done."""
    located = locate(target)
    opener = partial(open_depot, located.folder, bounds_of(located))
    check = Fsck(located.folder, opener, Options(repair, forget))
    actions = [action.what for action in check.run() if action is not None]
    return sorted(each.kind for each in check.report.findings), actions


def damage(bucket: Path, name: str, at: int) -> None:
    data = bytearray((bucket / name).read_bytes())
    data[at] ^= 1
    (bucket / name).write_bytes(data)


def test_fsck_reads_what_lies_there_and_gives_up_what_is_lost(target: str, bucket: Path) -> None:
    fill(target)
    assert fsck(target) == ([], [])
    one, part = objects(bucket)[0], objects(bucket)[-2]
    damage(bucket, one, 1000)
    damage(bucket, part, 5 * MIB)
    assert fsck(target) == (["blob", "blob"], [])
    found, done = fsck(target, repair=True)
    assert done == ["given up"] * 2
    assert found == ["entry", "entry"]
    aside = [each for each in objects(bucket) if each.startswith("quarantine/")]
    assert f"quarantine/{one}" in aside
    assert len(aside) == 4
    with opened(target) as depot:
        assert depot.get("small") == SMALL
        for key in ("large", "huge"):
            with pytest.raises(CorruptError):
                depot.get(key)
            depot.put(f"{key} again", BLOBS[key])
            assert depot.get(key) == BLOBS[key]
    assert fsck(target) == ([], [])


def test_fsck_finds_names_whose_objects_are_gone(target: str, bucket: Path) -> None:
    fill(target)
    (bucket / objects(bucket)[0]).unlink()
    assert fsck(target) == (["entry"], [])
    assert fsck(target, repair=True, forget=True) == ([], ["forgotten"])
    with opened(target) as depot:
        assert [each.key for each in depot.entries()] == ["huge", "small"]


def sweep(depot: Depot, manner: Manner) -> int:
    work = sweep_of(depot, manner)
    while work.step():
        pass
    return work.report.removed


def ahead(grace_s: float = 0) -> Manner:
    """A pass for which everything is old."""
    clock = StillClock()
    clock.moved_s = 7200
    return Manner(grace_s=grace_s, clock=clock)


def test_what_loses_its_name_is_collected(target: str, bucket: Path) -> None:
    fill(target)
    with opened(target) as depot:
        depot.put("again", LARGE)
        for key in ("large", "huge"):
            depot.delete(key)
        assert sweep(depot, Manner(grace_s=3600)) == 0
        assert sweep(depot, ahead()) == 1
        assert depot.get("again") == LARGE
        assert [each.split("/")[0] for each in objects(bucket)] == ["blobs"]


def test_the_sweeper_removes_what_crashes_left(target: str, folder: Path, bucket: Path) -> None:
    clock = StillClock()
    located = locate(target)
    fill(target)
    upload = bucket / objects(bucket)[-1]
    shutil.copytree(upload.parent, bucket / "parts" / "00" / ("0" * 32))
    before = objects(bucket)
    assert len(before) == 6
    with open_depot(folder, bounds_of(located), clock=clock) as depot:
        sweeper = Sweeper(depot, 600, 3600, clock)
        for hours in range(2):
            clock.moved_s = hours * 7200
            for _ in range(20):
                sweeper.step()
            assert len(objects(bucket)) == (6 if hours == 0 else 4)
        sweeper.close()
        assert depot.get("huge") == HUGE


def test_gc_removes_it_too(target: str, bucket: Path) -> None:
    fill(target)
    upload = bucket / objects(bucket)[-1]
    shutil.copytree(upload.parent, bucket / "parts" / "00" / ("0" * 32))
    old_s = SystemClock().now_us() / 1e6 - 7200
    for part in (bucket / "parts" / "00" / ("0" * 32)).iterdir():
        os.utime(part, (old_s, old_s))
    assert CliRunner().invoke(gc, [target, "--dry-run"]).exit_code == 0
    assert len(objects(bucket)) == 6
    assert CliRunner().invoke(gc, [target]).exit_code == 0
    assert len(objects(bucket)) == 4


@pytest.mark.parametrize("size_bytes", [300 * KIB, 9 * MIB])
def test_nobody_loses_a_name_to_sweeps_that_never_stop(target: str, size_bytes: int) -> None:
    """Names come and go for a few contents; an upload often finds bytes that are about to go."""
    blobs = [make(size_bytes, seed=number) for number in range(5)]
    stop = threading.Event()
    manner = ahead()
    rounds = 40 if size_bytes < MIB else 8

    def sweep_on(depot: Depot) -> int:
        removed = 0
        while not stop.is_set():
            removed += sweep(depot, manner)
        return removed

    with opened(target) as depot, ThreadPoolExecutor(5) as pool:
        sweeping = [pool.submit(sweep_on, depot) for _ in range(2)]
        writing = [pool.submit(come_and_go, depot, blobs, thread, rounds) for thread in range(3)]
        try:
            for each in writing:
                each.result()
        finally:
            stop.set()
        assert sum(each.result() for each in sweeping) > 0
        for entry in depot.entries():
            assert Digest.of(depot.get(entry.key)) == entry.digest


# Disasters.


def test_the_folder_is_lost_and_comes_back_from_a_backup(
    target: str, folder: Path, tmp_path: Path
) -> None:
    """Names of then are whole; what came later lost its name, and is there for who stores it."""
    fill(target)
    shutil.copytree(folder, tmp_path / "backup")
    later = make(400 * KIB)
    with opened(target) as depot:
        depot.put("later", later)
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    shutil.rmtree(folder / "index")
    with opened(folder) as depot:
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        with pytest.raises(NotFoundError):
            depot.get("later")
        assert depot.engine.store.stat([Digest.of(later)])
        depot.put("later", later)
        assert depot.get("later") == later


def test_the_bucket_is_damaged_here_and_there(target: str, bucket: Path) -> None:
    """Every name is right, or an error; storing the bytes again mends it."""
    blobs = {f"{number}": make(300 * KIB, seed=number) for number in range(20)}
    with opened(target) as depot:
        for key, data in blobs.items():
            depot.put(key, data)
    for at, name in enumerate(objects(bucket)):
        if at % 3 == 0:
            damage(bucket, name, 17_000 * at)
        elif at % 3 == 1:
            (bucket / name).unlink()
    with opened(target) as depot:
        failed = []
        for key, data in blobs.items():
            try:
                assert depot.get(key) == data
            except CorruptError:
                failed.append(key)
        assert len(failed) == 14
        for key in failed:
            depot.put(key, blobs[key])
        assert {key: depot.get(key) for key in blobs} == blobs
    assert fsck(target) == ([], [])


def test_the_object_store_is_down_for_a_while(s3_port: int, folder: Path) -> None:
    """Names and small blobs go on; large ones answer that it does not, and come back."""
    with FaultProxy(s3_port).running() as proxy:
        client = s3(proxy.port, folder.parent.name)

        def call(url: str, clock: Clock, entropy: Entropy) -> Remote:
            return Remote(client, url, clock, entropy, lambda _: None)

        stack = Stack(large="s3://bench/x", connect=call)
        with open_depot(folder, Limits(stack=stack)) as depot:
            depot.put("large", LARGE)
            proxy.fail_always("PUT", Fault.BUSY)
            with pytest.raises(UnavailableError, match=r"s3://bench/x: .* HTTP 503"):
                depot.put("other", make(300 * KIB, seed=5))
            depot.put("small", SMALL)
            proxy.fail_always("GET", Fault.BUSY)
            assert depot.get("small") == SMALL
            with pytest.raises(UnavailableError, match=r"s3://bench/x: .* HTTP 503"):
                depot.get("large")
            assert sorted(each.key for each in depot.entries()) == ["large", "small"]
            proxy.heal()
            assert depot.get("large") == LARGE
            depot.put("other", make(300 * KIB, seed=5))
