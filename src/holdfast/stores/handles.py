"""Open files of large blobs, kept open for the next reader, and the sources that read them.

A handle is an open descriptor, its parsed footer, and the memory of which chunks were verified
and when. That memory holds for an hour, and only while the page cache still has the chunk and
nobody has written to the file: what comes from the disk again is verified again.

The cache holds one reference to each handle and every reader one more; the descriptor is closed
when the last is given back, so that nobody's descriptor is ever closed under him.
"""

import errno
import os
import stat
import threading
from array import array
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    FullError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.limits import CHUNK_BYTES, KIB
from holdfast.core.seams import Buffer, Clock, Disk
from holdfast.core.store import NativeFile, Span, clamp, no_such_blob
from holdfast.stores.footer import Footer, chunk_count, content_bytes, tail_bytes, unpack

INLINE_CHUNKS_MAX = 1  # verified by one call that may not wait: about 0.2 ms
STEP_BYTES = 64 * KIB
NEVER_S = float("-inf")
READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK  # so that a named pipe in a blob's place cannot hang us
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def world(what: str) -> Iterator[None]:
    """Turn the kernel's errors into ours: the one place that knows both.

    Raises:
        FullError, CorruptError, UnavailableError: by the kernel's number.
    """
    try:
        yield
    except OSError as error:
        raise blob_error(what, error) from error


def blob_error(what: str, error: OSError) -> BlobError:
    """Say in our words what the kernel said about `what`."""
    reason = f"{what}: {error.strerror}"
    if error.errno in FULL:
        return FullError(reason)
    if error.errno == errno.ELOOP:
        return CorruptError(f"{what}: not a regular file")
    return UnavailableError(reason)


class Handle:
    """One open file; its cache owns `users`, everything else may be used from any thread."""

    __slots__ = ("_clock", "_disk", "_state", "_verified_s", "descriptor", "footer", "users")

    def __init__(self, descriptor: int, footer: Footer, disk: Disk, clock: Clock) -> None:
        self.descriptor = descriptor
        self.footer = footer
        self.users = 0
        self._disk = disk
        self._clock = clock
        self._state = (0, 0, 0)
        self._verified_s = array("d", [NEVER_S]) * chunk_count(footer.ref.size_bytes)

    def chunk(self, number: int) -> bytes:
        """Read and verify one chunk.

        Raises:
            CorruptError: the stored bytes are not those that were written.
            UnavailableError: the disk refuses.
        """
        offset = number * CHUNK_BYTES
        size_bytes = min(CHUNK_BYTES, self.footer.ref.size_bytes - offset)
        with world("reading a blob"):
            data = self._disk.pread(self.descriptor, size_bytes, offset)
        self._compare(number, xxhash.xxh3_64_intdigest(data))
        return data

    def verify(self, first: int, end: int, *, wait: bool = True) -> bool:
        """Verify the chunks from `first` up to `end`, but for those that are known to be sound.

        When it returns, the page cache holds them all. Without waiting it reads what is there
        already, and at most `INLINE_CHUNKS_MAX`.

        Raises:
            CorruptError: one of them is damaged.
            UnavailableError: the disk refuses.
        """
        now_s = self._clock.monotonic_s()
        inline = INLINE_CHUNKS_MAX
        self._forget_if_written()
        for number in range(first, end):
            if self._is_sound(number, now_s):
                continue
            if not wait and inline == 0:
                return False
            inline -= 1
            checksum = self._checksum(number, wait=wait)
            if checksum is None:
                return False
            self._compare(number, checksum)
            self._verified_s[number] = now_s
        return True

    def _forget_if_written(self) -> None:
        """Forget what was verified before somebody touched the file."""
        status = os.fstat(self.descriptor)
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if state != self._state:
            self._verified_s = array("d", [NEVER_S]) * len(self._verified_s)
            self._state = state

    def _is_sound(self, number: int, now_s: float) -> bool:
        """Whether a chunk was verified lately and its last byte, at least, is still in memory."""
        if self._verified_s[number] <= now_s - limits.VERIFY_AGAIN_S:
            return False
        last = min((number + 1) * CHUNK_BYTES, self.footer.ref.size_bytes) - 1
        return self._disk.is_cached(self.descriptor, last)

    def _checksum(self, number: int, *, wait: bool) -> int | None:
        """Read a chunk in steps small enough to stay in the processor's cache."""
        offset = number * CHUNK_BYTES
        end = min(offset + CHUNK_BYTES, self.footer.ref.size_bytes)
        read = self._disk.pread if wait else self._disk.pread_cached
        checksum = xxhash.xxh3_64()
        for start in range(offset, end, STEP_BYTES):
            with world("reading a blob"):
                data = read(self.descriptor, min(STEP_BYTES, end - start), start)
            if data is None:
                return None
            checksum.update(data)
        return checksum.intdigest()

    def _compare(self, number: int, checksum: int) -> None:
        if checksum != self.footer.checksum(number):
            self._verified_s[number] = NEVER_S
            offset = number * CHUNK_BYTES
            raise CorruptError(
                "a chunk is damaged", digest=str(self.footer.ref.digest), offset=offset
            )


class Handles:
    """The open files of one store. `_lock` guards the cache and every count of users."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._clock = clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[Digest, Handle] = OrderedDict()
        self._drops = 0
        """Counts calls of `drop`: a file opened before one must not enter the cache after it."""

    def cached(self, digest: Digest) -> Handle | None:
        """Take a reference to the handle, if there is one; never waits for a disk.

        One whose file lost its name, in whatever process, is forgotten.
        """
        with self._lock:
            handle = self._cache.get(digest)
            if handle is None:
                return None
            if os.fstat(handle.descriptor).st_nlink:
                handle.users += 1
                self._cache.move_to_end(digest)
                return handle
        self.drop([digest])
        return None

    def open(self, digest: Digest, path: Path) -> Handle:
        """Take a reference, opening and checking the file first where needed.

        Raises:
            NotFoundError: no such file.
            CorruptError: not the file of this blob.
            UnavailableError: the disk refuses.
        """
        handle = self.cached(digest)
        if handle is not None:
            return handle
        drops = self._drops
        handle = self._load(digest, path)
        handle.users = 1
        with self._lock:
            if drops == self._drops and digest not in self._cache:
                handle.users = 2
                self._cache[digest] = handle
            closing = self._evict(limits.OPEN_FILES_MAX)
        self._close(closing)
        return handle

    def peek(self, digest: Digest, path: Path) -> Footer:
        """Read the footer only, leaving the cache as it is.

        Raises:
            NotFoundError, CorruptError, UnavailableError: as for `open`.
        """
        handle = self.cached(digest)
        if handle is not None:
            self.release(handle)
            return handle.footer
        return self.probe(digest, path)

    def probe(self, digest: Digest, path: Path) -> Footer:
        """Read the footer of the file that has the name now, whatever is open.

        Raises:
            NotFoundError, CorruptError, UnavailableError: as for `open`.
        """
        handle = self._load(digest, path)
        self._close([handle])
        return handle.footer

    def source(self, handle: Handle, span: Span | None) -> "FileSource":
        """Read `span` through `handle`, whose reference goes to the source.

        Raises:
            UnsatisfiableError: `span` begins behind the end of the blob.
        """
        try:
            return FileSource(self, handle, clamp(span, handle.footer.ref.size_bytes))
        except UnsatisfiableError:
            self.release(handle)
            raise

    def release(self, handle: Handle) -> None:
        """Give a reference back."""
        with self._lock:
            handle.users -= 1
            assert handle.users >= 0
            closing = [handle] if handle.users == 0 else []
        self._close(closing)

    def drop(self, digests: Collection[Digest]) -> None:
        """Forget handles: the next `open` looks at the disk again."""
        with self._lock:
            self._drops += 1
            found = [self._cache.pop(digest) for digest in digests if digest in self._cache]
            closing = [handle for handle in found if self._leave(handle)]
        self._close(closing)

    def close(self) -> None:
        """Forget all; readers keep theirs."""
        with self._lock:
            self._drops += 1
            closing = self._evict(0)
        self._close(closing)

    def _load(self, digest: Digest, path: Path) -> Handle:
        try:
            descriptor = self._disk.open(path, READ_FLAGS)
        except FileNotFoundError:
            raise no_such_blob(digest) from None
        except OSError as error:
            raise blob_error("opening a blob", error) from error
        try:
            footer = _read_footer(descriptor, digest, self._disk)
        except BlobError:
            self._disk.close(descriptor)
            raise
        return Handle(descriptor, footer, self._disk, self._clock)

    def _evict(self, keep: int) -> list[Handle]:
        closing = []
        while len(self._cache) > keep:
            _, handle = self._cache.popitem(last=False)
            if self._leave(handle):
                closing.append(handle)
        return closing

    def _leave(self, handle: Handle) -> bool:
        handle.users -= 1
        return handle.users == 0

    def _close(self, handles: list[Handle]) -> None:
        for handle in handles:
            self._disk.close(handle.descriptor)


class FileSource(Closing):
    """An open span of a blob; holds one reference to its handle."""

    __slots__ = ("_chunk", "_handle", "_handles", "_number", "_position", "_span", "size_bytes")
    turns = 0

    def __init__(self, handles: Handles, handle: Handle, span: Span) -> None:
        self._handles = handles
        self._handle: Handle | None = handle
        self._span = span
        self._position = 0
        self._number = -1
        self._chunk = b""
        self.size_bytes = span.size_bytes

    def read(self, size_bytes: int) -> Buffer:
        """Read the next bytes, up to the end of their chunk, which is verified as a whole."""
        assert size_bytes > 0
        if self._position == self.size_bytes:
            return b""
        number, start = divmod(self._span.offset + self._position, CHUNK_BYTES)
        chunk = self._load(number)
        end = min(start + size_bytes, start + self.size_bytes - self._position, len(chunk))
        self._position += end - start
        return chunk if end - start == len(chunk) else memoryview(chunk)[start:end]

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset` of the span."""
        assert 0 <= offset <= self.size_bytes
        self._position = offset

    def file(self) -> NativeFile | None:
        """The span in the blob's file."""
        assert self._handle is not None
        return NativeFile(self._handle.descriptor, *self._span)

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Verify the chunks that hold `window`, unless they were within `limits.VERIFY_AGAIN_S`.

        Without waiting it looks only at what the page cache holds, and at little of that.
        """
        assert self._handle is not None
        assert window.offset + window.size_bytes <= self.size_bytes
        if window.size_bytes == 0:
            return True
        start = self._span.offset + window.offset
        end = chunk_count(start + window.size_bytes)
        return self._handle.verify(start // CHUNK_BYTES, end, wait=wait)

    def close(self) -> None:
        """Give the handle back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._chunk = b""
            self._handles.release(handle)

    def _load(self, number: int) -> bytes:
        assert self._handle is not None
        if number != self._number:
            self._chunk = self._handle.chunk(number)
            self._number = number
        return self._chunk


def _read_footer(descriptor: int, digest: Digest, disk: Disk) -> Footer:
    with world("opening a blob"):
        status = os.fstat(descriptor)
    size_bytes = content_bytes(status.st_size) if stat.S_ISREG(status.st_mode) else None
    if size_bytes is None:
        raise CorruptError("the file was cut, or is none", digest=str(digest))
    with world("opening a blob"):
        tail = disk.pread(descriptor, tail_bytes(size_bytes), size_bytes)
    return unpack(tail, BlobRef(digest, size_bytes))
