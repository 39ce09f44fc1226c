"""A remote blob as a file that blocks."""

import io
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, cast

import httpx

from holdfast.client import transport
from holdfast.client.calls import Call, Head
from holdfast.client.cursor import Cursor, from_start
from holdfast.core.errors import UnavailableError
from holdfast.core.limits import MIB
from holdfast.core.seams import Buffer


class Chunks:
    """The body of an answer, as it arrives."""

    def __init__(
        self, address: transport.Address, response: httpx.Response, give_back: Callable[[], None]
    ) -> None:
        self._address = address
        self._response = response
        self._give_back: Callable[[], None] | None = give_back
        self._parts = response.iter_raw()

    def next(self) -> bytes:
        """Wait for the next bytes; empty at the end.

        Raises:
            UnavailableError: the connection failed.
        """
        try:
            return next(self._parts, b"")
        except httpx.TransportError as error:
            raise transport.lost(self._address, error).error from error

    def expect(self) -> bytes:
        """Wait for bytes that must come; UnavailableError at the end."""
        chunk = self.next()
        if not chunk:
            raise UnavailableError("the server ended the body too early")
        return chunk

    def close(self) -> None:
        """Let the connection go; it serves again if the body was read to its end."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            try:
                self._response.close()
            finally:
                give_back()


Open = Callable[[Call[Head]], tuple[Head, Chunks]]


class RangeFile(io.RawIOBase):
    """Reads a blob in windows, each one GET; goes on after a lost connection.

    All windows are of one version of the blob. One thread at a time.
    """

    def __init__(self, cursor: Cursor, open_window: Open, retries: int) -> None:
        self._cursor = cursor
        self._open_window = open_window
        self._retries = retries
        self._failures = 0
        self._chunks: Chunks | None = None
        self._rest: Buffer = b""
        self._wanted = 0
        self._begin()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Say where the next read begins."""
        return self._wanted

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next read begins; nothing is sent before it."""
        self._checkClosed()
        self._wanted = from_start(self._wanted, offset, whence, self._cursor.size_bytes)
        return self._wanted

    def readinto(self, buffer: Buffer) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer
        """Read what has arrived; waits for at least one byte, 0 at the end."""
        self._checkClosed()
        if self._wanted >= self._cursor.size_bytes:
            return 0
        self._go()
        view = memoryview(buffer).cast("B")
        chunk = self._take(len(view))
        view[: len(chunk)] = chunk
        self._wanted += len(chunk)
        return len(chunk)

    def close(self) -> None:
        """Let the connection go."""
        if not self.closed:
            self._drop()
        super().close()

    def _checkClosed(self) -> None:  # noqa: N802 - the name of io.IOBase
        if self.closed:
            raise ValueError("read of a closed file")

    def _go(self) -> None:
        """Bring the cursor to where the caller wants to read."""
        gap = self._cursor.gap(self._wanted)
        if gap is None:
            self._drop()
            self._cursor.jump(self._wanted)
            return
        while gap > 0:
            gap -= len(self._take(gap))

    def _take(self, limit: int) -> bytes:
        while not self._rest:
            self._receive()
        chunk = bytes(self._rest[:limit])
        self._rest = memoryview(self._rest)[limit:]
        self._cursor.took(chunk)
        if not self._cursor.is_open:
            self._finish()
        return chunk

    def _receive(self) -> None:
        if self._chunks is None:
            self._begin()
            return
        try:
            self._rest = self._chunks.expect()
        except UnavailableError:
            self._drop()
            self._failures += 1
            if self._failures > self._retries:
                raise
        else:
            self._failures = 0

    def _begin(self) -> None:
        head, self._chunks = self._open_window(self._cursor.next_window())
        skip = self._cursor.opened(head)
        while skip > 0:
            chunk = self._chunks.expect()
            self._rest = chunk[skip:]
            skip -= len(chunk)
        if not self._cursor.is_open:
            self._finish()

    def _finish(self) -> None:
        """Read the end of the body, so that the connection serves again."""
        if self._chunks is not None:
            with suppress(UnavailableError):
                self._chunks.next()
        self._drop()

    def _drop(self) -> None:
        self._rest = b""
        self._cursor.lost()
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None


def buffered(cursor: Cursor, open_window: Open, retries: int) -> BinaryIO:
    """Open a blob for reading, with a buffer in front."""
    file = RangeFile(cursor, open_window, retries)
    return cast(BinaryIO, io.BufferedReader(file, MIB // 4))
