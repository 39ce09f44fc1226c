"""Where a reader of a remote file stands: which bytes to ask for next and whether they are right.

Reading on asks for windows that double, so that a whole blob costs few requests and a look at one
place costs little. The first window starts small again after every jump.
"""

import io

from holdfast.client import calls
from holdfast.client.calls import Call, Head
from holdfast.client.options import Progress
from holdfast.core.digest import Hasher
from holdfast.core.errors import UnavailableError
from holdfast.core.limits import MIB
from holdfast.core.store import Span

FIRST_WINDOW_BYTES = MIB
WINDOW_BYTES_MAX = 256 * MIB
SKIP_BYTES_MAX = 256 * 1024  # read over a short gap rather than open another window


def from_start(position: int, offset: int, whence: int, size_bytes: int) -> int:
    """Find the place that a file's seek asks for; ValueError before the beginning."""
    place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: position, io.SEEK_END: size_bytes}[whence]
    if place < 0:
        raise ValueError("a position before the beginning")
    return place


class Cursor:
    """The position in one remote blob; knows no socket. One thread at a time."""

    def __init__(self, target: str, progress: Progress) -> None:
        self._target = target
        self._progress = progress
        self._head: Head | None = None
        self._window_bytes = FIRST_WINDOW_BYTES
        self._left = 0  # of the open window
        self._hasher: Hasher | None = Hasher()  # while nothing was jumped over
        self.position = 0

    @property
    def size_bytes(self) -> int:
        """Size of the blob; known once the first window is open."""
        assert self._head is not None
        return self._head.size_bytes

    @property
    def at_end(self) -> bool:
        """Nothing is left to read."""
        return self._head is not None and self.position >= self.size_bytes

    @property
    def is_open(self) -> bool:
        """The open window has bytes left."""
        return self._left > 0

    def next_window(self) -> Call[Head]:
        """Ask for the bytes from here on, of the version that was opened."""
        etag = self._head.etag if self._head else None
        span = Span(self.position, self._window_bytes)
        self._window_bytes = min(self._window_bytes * 2, WINDOW_BYTES_MAX)
        return calls.window(self._target, span, etag)

    def opened(self, head: Head) -> int:
        """Take the head of a window; say how many bytes of it lie before the position.

        Raises:
            UnavailableError: it is not the window that was asked for.
        """
        before = self.position - head.span.offset
        end = head.span.offset + head.span.size_bytes
        first = self._head or head
        is_same = (head.etag, head.size_bytes) == (first.etag, first.size_bytes)
        if before < 0 or not is_same or (end <= self.position < head.size_bytes):
            raise UnavailableError("the server sent another part than was asked")
        self._head = first
        self._left = end - self.position
        return before

    def took(self, chunk: bytes) -> None:
        """Move on over bytes of the window.

        Raises:
            CorruptError: that was the last byte of a blob read without a jump, and it is not
                what the server calls it.
        """
        assert len(chunk) <= self._left
        self.position += len(chunk)
        self._left -= len(chunk)
        self._progress(self.position, self.size_bytes)
        if self._hasher is None:
            return
        self._hasher.update(chunk)
        if self.at_end and self._head is not None and self._head.digest is not None:
            hasher, self._hasher = self._hasher, None
            calls.verify_digest(hasher.ref().digest, self._head.digest)

    def lost(self) -> None:
        """Forget the open window."""
        self._left = 0

    def gap(self, position: int) -> int | None:
        """Bytes of the open window to read over to get to `position`; None when it must be left."""
        gap = position - self.position
        return gap if 0 <= gap <= min(self._left, SKIP_BYTES_MAX) else None

    def jump(self, position: int) -> None:
        """Leave the window; the whole is verified only when read from its beginning."""
        self._left = 0
        self._window_bytes = FIRST_WINDOW_BYTES
        self._hasher = Hasher() if position == 0 else None
        self.position = position
