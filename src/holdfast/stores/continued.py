"""A source that goes on in another copy of its blob, where the one that is read is damaged.

For stores that know of several copies. Each copy verifies its own bytes before it gives them out,
so no reader ever sees wrong ones; what it does not see either is that a copy had them. That is told
as an event, and mended by who looks after the store.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from holdfast.core.closing import Closing
from holdfast.core.errors import LOST, BlobError, CorruptError
from holdfast.core.events import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.seams import Buffer
    from holdfast.core.store import NativeFile, Source, Span

T = TypeVar("T")


class ContinuedSource(Closing):
    """A span of a blob in several copies, which it owns; all stay open until it is closed.

    So who has the file of one may use it that long. Each read, and each window that is verified, is
    taken from any copy that has it sound. A window that is sound only in parts, each in another
    copy, is in no file: from then on this has none, and what is left is read.
    """

    __slots__ = (
        "_at",
        "_copies",
        "_is_parted",
        "_opened",
        "_own_turns",
        "_source",
        "size_bytes",
    )

    def __init__(self, source: Source, copies: Iterator[Source | BlobError]) -> None:
        """Begin with `source`; `copies` opens the same span elsewhere, one more each time."""
        self._source = source
        self._opened = [source]
        self._copies = copies
        self._at = 0
        self._own_turns = 0
        self._is_parted = False
        self.size_bytes = source.size_bytes

    @property
    def turns(self) -> int:
        """Its own, and those of the copies, which may be such sources, too."""
        return self._own_turns + sum(source.turns for source in self._opened)

    def read(self, size_bytes: int) -> Buffer:
        """Read on, in whichever copy can."""
        try:
            part = self._source.read(size_bytes)
        except LOST as error:
            part = self._elsewhere(error, lambda other: other.read(size_bytes))
        self._at += len(part)
        return part

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset`."""
        self._source.seek(offset)
        self._at = offset

    def file(self) -> NativeFile | None:
        """The file of the copy that is read now, unless none has all that was verified."""
        return None if self._is_parted else self._source.file()

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Find a copy that has the window sound; no other is looked at without waiting."""
        try:
            return self._source.verify(window, wait=wait)
        except LOST as error:
            return wait and self._verify_elsewhere(error, window)

    def close(self) -> None:
        """Let go of all copies."""
        for source in self._opened:
            source.close()

    def _verify_elsewhere(self, error: BlobError, window: Span) -> bool:
        try:
            return self._elsewhere(error, lambda other: other.verify(window))
        except LOST:
            self._read_through(window)
        return True

    def _read_through(self, window: Span) -> None:
        """See that each part of a window is sound in some copy, though none has all of it."""
        self._is_parted = True
        at, end = self._at, window.offset + window.size_bytes
        self.seek(window.offset)
        try:
            while self._at < end and self.read(end - self._at):
                pass
        finally:
            self.seek(at)

    def _elsewhere(self, error: BlobError, ask: Callable[[Source], T]) -> T:
        """Get from another copy what this one cannot give, and stay there."""
        for other in self._others():
            other.seek(self._at)
            try:
                found = ask(other)
            except LOST:
                continue
            tell(error)
            self._own_turns += 1
            self._source = other
            return found
        self._source.seek(self._at)
        raise error

    def _others(self) -> Iterator[Source]:
        """Those that are open, then the rest; one of another size is none of this blob."""
        yield from [source for source in self._opened if source is not self._source]
        for source in self._copies:
            if isinstance(source, BlobError):
                continue
            if source.size_bytes != self.size_bytes:
                source.close()
                continue
            self._opened.append(source)
            yield source


def instead(source: Source | None, error: BlobError) -> Source | None:
    """Another copy, which is read since the first could not be opened; tell if that is damaged."""
    if source is not None and isinstance(error, CorruptError):
        tell(error)
    return source


def tell(error: BlobError) -> None:
    """Tell that a copy is damaged, of which nobody else hears, because there is another."""
    event(
        logging.ERROR, "copy.damaged", **{**error.facts, "code": error.code, "why": error.message}
    )
