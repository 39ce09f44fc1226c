"""A store is moved while it is used: what is there at any time is what was written last."""

from __future__ import annotations

import json
import shutil
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest
from filled import ENGINES, LARGE, MASTER, VARIABLE, blobs_of, catalog_of, fill, opened, url_of
from moving_steps import Writer, check_events, copying, finish, moving, reading, switch
from steps import flip

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CompactedError,
    ConflictError,
    CorruptError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from holdfast.core.kv import Put
from holdfast.core.limits import KIB, MIB
from holdfast.core.policy import Policy, bucket_of
from holdfast.core.store import Span
from holdfast.core.stream import Cursor
from holdfast.depot.audit import Wrong
from holdfast.depot.events import latest
from holdfast.depot.local import open_depot
from holdfast.depot.moving import Stage, State, find, look
from holdfast.services.mirror import Mirror
from holdfast.services.moving import Manner
from holdfast.services.reshard import Reshard
from holdfast.shards.folder import Shape
from holdfast.testing.blobs import make, read_all
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.kv_steps import commit
from holdfast.testing.recount import check_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.depot.depot import Depot

PAIRS = [(one, other) for one in ENGINES for other in ENGINES]
QUICK = {("folder", "shards")}
SOME = [pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow) for pair in PAIRS]


@pytest.fixture(autouse=True)
def _master(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, MASTER)


def test_history_that_goes_while_it_is_done_again_brings_back_nothing_old(tmp_path: Path) -> None:
    """A row gets an old value for a while, of which the mirror has heard when it must compare."""
    with open_depot(tmp_path / "old") as old, open_depot(tmp_path / "new") as new:
        kv, row = old.engine.kv, b"zz"
        commit(kv, Put(row, b"newest"))
        mirror = Mirror(old.engine, new.engine)
        assert sum(mirror.run()) > 0
        for value in (b"older", *(b"%d" % number * 4000 for number in range(100, 150)), b"newest"):
            commit(kv, Put(row, value))
        steps = mirror.run()
        next(steps)
        for _ in old.engine.compact(0.0, with_newest=True):
            pass
        with pytest.raises(CompactedError):
            next(kv.watch(b"", 2, wait_s=0))
        assert sum(steps) > 0
        found = new.engine.kv.get(row)
        assert found is not None
        assert found.value == b"newest"
        assert mirror.behind == 0


@pytest.mark.parametrize(("one", "other"), SOME)
def test_a_store_moves_between_any_two_while_it_is_written_to(
    tmp_path: Path, one: str, other: str
) -> None:
    """All rows are the same behind the switch, and all is read right before anything follows."""
    urls = url_of(one, tmp_path / "one"), url_of(other, tmp_path / "other")
    with opened(urls[0]) as source:
        fill(source)
        source.set_policy(Policy(undelete_s=1000))
    with moving(*urls, Manner(verify=True)) as move:
        writer = Writer(move)
        for _ in copying(move):
            writer()
        switch(move)
        assert catalog_of(move.new) == catalog_of(move.old)
        writer.check(move.depot)
        assert move.depot.get("large") == LARGE
        for _ in reading(move):
            writer()
        assert move.progress.stage is Stage.DONE
        writer.check(move.depot)
    with pytest.raises(ConflictError, match="was moved to"):
        opened(urls[0])
    with opened(urls[1]) as depot:
        writer.check(depot)
        check_catalog(depot.engine.kv)
        check_events(depot)
        assert depot.get("large") == LARGE
        assert depot.bucket(bucket_of("ann", "kept")).undelete("deleted").size_bytes == 12
        assert len(blobs_of(depot)) == len(list(depot.content.digests()))


def test_what_was_not_copied_is_read_from_the_old_store(tmp_path: Path) -> None:
    """Nothing was copied before the switch: names are there, and bytes in the old store only."""
    with opened(tmp_path / "one") as source:
        fill(source)
    with moving(tmp_path / "one", tmp_path / "other") as move:
        switch(move)
        depot = move.depot
        assert list(depot.engine.store.inner.scan()) == []  # type: ignore[attr-defined]
        assert depot.get("large") == LARGE
        assert depot.get("size/0") == b""
        assert depot.copy("large", "again").size_bytes == len(LARGE)
        depot.delete("large")
        held = {ref.digest for ref in blobs_of(depot)}
        assert held <= {ref.digest for ref in depot.engine.store.scan()}
    for _ in range(2):
        with pytest.raises(ConflictError, match=r"still has blobs in .*one only: go on with"):
            opened(tmp_path / "other")
    with moving(tmp_path / "one", tmp_path / "other") as move:
        finish(move)
    with opened(tmp_path / "other") as depot:
        assert depot.get("again") == LARGE
        assert {ref.digest for ref in depot.engine.store.scan()} == held


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("calls", [(30, 150), pytest.param((1, 1), marks=pytest.mark.slow)])
@pytest.mark.parametrize(("one", "other"), [("folder", "shards"), ("shards", "folder")])
def test_a_move_that_was_broken_off_at_any_call_is_gone_on_with(
    tmp_path: Path, one: str, other: str, calls: tuple[int, int]
) -> None:
    """All disks fail from one call on; what was acknowledged is there, before and behind that."""
    with opened(url_of(one, tmp_path / "origin")) as source:
        for number in range(20):
            source.put(f"{number}", b"%d" % number)
        source.put("large", make(MIB))
        source.set_policy(Policy(undelete_s=1000))
    stages = set()
    for number in count(*calls):
        old, new = (url_of(name, tmp_path / name) for name in (one, other))
        shutil.copytree(tmp_path / "origin", tmp_path / one)
        disk = FaultyDisk(Fault(number, lasting=True))
        there: dict[str, bytes | None] = {}
        try:
            with moving(old, new, disk=disk) as move:
                finish(move, Writer(move, there))
        except (BlobError, OSError):
            assert disk.struck
        stages.add(find(tmp_path / one, tmp_path / other))
        with moving(old, new) as move:
            writer = Writer(move, there)
            writer.check(move.depot)
            finish(move, writer)
        with opened(new) as depot:
            writer.check(depot)
            check_catalog(depot.engine.kv)
            assert [depot.get(f"{number}") for number in range(20)] == [
                b"%d" % number for number in range(20)
            ]
            assert depot.get("large") == make(MIB)
        for name in (one, other):
            shutil.rmtree(tmp_path / name)
        if not disk.struck:
            break
    assert stages == (set(Stage) if calls == (1, 1) else stages | {Stage.COPY, Stage.DONE})


@pytest.mark.parametrize("engine", ["folder", "shards"])
def test_no_flipped_bit_lets_a_store_that_was_left_be_opened(tmp_path: Path, engine: str) -> None:
    with opened(ENGINES[engine].format(tmp_path / "one")) as source:
        source.put("name", b"bytes")
    with moving(tmp_path / "one", tmp_path / "other") as move:
        finish(move)
    path = tmp_path / "one" / "HOLDFAST"
    sound = path.read_bytes()
    for place in range(len(sound)):
        for bit in (1, 4, 32):
            path.write_bytes(sound[:place] + bytes((sound[place] ^ bit,)) + sound[place + 1 :])
            with pytest.raises(BlobError):
                opened(tmp_path / "one").close()


def test_damage_in_the_middle_of_a_read_is_read_in_the_old_store_and_mended(
    tmp_path: Path,
) -> None:
    """Nobody asked to verify; but where one blob is damaged, all of the new store is looked at."""
    names = ("large", "other")
    with opened(tmp_path / "one") as source:
        for name in names:
            source.put(name, LARGE + name.encode())
    with moving(tmp_path / "one", tmp_path / "other") as move:
        list(copying(move))
        switch(move)
        for file in (tmp_path / "other").rglob("*.blob"):
            flip(file, 5 * MIB)
        with move.depot.open("large") as reader:
            first = reader.read(10)
            assert first + reader.read() == LARGE + b"large"
        list(reading(move))
        assert move.progress.stage is Stage.DONE
    shutil.rmtree(tmp_path / "one")
    with opened(tmp_path / "other") as depot:
        for name in names:
            assert depot.get(name) == LARGE + name.encode()


@pytest.mark.parametrize("engine", ["folder", "encrypted"])
def test_what_each_store_has_damaged_elsewhere_is_read_from_both(
    tmp_path: Path, engine: str
) -> None:
    """Two chunks of the window that is verified first, and two of the next one."""
    urls = url_of(engine, tmp_path / "one"), url_of(engine, tmp_path / "other")
    with opened(urls[0]) as source:
        source.put("large", LARGE)
    with moving(*urls) as move:
        list(copying(move))
        switch(move)
        for folder, chunks in (("one", (1, 5)), ("other", (3, 7))):
            for chunk in chunks:
                flip(next((tmp_path / folder).rglob("*.blob")), chunk * MIB + 9)
        with move.depot.source("large")[1] as both:
            for offset in (0, 4 * MIB):
                window = Span(offset, 4 * MIB)
                assert both.verify(window, wait=False) in {True, False}
                assert both.verify(window)
                assert both.file() is None
            assert read_all(both) == LARGE
        flip(next((tmp_path / "one").rglob("*.blob")), 7 * MIB + 9)
        with move.depot.source("large")[1] as both:
            assert both.verify(Span(0, 4 * MIB))
            with pytest.raises(CorruptError):
                both.verify(Span(4 * MIB, 4 * MIB))


def test_what_is_damaged_in_both_stores_is_an_error_and_keeps_the_old_one(tmp_path: Path) -> None:
    with opened(tmp_path / "one") as source:
        source.put("large", LARGE)
    with moving(tmp_path / "one", tmp_path / "other") as move:
        list(copying(move))
        switch(move)
        for folder in ("one", "other"):
            flip(next((tmp_path / folder).rglob("*.blob")), 5 * MIB)
        with pytest.raises(CorruptError):
            move.depot.get("large")
        list(reading(move))
        assert move.progress.stage is Stage.READ
        assert move.progress.damaged == 1


def test_nothing_of_anyones_is_written_over(tmp_path: Path) -> None:
    """A store with names or blobs of its own, one of another move, the old one itself, none."""
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    for folder in (one, other):
        with opened(folder) as depot:
            depot.put("mine", b"precious")
    with pytest.raises(ConflictError, match="is not empty"):
        moving(one, other)
    with opened(other) as depot:
        depot.delete("mine")
        assert depot.engine.store.stat([Digest.of(b"precious")])
    with pytest.raises(ConflictError, match="is not empty"):
        moving(one, other)
    with moving(one, third):
        pass
    with pytest.raises(ConflictError, match=f"belongs to a move from {one}"):
        moving(other, third)
    with pytest.raises(ConflictError, match="is not whole yet"):
        moving(third, other)
    for inside in (one, one / "new", tmp_path):
        with pytest.raises(InvalidError, match="neither in the other"):
            moving(one, inside)
    with pytest.raises(NotFoundError, match="there is no store at"):
        moving(tmp_path / "none", third)
    assert not (tmp_path / "none").exists()
    with opened(one) as depot:
        assert depot.get("mine") == b"precious"


def test_each_store_says_where_it_stands_and_is_opened_only_as_that_allows(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        depot.put("name", b"bytes")
    with moving(one, f"sqlite://{other}"):
        assert (look(one).state, look(other).state) == (None, State.ARRIVING)
    with pytest.raises(ConflictError, match="is not whole yet: go on with"):
        opened(other)
    with moving(one, f"sqlite://{other}") as move:
        move.prepare()
        assert (look(one).state, look(other).state) == (None, State.READY)
    with opened(one) as depot:
        depot.put("late", b"before anybody has seen the new store")
    with moving(one, f"sqlite://{other}") as move:
        assert (move.progress.stage, look(other).state) == (Stage.COPY, State.ARRIVING)
        switch(move)
        assert (look(one).state, look(other).state) == (State.LEFT, State.READING)
        assert json.loads((one / "HOLDFAST").read_text())["format"] == 4
        move.depot.put("later", b"it is the store now")
    for folder, why in ((one, f"was moved to {other}"), (other, "still has blobs")):
        with pytest.raises(ConflictError, match=why):
            opened(folder)
    with moving(one, f"sqlite://{other}") as move:
        assert move.depot.get("late") == b"before anybody has seen the new store"


def test_behind_the_end_of_a_move_the_new_store_is_one_like_any_other(tmp_path: Path) -> None:
    """The same command serves it, also when the old one was removed."""
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        depot.put("name", b"bytes")
    with moving(one, f"sqlite://{other}") as move:
        finish(move)
        move.depot.put("later", b"it is the store now")
        assert (look(one).state, look(other).state) == (State.LEFT, State.ARRIVED)
        assert json.loads((other / "HOLDFAST").read_text())["format"] == 3
    with moving(one, f"sqlite://{other}") as move:
        assert move.progress.stage is Stage.DONE
        assert move.depot.get("name") == b"bytes"
    shutil.rmtree(one)
    with moving(one, f"sqlite://{other}") as move:
        assert move.depot.get("later") == b"it is the store now"
    with opened(other) as depot:
        assert depot.get("name") == b"bytes"


def test_a_store_that_went_back_in_time_is_not_moved_over_a_newer_one(tmp_path: Path) -> None:
    """An older copy of the old store is put back; and the file HOLDFAST of the new one."""
    one, other, copy = (tmp_path / name for name in ("one", "other", "copy"))
    with opened(one) as depot:
        depot.put("name", b"bytes")
    shutil.copytree(one, copy)
    with moving(one, other) as move:
        arriving = (other / "HOLDFAST").read_bytes()
        switch(move)
        move.depot.put("newer", b"acknowledged")
    reading_mark, left = (other / "HOLDFAST").read_bytes(), (one / "HOLDFAST").read_bytes()
    (one / "HOLDFAST").write_bytes((copy / "HOLDFAST").read_bytes())
    with pytest.raises(ConflictError, match="was in use already"):
        moving(one, other)
    (one / "HOLDFAST").write_bytes(left)
    (other / "HOLDFAST").write_bytes(arriving)
    with pytest.raises(ConflictError, match="does not know that it is"):
        moving(one, other)
    (other / "HOLDFAST").write_bytes(reading_mark)
    shutil.move(one, tmp_path / "away")
    with pytest.raises(NotFoundError, match="put that back"):
        moving(one, other)
    shutil.move(tmp_path / "away", one)
    with moving(one, other) as move:
        finish(move)
        assert move.depot.get("newer") == b"acknowledged"
    with opened(copy) as depot:
        depot.put("newer", b"of a copy that went on by itself")
    with pytest.raises(ConflictError, match="is not empty"):
        moving(copy, other)


def test_shards_that_were_moved_are_not_resharded(tmp_path: Path) -> None:
    one = tmp_path / "one"
    with opened(f"sqlite://{one}?shards=2") as depot:
        depot.put("name", b"bytes")
    with moving(one, tmp_path / "other") as move:
        switch(move)
    with pytest.raises(ConflictError, match="was moved to"):
        list(Reshard(one, tmp_path / "copy", Shape(3)).run())


def test_a_move_goes_on_to_a_third_store_and_back_to_no_former_one(tmp_path: Path) -> None:
    one, other, third = (tmp_path / name for name in ("one", "other", "third"))
    with opened(one) as depot:
        depot.put("name", b"bytes")
    for old, new in ((one, other), (other, third)):
        with moving(old, new) as move:
            finish(move)
    with pytest.raises(ConflictError, match=f"was moved to {third}"):
        moving(one, other)
    with pytest.raises(ConflictError, match=f"was moved to {other}"):
        moving(third, one)
    with opened(third) as depot:
        assert depot.get("name") == b"bytes"


def test_a_damaged_blob_is_named_and_keeps_the_old_store(tmp_path: Path) -> None:
    """The others move; it is over once the blob is stored again, or nobody wants it any more."""
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        for number in range(3):
            depot.put(f"large/{number}", make(MIB + number))
    for path in sorted((one / "files").rglob("*.blob"))[:2]:
        flip(path, 70_000)
    with moving(one, other) as move:
        finish(move)
        progress, depot = move.progress, move.depot
        assert (progress.stage, progress.damaged) == (Stage.READ, 2)
        assert look(other).state is State.READING
        damaged = [key for key in map("large/{}".format, range(3)) if _is_damaged(depot, key)]
        assert progress.examples == sorted(str(depot.head(key).digest) for key in damaged)
        depot.put("mended", make(MIB + int(damaged[0][-1])))
        depot.delete(damaged[1])
    with moving(one, other) as move:
        finish(move)
        assert (move.progress.stage, move.progress.damaged) == (Stage.DONE, 0)
        assert move.depot.get(damaged[0]) == make(MIB + int(damaged[0][-1]))


def _is_damaged(depot: Depot, key: str) -> bool:
    try:
        return not depot.get(key)
    except BlobError:
        return True


def test_verifying_mends_what_the_new_store_has_damaged(tmp_path: Path) -> None:
    """What it cannot even open is read from the old one meanwhile."""
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        depot.put("large", LARGE)
        depot.put("footer", make(MIB))
    with moving(one, other, Manner(verify=True)) as move:
        list(copying(move))
        switch(move)
        for path in (other / "files").rglob("*.blob"):
            is_large = path.stat().st_size > len(LARGE)
            flip(path, 5000 if is_large else path.stat().st_size - 5)
        assert move.depot.get("footer") == make(MIB)
        list(reading(move))
        assert move.progress.stage is Stage.DONE
    with opened(other) as depot:
        assert (depot.get("large"), depot.get("footer")) == (LARGE, make(MIB))


def test_what_is_read_of_the_old_store_keeps_it_open(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        depot.put("large", LARGE)
    with moving(one, other) as move:
        switch(move)
        file = move.depot.open("large")
        start = file.read(10)
        list(reading(move))
        assert move.progress.stage is Stage.DONE
        assert not move.release()
        assert start + file.read() == LARGE
        assert move.depot.get("large") == LARGE
        file.close()
        assert move.release()
        assert move.depot.get("large") == LARGE


def test_a_store_that_never_rests_is_switched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is written in each round than may be left."""
    monkeypatch.setattr(limits, "MOVE_BEHIND_MAX", 0)
    with opened(tmp_path / "one") as depot:
        depot.put("name", b"bytes")
    with moving(tmp_path / "one", tmp_path / "other") as move:
        steps = 0
        for _ in copying(move):
            steps += 1
            move.depot.put(f"{steps}", b"%d" % steps)
        assert limits.MOVE_ROUNDS_MAX < steps < 100
        switch(move)
        assert catalog_of(move.new) == catalog_of(move.old)


def test_rows_are_compared_where_commits_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is compacted behind what the new store has."""
    monkeypatch.setattr(limits, "MOVE_BEHIND_MAX", 1_000_000)
    with opened(tmp_path / "one") as depot:
        fill(depot)
    with moving(tmp_path / "one", tmp_path / "other") as move:
        list(copying(move))
        for number in range(60):
            move.depot.put("name", make(50 * KIB) + b"%d" % number)
        move.depot.delete("large")
        for _ in move.depot.engine.compact(0.0, with_newest=True):
            pass
        switch(move)
        assert catalog_of(move.new) == catalog_of(move.old)
        list(reading(move))
    with opened(tmp_path / "other") as depot:
        check_catalog(depot.engine.kv)
        check_events(depot)


def test_a_step_of_the_switch_that_fails_leaves_the_one_before_or_the_one_behind(
    tmp_path: Path,
) -> None:
    """Before the old store is left, it goes on; behind that, the next move knows."""
    one, other = tmp_path / "one", tmp_path / "other"
    with opened(one) as depot:
        depot.put("name", b"bytes")
    disk = FaultyDisk()
    renames = frozenset({"rename"})
    with moving(one, other, disk=disk) as move:
        list(copying(move))
        disk.arm(Fault(1, only=renames))
        with pytest.raises(UnavailableError):
            move.prepare()
        move.depot.put("later", b"the old store is served on")
        assert (look(one).state, look(other).state) == (None, State.ARRIVING)
        list(copying(move))
        move.prepare()
        disk.arm(Fault(2, only=renames))
        with pytest.raises(UnavailableError):
            move.commit()
        assert (look(one).state, look(other).state) == (State.LEFT, State.READY)
    with moving(one, other) as move:
        assert move.depot.get("later") == b"the old store is served on"
        finish(move)


@pytest.mark.parametrize(("one", "other"), [("folder", "shards"), ("shards", "folder")])
def test_readers_of_events_go_on_or_hear_that_they_cannot(
    tmp_path: Path, one: str, other: str
) -> None:
    """Also where the index is made again, and behind another move."""
    urls = [url_of(name, tmp_path / f"{at}") for at, name in enumerate((one, other, one))]
    with opened(urls[0]) as depot:
        fill(depot)
        depot.put("before", b"1")
        middle = latest(depot.engine.kv)
        depot.put("later", b"2")
    for old, new in pairwise(urls):
        with moving(old, new) as move:
            list(copying(move))
            move.depot.put("while it is copied", b"3")
            end = latest(move.old.engine.kv)
            switch(move)
            move.depot.put("behind the switch", new.encode())
            list(reading(move))
        folder = tmp_path / f"{urls.index(new)}"
        for _ in range(2):
            with opened(new) as depot:
                assert next(depot.events(end)).key == "behind the switch"
                for cursor in (Cursor(1), middle, Cursor(end.revision - 1)):
                    with pytest.raises(CompactedError) as error:
                        next(depot.events(cursor))
                    assert error.value.oldest == end.revision
                assert not [
                    wrong for wrong in depot.engine.audit.ground.index() if isinstance(wrong, Wrong)
                ]
                check_catalog(depot.engine.kv)
                depot.put("goes on", b"4")
                depot.delete("goes on")
                assert depot.stats().revision == depot.engine.kv.revision() > end.revision
            if (folder / "index").exists():
                (folder / "index" / "state").write_text("another boot")
        middle = end
