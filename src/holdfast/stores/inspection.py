"""A store of files as a medium: each of its 256 folders is a region, read past the page cache.

A blob is sound when its footer and every chunk fit their checksums, and its content its SHA-256.
Also what `Store.scan` does not show is looked at: files whose footer is damaged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from holdfast.core.errors import (
    BlobError,
    UnavailableError,
)
from holdfast.core.fresh import WHOLE_FILE, FreshDisk
from holdfast.core.inspection import Place, Region, Seen
from holdfast.core.limits import CHUNK_BYTES
from holdfast.core.verify import check_content
from holdfast.stores.folders import END, judge, position_of
from holdfast.stores.footer import content_bytes
from holdfast.stores.handles import READ_FLAGS, Handles, blob_error, world
from holdfast.stores.layout import FOLDER, blob_path, digests_in

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.seams import Buffer, Clock, Disk
    from holdfast.core.store import Source

    Check = Callable[[Digest, Source], Iterator[int]]

CTIME_SLACK_US = 20_000  # the kernel stamps files by a clock that ticks; man 7 time


class FileMedium:
    """The folders of the store in `root`; positions are the beginnings of digests."""

    def __init__(
        self,
        root: Path,
        disk: Disk,
        clock: Clock,
        check: Check = check_content,
        *,
        name: str = "",
        aside: Path | None = None,
    ) -> None:
        """Call it `name`, else by its folder, and set damage `aside` where that is on its disk."""
        self._root = root
        self._medium = name or root.name
        self._aside = aside
        self._disk = disk
        self._clock = clock
        self._check = check

    def regions(self) -> list[Region]:
        """The folders."""
        try:
            names = os.listdir(self._root)  # noqa: PTH208 - names are all we need
        except OSError as error:
            raise blob_error("listing blobs", error) from error
        return [Region(self._name(name), None) for name in sorted(names) if FOLDER.fullmatch(name)]

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Read the blobs of a folder in the order of their digests, a chunk at a time."""
        del wanted  # they have one file each, which `copies` finds
        disk = FreshDisk(self._disk)
        handles = Handles(disk, self._clock)
        try:
            for digest in digests_in(self._root / region.rpartition("/")[2]):
                if position_of(digest) >= start:
                    yield from judge(digest, self._content(handles, digest), self.place)
        finally:
            handles.close()
        yield Seen(END, 0)

    def place(self, digest: Digest) -> Place | None:
        """The file, and when it was last put there."""
        path = blob_path(self._root, digest)
        try:
            status = path.stat()
        except OSError:
            return None
        since_us = status.st_ctime_ns // 1000 + CTIME_SLACK_US
        return Place(self._name(path.parent.name), position_of(digest), since_us)

    def is_sound(self, digest: Digest) -> bool:
        """Read the file to its end."""
        handles = Handles(FreshDisk(self._disk), self._clock)
        try:
            for _ in self._content(handles, digest):
                pass
        except BlobError:
            return False
        finally:
            handles.close()
        return True

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """The content of the blob's file, as the page cache has it, whatever its footer says."""
        try:
            descriptor = self._disk.open(blob_path(self._root, digest), READ_FLAGS)
        except OSError:
            return
        try:
            file_bytes = os.fstat(descriptor).st_size
            content = content_bytes(file_bytes) if size_bytes is None else size_bytes
            if content is not None and content <= file_bytes:
                yield self._chunks(descriptor, content)
        finally:
            self._disk.close(descriptor)

    def forget(self, digest: Digest) -> None:
        """Drop the file from the page cache."""
        try:
            descriptor = self._disk.open(blob_path(self._root, digest), READ_FLAGS)
        except OSError:
            return
        try:
            self._disk.forget(descriptor, 0, WHOLE_FILE)
        finally:
            self._disk.close(descriptor)

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Move the file."""
        path = blob_path(self._root, digest)
        quarantine = self._aside or quarantine
        with world("setting a blob aside"):
            self._disk.make_directory(quarantine)
            try:
                self._disk.rename(path, quarantine / path.name)
            except FileNotFoundError:
                return
            self._disk.sync_directory(quarantine)
            self._disk.sync_directory(path.parent)

    def _name(self, folder: str) -> str:
        return f"{self._medium}/{folder}"

    def _content(self, handles: Handles, digest: Digest) -> Iterator[int]:
        """Yield sizes of verified chunks, and fail at the end unless they are the blob."""
        handle = handles.open(digest, blob_path(self._root, digest))
        try:
            yield from self._check(digest, handles.source(handle, None))
        finally:
            handles.drop([digest])

    def _chunks(self, descriptor: int, size_bytes: int) -> Iterator[Buffer]:
        for offset in range(0, size_bytes, CHUNK_BYTES):
            try:
                yield self._disk.pread(descriptor, min(CHUNK_BYTES, size_bytes - offset), offset)
            except OSError as error:
                raise UnavailableError(f"cannot read a blob: {error.strerror}") from error
