"""Connections to the file of a shard: one that writes, and those that read beside it.

In WAL mode readers see the last commit and wait for nobody (sqlite.org/wal.html). There is one
connection for each file that ever writes or checkpoints, and it is the last to be closed. Nobody
else may open the file in this process: closing any descriptor of it drops SQLite's locks.
"""

from __future__ import annotations

import errno
import sqlite3
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError, FullError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.core.errors import BlobError

READERS_KEPT_MAX = 8  # of each shard
BUSY_S = 5.0
FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
REFUSED = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What SQLite and the disk raise; the last one where damage is quoted in an error of SQLite's."""
PRIMARY = 0xFF  # of an extended code of SQLite's, the part that says what kind it is
WRITING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",  # which would keep its failures to itself
    "PRAGMA journal_size_limit = 1048576",
    "PRAGMA cache_size = -4096",
    "PRAGMA secure_delete = OFF",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
)
READING = (
    "PRAGMA query_only = ON",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -512",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
)
SYNCED = "PRAGMA synchronous = FULL"
UNSYNCED = "PRAGMA synchronous = NORMAL"
"""For what nobody is told of before a later commit has synced it, too."""


def connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    """Connect to a file that exists.

    Raises:
        sqlite3.Error, UnicodeDecodeError: it is no database, or the disk refuses.
    """
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
    database.text_factory = bytes  # a damaged row may say of any bytes that they are text
    try:
        for statement in WRITING if writes else READING:
            database.execute(statement).close()
    except BaseException:
        database.close()
        raise
    return database


def text_of(given: object) -> str:
    """Read text, which comes as bytes, and as anything where a page is damaged."""
    return given.decode(errors="replace") if isinstance(given, bytes) else repr(given)


def blob_error(what: str, name: str, error: Exception) -> BlobError:
    """What an error of SQLite's or the disk's means."""
    message = f"{what} {name}: {error}"
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY
    if code == sqlite3.SQLITE_FULL or (isinstance(error, OSError) and error.errno in FULL):
        return FullError(message)
    is_damage = code in DAMAGED or isinstance(error, UnicodeDecodeError)
    return CorruptError(message) if is_damage else UnavailableError(message)


@contextmanager
def world(what: str, name: str) -> Iterator[None]:
    """Say what became of a file.

    Raises:
        FullError, CorruptError, UnavailableError: SQLite or the disk refused.
    """
    try:
        yield
    except REFUSED as error:
        raise blob_error(what, name, error) from error


class Readers:
    """Connections that read one shard, as many as there are threads that read it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: deque[sqlite3.Connection] = deque()
        self._is_closed = False

    @contextmanager
    def lease(self) -> Iterator[sqlite3.Connection]:
        """Borrow one; what it is asked must be read to its end, or closed.

        Raises:
            CorruptError, UnavailableError: SQLite or the disk refused.
        """
        try:
            database = self._take()
            try:
                yield database
            finally:
                self._give_back(database)
        except REFUSED as error:
            raise blob_error("reading", self._path.name, error) from error

    def close(self) -> None:
        """Close those that nobody has; the others follow when they are given back."""
        self._is_closed = True
        while self._kept:
            self._kept.pop().close()

    def _take(self) -> sqlite3.Connection:
        if self._is_closed:
            raise UnavailableError("the store is closed")
        try:
            return self._kept.pop()
        except IndexError:
            return connect(self._path, writes=False)

    def _give_back(self, database: sqlite3.Connection) -> None:
        if database.in_transaction:
            database.execute("ROLLBACK")
        if self._is_closed or len(self._kept) >= READERS_KEPT_MAX:
            database.close()
        else:
            self._kept.append(database)
