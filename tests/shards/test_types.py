"""Damage after which SQLite gives out other types than the tables have, which are STRICT."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from shard_steps import of

from holdfast.core.errors import CorruptError
from holdfast.core.kv import Put
from holdfast.kv.sqlite import SqliteKV
from holdfast.shards.checking import Found, check
from holdfast.shards.shards import Shards
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.blobs import make, put, read
from holdfast.testing.kv_steps import commit, everything

FULL, EMPTY = b"full", b"empty"
VALUE = b"\xff\x00 no text"


def damage(folder: Path, statement: str) -> None:
    """Change a shard as if its tables were not strict."""
    path = folder / "shard_0.db"
    loosen = "UPDATE sqlite_schema SET sql = replace(replace(sql, ' STRICT,', ''), ') STRICT', ')')"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        strict = database.execute("SELECT sql, name FROM sqlite_schema").fetchall()
        database.execute("PRAGMA writable_schema = ON")
        database.execute(loosen)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(statement)
        database.execute("PRAGMA writable_schema = ON")
        database.executemany("UPDATE sqlite_schema SET sql = ? WHERE name = ?", strict)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Shards(tmp_path / "data", options=of(1)) as shards:
        commit(SqliteKV(shards), Put(FULL, VALUE), Put(EMPTY, b""))
        put(SqliteStore(shards), make(1000))
    return tmp_path / "data"


def test_bytes_that_are_said_to_be_text_are_the_same_bytes(folder: Path) -> None:
    damage(folder, "UPDATE rows SET value = CAST(value AS TEXT)")
    with Shards(folder) as shards:
        kv = SqliteKV(shards)
        assert [item.value for item in everything(kv)] == [b"", VALUE]
        why = {each.why for each in check(shards) if isinstance(each, Found)}
        assert why == {"non-BLOB value in rows.value"}


@pytest.mark.parametrize(
    "changed", ["value = 0", "value = 7.5", "revision = 'x'", "revision = 9e999", "sum = 'x'"]
)
def test_a_row_of_other_types_is_damaged(folder: Path, changed: str) -> None:
    damage(folder, f"UPDATE rows SET {changed}")
    with Shards(folder) as shards:
        kv, store = SqliteKV(shards), SqliteStore(shards)
        for key in (FULL, EMPTY):
            with pytest.raises(CorruptError):
                kv.get(key)
        with pytest.raises(CorruptError):
            everything(kv)
        assert list(store.scan()) == []
        assert any(isinstance(each, Found) for each in check(shards))


def test_a_chunk_and_a_state_of_other_types_are_damaged(folder: Path) -> None:
    damage(folder, "UPDATE chunks SET data = 7")
    with Shards(folder) as shards:
        store = SqliteStore(shards)
        for ref in store.scan():
            with pytest.raises(CorruptError):
                read(store, ref.digest)
    damage(folder, "UPDATE state SET value = 7")
    with pytest.raises(CorruptError):
        Shards(folder)
