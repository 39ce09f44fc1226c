"""A store in SQLite as a medium: each shard is a region, whose blobs are read and hashed.

A blob is sound when its chunks fit their checksums and its content its SHA-256. What is read comes
through the page cache, for no second descriptor of a database may be opened (shards/connection):
rot that the page cache hides is found once it is gone from there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.errors import BlobError, CorruptError, NotFoundError, UnsupportedError
from holdfast.core.inspection import Finding, Place, Region, Seen
from holdfast.core.limits import ROW_BYTES_MAX
from holdfast.core.verify import check_content
from holdfast.shards.connection import world
from holdfast.shards.rows import BLOB, NUMBERS, likely_blob, place_of, read_blob
from holdfast.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

    from holdfast.core.seams import Buffer
    from holdfast.core.store import Source
    from holdfast.shards.rows import Blob
    from holdfast.shards.shards import Shards

    Check = Callable[[Digest, Source], Iterator[int]]

POSITION_BYTES = 7
END = 1 << 8 * POSITION_BYTES


class ShardMedium:
    """The blobs of open shards; positions are the beginnings of digests."""

    def __init__(self, shards: Shards, check: Check = check_content) -> None:
        self._shards = shards
        self._store = SqliteStore(shards)
        self._check = check

    def regions(self) -> list[Region]:
        """The shards."""
        return [
            Region(shard.path.name, self._shards.file_bytes(shard)) for shard in self._shards.shards
        ]

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Read the blobs of a shard in the order of their digests, a chunk at a time."""
        del wanted  # each is in one place, which `copies` finds
        try:
            yield from self._blobs(self._number(region), start)
        except CorruptError as error:  # pages that cannot be followed
            yield Seen(END, 0, findings=(Finding("record", region, error.message),))
        yield Seen(END, 0)

    def place(self, digest: Digest) -> Place | None:
        """The shard with the row, and when the blob was stored."""
        number = self._shards.routing.digest(digest)
        region = self._shards.shards[number].path.name
        try:
            blob = self._find(digest)
        except CorruptError:
            return Place(region, _position(digest), 0)
        return None if blob is None else Place(region, _position(digest), blob.stored_us)

    def is_sound(self, digest: Digest) -> bool:
        """Read the blob to its end."""
        try:
            return all(size_bytes >= 0 for size_bytes in self._content(digest))
        except BlobError:
            return False

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """The chunks of the blob, whatever their checksums say, and that of its row."""
        del size_bytes
        number = self._shards.routing.digest(digest)
        try:
            stored = self._shards.reading.unproved(number, BLOB + digest)
        except CorruptError:
            return
        blob = None if stored is None else likely_blob(BLOB + digest, stored)
        if blob is not None and blob.home < self._shards.routing.count:
            yield self._raw(blob)

    def forget(self, digest: Digest) -> None:
        """Do nothing: nobody keeps a blob between two readings."""

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Write what is left to a file, then remove the blob."""
        disk = self._shards.disk
        with world("setting a blob aside in", quarantine.name):
            disk.make_directory(quarantine)
            for chunks in self.copies(digest, None):
                self._save(chunks, quarantine / f"{digest.file_name}.blob")
            disk.sync_directory(quarantine)
        self._shards.submit(lambda epoch: epoch.drop_blob(digest), 0, frees=True).result()

    def _blobs(self, number: int, start: int) -> Iterator[Seen]:
        after = (
            b""
            if start == 0
            else (start - 1).to_bytes(POSITION_BYTES, "big")
            + b"\xff" * (DIGEST_BYTES - POSITION_BYTES)
        )
        while page := self._shards.reading.blobs(number, after):
            for key, row in page:
                if row is not None:
                    yield from self._blob(Digest(key))
                elif len(key) == DIGEST_BYTES:  # else it is nobody's: shards/checking
                    yield self._damage(Digest(key), "the row of the blob is damaged")
            after = page[-1][0]

    def _save(self, chunks: Iterator[Buffer], path: Path) -> None:
        disk, at = self._shards.disk, 0
        descriptor = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for chunk in chunks:
                at += disk.pwrite_all(descriptor, (chunk,), at)
            disk.sync(descriptor)
        finally:
            disk.close(descriptor)

    def _number(self, region: str) -> int:
        names = [shard.path.name for shard in self._shards.shards]
        return names.index(region)

    def _find(self, digest: Digest) -> Blob | None:
        row = self._shards.reading.row(self._shards.routing.digest(digest), BLOB + digest)
        return None if row is None else read_blob(row.value)

    def _blob(self, digest: Digest) -> Iterator[Seen]:
        try:
            for size_bytes in self._content(digest):
                yield Seen(_position(digest), size_bytes)
        except NotFoundError:
            return
        except (CorruptError, UnsupportedError) as error:
            yield self._damage(digest, error.message)
        else:
            yield Seen(_position(digest), 0, 1)

    def _damage(self, digest: Digest, why: str) -> Seen:
        finding = Finding("blob", str(digest), why, str(digest), self.place(digest))
        return Seen(_position(digest), 0, findings=(finding,))

    def _content(self, digest: Digest) -> Iterator[int]:
        """Yield sizes of verified chunks, and fail at the end unless they are the blob."""
        source = self._store.open(digest)
        assert source is not None
        with source:
            yield from self._check(digest, source)

    def _raw(self, blob: Blob) -> Iterator[Buffer]:
        for number in range(min(NUMBERS, -(-blob.size_bytes // ROW_BYTES_MAX))):
            chunk = self._shards.reading.raw_chunk(blob.home, place_of(blob.id, number))
            if not chunk:
                return
            yield chunk


def _position(digest: Digest) -> int:
    return int.from_bytes(digest[:POSITION_BYTES], "big")
