"""The files of the shards: made, missing, swapped, foreign, or those of another store."""

import itertools
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from shard_steps import change, of

from holdfast.core.errors import (
    BlobError,
    CorruptError,
    InvalidError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.kv import Put
from holdfast.kv.sqlite import SqliteKV
from holdfast.log.log import Log
from holdfast.shards.folder import Shape
from holdfast.shards.routing import HASHES, WHOLE, Layout, Routing, fnv1a_64, whole
from holdfast.shards.shards import Options, Shards
from holdfast.shards.tables import PRAGMAS, SCHEMA
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.kv_steps import commit, everything

COUNT = 4
FULL = 2  # of PRAGMA synchronous


def fill(folder: Path, count: int = COUNT, writes: int = 20) -> None:
    with Shards(folder, options=of(count)) as shards:
        kv = SqliteKV(shards)
        for number in range(writes):
            commit(kv, Put(b"%d" % number, b"value"))


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (b"a", 0xAF63DC4C8601EC8C),
        (b"hello", 0xA430D84680AABD0B),
        (b"foo", 0xDCB27518FED9D577),
        (b"mykey", 0xAB7304DFAFFD3F6A),
        (b"user:1000", 0x49B8F3BFAE7B4289),
    ],
)
def test_keys_hash_as_blobnoms_do(key: bytes, digest: int) -> None:
    assert fnv1a_64(key) == digest


def test_keys_go_to_the_shards_that_blobnom_has_them_in() -> None:
    keys = [b"a", b"hello", b"foo", b"mykey", b"user:1000"]
    assert [Routing(4).key(key) for key in keys] == [0, 3, 3, 2, 1]
    assert [Routing(8).key(key) for key in keys] == [4, 3, 7, 2, 1]
    assert Routing(4, layout=Layout("tail", lambda key: key[1:])).key(b"xhello") == 3


@pytest.mark.parametrize("name", HASHES)
def test_every_hash_spreads_keys_and_is_recorded(name: str, tmp_path: Path) -> None:
    found = [Routing(8, name).key(b"key %d" % number) for number in range(800)]
    assert min(map(found.count, range(8))) > 50
    with Shards(tmp_path / "data", options=Options(Shape(8, name))) as shards:
        commit(SqliteKV(shards), Put(b"k", b"v"))
    with Shards(tmp_path / "data") as shards:
        assert shards.routing.hash_name == name
        assert SqliteKV(shards).get(b"k") is not None
    for other in HASHES.keys() - {name}:
        with pytest.raises(InvalidError, match="reshard"):
            Shards(tmp_path / "data", options=Options(Shape(8, other)))


def test_another_shard_takes_keys_from_all_with_rendezvous() -> None:
    before, after = Routing(8, "rendezvous"), Routing(9, "rendezvous")
    keys = [b"%d" % number for number in range(2000)]
    moved = [key for key in keys if before.key(key) != after.key(key)]
    assert {after.key(key) for key in moved} == {8}
    assert 100 < len(moved) < 400


def test_each_shard_is_a_file_of_its_own(tmp_path: Path) -> None:
    fill(tmp_path / "data", 5)
    found = sorted(path.name for path in (tmp_path / "data").glob("*.db"))
    assert found == [f"shard_{number}.db" for number in range(5)]
    with Shards(tmp_path / "data") as shards:
        assert all(shard.state.keys > 0 for shard in shards.shards)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_another_number_of_shards_is_refused(tmp_path: Path, count: int) -> None:
    fill(tmp_path / "data")
    with pytest.raises(InvalidError, match=r"has 4, and `holdfast reshard"):
        Shards(tmp_path / "data", options=of(count))
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        assert len(everything(SqliteKV(shards))) == 20


def test_an_impossible_number_of_shards_is_refused(tmp_path: Path) -> None:
    for count in (-1, 257):
        with pytest.raises(InvalidError):
            Shards(tmp_path / "data", options=of(count))


def test_a_number_of_shards_that_cannot_be_is_damage(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    marker = tmp_path / "data" / "HOLDFAST"
    sound = marker.read_bytes()
    for number in (b"0", b"-4", b'"4"'):
        assert b'"shards":4' in sound
        marker.write_bytes(sound.replace(b'"shards":4', b'"shards":' + number))
        with pytest.raises(CorruptError, match="HOLDFAST is damaged"):
            Shards(tmp_path / "data", options=of(COUNT))


def test_a_schema_of_which_a_bit_has_flipped_is_named(tmp_path: Path) -> None:
    """A table may be read all the same, for a while: one whose column has another name."""
    fill(tmp_path / "data")
    path = tmp_path / "data" / "shard_1.db"
    sound = path.read_bytes()
    texts = [text.encode() for text in SCHEMA[PRAGMAS:]]
    places = [sound.index(text) + at for text in texts for at in range(0, len(text), 11)]
    for place in places:
        path.write_bytes(sound[:place] + bytes((sound[place] ^ 1,)) + sound[place + 1 :])
        with pytest.raises(CorruptError, match=r"shard_1\.db"):
            Shards(tmp_path / "data", options=of(COUNT))
    path.write_bytes(sound)
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        assert len(everything(SqliteKV(shards))) == 20


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    (tmp_path / "data" / "shard_2.db").rename(tmp_path / "elsewhere")
    with pytest.raises(CorruptError, match=r"shard_2\.db is missing"):
        Shards(tmp_path / "data")
    (tmp_path / "elsewhere").rename(tmp_path / "data" / "shard_2.db")
    with Shards(tmp_path / "data") as shards:
        assert len(everything(SqliteKV(shards))) == 20


def test_swapped_shards_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    one, other, free = (tmp_path / "data" / name for name in ("shard_0.db", "shard_1.db", "free"))
    one.rename(free)
    other.rename(one)
    free.rename(other)
    with pytest.raises(CorruptError, match=r"shard_0\.db is shard 1 of this store"):
        Shards(tmp_path / "data")


def test_the_shard_of_another_store_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    fill(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "shard_3.db", tmp_path / "data" / "shard_3.db")
    with pytest.raises(CorruptError, match=r"shard_3\.db belongs to another store"):
        Shards(tmp_path / "data")


@pytest.mark.parametrize("number", range(COUNT))
def test_an_older_copy_of_one_shard_is_refused(tmp_path: Path, number: int) -> None:
    fill(tmp_path / "data")
    shutil.copy(tmp_path / "data" / f"shard_{number}.db", tmp_path / "old")
    fill(tmp_path / "data", writes=30)
    shutil.copy(tmp_path / "old", tmp_path / "data" / f"shard_{number}.db")
    with pytest.raises(CorruptError, match="is not the file that belongs here"):
        Shards(tmp_path / "data")


def test_a_file_that_is_no_shard_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    path = tmp_path / "data" / "shard_1.db"
    path.write_bytes(b"not a database, by any means" * 1000)
    with pytest.raises(CorruptError, match=r"shard_1\.db"):
        Shards(tmp_path / "data")
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE blobs (key TEXT PRIMARY KEY, data BLOB)")
    database.close()
    with pytest.raises(CorruptError, match=r"shard_1\.db is no shard"):
        Shards(tmp_path / "data")


def test_foreign_files_are_nobodys_business(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "lost+found").mkdir(parents=True)
    for name in ("notes.txt", "shard_x.db", "shard_00.db", "shard_1.db.bak"):
        (folder / name).write_text("mine")
    fill(folder)
    (folder / "shard_9.db").write_text("not even a database")
    with Shards(folder) as shards:
        assert len(everything(SqliteKV(shards))) == 20
    assert (folder / "shard_00.db").read_text() == "mine"


def test_shards_without_their_marker_are_not_taken_for_new(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    (tmp_path / "data" / "HOLDFAST").unlink()
    with pytest.raises(CorruptError, match="HOLDFAST"):
        Shards(tmp_path / "data")


def test_a_folder_of_blobnoms_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with sqlite3.connect(folder / "shard_0.db") as database:
        database.execute("CREATE TABLE blobs (key TEXT PRIMARY KEY, data BLOB)")
    database.close()
    with pytest.raises(CorruptError, match="holdfast import blobnom"):
        Shards(folder)


def test_a_damaged_schema_is_said(tmp_path: Path) -> None:
    """Whatever SQLite quotes of it."""
    fill(tmp_path / "data")
    path = tmp_path / "data" / "shard_1.db"
    good = path.read_bytes()
    begin = good.index(b"CREATE TABLE")
    for at in range(begin, 4096, 23):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1 :])
        with suppress(CorruptError, UnavailableError):
            Shards(tmp_path / "data", options=of(COUNT)).close()
    path.write_bytes(good.replace(b"CREATE TABLE", b"CREATE\xa0TABLE", 1))
    with pytest.raises(CorruptError, match=r"shard_1\.db"):
        Shards(tmp_path / "data", options=of(COUNT))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"engine":"sqlite","format":3}', b"\xff"])
def test_a_damaged_marker_is_said(tmp_path: Path, text: bytes) -> None:
    fill(tmp_path / "data")
    (tmp_path / "data" / "HOLDFAST").write_bytes(text)
    with pytest.raises(CorruptError, match="HOLDFAST"):
        Shards(tmp_path / "data")


def test_engines_refuse_each_others_folders(tmp_path: Path) -> None:
    Log(tmp_path / "log").close()
    with pytest.raises(UnsupportedError, match="another engine"):
        Shards(tmp_path / "log")
    fill(tmp_path / "shards")
    with pytest.raises(UnsupportedError, match="another engine"):
        Log(tmp_path / "shards")
    fill(tmp_path / "shards")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    change(tmp_path / "data" / "shard_2.db", "PRAGMA user_version = 99")
    with pytest.raises(UnsupportedError, match="newer"):
        Shards(tmp_path / "data")


def test_another_layout_of_keys_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    with pytest.raises(UnsupportedError, match=WHOLE.name):
        Shards(tmp_path / "data", options=Options(Shape(layout=Layout("other-1", whole))))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Shards(tmp_path / "data"), pytest.raises(UnavailableError, match="in use"):
        Shards(tmp_path / "data")


@pytest.mark.parametrize("after", [False, True])
def test_with_any_call_failing_a_new_store_is_made_at_the_second_try(
    tmp_path: Path, *, after: bool
) -> None:
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        disk = FaultyDisk(Fault(number, after=after))
        try:
            Shards(folder, disk, options=of(2)).close()
        except BlobError:
            assert disk.struck
        fill(folder, 2)
        if not disk.struck:
            break


def test_a_reader_is_not_held_up_by_who_writes(tmp_path: Path) -> None:
    """All shards are locked by somebody who writes and does not come to an end."""
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        kv = SqliteKV(shards)
        commit(kv, Put(b"k", b"v"))
        for shard in shards.shards:
            shard.lock.acquire()
            shard._database.execute("BEGIN IMMEDIATE")
            shard._database.execute("DELETE FROM rows")
        found = kv.get(b"k")
        listed = everything(kv)
        for shard in shards.shards:
            shard._database.execute("ROLLBACK")
            shard.lock.release()
        assert found is not None
        assert len(listed) == 1


def test_two_missing_or_replaced_shards_are_named(tmp_path: Path) -> None:
    """One at a time: the next one once the first is back."""
    fill(tmp_path / "data")
    fill(tmp_path / "other")
    for name in ("shard_1.db", "shard_3.db"):
        (tmp_path / "data" / name).rename(tmp_path / name)
    (tmp_path / "data" / "shard_3.db").write_bytes((tmp_path / "other" / "shard_3.db").read_bytes())
    for name, why in (("shard_1.db", "is missing"), ("shard_3.db", "belongs to another store")):
        with pytest.raises(CorruptError, match=f"{name} {why}"):
            Shards(tmp_path / "data", options=of(COUNT))
        (tmp_path / name).replace(tmp_path / "data" / name)
    with Shards(tmp_path / "data", options=of(COUNT)) as shards:
        assert len(everything(SqliteKV(shards))) == 20


def test_each_commit_is_synced_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    """SQLite's own default in WAL mode would lose the last commits in a power cut."""
    with Shards(tmp_path / "data", options=of(2)) as shards:
        for shard in shards.shards:
            for pragma, value in (("journal_mode", b"wal"), ("synchronous", FULL)):
                assert shard.ask(f"PRAGMA {pragma}")[0][0] == value
