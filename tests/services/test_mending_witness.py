"""Log and index disagree, and both are damaged: which one fsck believes, and about what."""

from pathlib import Path
from typing import Any

import pytest
from mending_steps import Names, contents, edit_index, fsck, lose_index, of_record
from steps import flip, segment, small

from holdfast.core.digest import Digest
from holdfast.depot import catalog, logaudit
from holdfast.depot.local import open_depot
from holdfast.log.accounts import write_bytes
from holdfast.log.index import Index, split
from holdfast.services.fsck import Action
from holdfast.testing.recount import check_catalog


def damage_a_blob_of_no_use(folder: Path) -> Path:
    """Damage a record that nothing points to any more, in the oldest segment."""
    with open_depot(folder) as depot:
        depot.engine.store.remove([Digest.of(small(7))])
        depot.put("small/7", small(7))
    path, at = of_record(folder, small(7))
    assert path == segment(folder)
    flip(path, at)
    return path


def forget(index: Index, txn: Any, key: bytes) -> None:
    """Forget a key as if it had never been, in the accounts, too."""
    stored = index.stored(txn, key)
    assert stored is not None
    dead = write_bytes(key, split(stored).value)
    index.put_keys(txn, {key: None}, 1)
    index.accounts.add(txn, {1: -dead})


def test_of_two_values_the_newer_one_is_right(folder: Path, original: Names) -> None:
    """An index that went back is not believed because its old value lies beside damage."""
    old: list[Any] = []
    key = catalog.entry_key("default", b"small/3")
    with open_depot(folder) as depot:
        found = depot.engine.kv.get(key)
        assert found is not None
        old.append(found)
        depot.put("small/3", b"newer")
    damage_a_blob_of_no_use(folder)
    edit_index(folder, lambda index, txn: index.put_keys(txn, {key: old[0]}, 1))
    report, _ = fsck(folder, repair=True)
    assert report.found == 0
    with open_depot(folder) as depot:
        assert contents(depot) == original | {"default/small/3": b"newer"}
        check_catalog(depot.engine.kv)


def test_damage_that_hides_no_deletion_explains_none(folder: Path, original: Names) -> None:
    """A name that the index lost comes back, though something else is damaged."""
    damage_a_blob_of_no_use(folder)
    key = catalog.entry_key("default", b"small/3")
    edit_index(folder, lambda index, txn: index.put_keys(txn, {key: None}, 1))
    report, actions = fsck(folder, repair=True)
    assert Action("made again", "index") in actions
    assert report.found == 0
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)


def test_no_segment_is_set_aside_by_an_index_that_is_wrong(folder: Path, original: Names) -> None:
    """What it does not know would not be moved."""
    damaged = damage_a_blob_of_no_use(folder)
    key = catalog.entry_key("default", b"small/3")
    edit_index(folder, lambda index, txn: forget(index, txn, key))
    report, actions = fsck(folder, repair=True)
    order = [action.what for action in actions]
    assert order.index("made again") < order.index("set aside")
    assert report.found == 0
    assert not damaged.exists()
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)


def test_all_that_the_index_alone_knows_is_told_before_a_segment_goes(
    folder: Path, original: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logaudit, "RESTATED_MAX", 2)
    gone = [f"small/{number}" for number in range(8, 14)]
    with open_depot(folder) as depot:
        for key in gone:
            depot.delete(key)
        depot.put("last", b"of all")  # so that nothing that lives is damaged
    for key in gone:
        path, at = of_record(folder, b"edefault\x00" + key.encode(), last=True)
        flip(path, at)
    report, _ = fsck(folder, repair=True)
    assert report.found == 0
    lose_index(folder)
    with open_depot(folder) as depot:
        left = original.keys() - {f"default/{key}" for key in gone}
        assert contents(depot).keys() == left | {"default/last"}
        check_catalog(depot.engine.kv)


def test_a_segment_that_is_gone_is_not_missed_for_ever(folder: Path, original: Names) -> None:
    """What only it had is told and given up; then the log is whole again without it."""
    path = segment(folder)
    path.unlink()
    report, actions = fsck(folder, repair=True)
    assert {"given up", "put right"} <= {action.what for action in actions}
    assert {finding.kind for finding in report.findings} <= {"entry"}
    lose_index(folder)
    with open_depot(folder) as depot:
        assert depot.engine.facts()["damaged_places"] == 0
        assert contents(depot).keys() == original.keys()
        check_catalog(depot.engine.kv)


def test_what_a_killed_check_left_is_removed_when_the_store_opens(folder: Path) -> None:
    """It would keep the segments on the disk that compaction removes."""
    scratch = folder / logaudit.SCRATCH / "log"
    scratch.mkdir(parents=True)
    (scratch / segment(folder).name).hardlink_to(segment(folder))
    with open_depot(folder):
        assert not scratch.parent.exists()
