"""fsck on stores with real damage: it tells all of it, changes nothing unasked, and mends."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mending_steps import Names, contents, edit_index, files, fsck, kinds, lose_index, of_record
from steps import KEYS, LARGE, blob_file, flip, segment, small

from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError
from holdfast.core.inspection import QUARANTINE
from holdfast.core.kv import Delete, Put, Versioned, Write, add_counters
from holdfast.core.limits import MIB
from holdfast.depot import catalog
from holdfast.depot.local import open_depot
from holdfast.log.index import Index
from holdfast.services.fsck import Action
from holdfast.testing.recount import check_catalog

# What is told


def test_a_sound_store_is_well_and_stays_as_it_is(folder: Path) -> None:
    before = files(folder)
    report, actions = fsck(folder, repair=True)
    assert (report.found, report.findings, report.leftovers, actions) == (0, [], [], [])
    assert report.references == KEYS - 1 + 2 + 1 + 1 + 30
    assert files(folder).keys() == before.keys()
    assert all(files(folder)[path].startswith(data) for path, data in before.items())
    assert not (folder / "fsck").exists()
    assert not (folder / QUARANTINE).exists()


def test_without_repair_nothing_is_changed(folder: Path) -> None:
    flip(segment(folder), segment(folder).read_bytes().index(small(7)) + 3)
    flip(blob_file(folder), 2 * MIB)
    before = files(folder)
    report, actions = fsck(folder)
    assert kinds(report) == ["blob", "blob", "record"]
    assert actions == []
    after = files(folder)
    assert after.keys() == before.keys()
    assert all(after[path].startswith(data) for path, data in before.items())


# Blobs


def test_a_blob_without_a_copy_is_given_up_and_welcome_again(folder: Path) -> None:
    path, at = of_record(folder, small(7))
    flip(path, at + 3)
    flip(blob_file(folder), 2 * MIB)
    report, actions = fsck(folder, repair=True)
    digests = {str(Digest.of(small(7))), str(Digest.of(LARGE))}
    assert {action.where for action in actions if action.what == "given up"} == digests
    assert {finding.where for finding in report.findings if finding.kind == "entry"} == {
        "default/small/7",
        "default/large",
        "other/shared",
    }
    kept = {path.name for path in (folder / QUARANTINE).iterdir()}
    assert len(kept) == 3
    assert path.name in kept
    with open_depot(folder) as depot:
        depot.content.put(LARGE)
        depot.put("again", small(7))
        assert depot.get("small/7") == small(7)
        assert depot.get("large") == LARGE
    assert fsck(folder)[0].found == 0


@pytest.mark.parametrize("where", ["checksums", "footer", "cut", "header", "older record"])
def test_a_blob_of_which_a_copy_is_left_is_restored(
    folder: Path, original: Names, where: str
) -> None:
    large = blob_file(folder)
    if where == "cut":
        os.truncate(large, large.stat().st_size - 5)
    elif where in {"checksums", "footer"}:
        flip(large, len(LARGE) + 1 if where == "checksums" else large.stat().st_size - 30)
    elif where == "header":
        path, at = of_record(folder, small(7))
        flip(path, at - 40)
    else:
        with open_depot(folder) as depot:
            depot.engine.store.remove([Digest.of(small(7))])
            depot.put("small/7", small(7))
        path, at = of_record(folder, small(7), last=True)
        flip(path, at + 3)
    report, actions = fsck(folder, repair=True)
    did = {action.what for action in actions}
    assert "restored" in did
    assert did <= {"restored", "put right", "set aside"}
    assert report.found == 0
    with open_depot(folder) as depot:
        assert contents(depot) == original


# The log and its index


def test_names_that_only_the_index_knows_are_told_to_the_log(folder: Path, original: Names) -> None:
    path, at = of_record(folder, b"edefault\x00small/3")
    flip(path, at)
    report, actions = fsck(folder)
    assert kinds(report) == ["index", "record"]
    report, actions = fsck(folder, repair=True)
    assert Action("put right", "log") in actions
    assert report.found == 0
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)


def test_a_deletion_that_only_the_index_knows_is_told_to_the_log(
    folder: Path, original: Names
) -> None:
    path, at = of_record(folder, b"edefault\x00small/19", last=True)
    flip(path, at)
    assert "default/small/19" not in original
    fsck(folder, repair=True)
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)


def test_compaction_leaves_a_damaged_segment_to_fsck(folder: Path, original: Names) -> None:
    """It cannot know which deletions were in the damaged place."""
    with open_depot(folder) as depot:
        depot.put("gone", b"gone")
        for number in range(30):
            depot.put(f"filler/{number}", small(number) * 9)
        depot.delete("gone")
        for number in range(30):
            depot.delete(f"filler/{number}")
        depot.put("last", b"of all")
    path, at = of_record(folder, b"edefault\x00gone", last=True)
    flip(path, at)
    with open_depot(folder) as depot:
        for _ in depot.engine.compact(0.0, with_newest=True):
            pass
    assert path.exists()
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert Action("set aside", f"log/{path.name}") in actions
    assert not path.exists()
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == {**original, "default/last": b"of all"}


def forget_a_blob(index: Index, txn: Any) -> None:
    index.remove_blob(txn, Digest.of(small(3)))


def move_a_blob(index: Index, txn: Any) -> None:
    place = index.locate(Digest.of(small(3)))
    assert place is not None
    index.put_blobs(txn, {Digest.of(small(3)): place._replace(offset=place.offset + 8)})


def forget_a_name(index: Index, txn: Any) -> None:
    key = catalog.entry_key("default", b"small/3")
    index.put_keys(txn, {key: None}, 1)


def change_a_name(index: Index, txn: Any) -> None:
    key = catalog.entry_key("default", b"small/3")
    other = index.get(catalog.entry_key("default", b"small/4"))
    assert other is not None
    index.put_keys(txn, {key: Versioned(other.value, 1)}, 1)


def invent_a_name(index: Index, txn: Any) -> None:
    other = index.get(catalog.entry_key("default", b"small/4"))
    index.put_keys(txn, {catalog.entry_key("default", b"invented"): other}, 1)


@pytest.mark.parametrize(
    "change", [forget_a_blob, move_a_blob, forget_a_name, change_a_name, invent_a_name]
)
def test_an_index_that_is_wrong_is_made_again(
    folder: Path, original: Names, change: Callable[[Index, Any], None]
) -> None:
    edit_index(folder, change)
    report, _ = fsck(folder)
    assert "index" in kinds(report)
    report, actions = fsck(folder, repair=True)
    assert Action("made again", "index") in actions
    assert report.found == 0
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)


@pytest.mark.parametrize("offset", [0, 9, 20, 24, 33, 41, 49, 60])
def test_the_header_of_a_segment_is_written_anew(
    folder: Path, original: Names, offset: int
) -> None:
    before = segment(folder).read_bytes()[:64]
    flip(segment(folder), offset)
    assert kinds(fsck(folder)[0]) == ["record"]
    report, _ = fsck(folder, repair=True)
    assert report.found == 0
    after = segment(folder).read_bytes()[:64]
    assert (after == before) == ((not 32 <= offset < 40 and offset < 56) or offset in {41, 49})
    with open_depot(folder) as depot:
        assert contents(depot) == original


def test_a_hint_knows_the_salt_of_a_segment_without_a_header(folder: Path, original: Names) -> None:
    with segment(folder).open("r+b") as file:
        file.write(bytes(64))
    assert set(kinds(fsck(folder)[0])) == {"record", "blob", "index"}
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert "given up" not in {action.what for action in actions}
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == original


def test_a_segment_without_a_header_lives_on_in_the_index(folder: Path, original: Names) -> None:
    """Without a hint nothing in it can be checked; but the index knows where the blobs are."""
    segment(folder).with_suffix(".hint").unlink()
    with segment(folder).open("r+b") as file:
        file.write(bytes(64))
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert "given up" not in {action.what for action in actions}
    with open_depot(folder) as depot:
        assert contents(depot) == original


# The catalog


def disturb(folder: Path, *writes: Write) -> None:
    with open_depot(folder) as depot:
        depot.engine.kv.commit([], writes).result()


def reference(key: bytes, data: bytes = b"") -> bytes:
    digest = Digest.of(data or small(int(key.rpartition(b"/")[2])))
    return catalog.held_by_row(digest, catalog.entry_key("default", key))


def test_references_and_counters_are_made_what_the_entries_say(
    folder: Path, original: Names
) -> None:
    disturb(
        folder,
        Delete(reference(b"small/3")),
        Put(reference(b"small/4"), b"no reference"),
        Put(reference(b"nobody", small(4)), b""),
        Put(reference(b"small/5", small(6)), b""),
        Put(catalog.usage_key("default"), add_counters(None, (7, 7))),
        Put(catalog.usage_key("nobody"), add_counters(None, (1, 1))),
        Delete(catalog.usage_key("more")),
    )
    report, _ = fsck(folder)
    assert kinds(report) == ["catalog"] * 7
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert [action.what for action in actions] == ["put right"] * 7
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        assert contents(depot) == original


def test_names_are_forgotten_only_when_that_is_asked_for(folder: Path, original: Names) -> None:
    blob_file(folder).unlink()
    held = catalog.encode_held(catalog.Held(4, "", 0))
    disturb(
        folder,
        Put(catalog.entry_key("default", b"small/3"), b"no entry"),
        Put(catalog.held_by_content(Digest.of(b"gone")), held),
    )
    lost = ["default/large", "other/shared", str(Digest.of(b"gone"))]
    for repair in (False, True):
        report, _ = fsck(folder, repair=repair)
        named = [finding.where for finding in report.findings]
        assert set(lost) | {"default/small/3"} <= set(named)
    report, actions = fsck(folder, repair=True, forget=True)
    assert {action.where for action in actions if action.what == "forgotten"} == {
        *lost,
        "default/small/3",
    }
    assert report.found == 0
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        gone = {"default/large", "other/shared", "default/small/3"}
        assert contents(depot) == {key: value for key, value in original.items() if key not in gone}
        with pytest.raises(NotFoundError):
            depot.content.get(Digest.of(LARGE))


# What lies about


def test_a_damaged_hint_is_removed_and_a_torn_tail_is_told(folder: Path) -> None:
    hint = min((folder / "log").glob("*.hint"))
    flip(hint, hint.stat().st_size // 2)
    torn = segment(folder).with_name(f"{segment(folder).stem}-99.torn")
    torn.write_bytes(b"cut off")
    report, actions = fsck(folder)
    assert report.found == 0
    assert {each.where for each in report.leftovers} == {f"log/{hint.name}", f"log/{torn.name}"}
    report, actions = fsck(folder, repair=True)
    assert actions == [Action("removed", f"log/{hint.name}")]
    assert [each.where for each in report.leftovers] == [f"log/{torn.name}"]
    assert not hint.exists()
    assert torn.exists()


# Deaths


def test_a_repair_that_is_killed_again_and_again_comes_to_its_end(
    folder: Path, original: Names
) -> None:
    """Damage of all kinds; whenever the process dies, the next one goes on."""
    for data in (small(2), small(7)):
        path, at = of_record(folder, data)
        flip(path, at - 40)
    path, at = of_record(folder, b"edefault\x00small/5")
    flip(path, at)
    flip(blob_file(folder), len(LARGE) + 1)
    disturb(folder, Delete(reference(b"small/3")))
    dice = random.Random(5)
    command = [sys.executable, "-m", "holdfast", "fsck", str(folder), "--repair"]
    for _ in range(12):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            time.sleep(0.2 + dice.random() * 0.6)
            process.send_signal(signal.SIGKILL)
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert "given up" not in {action.what for action in actions}
    lose_index(folder)
    with open_depot(folder) as depot:
        assert contents(depot) == original
        check_catalog(depot.engine.kv)
    assert not (folder / "fsck").exists()
