"""`holdfast import blobnom` as a process on folders, as Blobnom's releases have left them."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import holdfast
from holdfast.core.policy import Policy
from holdfast.core.seams import SystemClock
from holdfast.depot.local import open_depot
from holdfast.shards.routing import fnv1a_64
from holdfast.testing.blobs import make

COUNT = 4
SEED = "CREATE TABLE blobs (key TEXT PRIMARY KEY, data BLOB)"
LATER = (
    "CREATE TABLE {} (key TEXT PRIMARY KEY, data BLOB, created_at INTEGER NOT NULL,"
    " updated_at INTEGER NOT NULL, expires_at INTEGER, version INTEGER NOT NULL DEFAULT 0)"
)
ROWS = {
    "hello": b"hello",
    "user:1000": b"{}",
    "empty": b"",
    "f\u00fcr/immer?": bytes(range(256)),
    "large": make(3_000_000),
    "gzip": b"\x1f\x8b\x08 as they are",
    **{f"many/{number}": b"%d" % number for number in range(1500)},
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast", "import", "blobnom", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def write(folder: Path, schema: str, rows: dict[str, bytes]) -> None:
    """Write a folder as the first release did."""
    folder.mkdir()
    for number in range(COUNT):
        database = sqlite3.connect(folder / f"shard_{number}.db")
        database.execute("PRAGMA journal_mode = WAL")
        with database:
            database.execute(schema)
            for key, data in rows.items():
                if fnv1a_64(key.encode()) % COUNT == number:
                    database.execute("INSERT OR REPLACE INTO blobs VALUES (?, ?)", (key, data))
        database.close()


def test_every_key_of_every_shard_is_taken_over(tmp_path: Path) -> None:
    source, target = tmp_path / "blobnom", tmp_path / "store"
    write(source, SEED, ROWS)
    (source / "lost+found").mkdir()
    (source / "config.toml").write_text("num_shards = 4")
    for name in ("shard_00.db", "shard_3.db.old", "shard_.db"):
        shutil.copy(source / "shard_0.db", source / name)
        with closing(sqlite3.connect(source / name)) as database, database:
            database.execute("UPDATE blobs SET data = x'00'")
    before = {path.name: path.read_bytes() for path in source.glob("*.db*")}
    done = run(source, "-s", f"sqlite://{target}?shards={COUNT}")
    assert (done.returncode, done.stdout) == (0, "1506 blobs (2.9 MiB) stored, 0 places damaged\n")
    assert {path.name: path.read_bytes() for path in source.glob("*.db*")} == before
    with holdfast.open(target) as bucket:
        assert {entry.key: bucket.get(entry.key) for entry in bucket.entries()} == ROWS
    for number in range(COUNT):
        database = sqlite3.connect(target / f"shard_{number}.db")
        found = [key for (key,) in database.execute("SELECT key FROM rows WHERE key > x'6b65'")]
        database.close()
        for key in ("hello", "user:1000", "large"):
            is_there = any(row.startswith(b"ke") and row.endswith(key.encode()) for row in found)
            assert is_there == (fnv1a_64(key.encode()) % COUNT == number)
    assert run(source, "-s", target).returncode == 0


def test_what_later_releases_know_is_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "blobnom", tmp_path / "store"
    source.mkdir()
    database = sqlite3.connect(source / "shard_0.db")
    now = SystemClock().now_us() // 1_000_000
    with database:
        for table in ("blobs", "blobs_photos"):
            database.execute(LATER.format(table))
        for table, key, expires in (
            *(("blobs", "stays", None), ("blobs", "goes", now + 1000), ("blobs", "gone", now - 1)),
            *(("blobs_photos", "a.jpg", None), ("blobs_photos", "in ms", (now + 1000) * 1000)),
        ):
            row = (key, key.encode(), now, now, expires, 3)
            database.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", row)
    database.close()
    report = json.loads(run(source, "-s", target, "--json").stdout)
    assert (report["blobs"], report["expired"], report["damaged"]) == (4, 1, 0)
    with holdfast.open(target) as bucket:
        entries = {entry.key: entry for entry in bucket.entries()}
        assert set(entries) == {"stays", "goes"}
        photos = bucket.bucket("photos")
        assert photos.get("a.jpg") == b"a.jpg"
        assert entries["stays"].expires_us == 0
        for entry in (entries["goes"], photos.head("in ms")):
            assert abs(entry.expires_us / 1_000_000 - now - 1000) < 60


def test_what_was_stored_since_is_kept_where_that_is_wanted(tmp_path: Path) -> None:
    """Small and large ones."""
    source, target = tmp_path / "blobnom", tmp_path / "store"
    write(source, SEED, {"old": b"old", "small": b"old", "large": make(300_000)})
    with holdfast.open(target) as bucket:
        for key in ("small", "large"):
            bucket.put(key, b"new")
    done = run(source, "-s", target, "-n")
    said = "1 blobs (3 B) stored, 2 kept as they were, 0 places damaged\n"
    assert (done.returncode, done.stdout) == (0, said)
    with holdfast.open(target) as bucket:
        assert [bucket.get(key) for key in ("old", "small", "large")] == [b"old", b"new", b"new"]
    assert json.loads(run(source, "-s", target, "--json").stdout)["blobs"] == 3
    with holdfast.open(target) as bucket:
        assert bucket.get("small") == b"old"


def test_what_cannot_be_stored_is_said_and_the_rest_is(tmp_path: Path) -> None:
    source, target = tmp_path / "blobnom", tmp_path / "store"
    write(source, SEED, {"good": b"good", "": b"no name", "k" * 2000: b"long"})
    (source / "shard_4.db").write_bytes(b"not a database at all" * 500)
    done = run(source, "-s", target, "--json")
    assert done.returncode == 5
    report = json.loads(done.stdout)
    assert report["blobs"] == 1
    assert {each["what"] for each in report["refused"]} == {"", "k" * 2000, "shard_4.db"}


def test_an_odd_row_costs_no_other(tmp_path: Path) -> None:
    """Values of other types, keys that are no text, namespaces and sizes that nobody takes."""
    source, target = tmp_path / "blobnom", tmp_path / "store"
    source.mkdir()
    database = sqlite3.connect(source / "shard_0.db")
    with database:
        for table in ("blobs", "blobs_Photos"):
            database.execute(f"CREATE TABLE {table} (key TEXT PRIMARY KEY, data BLOB)")
        for key, data in (
            *(("text", "h\u00e4h"), ("null", None), ("number", 42), (b"\xff", b"no text")),
            *((None, b"no key"), ("large", make(300_000)), ("larger", make(500_000))),
        ):
            database.execute("INSERT INTO blobs VALUES (?, ?)", (key, data))
        database.execute("INSERT INTO blobs VALUES (CAST(x'ff41' AS TEXT), x'01')")
        database.execute("INSERT INTO blobs_Photos VALUES ('a', x'01')")
        database.execute("INSERT INTO blobs VALUES ('last', x'02')")
    database.close()
    with open_depot(target) as depot:
        depot.set_policy(Policy(blob_bytes_max=400_000))
    done = run(source, "-s", target)
    assert done.returncode == 5
    assert done.stdout.endswith("3 blobs (293.0 KiB) stored, 7 places damaged\n")
    assert "'Photos'" in done.stdout
    with holdfast.open(target) as bucket:
        found = {entry.key: bucket.get(entry.key) for entry in bucket.entries()}
    assert found == {"text": "h\u00e4h".encode(), "large": make(300_000), "last": b"\x02"}


def test_a_key_in_several_files_is_the_one_that_was_served(tmp_path: Path) -> None:
    """As after a change of `num_shards`, and with a file that was lost."""
    source, target = tmp_path / "blobnom", tmp_path / "store"
    write(source, SEED, {f"k{number}": b"served" for number in range(20)})
    for number in range(COUNT):
        database = sqlite3.connect(source / f"shard_{number}.db")
        with database:
            for key, data in {f"k{each}": b"before" for each in range(20)}.items():
                database.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (key, data))
            astray = ("astray", b"%d" % number)
            database.execute("INSERT INTO blobs VALUES (?, ?)", astray)
        database.close()
    home = fnv1a_64(b"astray") % COUNT
    report = json.loads(run(source, "-s", target, "--json").stdout)
    assert (report["blobs"], report["damaged"]) == (21, 20 * (COUNT - 1) + COUNT - 1)
    with holdfast.open(target) as bucket:
        assert bucket.get("astray") == b"%d" % home
        assert {bucket.get(f"k{each}") for each in range(20)} == {b"served"}
    (source / f"shard_{home}.db").unlink()
    again = run(source, "-s", tmp_path / "again")
    assert again.returncode == 5
    assert f"refused  shard_{home}.db  it is not there" in again.stdout
    with holdfast.open(tmp_path / "again") as bucket:
        assert bucket.get("astray") == b"%d" % min({*range(COUNT)} - {home})


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert run(tmp_path, "-s", tmp_path / "store").returncode == 3
    assert run(tmp_path / "absent", "-s", tmp_path / "store").returncode == 3
    holdfast.open(f"sqlite://{tmp_path}/own").close()
    assert run(tmp_path / "own", "-s", tmp_path / "store").returncode == 2
    assert not (tmp_path / "store").exists()
    write(tmp_path / "blobnom", SEED, {"key": b"data"})
    before = {path.name for path in (tmp_path / "blobnom").iterdir()}
    (tmp_path / "link").symlink_to(tmp_path / "blobnom")
    for inside in ("blobnom", "link", "blobnom/store", "."):
        assert run(tmp_path / "blobnom", "-s", tmp_path / inside).returncode == 2
    assert {path.name for path in (tmp_path / "blobnom").iterdir()} == before
