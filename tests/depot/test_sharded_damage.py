"""Damaged rows of shards whose history is gone: put right where that is proved, else named."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.config.objects import connect
from holdfast.core.bucket import Description
from holdfast.core.digest import Digest
from holdfast.core.errors import CorruptError, NotFoundError
from holdfast.core.limits import MIB
from holdfast.core.policy import Policy
from holdfast.depot import catalog
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.services.check import Check, Report
from holdfast.services.fsck import Action, Fsck, Options
from holdfast.shards.rows import KEY
from holdfast.testing.blobs import make
from holdfast.testing.recount import check_catalog

SHARDS = Limits(shards=2)
Stored = tuple[bytes, int, bytes, int]
LARGE = make(MIB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a row of every kind, and no history."""
    folder = tmp_path / "store"
    with open_depot(folder, SHARDS) as depot:
        depot.set_policy(Policy(undelete_s=1000, versions=2))
        for number in range(6):
            depot.put(f"{number}", b"%d" % number)
        depot.put("photo", LARGE, about=Description("image/jpeg", {"by": "me"}))
        depot.put("old", b"first")
        depot.put("old", b"second")
        depot.put("deleted", b"deleted")
        depot.delete("deleted")
        depot.content.put(b"held")
    for path in shards(folder):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DELETE FROM history")
    return folder


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard_*.db"))


def rows(path: Path, table: bytes) -> list[Stored]:
    """The rows of a shard whose keys begin so."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT key, revision, value, sum FROM rows").fetchall()
    return [row for row in found if row[0].startswith(table)]


def replace(path: Path, row: Stored, new: Stored) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM rows WHERE key = ?", row[:1])
        database.execute("INSERT INTO rows (key, revision, value, sum) VALUES (?, ?, ?, ?)", new)


def spoil(folder: Path, table: bytes) -> int:
    """Damage the rows whose keys begin so beyond all proof; say how many."""
    count = 0
    for path in shards(folder):
        for key, revision, value, total in rows(path, table):
            replace(path, (key, revision, value, total), (key, revision, value, total ^ 0xFFFF))
            count += 1
    return count


def chunk_bytes(folder: Path) -> int:
    """What all chunks have together."""
    found = 0
    for path in shards(folder):
        with closing(sqlite3.connect(path)) as database:
            found += sum(size for (size,) in database.execute("SELECT length(data) FROM chunks"))
    return found


def fsck(
    folder: Path, *, repair: bool = False, forget: bool = False
) -> tuple[Report, list[Action]]:
    checked = Fsck(folder, lambda: open_depot(folder), Options(repair, forget))
    actions = [action for action in checked.run() if action is not None]
    return checked.report, actions


def contents(folder: Path) -> tuple[object, ...]:
    """All that a user sees."""
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        names = {entry.key: (entry, depot.get(entry.key)) for entry in depot.entries()}
        facts = {name: depot.engine.facts()[name] for name in ("keys", "blobs", "live_bytes")}
        return names, depot.deleted(), depot.versions("old"), depot.policy, facts


# What is proved


def flip_value(row: Stored) -> Stored:
    key, revision, value, total = row
    at = len(value) // 2
    flipped = value[:at] + bytes(byte ^ 4 for byte in value[at : at + 1]) + value[at + 1 :]
    return key, revision, flipped, total if value else total ^ 1 << 40


def flip_key(row: Stored) -> Stored:
    key, *rest = row
    return (key[:-1] + bytes([key[-1] ^ 16]), *rest)  # type: ignore[return-value]  # a row again


def flip_revision(row: Stored) -> Stored:
    key, revision, value, total = row
    return key, revision ^ 1 << 50, value, total


def flip_sum(row: Stored) -> Stored:
    key, revision, value, total = row
    return key, revision, value, total ^ 1 << 3


@pytest.mark.parametrize("flip", [flip_value, flip_key, flip_revision, flip_sum])
def test_a_flipped_bit_of_any_row_is_put_right(
    folder: Path, flip: Callable[[Stored], Stored]
) -> None:
    """The checksum says which one it was."""
    before, count = contents(folder), 0
    for path in shards(folder):
        for row in rows(path, b"k"):
            replace(path, row, flip(row))
            count += 1
    assert fsck(folder)[0].found >= count
    report, actions = fsck(folder, repair=True)
    assert report.found == 0
    assert {action.what for action in actions} == {"put right"}
    assert contents(folder) == before


def garble(row: Stored) -> Stored:
    """More than a flipped bit, but not where it says which chunks are the blob's."""
    key, revision, value, total = row
    return key, revision, value[:-8] + bytes(8), total ^ 0xFFFF


@pytest.mark.parametrize("harm", [flip_value, flip_revision, flip_sum, garble])
def test_a_blob_is_stored_again_from_its_chunks(
    folder: Path, harm: Callable[[Stored], Stored]
) -> None:
    """Only the row is damaged that says which they are, and none of them is left over."""
    before, count = contents(folder), 0
    for path in shards(folder):
        for row in rows(path, b"b"):
            replace(path, row, harm(row))
            count += 1
    with open_depot(folder) as depot, pytest.raises(CorruptError):
        depot.get("photo")
    report, actions = fsck(folder, repair=True)
    assert (report.found, report.leftovers) == (0, [])
    assert [action.what for action in actions].count("restored") == count
    assert contents(folder) == before
    assert chunk_bytes(folder) == len(
        LARGE + b"012345" + b"first" + b"second" + b"deleted" + b"held"
    )


def test_a_blob_whose_row_is_gone_is_known_by_its_chunks(folder: Path) -> None:
    """Their digest proves it, as long as they are sound."""
    before, count = contents(folder), 0
    for path in shards(folder):
        with closing(sqlite3.connect(path)) as database, database:
            count += database.execute("DELETE FROM rows WHERE key < x'63'").rowcount
    report, _ = fsck(folder)
    assert str(Digest.of(LARGE)) in {each.digest for each in report.findings}
    report, actions = fsck(folder, repair=True)
    assert (report.found, report.leftovers) == (0, [])
    assert [action.what for action in actions].count("put right") >= count
    assert contents(folder) == before


@pytest.mark.parametrize("data", [b"1", LARGE], ids=["small", "large"])
def test_a_blob_whose_row_is_damaged_is_whole_again_once_it_is_stored(
    folder: Path, data: bytes
) -> None:
    spoil(folder, b"b")
    with open_depot(folder) as depot:
        depot.put("again", data)
        assert depot.get("photo" if data == LARGE else "1") == data


# What follows from something else


@pytest.mark.parametrize("table", [b"kr", b"ku", b"kd"])
def test_what_follows_from_the_names_is_written_again(folder: Path, table: bytes) -> None:
    with open_depot(folder) as depot:
        depot.content.delete(Digest.of(b"held"))  # a hold follows from nothing
    before = contents(folder)
    assert spoil(folder, table)
    report, _ = fsck(folder, repair=True)
    assert report.found == 0
    assert contents(folder) == before


def test_an_entry_is_what_its_reference_says(folder: Path) -> None:
    """Its bytes, its size and its type; the rest of it is lost."""
    assert spoil(folder, b"ke") == 8
    report, _ = fsck(folder)
    told = {each.where.split()[-1]: each for each in report.findings if each.kind == "shard"}
    assert told["default/photo"].digest == str(Digest.of(LARGE))
    assert "reference says" in told["default/photo"].why
    assert fsck(folder, repair=True)[0].found == 0
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        entry = depot.head("photo")
        assert depot.get("photo") == LARGE
        assert (entry.content_type, entry.metadata) == ("image/jpeg", {})
        assert [depot.get(f"{number}") for number in range(6)] == [
            b"%d" % number for number in range(6)
        ]


# What nothing says


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (b"kg", "deleted name default/deleted"),
        (b"kv", "version default/old (version 0)"),
        (b"kb", "policy of bucket default"),
        (b"kr", f"reference of {Digest.of(b'held')}"),
    ],
)
def test_what_nothing_says_is_named_and_goes_if_somebody_says_so(
    folder: Path, table: bytes, name: str
) -> None:
    assert spoil(folder, table)
    for repair in (False, True):
        report, _ = fsck(folder, repair=repair)
        told = {each.where.partition(" ")[2]: each.why for each in report.findings}
        assert "--forget-missing" in told[name]
    report, actions = fsck(folder, repair=True, forget=True)
    assert report.found == 0
    assert [each.where.partition(" ")[2] for each in actions if each.what == "forgotten"] == [name]
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        assert depot.get("photo") == LARGE
        assert depot.get("old") == b"second"


def test_an_entry_without_a_reference_goes_if_somebody_says_so(folder: Path) -> None:
    spoil(folder, b"ke")
    spoil(folder, b"kr")
    report, _ = fsck(folder, repair=True)
    assert report.found > 0
    assert fsck(folder, repair=True, forget=True)[0].found == 0
    with open_depot(folder) as depot:
        check_catalog(depot.engine.kv)
        assert list(depot.entries()) == []
        with pytest.raises(NotFoundError):
            depot.get("photo")
        facts = depot.engine.facts()
        found = [row for path in shards(folder) for row in rows(path, b"")]
        assert facts["keys"] == sum(row[0][:1] == b"k" for row in found)
        assert facts["blobs"] == sum(row[0][:1] == b"b" for row in found)
        depot.put("photo", LARGE)
        assert depot.get("photo") == LARGE


def test_where_a_cold_blob_lies_is_found_again_without_its_row(tmp_path: Path) -> None:
    """A damaged row is let go only where somebody says so; the next sweep writes it again."""
    folder, cold = tmp_path / "store", tmp_path / "cold"
    cold.mkdir()
    bounds = SHARDS._replace(stack=Stack(cold=f"file://{cold}", connect=connect))
    with open_depot(folder, bounds) as depot:
        depot.put("photo", LARGE)
        assert depot.engine.tier is not None
        assert sum(moved.blobs for moved in depot.engine.tier.move(-5)) == 1
    for path in shards(folder):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("DELETE FROM history")
    assert spoil(folder, KEY + catalog.COLD) == 1

    def checked(*, forget: bool) -> list[str]:
        check = Fsck(
            folder, lambda: open_depot(folder, bounds), Options(repair=True, forget=forget)
        )
        for _ in check.run():
            pass
        return [each.kind for each in check.report.findings]

    assert checked(forget=False) == ["shard"]
    assert checked(forget=True) == []
    with open_depot(folder, bounds) as depot:
        with pytest.raises(CorruptError):
            depot.get("photo")
        for _ in depot.engine.sweep_uploads(0):
            pass
        assert depot.get("photo") == LARGE
    assert checked(forget=False) == []


def test_pages_that_cannot_be_followed_are_told_and_end_no_check(folder: Path) -> None:
    """One pointer of a tree after the other leads elsewhere."""
    path, checked = shards(folder)[0], 0
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'rows'"
        ).fetchone()
        (page,) = database.execute("PRAGMA page_size").fetchone()
    sound = path.read_bytes()
    for place in range((root - 1) * page + 8, (root - 1) * page + 32):
        path.write_bytes(sound[:place] + bytes((sound[place] ^ 4,)) + sound[place + 1 :])
        try:
            depot = open_depot(folder)
        except CorruptError:
            continue
        with depot:
            check = Check(depot.engine)
            list(check.run())
            assert check.report.found
            checked += 1
    assert checked


# Two shards at once


def test_damage_of_two_shards_costs_what_it_hit_and_each_is_named(folder: Path) -> None:
    """A row in each; all other names are read, and both are put right."""
    before, names = contents(folder), [f"{number}" for number in range(6)]
    small = {bytes(Digest.of(name.encode())) for name in names}
    hit: dict[Path, Digest] = {}
    for path in shards(folder):
        row = next(row for row in rows(path, b"b") if row[0][1:] in small)
        replace(path, row, flip_value(row))
        hit[path] = Digest(row[0][1:])
    assert len(hit) == 2
    with open_depot(folder) as depot:
        for name in names:
            if Digest.of(name.encode()) in hit.values():
                with pytest.raises(CorruptError):
                    depot.get(name)
            else:
                assert depot.get(name) == name.encode()
    report, _ = fsck(folder)
    assert {each.digest for each in report.findings} == {str(each) for each in hit.values()}
    report, _ = fsck(folder, repair=True)
    assert report.found == 0
    assert contents(folder) == before
