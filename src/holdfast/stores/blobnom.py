"""Data folders of Blobnom, to read them: files of SQLite with a row for each key.

    DIR/shard_<i>.db     blobs(key TEXT PRIMARY KEY, data BLOB), and in later releases created_at,
                         updated_at, expires_at and version, and a table blobs_<namespace> for each
                         namespace

Values are read a part at a time, however large they are. Nothing is written; a folder must not be
in use.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from holdfast.core import limits

NAME = re.compile(r"shard_([0-9]+)\.db")
TABLE = re.compile(r"blobs(?:_([A-Za-z0-9_]{1,100}))?")
MILLI_S = 100_000_000_000
"""A time in seconds is smaller than this for some thousand years, one in milliseconds is not."""


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

    def chunks(self) -> Iterator[bytes]:
        """Read the bytes.

        Raises:
            sqlite3.Error: they cannot be read.
        """
        if self.size_bytes == 0:
            return
        with self.database.blobopen(self.table, "data", self.row, readonly=True) as blob:
            while chunk := blob.read(limits.CHUNK_BYTES):
                yield chunk


class Broken(NamedTuple):
    """What cannot be read."""

    path: Path
    what: str


def shards(folder: Path) -> list[Path]:
    """The files of a folder, in the order of their numbers."""
    if not folder.is_dir():
        return []
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def scan(path: Path) -> Iterator[Blob | Broken]:
    """Yield every row of one file; a Blob may be read until the next one is asked for."""
    has_log = path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro" + ("" if has_log else "&immutable=1")
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
            for (table,) in database.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
            ).fetchall():
                match = TABLE.fullmatch(table)
                if match is not None:
                    yield from _rows(database, table, match[1] or "")
    except (sqlite3.Error, UnicodeDecodeError) as error:
        yield Broken(path, str(error))


def _rows(database: sqlite3.Connection, table: str, namespace: str) -> Iterator[Blob]:
    columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
    expires = "expires_at" if "expires_at" in columns else "NULL"
    statement = (
        f"SELECT rowid, key, coalesce(length(data), 0), {expires} FROM {table}"  # noqa: S608 - see TABLE
        " WHERE rowid > ? ORDER BY rowid LIMIT ?"
    )
    last = -(1 << 63)
    while page := database.execute(statement, (last, limits.BATCH_REFS_MAX)).fetchall():
        for row, key, size_bytes, expires_at in page:
            yield Blob(namespace, str(key), size_bytes, _seconds(expires_at), database, table, row)
        last = page[-1][0]


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
