"""A large blob on its way into a store of files: a temporary file and its growing checksums.

The disk is set to work early, so that the sync at the end has little left to do.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core.closing import Closing
from holdfast.core.errors import BlobError
from holdfast.core.limits import MIB
from holdfast.core.pending import Promise
from holdfast.log.staged import StoredBlob
from holdfast.stores.footer import Checksums, pack
from holdfast.stores.handles import blob_error, world

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from holdfast.core.digest import BlobRef
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer, Disk
    from holdfast.stores.files import FileStore

TEMPORARY_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL
WRITE_BACK_BYTES = 16 * MIB  # unsynced bytes of one sink before the disk is set to work


class FileSink(Closing):
    """One blob on its way into a FileStore: a temporary file and its growing checksums."""

    def __init__(self, store: FileStore, path: Path, disk: Disk, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._path = path
        self._disk = disk
        self._pool = pool
        self._checksums = Checksums()
        self._synced_bytes = 0
        self._syncing: Future[None] | None = None
        self._descriptor: int | None = self._create()

    def write(self, chunk: Buffer) -> None:
        """Write and checksum the next bytes; from time to time set the disk to work early."""
        assert self._descriptor is not None
        view = memoryview(chunk)
        try:
            self._disk.pwrite_all(self._descriptor, (view,), self._checksums.size_bytes)
            self._checksums.update(view)
            if self._checksums.size_bytes - self._synced_bytes >= WRITE_BACK_BYTES:
                self._start_write_back(self._descriptor)
        except OSError as error:
            self.close()  # the kernel reports a lost write once: nothing may be committed now
            raise blob_error("writing a blob", error) from error

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Make the blob appear; it is durable when this returns, and the future has ended."""
        assert self._descriptor is not None
        assert ref.size_bytes == self._checksums.size_bytes
        done: Promise[None] = Promise()
        try:
            if not self._store.holds(ref):
                with world("committing a blob"):
                    self._finish(self._descriptor, ref)
        except BlobError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        finally:
            self.close()
        return done

    def stage(self, ref: BlobRef) -> StoredBlob:
        """Make the blob appear, for a file cannot wait for a commit."""
        self.commit(ref).result()
        return self._store.stored(ref)

    def close(self) -> None:
        """Discard unless committed; what cannot be removed is swept when the store opens."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with suppress(OSError):
            self._await_write_back()
        with suppress(OSError):
            self._disk.close(descriptor)
        with suppress(OSError):
            self._disk.unlink(self._path)

    def _create(self) -> int:
        try:
            return self._disk.open(self._path, TEMPORARY_FLAGS)
        except OSError as error:
            with suppress(OSError):
                self._disk.unlink(self._path)
            raise blob_error("opening a blob for writing", error) from error

    def _start_write_back(self, descriptor: int) -> None:
        """Sync in a thread while the caller goes on; at most one sync of a sink at a time."""
        self._await_write_back()
        self._synced_bytes = self._checksums.size_bytes
        self._syncing = self._pool.submit(self._disk.sync_data, descriptor)

    def _await_write_back(self) -> None:
        """Wait, since the kernel reports a lost write to one sync only."""
        syncing, self._syncing = self._syncing, None
        if syncing is not None:
            syncing.result()

    def _finish(self, descriptor: int, ref: BlobRef) -> None:
        tail = pack(ref, self._checksums.finish())
        self._disk.pwrite_all(descriptor, (tail,), ref.size_bytes)
        self._await_write_back()
        self._disk.sync(descriptor)
        self._store.publish(self._path, ref.digest)
