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
from typing import TYPE_CHECKING, TypeVar

from holdfast.core import limits
from holdfast.core.errors import ConflictError, CorruptError, UnsupportedError
from holdfast.core.many import cut, paged
from holdfast.core.marker import NAME, UNFINISHED, check_apart, replace_file
from holdfast.core.progress import Phase
from holdfast.core.seams import Disk
from holdfast.depot.dictionaries import DICTIONARIES
from holdfast.depot.large import COLD, place_of
from holdfast.depot.moving import check_open
from holdfast.depot.sharded import LAYOUT
from holdfast.shards.folder import Shape
from holdfast.shards.rows import read_blob
from holdfast.shards.shards import Options, Shards
from holdfast.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from holdfast.core.digest import BlobRef
    from holdfast.core.store import Source
    from holdfast.shards.epoch import Epoch
    from holdfast.shards.rows import Change, Row

T = TypeVar("T", bound=bytes)

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
        self._total_bytes = 0
        self.copied = Copied()

    def run(self) -> Generator[Phase]:
        """Copy, and verify if that is wanted; say behind each step how far it is.

        Raises:
            UnsupportedError: some of its blobs lie elsewhere.
            InvalidError: both folders are the same, or one is in the other.
            ConflictError: the new one has another store, or this one already, or was begun with
                other shards; or the old one was moved, or went back in time.
            CorruptError: something of the old store is damaged, or the copy differs from it.
            UnavailableError: a store is in use, or the disk refuses.
        """
        check_apart(self._old, self._new, "NEW")
        if url := place_of(self._old, COLD):
            raise UnsupportedError(f"old blobs of {self._old} lie in {url}: use `holdfast migrate`")
        with Shards(self._old, options=Options(Shape(layout=LAYOUT))) as old:
            check_open(self._old)
            self._begin(old)
            with Shards(self._new, options=Options(self._new_shape())) as new:
                self._check_begun(old, new)
                self.copied.shards = new.routing.count
                yield from self._copy_blobs(old, new)
                _forget(old, new)
                yield from self._copy_keys(old, new)
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
                raise ConflictError(
                    f"{self._new} is not empty, and nothing in it is written over: name a folder"
                    " that is not there"
                )
            self._write(marker, old.id.encode())
        elif marker.read_bytes() != old.id.encode():
            raise ConflictError(
                f"{self._new} is the unfinished copy of another store: finish that, or remove"
                f" {self._new} to give it up"
            )
        for path in (path for name in BESIDE for path in self._old.glob(name)):
            self._write(self._new / path.relative_to(self._old), path.read_bytes())

    def _new_shape(self) -> Shape:
        """What is asked for, unless an earlier try has made the shards."""
        return Shape(layout=LAYOUT) if (self._new / NAME).exists() else self._shape

    def _check_begun(self, old: Shards, new: Shards) -> None:
        """Hold the copy that an earlier try has begun to what is asked now.

        Raises:
            ConflictError: it has other shards, or more commits than the old store.
        """
        begun = Shape(new.routing.count, new.routing.hash_name)
        asked = Shape(self._shape.shards or begun.shards, self._shape.hash_name or begun.hash_name)
        if begun != asked:
            raise ConflictError(
                f"{self._new} is an unfinished copy in {_files(begun)}, and {_files(asked)} were"
                f" asked for: finish it with `holdfast reshard {self._old} {self._new} --shards"
                f" {begun.shards} --hash {begun.hash_name}`, or remove {self._new} to begin anew"
            )
        if new.revision > old.revision:
            raise ConflictError(
                f"{self._new} is an unfinished copy of a newer state of {self._old}, which was put"
                f" back from a backup since: remove {self._new} to begin anew"
            )

    def _finish(self) -> None:
        """Let everybody open the new store."""
        self._disk.unlink(self._new / UNFINISHED)
        self._disk.sync_directory(self._new)

    def _write(self, path: Path, content: bytes) -> None:
        self._disk.make_directory(path.parent)
        replace_file(path, content, self._disk)

    def _copy_blobs(self, old: Shards, new: Shards) -> Iterator[Phase]:
        self._total_bytes = _measure(old)
        source, target = SqliteStore(old), SqliteStore(new)
        spared_bytes = 0
        for page in paged(source.scan()):
            there = target.stat([ref.digest for ref in page])
            self.copied.found += len(there)
            spared_bytes += sum(there.values())
            for ref in page:
                if ref.digest not in there:
                    self._copy_blob(source, target, ref)
                self.copied.blobs += 1
                self.copied.blob_bytes += ref.size_bytes
                done = self.copied.blob_bytes
                yield Phase("copying", done, self._total_bytes, spared=spared_bytes)

    def _copy_blob(self, source: SqliteStore, target: SqliteStore, ref: BlobRef) -> None:
        with _whole(source, ref) as opened, target.sink() as sink:
            while chunk := opened.read(limits.CHUNK_BYTES):
                for part in cut(chunk):
                    sink.write(part)
            sink.commit(ref).result()

    def _copy_keys(self, old: Shards, new: Shards) -> Iterator[Phase]:
        total = sum(shard.state.keys for shard in old.shards)
        for page in _pages(old):
            new.submit(partial(_restore, page, ()), 0).result()
            self.copied.keys += len(page)
            yield Phase("naming", self.copied.keys, total, "rows")

    def _copy_history(self, old: Shards, new: Shards) -> None:
        for first in range(old.planner.oldest, old.revision + 1, WINDOW_REVISIONS):
            changes = old.reading.changes(first, first + WINDOW_REVISIONS)
            new.submit(partial(_restore, (), changes), 0).result()

    def _end(self, old: Shards, new: Shards) -> None:
        revision, oldest = old.revision, old.planner.oldest
        if new.revision < revision:
            new.submit(lambda epoch: epoch.adopt(revision, oldest), 0).result()

    def _compare(self, old: Shards, new: Shards) -> Iterator[Phase]:
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
            yield Phase("verifying", done, self._total_bytes)


def _files(shape: Shape) -> str:
    return f"{shape.shards} files by {shape.hash_name}"


def _measure(shards: Shards) -> int:
    """Add up the bytes of all blobs; none is left out because nobody can read where it is.

    Raises:
        CorruptError: the row of one is damaged.
    """
    size_bytes = 0
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
                size_bytes += read_blob(row.value).size_bytes
            after = page[-1][0]
    return size_bytes


def _forget(old: Shards, new: Shards) -> None:
    """Remove what an earlier try has copied, and the old store has lost since."""
    keys = _only_in(_keys(new), _keys(old))
    for page in paged(keys):
        new.submit(partial(_restore, [(key, None) for key in page], ()), 0).result()
    source, target = SqliteStore(old), SqliteStore(new)
    blobs = _only_in((ref.digest for ref in target.scan()), (ref.digest for ref in source.scan()))
    for digests in paged(blobs):
        target.remove(digests)


def _only_in(some: Iterator[T], others: Iterator[T]) -> Iterator[T]:
    """What is in one iterator and not in the other; both are in order."""
    other = next(others, None)
    for one in some:
        while other is not None and other < one:
            other = next(others, None)
        if other != one:
            yield one


def _keys(shards: Shards) -> Iterator[bytes]:
    return (key for page in _pages(shards) for key, _ in page)


def _pages(shards: Shards) -> Iterator[list[tuple[bytes, Row]]]:
    """All keys and their rows, in order."""
    start = b""
    while page := shards.reading.keys(start, LAST, limits.BATCH_REFS_MAX, reverse=False):
        yield page
        start = page[-1][0] + b"\x00"


def _restore(
    rows: Sequence[tuple[bytes, Row | None]], changes: Sequence[Change], epoch: Epoch
) -> None:
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
