"""Data folders of Blobnom, to read them: files of SQLite with a row for each key.

    DIR/shard_<i>.db     blobs(key TEXT PRIMARY KEY, data BLOB), and in later releases created_at,
                         updated_at, expires_at and version, and a table blobs_<namespace> for each
                         namespace

Values are read a part at a time, however large they are. Nothing is written; a folder must not be
in use.
"""

import re
import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

from holdfast.core import limits
from holdfast.shards.routing import fnv1a_64

NAME = re.compile(r"shard_(0|[1-9][0-9]*)\.db")
TABLE = re.compile(r"blobs(?:_([A-Za-z0-9_]{1,100}))?")
MILLI_S = 100_000_000_000
"""A time in seconds is smaller than this for some thousand years, one in milliseconds is not."""
TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
ROWS = """
SELECT rowid, typeof(key), CAST(key AS BLOB), typeof(data),
  CASE typeof(data) WHEN 'text' THEN length(CAST(data AS BLOB)) ELSE length(data) END, {expires}
FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Blob:
    """One row, whose bytes are read by `chunks`."""

    namespace: str
    key: str
    size_bytes: int
    expires_s: float | None
    """When it goes by itself, in seconds since 1970; None: never."""
    database: sqlite3.Connection
    table: str
    row: int

    def chunks(self) -> Generator[bytes]:
        """Read the bytes.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        with self.database.blobopen(self.table, "data", self.row, readonly=True) as blob:
            while chunk := blob.read(limits.CHUNK_BYTES):
                yield chunk


class Broken(NamedTuple):
    """What cannot be read."""

    path: Path
    what: str


class _Shard(NamedTuple):
    """One file, and its tables, each with whether its rows expire."""

    path: Path
    number: int
    database: sqlite3.Connection
    tables: Mapping[str, bool]

    def has(self, table: str, key: str) -> bool:
        """Whether a key is in it, as far as that can be read."""
        if table not in self.tables:
            return False
        statement = f"SELECT 1 FROM {table} WHERE key = ?"  # noqa: S608 - see TABLE
        try:
            return self.database.execute(statement, (key,)).fetchone() is not None
        except sqlite3.Error:
            return False


def shards(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their numbers."""
    if not folder.is_dir():
        return []
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_file()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def count_rows(files: Sequence[Path]) -> int | None:
    """Count the rows of all `shards`, from their indexes; None where one cannot be read."""
    total = 0
    with ExitStack() as stack:
        try:
            for path in files:
                shard = _open(path, 0, stack)
                for table in shard.tables:
                    statement = f"SELECT count(*) FROM {table}"  # noqa: S608 - see TABLE
                    total += shard.database.execute(statement).fetchone()[0]
        except sqlite3.Error:
            return None
    return total


def scan(files: Sequence[Path]) -> Iterator[Blob | Broken]:
    """Yield every row of all `shards`; a Blob may be read until the next one is asked for.

    A key that is in several files, because their number was changed, is taken from the one in which
    Blobnom looks for it, or else from the first; the others are named.
    """
    numbers = {int(path.stem.rpartition("_")[2]): path for path in files}
    missing = next(number for number in count() if number not in numbers)
    if missing < max(numbers):
        path = files[0].with_name(f"shard_{missing}.db")
        yield Broken(path, f"it is not there, and {files[-1].name} is")
    with ExitStack() as stack:
        opened: list[_Shard] = []
        for number, path in numbers.items():
            try:
                opened.append(_open(path, number, stack))
            except sqlite3.Error as error:
                yield _broken(path, error)
        for shard in opened:
            for table in shard.tables:
                try:
                    yield from _rows(shard, table, opened, max(numbers) + 1)
                except sqlite3.Error as error:
                    yield _broken(shard.path, error)


def _broken(path: Path, error: sqlite3.Error) -> Broken:
    return Broken(path, f"{error} (`sqlite3 {path.name} .recover` may find more in a copy of it)")


def _open(path: Path, number: int, stack: ExitStack) -> _Shard:
    has_log = path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro" + ("" if has_log else "&immutable=1")
    database = stack.enter_context(closing(sqlite3.connect(uri, uri=True, isolation_level=None)))
    names = [name for (name,) in database.execute(TABLES).fetchall() if TABLE.fullmatch(name)]
    tables = {name: _expires(database, name) for name in names}
    return _Shard(path, number, database, tables)


def _expires(database: sqlite3.Connection, table: str) -> bool:
    return any(row[1] == "expires_at" for row in database.execute(f"PRAGMA table_info({table})"))


def _rows(
    shard: _Shard, table: str, opened: Sequence[_Shard], file_count: int
) -> Iterator[Blob | Broken]:
    match = TABLE.fullmatch(table)
    assert match is not None
    expires = "expires_at" if shard.tables[table] else "NULL"
    statement = ROWS.format(table=table, expires=expires)
    last = -(1 << 63)
    while page := shard.database.execute(statement, (last, limits.BATCH_REFS_MAX)).fetchall():
        for row, key_type, raw_key, data_type, size_bytes, expires_at in page:
            what = f"row {row} of {table}"
            if key_type != "text" or data_type not in {"blob", "text"}:
                yield Broken(
                    shard.path,
                    f"{what}: its key is {key_type} and its data {data_type}, not text and blob",
                )
                continue
            try:
                key = raw_key.decode()
            except UnicodeDecodeError:
                yield Broken(shard.path, f"{what}: the key is not UTF-8")
                continue
            other = _before(shard, table, key, opened, file_count)
            if other is not None:
                yield Broken(shard.path, f"{what}: {other.path.name} has the key {key}, too")
                continue
            at_s = _seconds(expires_at)
            yield Blob(match[1] or "", key, size_bytes, at_s, shard.database, table, row)
        last = page[-1][0]


def _before(
    shard: _Shard, table: str, key: str, opened: Sequence[_Shard], file_count: int
) -> _Shard | None:
    """Another file from which this key is to be taken."""
    home = fnv1a_64(key.encode()) % file_count
    if shard.number == home:
        return None
    others = (one for one in opened if one.number == home or one.number < shard.number)
    return next((one for one in others if one.has(table, key)), None)


def _seconds(value: object) -> float | None:
    """Read a time: seconds or milliseconds since 1970, or text (ISO 8601)."""
    if isinstance(value, int | float):
        return value / 1000 if value >= MILLI_S else float(value)
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
