"""The index: an LMDB environment that is a function of the log.

It says where each blob lies and what each key of the KV holds, and up to which position of the log
it has applied. Its transactions do not sync. A killed process leaves it whole, because the page
cache keeps what was written; after a power cut it is thrown away and made anew from the log. The
file `state` beside it tells the two apart: it names the boot in which the index was last open and
the file that it was then, or says that it was closed in order.

Tables: `blobs` digest -> Location; `keys` and `tails` (log/keys.py) key -> revision, segment and
value; `batches` first revision of a commit record -> its Position; `segments` (log/accounts.py);
`facts` -> the applied Position, the header of the last applied record, by which the index knows its
log again, and the first revision from which no commit is missing.
A read transaction lives as long as one call, for an old one would pin every page freed since.
"""

from __future__ import annotations

import shutil
import struct
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import lmdb

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import CorruptError, FullError, UnavailableError
from holdfast.core.kv import Versioned
from holdfast.log.accounts import WRITE_BYTES, Accounts
from holdfast.log.changes import BATCHES, KEYS, load
from holdfast.log.keys import Keys
from holdfast.log.record import HEADER_BYTES, RAW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from holdfast.log.changes import Pair

    Txn = lmdb.Transaction[bytes]
    Table = lmdb._Database  # noqa: SLF001 - the wheel names no public type

VERSION = b"2"  # of these tables: an index of another one is made again
APPLIED = b"applied"
LAST = b"last"
HISTORY = b"history"
LOADING = b"loading"
PLACE = struct.Struct("<QQ")
LOCATION = struct.Struct("<QIIIB")
POSITION = struct.Struct("<QQQ")
REVISION = struct.Struct(">Q")  # the key of a batch
REVISION_BYTES = REVISION.size
STAMP = struct.Struct(">QI")  # before each value: its revision, the segment that holds it
STAMP_BYTES = STAMP.size
READERS_MAX = 1024
DAMAGED = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)


class Location(NamedTuple):
    """Where a blob's record lies."""

    segment_id: int
    offset: int
    payload_bytes: int
    content_bytes: int
    codec: int = RAW

    @property
    def record_bytes(self) -> int:
        """Size of the record."""
        return HEADER_BYTES + self.payload_bytes


class Position(NamedTuple):
    """How far the log is applied: all before `offset` of a segment, and the newest revision."""

    segment_id: int
    offset: int
    revision: int


class Last(NamedTuple):
    """The newest record that is applied."""

    segment_id: int
    offset: int
    header: bytes


class Index:
    """Reads from any thread; one writer at a time, inside `writing`."""

    def __init__(self, path: Path) -> None:
        """Open or create.

        Raises:
            CorruptError: what is there is no index, or only a part of one.
            FullError, UnavailableError: the disk refuses.
        """
        try:
            self._open(path)
        except lmdb.Error as error:
            raise map_error(error) from error

    def _open(self, path: Path) -> None:
        self._environment = lmdb.open(
            str(path),
            map_size=limits.INDEX_MAP_BYTES,
            max_dbs=8,
            max_readers=READERS_MAX,
            sync=False,
            metasync=False,
            readahead=False,
            mode=0o600,
        )
        self._page_bytes: int = self._environment.stat()["psize"]
        if (path / "data.mdb").stat().st_size < self.used_bytes:
            self._environment.close()  # for to read behind the end would kill the process
            raise lmdb.CorruptedError("half a file")
        self._blobs = self._environment.open_db(b"blobs")
        self._batches = self._environment.open_db(b"batches")
        self._facts = self._environment.open_db(b"facts")
        self._keys = Keys(self._environment)
        self.accounts = Accounts(self._environment)
        with self._environment.begin(self._facts, write=True) as txn:
            version = txn.get(b"version")
            if version is None and txn.get(APPLIED) is None:
                txn.put(b"version", VERSION)
            elif version != VERSION:
                self._environment.close()
                raise lmdb.VersionMismatchError("an index of another version")

    @property
    def used_bytes(self) -> int:
        """Up to where its file is used."""
        return (int(self._environment.info()["last_pgno"]) + 1) * self._page_bytes

    def _begin(self, table: Table | None = None) -> Txn:
        try:
            return self._environment.begin(table)
        except lmdb.Error as error:
            raise map_error(error) from error

    @contextmanager
    def writing(self) -> Iterator[Txn]:
        """Hold the one write transaction; leaving by an exception undoes it all.

        Raises:
            FullError, UnavailableError: the index cannot grow or its disk refuses.
        """
        try:
            with self._environment.begin(write=True) as txn:
                yield txn
        except lmdb.Error as error:
            raise map_error(error) from error

    # Blobs

    def locate(self, digest: bytes) -> Location | None:
        """Find a blob."""
        with self._begin(self._blobs) as txn:
            found = txn.get(digest)
        return None if found is None else Location._make(LOCATION.unpack(found))

    def locate_many(self, txn: Txn, digests: Sequence[bytes]) -> dict[bytes, Location]:
        """Find those of `digests` that exist, in one call."""
        with txn.cursor(self._blobs) as cursor:
            found = cursor.getmulti(digests)
        return {digest: Location._make(LOCATION.unpack(value)) for digest, value in found}

    def locate_all(self, digests: Sequence[Digest]) -> dict[Digest, Location]:
        """Find those of `digests` that exist, as one moment has them."""
        with self._begin(self._blobs) as txn:
            found = self.locate_many(txn, digests)
        return {digest: found[digest] for digest in digests if digest in found}

    def put_blobs(self, txn: Txn, blobs: Mapping[bytes, Location]) -> None:
        """Say where blobs lie now, in one call."""
        pairs = [(digest, LOCATION.pack(*blobs[digest])) for digest in sorted(blobs)]
        with txn.cursor(self._blobs) as cursor:
            cursor.putmulti(pairs)

    def remove_blob(self, txn: Txn, digest: bytes) -> None:
        """Forget a blob."""
        txn.delete(digest, db=self._blobs)

    def blobs(self, after: bytes, limit: int) -> list[tuple[Digest, Location]]:
        """Up to `limit` blobs behind the digest `after`, in order."""
        found: list[tuple[Digest, Location]] = []
        with self._begin(self._blobs) as txn, txn.cursor() as cursor:
            more = cursor.set_range(after)
            if more and cursor.key() == after:
                more = cursor.next()
            while more and len(found) < limit:
                digest, value = cursor.item()
                found.append((Digest(digest), Location(*LOCATION.unpack(value))))
                more = cursor.next()
        return found

    # Keys

    def get(self, key: bytes) -> Versioned | None:
        """Read a key."""
        with self._begin() as txn:
            stored = self._keys.get(txn, key)
        return None if stored is None else split(stored)

    def stored(self, txn: Txn, key: bytes) -> bytes | None:
        """Read a key as `txn` left it; `split` takes it apart."""
        return self._keys.get(txn, key)

    def get_many(self, txn: Txn, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Read those of `keys` that exist, in few calls; `split` takes them apart."""
        return self._keys.get_many(txn, keys)

    def scan(
        self, start: bytes, end: bytes, limit: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` keys in order, with what `split` takes apart."""
        with self._begin() as txn:
            return list(islice(self._keys.walk(txn, start, end, reverse=reverse), limit))

    def is_empty(self, start: bytes, end: bytes, txn: Txn) -> bool:
        """Whether `txn` sees no key in a range."""
        return next(self._keys.walk(txn, start, end), None) is None

    def put_keys(self, txn: Txn, values: Mapping[bytes, Versioned | None], segment_id: int) -> None:
        """Set keys, or delete those that have no value; each with the revision that wrote it."""
        pairs = []
        for key in sorted(values):
            value = values[key]
            if value is None:
                self._keys.delete(txn, key)
            else:
                pairs.append((key, STAMP.pack(value.revision, segment_id) + value.value))
        self._keys.put_many(txn, pairs)

    def load(
        self, txn: Txn, number: int, keys: list[bytes], values: list[bytes | None]
    ) -> list[Pair]:
        """Apply changes of one table of `Changes.tables`, given in order: that is far quicker.

        Gives what was lost, as `changes.load` does.
        """
        if number == KEYS:
            return self._keys.load(txn, keys, values)
        return load(txn, self._batches if number == BATCHES else self._blobs, keys, values)

    @property
    def is_loading(self) -> bool:
        """Whether it has a part of what many segments do, and does not say so in `applied`."""
        return self._fact(LOADING, None) is not None

    def set_loading(self, txn: Txn, *, is_loading: bool) -> None:
        """Say so before such a part is applied, and take it back behind the last one."""
        if is_loading:
            txn.put(LOADING, b"", db=self._facts)
        else:
            txn.delete(LOADING, db=self._facts)

    def clear(self) -> None:
        """Forget everything; the log is applied again from its beginning."""
        with self.writing() as txn:
            tables = (self._blobs, self._batches, self._facts, *self._keys.tables)
            for table in (*tables, self.accounts.table):
                txn.drop(table, delete=False)
            txn.put(b"version", VERSION, db=self._facts)

    # History and position

    def put_batch(self, txn: Txn, revision: int, segment_id: int, offset: int) -> None:
        """Remember where the commit record that begins with `revision` lies."""
        place = POSITION.pack(segment_id, offset, revision)
        txn.put(REVISION.pack(revision), place, db=self._batches)

    def batches(self, revision: int, limit: int) -> list[Position]:
        """Where the commit records that hold `revision` and those behind it lie."""
        found: list[Position] = []
        with self._begin(self._batches) as txn, txn.cursor() as cursor:
            more = cursor.set_range(REVISION.pack(revision))
            if not more or int.from_bytes(cursor.key(), "big") > revision:
                more = cursor.prev() if more else cursor.last()
                more = more or cursor.first()
            while more and len(found) < limit:
                found.append(Position(*POSITION.unpack(cursor.value())))
                more = cursor.next()
        return found

    def remove_batches(self, txn: Txn, revisions: Sequence[int]) -> None:
        """Forget commit records by their first revisions."""
        for revision in revisions:
            txn.delete(revision.to_bytes(REVISION_BYTES, "big"), db=self._batches)

    def history(self, txn: Txn | None = None) -> int:
        """The first revision from which no commit is missing."""
        return int.from_bytes(self._fact(HISTORY, txn) or b"\x01", "big")

    def set_history(self, txn: Txn, revision: int) -> None:
        """Say that commits before `revision` may be missing."""
        txn.put(HISTORY, revision.to_bytes(REVISION_BYTES, "big"), db=self._facts)

    def applied(self, txn: Txn | None = None) -> Position | None:
        """How far the log is applied; None in an empty index."""
        stored = self._fact(APPLIED, txn)
        return None if stored is None else Position(*POSITION.unpack(stored))

    def last(self, txn: Txn | None = None) -> Last | None:
        """The newest record that is applied; None in an empty index."""
        stored = self._fact(LAST, txn)
        if stored is None:
            return None
        segment_id, offset = PLACE.unpack_from(stored)
        return Last(segment_id, offset, stored[PLACE.size :])

    def set_applied(self, txn: Txn, position: Position, last: Last | None) -> None:
        """Move the position, in the transaction that applied up to it; `last` if there is a new."""
        facts = {APPLIED: POSITION.pack(*position)}
        if last is not None:
            facts[LAST] = PLACE.pack(last.segment_id, last.offset) + last.header
        txn.cursor(self._facts).putmulti(facts.items())

    def _fact(self, name: bytes, txn: Txn | None) -> bytes | None:
        if txn is not None:
            return txn.get(name, db=self._facts)
        with self._begin(self._facts) as reading:
            return reading.get(name)

    def counts(self) -> tuple[int, int]:
        """How many blobs and keys there are (keys over 500 bytes that share a beginning: one)."""
        with self._begin() as txn:
            return txn.stat(self._blobs)["entries"], txn.stat(self._keys.table)["entries"]

    def forget_dead_readers(self) -> None:
        """Let go of the pages that killed processes were reading."""
        self._environment.reader_check()

    def sync(self) -> None:
        """Make the index survive a power cut; only an orderly close needs it.

        Raises:
            FullError, UnavailableError: its disk refuses.
        """
        try:
            self._environment.sync(True)  # noqa: FBT003 - the wheel's own signature
        except lmdb.Error as error:
            raise map_error(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._environment.close()


def open_index(path: Path) -> Index:
    """Open the index in `path`, an empty one in the place of a damaged one.

    Raises:
        FullError, UnavailableError, OSError: the disk refuses.
    """
    try:
        return Index(path)
    except CorruptError:
        return renew_index(path)


def renew_index(path: Path) -> Index:
    """Begin a new index in the place of one that nobody has open."""
    shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return Index(path)


def split(stored: bytes) -> Versioned:
    """Take a key's stored value apart."""
    return Versioned(stored[STAMP_BYTES:], int.from_bytes(stored[:REVISION_BYTES], "big"))


def stored_bytes(key: bytes, stored: bytes) -> int:
    """What the write of a stored value counts for in the accounts."""
    return len(key) + len(stored) - STAMP_BYTES + WRITE_BYTES


def segment_of(stored: bytes) -> int:
    """The segment that holds the write of a stored value."""
    return int.from_bytes(stored[REVISION_BYTES:STAMP_BYTES], "big")


def map_error(error: lmdb.Error) -> FullError | UnavailableError | CorruptError:
    """Say what an error of LMDB means."""
    if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
        return FullError("the index cannot grow: the disk is full")
    if isinstance(error, DAMAGED):
        return CorruptError("the index is damaged: stop, remove the folder `index`, start again")
    return UnavailableError(f"the index refuses: {error}")
