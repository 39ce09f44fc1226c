"""Large blobs, each in a file of its own (docs/format.md, "Large blobs").

    ROOT/2c/2cf24d...9824.blob     one blob: content, chunk checksums, footer
    ROOT/tmp/71-8f3a...e1.tmp      one blob on its way in, by process 71

Bytes first, name last: a blob is written to a temporary file, synced, renamed, and its folder is
synced, all before `commit` returns. A name that is not yet synced is not shown to anyone, and
opening the store syncs what a killed process may have left between the two. The caller holds the
lock of the data directory, so whatever lies in ROOT/tmp at opening is left from a crash.

Processes of one server share the store once one of them has opened it alone: they attach. Changes
of names are then locked across processes, and a name that was made elsewhere is synced before
anything is built on it.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, NotFoundError, bare
from holdfast.core.many import open_each, put_each
from holdfast.core.seams import Buffer, Clock, Disk, Entropy
from holdfast.core.store import (
    FileRef,
    Keep,
    Moment,
    Source,
    Span,
    Traits,
    Usage,
    Verdict,
    no_such_blob,
)
from holdfast.log.staged import StoredBlob
from holdfast.stores.handles import FileSource, Handles, world
from holdfast.stores.incoming import FileSink
from holdfast.stores.layout import (
    FOLDERS,
    TEMPORARY,
    blob_path,
    digests_in,
    folders_in,
    sizes_in,
)
from holdfast.stores.locks import FolderLocks

TRAITS = Traits(durable=True, native_file=True, files=True)
LOCKS = "locks"
FAR_AHEAD_US = 1 << 62
WRITE_BACK_THREADS = 4


class FileStore:
    """The store contract over one file a blob.

    Names change under one of `_locks`, one for each folder, which the first byte of a digest
    picks. `_unsynced` holds the blobs whose names are on their way: `open`, `stat` and `scan` look
    at the disk first and at it last, so they never show a name that a power cut could undo.
    """

    def __init__(
        self, root: Path, disk: Disk, entropy: Entropy, clock: Clock, *, attached: bool = False
    ) -> None:
        """Open or create the store in `root`; needs the whole folder for itself.

        An `attached` one shares it with others of its kind, behind one that was opened alone.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        self._root = root
        self._disk = disk
        self._entropy = entropy
        self._handles = Handles(disk, clock)
        self._attached = attached
        self._unsynced: set[Digest] = set()
        self._folders: set[str] = set()
        """Folders that are there and whose own names are synced."""
        self._unsynced_folders: set[str] = set()
        """Folders of which a removed name could return."""
        self.between: Callable[[Callable[[Moment | None], None]], None] = _alone
        """Does something while nobody can commit a name for a blob of this store."""
        with world("opening the store"):
            if not attached:
                self._prepare()
            self._locks = FolderLocks(FOLDERS, root / LOCKS if attached else None, disk)
        self._pool = ThreadPoolExecutor(WRITE_BACK_THREADS, "holdfast-write-back")

    @property
    def traits(self) -> Traits:
        """Durable when `commit` returns, whatever log the name goes to; in native files."""
        return TRAITS

    def sink(self) -> FileSink:
        """Open a temporary file.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        return FileSink(self, self._temporary(), self._disk, self._pool)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store blobs one by one, each with its own syncs."""
        return put_each(self, payloads)

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> FileSource | None:
        """Open a blob; without waiting only one whose file is open already."""
        handle = self._handles.cached(digest)
        if handle is None:
            if not wait:
                return None
            handle = self._handles.open(digest, self._path(digest))
        if digest in self._unsynced:
            self._handles.release(handle)
            raise no_such_blob(digest)
        return self._handles.source(handle, span)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name the files, after a look at the footer of each."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return [self._file_ref(digest) for digest in digests]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Tell sizes from the footers; a file with a damaged one is no blob."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        sizes = ((digest, self._size_bytes(digest)) for digest in digests)
        return {digest: size_bytes for digest, size_bytes in sizes if size_bytes is not None}

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob with a sound footer; holds the names of one folder at a time."""
        first = after.hex()[:2] if after else ""
        with world("listing blobs"):
            folders = folders_in(self._root)
        for folder in folders:
            for digest in digests_in(self._root / folder) if folder >= first else ():
                if after is None or digest > after:
                    size_bytes = self._size_bytes(digest)
                    if size_bytes is not None:
                        yield BlobRef(digest, size_bytes)

    def remove(self, digests: Collection[Digest]) -> None:
        """Unlink, then sync each folder once; the space comes back with the last reader."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        for number, group in groupby(sorted(set(digests)), key=lambda digest: digest[0]):
            with world("removing blobs"), self._locks.hold(number):
                self._remove(f"{number:02x}", list(group))

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Look at each file's last change, which publishing, and finding it there, makes anew."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        verdicts: dict[Digest, Verdict] = {}
        for number, group in groupby(sorted(set(digests)), key=lambda digest: digest[0]):
            with world("removing blobs"), self._locks.hold(number):
                changes_us = {digest: self._changed_us(digest) for digest in group}
                there = {digest: at for digest, at in changes_us.items() if at is not None}
                verdicts |= dict.fromkeys(there, Verdict.YOUNG)
                old = [digest for digest, at in there.items() if at < before_us]
                verdicts |= self._expire(old, keep) if old else {}
        return verdicts

    def usage(self) -> Usage:
        """Look at the size of every file."""
        with world("counting files"):
            temporary = sizes_in(self._root / TEMPORARY)
            blobs = [
                size for name in folders_in(self._root) for size in sizes_in(self._root / name)
            ]
        return Usage(
            files=len(blobs),
            file_bytes=sum(blobs),
            temporary_files=len(temporary),
            temporary_bytes=sum(temporary),
        )

    def close(self) -> None:
        """Let go of the open files; readers keep theirs."""
        self._pool.shutdown()
        self._handles.close()
        self._locks.close()

    def publish(self, temporary: Path, digest: Digest) -> None:
        """Give a synced file its name; for FileSink alone.

        Raises:
            OSError: the disk refused; the blob is not there, unless it was before.
        """
        path = self._path(digest)
        with self._locks.hold(digest[0]):
            self._make_folder(path.parent)
            hidden = digest in self._unsynced
            replaces = path.exists() and not hidden
            if not replaces:  # else readers have either file, and verify it
                self._unsynced.add(digest)
            try:
                self._disk.rename(temporary, path)
                self._handles.drop([digest])
                self._disk.sync_directory(path.parent)
            except OSError:
                if replaces or (temporary.exists() and not hidden):
                    self._unsynced.discard(digest)  # either file is whole, and the name is durable
                elif not temporary.exists():
                    self._withdraw(digest)
                raise
            self._unsynced.discard(digest)

    def holds(self, ref: BlobRef) -> bool:
        """Whether `ref` is there, durable, and sound in every chunk; for FileSink alone."""
        try:
            source = self.open(ref.digest)
            assert source is not None
            with source:
                source.verify(Span(0, source.size_bytes))
            with self._locks.hold(ref.digest[0]):
                return self._is_kept(ref)
        except (BlobError, OSError):
            return False

    def stored(self, ref: BlobRef) -> StoredBlob:
        """What the commit has to look at that names a blob which was stored; for FileSink alone."""
        return StoredBlob(ref, self._path(ref.digest).exists)

    def _is_kept(self, ref: BlobRef) -> bool:
        """Whether `ref` is there for good, with the folder's lock held."""
        if self._size_bytes(ref.digest) != ref.size_bytes:
            return False
        if self._attached:  # a killed process may have renamed it, and no more
            folder = self._path(ref.digest).parent
            self._disk.sync_directory(folder)
            self._disk.sync_directory(folder.parent)
        self._disk.touch(self._path(ref.digest))  # an upload may be about to name it: see `expire`
        return True

    def _changed_us(self, digest: Digest) -> int | None:
        """When a file was last made or found there; None when there is none."""
        try:
            status = self._path(digest).lstat()
        except FileNotFoundError:
            return None
        return FAR_AHEAD_US if digest in self._unsynced else status.st_ctime_ns // 1000

    def _expire(self, digests: list[Digest], keep: Keep) -> dict[Digest, Verdict]:
        """Take files away while nobody can name them, with the lock of their folder held.

        The bytes of a large file take long to go, so they go afterwards.
        """
        verdicts: dict[Digest, Verdict] = {}
        taken: dict[Digest, Path] = {}

        def act(moment: Moment | None) -> None:
            with world("removing blobs"):
                for digest in digests:
                    if digest in taken:
                        continue
                    verdicts[digest] = Verdict.KEPT
                    if not keep(digest, moment):
                        taken[digest] = self._take(digest)
                        verdicts[digest] = Verdict.REMOVED

        try:
            self.between(act)
        finally:
            self._handles.drop(taken)
            self._sync_removed(digests[0].hex()[:2])
            for path in taken.values():
                self._disk.unlink(path)
        return verdicts

    def _take(self, digest: Digest) -> Path:
        """Move a file to where the next opening would remove it."""
        path = self._temporary()
        self._disk.rename(self._path(digest), path)
        self._unsynced_folders.add(digest.hex()[:2])
        return path

    def _prepare(self) -> None:
        self._disk.make_directory(self._root / TEMPORARY)
        for name in os.listdir(self._root / TEMPORARY):  # noqa: PTH208 - names are all we need
            self._disk.unlink(self._root / TEMPORARY / name)
        folders = folders_in(self._root)
        for name in folders:
            self._disk.sync_directory(self._root / name)
        self._disk.sync_directory(self._root)
        self._folders.update(folders)

    def _temporary(self) -> Path:
        name = f"{os.getpid()}-{self._entropy.random_bytes(16).hex()}.tmp"
        return self._root / TEMPORARY / name

    def _path(self, digest: Digest) -> Path:
        return blob_path(self._root, digest)

    def _file_ref(self, digest: Digest) -> FileRef | BlobError:
        path = self._path(digest)
        try:
            size_bytes = self._handles.probe(digest, path).ref.size_bytes
        except BlobError as error:
            return bare(error)
        if digest in self._unsynced:
            return no_such_blob(digest)
        return FileRef(path, 0, size_bytes)

    def _size_bytes(self, digest: Digest) -> int | None:
        """Size by a sound footer; None for what is damaged too, so that it is stored again."""
        try:
            size_bytes = self._handles.peek(digest, self._path(digest)).ref.size_bytes
        except (NotFoundError, CorruptError):
            return None
        return None if digest in self._unsynced else size_bytes

    def _make_folder(self, folder: Path) -> None:
        if folder.name not in self._folders:
            self._disk.make_directory(folder)
            self._folders.add(folder.name)

    def _withdraw(self, digest: Digest) -> None:
        """Undo a rename that could not be made durable; what cannot be undone stays hidden."""
        with suppress(OSError):
            self._remove(digest.hex()[:2], [digest])

    def _remove(self, folder: str, digests: list[Digest]) -> None:
        """Unlink and sync, with the folder's lock held."""
        try:
            for digest in digests:
                self._unlink(folder, digest)
        finally:
            self._handles.drop(digests)
        self._sync_removed(folder)

    def _sync_removed(self, folder: str) -> None:
        if folder in self._unsynced_folders:
            self._disk.sync_directory(self._root / folder)
            self._unsynced_folders.discard(folder)

    def _unlink(self, folder: str, digest: Digest) -> None:
        try:
            self._disk.unlink(self._path(digest))
        except FileNotFoundError:
            pass
        else:
            self._unsynced_folders.add(folder)
        self._unsynced.discard(digest)


def _alone(act: Callable[[Moment | None], None]) -> None:
    """Without a log of names there is nobody else."""
    act(None)
