"""Reshard: a copy of a store in SQLite that has another number of shards, or another hash.

The old store is only read, and nobody may have it open. Blobs are copied first, then keys with
their revisions and the history of events, so that the copy is the same store to whoever opens it.
While it is being made, its folder says so and nobody opens it; what was copied before a crash or a
Ctrl-C is found there by the next try. Verifying reads both stores and compares every key and byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import ConflictError, CorruptError, UnsupportedError
from holdfast.core.many import cut, paged
from holdfast.core.marker import UNFINISHED, check_apart, replace_file
from holdfast.core.seams import Disk
from holdfast.depot.dictionaries import DICTIONARIES
from holdfast.depot.large import COLD, place_of
from holdfast.depot.moving import check_open
from holdfast.depot.sharded import LAYOUT
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.core.digest import BlobRef
    from holdfast.core.store import Source
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.rows import Change, Row

LAST = b"\xff" * (limits.KV_KEY_BYTES_MAX + 1)
WINDOW_REVISIONS = 1000
BESIDE = ("wrappers", "keyring", f"{DICTIONARIES}/*[0-9a-f]")
"""Files of the folder that say how its blobs are to be read."""


@dataclass(slots=True)
class Copied:
    """What was done."""

    shards: int = 0
    keys: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    found: int = 0
    """Blobs that an earlier try had copied."""
    verified: bool = False


class Reshard:
    """Copies the store in one folder to another; for one thread."""

    def __init__(self, old: Path, new: Path, shape: Shape, *, verify: bool = False) -> None:
        self._old = old
        self._new = new
        self._shape = shape._replace(layout=LAYOUT)
        self._verify = verify
        self._disk = Disk()
        self.copied = Copied()

    def run(self) -> Iterator[int]:
        """Copy, and verify if that is wanted; yield how many bytes of blobs were read so far.

        Raises:
            UnsupportedError: some of its blobs lie elsewhere.
            InvalidError: both folders are the same, or one is in the other.
            ConflictError: the new one has another store, or this one already; or the old one was
                moved.
            CorruptError: something of the old store is damaged, or the copy differs from it.
            UnavailableError: a store is in use, or the disk refuses.
        """
        check_apart(self._old, self._new, "NEW")
        if url := place_of(self._old, COLD):
            raise UnsupportedError(f"old blobs of {self._old} lie in {url}: use `holdfast migrate`")
        with Shards(self._old, options=Options(Shape(layout=LAYOUT))) as old:
            check_open(self._old)
            self._begin(old)
            with Shards(self._new, options=Options(self._shape)) as new:
                self.copied.shards = new.routing.count
                yield from self._copy_blobs(old, new)
                self._copy_keys(old, new)
                self._copy_history(old, new)
                self._end(old, new)
                if self._verify:
                    yield from self._compare(old, new)
                    self.copied.verified = True
            self._finish()

    def _begin(self, old: Shards) -> None:
        """Say in the new folder what it is going to be."""
        self._disk.make_directory(self._new)
        marker = self._new / UNFINISHED
        if not marker.exists():
            if {path.name for path in self._new.iterdir()} - {f"{UNFINISHED}.new"}:
                raise ConflictError(f"{self._new} is not empty")
            self._write(marker, old.id.encode())
        elif marker.read_text() != old.id:
            raise ConflictError(f"{self._new} is going to be a copy of another store")
        for path in (path for name in BESIDE for path in self._old.glob(name)):
            self._write(self._new / path.relative_to(self._old), path.read_bytes())

    def _finish(self) -> None:
        """Let everybody open the new store."""
        self._disk.unlink(self._new / UNFINISHED)
        self._disk.sync_directory(self._new)

    def _write(self, path: Path, content: bytes) -> None:
        self._disk.make_directory(path.parent)
        replace_file(path, content, self._disk)

    def _copy_blobs(self, old: Shards, new: Shards) -> Iterator[int]:
        _check_rows(old)
        source, target = SqliteStore(old), SqliteStore(new)
        for page in paged(source.scan()):
            there = target.stat([ref.digest for ref in page])
            self.copied.found += len(there)
            for ref in page:
                if ref.digest not in there:
                    self._copy_blob(source, target, ref)
                self.copied.blobs += 1
                self.copied.blob_bytes += ref.size_bytes
                yield self.copied.blob_bytes

    def _copy_blob(self, source: SqliteStore, target: SqliteStore, ref: BlobRef) -> None:
        with _whole(source, ref) as opened, target.sink() as sink:
            while chunk := opened.read(limits.CHUNK_BYTES):
                for part in cut(chunk):
                    sink.write(part)
            sink.commit(ref).result()

    def _copy_keys(self, old: Shards, new: Shards) -> None:
        start = b""
        while page := old.reading.keys(start, LAST, limits.BATCH_REFS_MAX, reverse=False):
            new.submit(partial(_restore, page, ()), 0).result()
            self.copied.keys += len(page)
            start = page[-1][0] + b"\x00"

    def _copy_history(self, old: Shards, new: Shards) -> None:
        for first in range(old.planner.oldest, old.revision + 1, WINDOW_REVISIONS):
            changes = old.reading.changes(first, first + WINDOW_REVISIONS)
            new.submit(partial(_restore, (), changes), 0).result()

    def _end(self, old: Shards, new: Shards) -> None:
        revision, oldest = old.revision, old.planner.oldest
        if new.revision < revision:
            new.submit(lambda epoch: epoch.adopt(revision, oldest), 0).result()

    def _compare(self, old: Shards, new: Shards) -> Iterator[int]:
        """Read both stores and hold the copy to the original.

        Raises:
            CorruptError: they differ.
        """
        if (old.revision, old.planner.oldest) != (new.revision, new.planner.oldest):
            raise CorruptError("the copy has another newest or oldest revision")
        start = b""
        while page := old.reading.keys(start, LAST, limits.BATCH_REFS_MAX, reverse=False):
            if page != new.reading.keys(start, LAST, limits.BATCH_REFS_MAX, reverse=False):
                raise CorruptError("a key of the copy differs", start=start.hex())
            start = page[-1][0] + b"\x00"
        if new.reading.keys(start, LAST, 1, reverse=False):
            raise CorruptError("the copy has a key that the old store has not")
        source, target, done = SqliteStore(old), SqliteStore(new), 0
        for one, other in zip_longest(source.scan(), target.scan()):
            if one is None or one != other:
                raise CorruptError("the copy has other blobs", blob=str(one or other))
            _compare_bytes(_whole(source, one), _whole(target, one), one)
            done += one.size_bytes
            yield done


def _check_rows(shards: Shards) -> None:
    """See to it that no blob is left out because nobody can read where it is.

    Raises:
        CorruptError: the row of one is damaged.
    """
    for shard in shards.shards:
        after = b""
        while page := shards.reading.blobs(shard.number, after):
            for key, row in page:
                if row is None:
                    raise CorruptError(
                        f"the row of a blob in {shard.path.name} is damaged: `holdfast fsck"
                        " --repair` mends it, or names it",
                        digest=key.hex(),
                    )
            after = page[-1][0]


def _restore(rows: Sequence[tuple[bytes, Row]], changes: Sequence[Change], epoch: Epoch) -> None:
    epoch.restore(rows, changes)


def _whole(store: SqliteStore, ref: BlobRef) -> Source:
    source = store.open(ref.digest)
    assert source is not None
    return source


def _compare_bytes(one: Source, other: Source, ref: BlobRef) -> None:
    with one, other:
        while chunk := one.read(limits.ROW_BYTES_MAX):
            if chunk != other.read(limits.ROW_BYTES_MAX):
                raise CorruptError("a blob of the copy differs", digest=str(ref.digest))
