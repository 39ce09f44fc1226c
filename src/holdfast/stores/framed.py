"""Sources of encoded blobs: one that brings frames back, and one of a part of a plain one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.closing import Closing
from holdfast.core.errors import CorruptError
from holdfast.core.limits import FRAME_BYTES
from holdfast.core.store import NativeFile, Span
from holdfast.stores.codec import read_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.seams import Buffer
    from holdfast.core.store import Source
    from holdfast.stores.codec import Frames

NONE = -1
TURNS_MAX = 8  # while one frame is read


class FramedSource(Closing):
    """A span of an encoded blob; holds one frame, and owns the source of the stored bytes."""

    __slots__ = ("_again", "_at", "_frame", "_frames", "_number", "_span", "_stored", "_turns")

    def __init__(
        self,
        stored: Source,
        frames: Frames,
        span: Span,
        again: Callable[[], Frames] | None = None,
    ) -> None:
        """Read `stored`; `again` reads its tail, once that is another copy's."""
        self._stored = stored
        self._frames = frames
        self._again = again
        self._turns = stored.turns
        self._span = span
        self._at = 0
        self._number = NONE
        self._frame = memoryview(b"")

    @property
    def size_bytes(self) -> int:
        """Size of the opened span."""
        return self._span.size_bytes

    @property
    def turns(self) -> int:
        """Those of the stored bytes."""
        return self._stored.turns

    def read(self, size_bytes: int) -> memoryview:
        """Give out the rest of a frame, or as much of it as was asked."""
        assert size_bytes > 0
        number, start = divmod(self._span.offset + self._at, FRAME_BYTES)
        size_bytes = min(size_bytes, self._span.size_bytes - self._at)
        if not size_bytes:
            return memoryview(b"")
        part = self._load(number)[start : start + size_bytes]
        assert part
        self._at += len(part)
        return part

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset`."""
        assert 0 <= offset <= self._span.size_bytes
        self._at = offset

    def file(self) -> NativeFile | None:
        """None: no file has these bytes."""
        return None

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Verify the stored bytes of the frames, and bring the first one back.

        The others are held to being frames of this blob when they are read.
        """
        assert window.offset + window.size_bytes <= self._span.size_bytes
        if not window.size_bytes:
            return True
        start = self._span.offset + window.offset
        first, last = start // FRAME_BYTES, (start + window.size_bytes - 1) // FRAME_BYTES
        begin, end = self._frames.place(first), self._frames.place(last)
        stored = Span(begin.offset, end.offset + end.size_bytes - begin.offset)
        if not self._stored.verify(stored, wait=wait):
            return False
        is_loaded = first == self._number
        if is_loaded or wait or self._stored.file() is None:
            self._load(first)
            return True
        return False

    def close(self) -> None:
        """Let go of the stored bytes."""
        self._stored.close()

    def _load(self, number: int) -> memoryview:
        if number != self._number or self._turns != self._stored.turns:
            data = self._stored_frame(number)
            self._frame = memoryview(self._frames.decode(number, data))
            self._number = number
        return self._frame

    def _stored_frame(self, number: int) -> Buffer:
        """Read a frame out of one copy, of which the tail is, too."""
        data = read_span(self._stored, self._frames.place(number))
        for _ in range(TURNS_MAX):
            if self._turns == self._stored.turns:
                return data
            self._turn()
            data = read_span(self._stored, self._frames.place(number))
        raise CorruptError("no copy of the encoded bytes of a blob is sound")

    def _turn(self) -> None:
        """Know the copy that is read now."""
        assert self._again is not None
        self._turns = self._stored.turns
        frames = self._again()
        if frames.size_bytes != self._frames.size_bytes:
            raise CorruptError("another copy of a blob has another size")
        self._frames = frames


class PartSource(Closing):
    """A span of a source that was opened whole, and that this one owns."""

    __slots__ = ("_left_bytes", "_span", "_whole")

    def __init__(self, whole: Source, span: Span) -> None:
        self._whole = whole
        self._span = span
        self._left_bytes = span.size_bytes
        whole.seek(span.offset)

    @property
    def size_bytes(self) -> int:
        """Size of the opened span."""
        return self._span.size_bytes

    @property
    def turns(self) -> int:
        """Those of the whole."""
        return self._whole.turns

    def read(self, size_bytes: int) -> Buffer:
        """Read the next bytes of the span."""
        assert size_bytes > 0
        if not self._left_bytes:
            return b""
        part = self._whole.read(min(size_bytes, self._left_bytes))
        self._left_bytes -= len(part)
        return part

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset`."""
        assert 0 <= offset <= self._span.size_bytes
        self._whole.seek(self._span.offset + offset)
        self._left_bytes = self._span.size_bytes - offset

    def file(self) -> NativeFile | None:
        """The part of the whole's file."""
        file = self._whole.file()
        if file is None:
            return None
        return NativeFile(file.descriptor, file.offset + self._span.offset, self._span.size_bytes)

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Verify that part of the whole."""
        assert window.offset + window.size_bytes <= self._span.size_bytes
        moved = Span(self._span.offset + window.offset, window.size_bytes)
        return self._whole.verify(moved, wait=wait)

    def close(self) -> None:
        """Close the whole."""
        self._whole.close()


class SteadySource(PartSource):
    """A source of bytes that are one copy's: what another has may not follow them."""

    __slots__ = ("_turns",)

    def __init__(self, source: Source) -> None:
        super().__init__(source, Span(0, source.size_bytes))
        self._turns = source.turns

    def read(self, size_bytes: int) -> Buffer:
        """Read the next bytes of the copy.

        Raises:
            CorruptError: it is damaged, and another one is not believed to be the same.
        """
        part = super().read(size_bytes)
        if self.turns != self._turns:
            raise CorruptError("a copy is damaged, and others may be encoded otherwise")
        return part

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Verify the copy.

        Raises:
            CorruptError: as `read` does.
        """
        is_verified = super().verify(window, wait=wait)
        if self.turns != self._turns:
            raise CorruptError("a copy is damaged, and others may be encoded otherwise")
        return is_verified


class UnfiledSource(PartSource):
    """A source that is only read, whatever file it comes from; it owns it."""

    __slots__ = ()

    def __init__(self, source: Source) -> None:
        super().__init__(source, Span(0, source.size_bytes))

    def file(self) -> NativeFile | None:
        """None, so that nobody reads it in any other way."""
        return None
