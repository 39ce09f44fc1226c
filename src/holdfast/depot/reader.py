"""A blob as a seekable binary file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from holdfast.core.store import Source


class Reader(io.RawIOBase):
    """Verified bytes of one Source; wrap it in io.BufferedReader for small reads."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override] # typeshed: WriteableBuffer
        """Fill `target` as far as the next verified bytes reach."""
        chunk = self._source.read(len(target))
        target[: len(chunk)] = chunk
        self._at += len(chunk)
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; behind the end means the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size_bytes}
        if whence not in base or base[whence] + offset < 0:
            raise InvalidError("seek", offset, "a place within the blob")
        self._at = min(base[whence] + offset, self._source.size_bytes)
        self._source.seek(self._at)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def close(self) -> None:
        """Close the source."""
        if not self.closed:
            self._source.close()
        super().close()
