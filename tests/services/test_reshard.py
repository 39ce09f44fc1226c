"""A copy in another number of shards is the same store."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from holdfast.cli import cli
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    InvalidError,
    UnavailableError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.marker import SQLITE
from holdfast.core.policy import Policy
from holdfast.core.progress import Phase
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.sharded import LAYOUT
from holdfast.depot.stack import Stack
from holdfast.services import reshard
from holdfast.services.check import Check
from holdfast.services.reshard import Reshard
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.recount import check_catalog

SIZES = (0, 1, 1000, 256 * KIB + 1, MIB)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return fill(tmp_path / "old")


def fill(folder: Path) -> Path:
    """Make a store with versions, deleted names, holds, and blobs of every size."""
    with open_depot(folder, Limits(shards=3, undelete_s=1000)) as depot:
        for number in range(30):
            depot.put(f"photos/{number}", make(SIZES[number % 5], seed=number))
        for number in range(0, 30, 3):
            depot.delete(f"photos/{number}")
        depot.put("photos/1", b"again")
        depot.content.put(b"held")
        depot.bucket("other").put("k", b"k")
    return folder


def everything(folder: Path) -> list[object]:
    """All that anybody can ask of a store."""
    with open_depot(folder) as depot:
        kv, store = depot.engine.kv, depot.engine.store
        assert not any(Check(depot.engine).run())
        check_catalog(kv)
        refs = list(store.scan())
        blobs = [depot.content.get(digest) for digest in depot.content.list().digests]
        changes = list(kv.watch(b"", 1, wait_s=0))
        return [kv.scan(b"", b"\xff" * 99, limit=10_000), kv.revision(), changes, refs, blobs]


def run(work: Reshard) -> None:
    for _ in work.run():
        pass


@pytest.mark.parametrize(("count", "name"), [(1, "fnv1a"), (8, "fnv1a"), (3, "rendezvous")])
def test_a_copy_is_the_same_store(old: Path, tmp_path: Path, count: int, name: str) -> None:
    before = everything(old)
    work = Reshard(old, tmp_path / "new", Shape(count, name), verify=True)
    run(work)
    assert work.copied.verified
    assert (work.copied.shards, work.copied.found) == (count, 0)
    assert everything(tmp_path / "new") == before
    assert everything(old) == before
    assert len(list((tmp_path / "new").glob("shard_*.db"))) == count
    with open_depot(tmp_path / "new", Limits(shards=count, shard_hash=name)) as depot:
        depot.put("more", b"more")
        assert [event.key for event in depot.events(all_buckets=True)][-1] == "more"


def test_it_can_be_interrupted_at_any_commit_and_goes_on(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, disk, tries = everything(old), FaultyDisk(), 0
    monkeypatch.setattr(
        reshard, "Shards", lambda path, options: Shards(path, disk, options=options)
    )
    while True:
        tries += 1
        assert tries < 100
        disk.arm(Fault(4 * tries, lasting=True, only=frozenset(("commit",))))
        work = Reshard(old, tmp_path / "new", Shape(4))
        with suppress(BlobError):
            run(work)
            break
        with pytest.raises(ConflictError, match="run `holdfast reshard` again"):
            open_depot(tmp_path / "new")
    assert tries > 2
    assert work.copied.found > 0
    assert everything(tmp_path / "new") == before


def test_a_store_with_the_row_of_a_blob_damaged_is_not_copied_without_it(
    old: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(old / "shard_0.db")) as database, database:
        where = "WHERE key = (SELECT min(key) FROM rows WHERE key > x'62')"
        assert database.execute(f"UPDATE rows SET sum = sum + 7 {where}").rowcount == 1
    with pytest.raises(CorruptError, match="fsck"):
        run(Reshard(old, tmp_path / "new", Shape(4), verify=True))


def test_a_killed_copy_goes_on(old: Path, tmp_path: Path) -> None:
    before = everything(old)
    command = [sys.executable, "-m", "holdfast", "reshard", str(old), str(tmp_path / "new")]
    for wait_s in (0.3, 0.5, 0.6):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
            process.kill()
    done = subprocess.run([*command, "--verify"], capture_output=True, text=True, check=False)
    if done.returncode:  # one of the others came to its end
        assert "is not empty" in done.stderr
    else:
        assert "verified" in done.stdout
    assert everything(tmp_path / "new") == before


def broken_off(old: Path, new: Path, shape: Shape, phase: str) -> None:
    """Leave a copy that got as far as a phase, or was being verified."""
    work = Reshard(old, new, shape, verify=True).run()
    assert next((each for each in work if each.name == phase), None)
    work.close()


def test_what_the_old_store_has_lost_since_does_not_come_back(old: Path, tmp_path: Path) -> None:
    """The old store was used between the tries, of which the first had copied all."""
    for phase in ("naming", "verifying"):
        broken_off(old, tmp_path / "new", Shape(4), phase)
        with open_depot(old) as depot:
            depot.set_policy(Policy(undelete_s=0))
            depot.delete("photos/2" if phase == "naming" else "photos/4")
            depot.put("photos/5", b"replaced")
            depot.engine.store.remove([Digest.of(make(SIZES[2], seed=2))])
    before = everything(old)
    work = Reshard(old, tmp_path / "new", Shape(4), verify=True)
    run(work)
    assert work.copied.found > 0
    assert everything(tmp_path / "new") == before


def test_an_unfinished_copy_of_other_shards_says_how_to_go_on(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    broken_off(old, new, Shape(2, "xxh3"), "copying")
    for asked in (Shape(4, "xxh3"), Shape(2, "fnv1a")):
        with pytest.raises(ConflictError) as caught:
            run(Reshard(old, new, asked))
        said = f"{asked.shards} files by {asked.hash_name} were asked for"
        finish = f"`holdfast reshard {old} {new} --shards 2 --hash xxh3`, or remove {new}"
        for part in ("unfinished copy in 2 files by xxh3", said, finish):
            assert part in caught.value.message
    with pytest.raises(ConflictError, match="unfinished copy of another store"):
        run(Reshard(fill(tmp_path / "third"), new, Shape(2, "xxh3")))
    run(Reshard(old, new, Shape(2, "xxh3"), verify=True))
    assert everything(new) == everything(old)


def test_a_copy_of_a_newer_state_is_not_finished_with_an_older_one(
    old: Path, tmp_path: Path
) -> None:
    shutil.copytree(old, tmp_path / "backup")
    with open_depot(old) as depot:
        depot.put("newer", b"newer")
    broken_off(old, tmp_path / "new", Shape(4), "verifying")
    with pytest.raises(ConflictError, match="unfinished copy of a newer state"):
        run(Reshard(tmp_path / "backup", tmp_path / "new", Shape(4)))


def test_each_phase_says_how_much_there_is(old: Path, tmp_path: Path) -> None:
    broken_off(old, tmp_path / "new", Shape(4), "naming")
    phases = list(Reshard(old, tmp_path / "new", Shape(4), verify=True).run())
    last = {phase.name: phase for phase in phases}
    total = last["copying"].total
    assert total
    assert last["copying"] == Phase("copying", total, total, spared=total)
    assert last["naming"].done == last["naming"].total
    assert last["verifying"] == Phase("verifying", total, total)


def test_an_encrypted_store_stays_so(tmp_path: Path) -> None:
    stack = Stack(compress=True, master=os.urandom(32))
    with open_depot(tmp_path / "old", Limits(shards=2, stack=stack)) as depot:
        depot.put("k", b"text " * 1000)
    run(Reshard(tmp_path / "old", tmp_path / "new", Shape(5), verify=True))
    with pytest.raises(BlobError):
        open_depot(tmp_path / "new")
    with open_depot(tmp_path / "new", Limits(stack=stack)) as depot:
        assert depot.get("k") == b"text " * 1000


def test_a_copy_that_differs_is_noticed(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Reshard._copy_blob

    def forget(self: Reshard, *arguments: object) -> None:
        if self.copied.blobs != 5:
            copy(self, *arguments)  # type: ignore[arg-type]  # the same

    monkeypatch.setattr(Reshard, "_copy_blob", forget)
    with pytest.raises(CorruptError, match="other blobs"):
        run(Reshard(old, tmp_path / "new", Shape(4), verify=True))
    with pytest.raises(ConflictError):
        open_depot(tmp_path / "new")


@pytest.fixture
def in_use(old: Path) -> Iterator[Path]:
    with closing(open_depot(old)):
        yield old


def test_a_store_in_use_is_refused(in_use: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="in use"):
        run(Reshard(in_use, tmp_path / "new", Shape(4)))
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_refused(old: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidError):
        run(Reshard(old, old, Shape(4)))
    open_depot(tmp_path / "other", Limits(engine=SQLITE)).close()
    with pytest.raises(ConflictError, match="not empty"):
        run(Reshard(old, tmp_path / "other", Shape(4)))


def test_the_command_says_what_it_copied_and_refuses_a_log(old: Path, tmp_path: Path) -> None:
    def command(*arguments: object) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "holdfast", "reshard", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    done = command(old, tmp_path / "new", "--shards", "8", "--verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" in 8 files, verified\n")
    assert command(tmp_path / "absent", tmp_path / "x").returncode == 3
    open_depot(tmp_path / "log").close()
    refused = command(tmp_path / "log", tmp_path / "x").stderr
    assert "no shards: `holdfast migrate" in refused


def test_the_new_folder_may_be_a_url_that_says_how_many_files(old: Path, tmp_path: Path) -> None:
    def command(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["reshard", f"sqlite://{old}", *map(str, arguments)])

    url = f"sqlite://{tmp_path}/new?shards=2&hash=xxh3"
    for wrong in ((url, "--shards", 3), (f"segments://{tmp_path}/new",), (f"{url}&compress=none",)):
        assert isinstance(command(*wrong).exception, InvalidError), wrong
        assert not (tmp_path / "new").exists()
    assert command(url, "--shards", 2).output.endswith(" in 2 files\n")
    with Shards(tmp_path / "new", options=Options(Shape(layout=LAYOUT))) as new:
        assert new.routing.hash_name == "xxh3"
