"""Blobs of an object store, open for reading: what describes them, and verified windows of them.

What describes a blob (its size, its checksums, where its chunks lie) is kept for the next reader.
Content is fetched in windows of whole chunks, each compared with its checksum before a byte of it
is given out; a window that does not match is fetched once more, for it may have been damaged on
its way.

A reader may go on when the blob is removed: what he reads is then kept under another name, or left
where it is, until the last reader has closed it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import CorruptError
from holdfast.core.limits import CHUNK_BYTES
from holdfast.core.store import NativeFile, Span, clamp
from holdfast.stores import naming
from holdfast.stores.footer import CHECKSUM_BYTES, chunk_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.seams import Buffer
    from holdfast.stores.remote import Remote

WINDOW_CHUNKS = limits.OBJECT_WINDOW_BYTES // CHUNK_BYTES
HANDLE_BYTES = 700  # without its checksums


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a blob before its content is read."""

    ref: BlobRef
    checksums: bytes
    """Eight bytes for each chunk."""
    upload: str = ""
    """Whose parts hold the content; empty: one object does, and has the digest's name."""
    part_bytes: int = 0


class Handle:
    """A blob that somebody reads, or did lately; `Handles` owns `users` and `leftover`."""

    __slots__ = ("_remote", "described", "leftover", "name", "users")

    def __init__(self, remote: Remote, described: Described) -> None:
        self._remote = remote
        self.described = described
        self.name = "" if described.upload else naming.blob(described.ref.digest)
        """Of the object with the content; it changes when the blob is removed."""
        self.users = 0
        self.leftover: Callable[[], None] | None = None
        """Removes what was kept for those who read."""

    @property
    def weight_bytes(self) -> int:
        """About how much memory it takes."""
        return HANDLE_BYTES + len(self.described.checksums)

    def window(self, number: int, end: int) -> memoryview:
        """Read and verify some chunks, from `number` on and before `end`, as one window has them.

        Raises:
            CorruptError: the stored bytes are not those that were written, or are gone.
            UnavailableError: no answer.
        """
        offset, size_bytes = self._extent(number, end)
        for is_last in (False, True):
            data = self._read(offset, size_bytes)
            damaged = self._first_damaged(number, data)
            if damaged is None:
                return data
            if is_last:
                raise CorruptError(
                    "a chunk is damaged",
                    digest=str(self.described.ref.digest),
                    offset=damaged * CHUNK_BYTES,
                    place=self._remote.place,
                )
        raise AssertionError

    def _extent(self, number: int, end: int) -> tuple[int, int]:
        """Where a window lies in the blob: no longer than a window, and within one part."""
        offset = number * CHUNK_BYTES
        stop = min(min(end, number + WINDOW_CHUNKS) * CHUNK_BYTES, self.described.ref.size_bytes)
        part_bytes = self.described.part_bytes
        if part_bytes:
            stop = min(stop, (offset // part_bytes + 1) * part_bytes)
        return offset, stop - offset

    def _read(self, offset: int, size_bytes: int) -> memoryview:
        name, start = self._object(offset)
        with suppress(FileNotFoundError):
            return self._remote.read(name, start, size_bytes)
        before, (name, start) = name, self._object(offset)
        if name != before:
            with suppress(FileNotFoundError):
                return self._remote.read(name, start, size_bytes)
        raise CorruptError(
            "an object is missing, or was cut",
            digest=str(self.described.ref.digest),
            object=name,
            place=self._remote.place,
        )

    def _object(self, offset: int) -> tuple[str, int]:
        """The object that has the content from `offset` on, and where in it."""
        if self.described.part_bytes == 0:
            return self.name, offset
        number, start = divmod(offset, self.described.part_bytes)
        return naming.part(self.described.upload, number), start

    def _first_damaged(self, number: int, data: memoryview) -> int | None:
        checksums = self.described.checksums
        for at in range(0, len(data), CHUNK_BYTES):
            checksum = xxhash.xxh3_64_digest(data[at : at + CHUNK_BYTES])[::-1]
            start = number * CHECKSUM_BYTES
            if checksums[start : start + CHECKSUM_BYTES] != checksum:
                return number
            number += 1
        return None


class Handles:
    """The handles of one store. `_lock` guards the table and every count of users."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._table: OrderedDict[Digest, Handle] = OrderedDict()
        self._bytes = 0
        """Of what the table holds."""

    def take(self, digest: Digest) -> Handle | None:
        """Use the handle of a blob, if there is one."""
        with self._lock:
            handle = self._table.get(digest)
            if handle is not None:
                handle.users += 1
                self._table.move_to_end(digest)
            return handle

    def add(self, handle: Handle) -> None:
        """Use a handle that was just made, and keep it for others while there is room."""
        with self._lock:
            handle.users += 1
            self._table[handle.described.ref.digest] = handle
            self._bytes += handle.weight_bytes
            if self._bytes > limits.OBJECT_HEADS_BYTES_MAX:
                self._evict()

    def drop(self, digest: Digest) -> Handle | None:
        """Let nobody else use the handle of a blob; it is returned if somebody reads on."""
        with self._lock:
            handle = self._table.pop(digest, None)
            if handle is None:
                return None
            self._bytes -= handle.weight_bytes
            return handle if handle.users else None

    def keep(self, handle: Handle, leftover: Callable[[], None]) -> bool:
        """Leave it to the last reader to remove something; False when all have gone."""
        with self._lock:
            if handle.users == 0:
                return False
            handle.leftover = leftover
            return True

    def release(self, handle: Handle) -> Callable[[], None] | None:
        """Stop using a handle; who was the last is given what there is to remove."""
        with self._lock:
            handle.users -= 1
            assert handle.users >= 0
            return handle.leftover if handle.users == 0 else None

    def _evict(self) -> None:
        """Forget those first that nobody has asked for longest; who reads keeps his own."""
        for digest in [each for each, one in self._table.items() if one.users == 0]:
            if self._bytes <= limits.OBJECT_HEADS_BYTES_MAX:
                return
            self._bytes -= self._table.pop(digest).weight_bytes


class ObjectSource(Closing):
    """An open span of a blob; holds one use of its handle and at most one window."""

    __slots__ = ("_first", "_handle", "_position", "_release", "_span", "_window", "size_bytes")
    turns = 0

    def __init__(
        self, handle: Handle, span: Span | None, release: Callable[[Handle], None]
    ) -> None:
        """Read `span`; the use of `handle` is given back to `release`.

        Raises:
            UnsatisfiableError: `span` begins behind the end of the blob.
        """
        self._span = clamp(span, handle.described.ref.size_bytes)
        self._handle: Handle | None = handle
        self._release = release
        self._position = 0
        self._first = 0
        self._window = memoryview(b"")
        self.size_bytes = self._span.size_bytes

    def read(self, size_bytes: int) -> Buffer:
        """Read the next bytes, up to the end of their chunk."""
        assert size_bytes > 0
        if self._position == self.size_bytes:
            return b""
        offset = self._span.offset + self._position
        self._load(offset // CHUNK_BYTES)
        start = offset - self._first * CHUNK_BYTES
        room = CHUNK_BYTES - offset % CHUNK_BYTES
        end = start + min(size_bytes, room, self.size_bytes - self._position)
        part = self._window[start:end]
        self._position += len(part)
        return part

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset` of the span."""
        assert 0 <= offset <= self.size_bytes
        self._position = offset

    def file(self) -> NativeFile | None:
        """There is none here."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Fetch and verify what the source does not hold already."""
        assert window.offset + window.size_bytes <= self.size_bytes
        if window.size_bytes == 0:
            return True
        start = self._span.offset + window.offset
        number, end = start // CHUNK_BYTES, chunk_count(start + window.size_bytes)
        while number < end:
            if not wait and not self._holds(number):
                return False
            self._load(number)
            number = self._first + chunk_count(len(self._window))
        return True

    def close(self) -> None:
        """Let go of the handle."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._window = memoryview(b"")
            self._release(handle)

    def _holds(self, number: int) -> bool:
        return self._first <= number < self._first + chunk_count(len(self._window))

    def _load(self, number: int) -> None:
        """Hold the window that begins with a chunk, unless the one that is held has it."""
        if self._holds(number):
            return
        assert self._handle is not None
        self._window = memoryview(b"")  # so that there are never two
        end = chunk_count(self._span.offset + self._span.size_bytes)
        self._window = self._handle.window(number, end)
        self._first = number
