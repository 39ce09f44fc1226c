"""What can be stored, as a body that is sent in chunks, hashed on the way and replayed if need be.

Small bodies are read into memory and hashed before they are sent, so that the server checks them
before it names them. Large ones are hashed while they are sent and compared with the answer.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from holdfast.client.options import Progress
from holdfast.core.bucket import Data
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import InvalidError
from holdfast.core.limits import CHUNK_BYTES, MIB
from holdfast.core.seams import Buffer

HASH_FIRST_BYTES_MAX = 8 * MIB


class Body(Protocol):
    """Bytes on their way out; `size_bytes` is None where only the end will tell."""

    size_bytes: int | None
    replayable: bool

    def chunks(self) -> Iterator[Buffer]:
        """Yield all of it; again from the beginning if replayable."""

    def close(self) -> None:
        """Close what was opened here."""


class MemoryBody:
    """Bytes in memory."""

    replayable = True

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data).cast("B")
        self.size_bytes: int | None = len(self._view)

    def chunks(self) -> Iterator[Buffer]:
        """Yield slices without copying."""
        for start in range(0, len(self._view), CHUNK_BYTES):
            yield self._view[start : start + CHUNK_BYTES]

    def close(self) -> None:
        """Nothing was opened."""


class FileBody:
    """A file from its position to its end; `owned` files are closed with the body."""

    def __init__(self, file: BinaryIO, *, owned: bool) -> None:
        self._file = file
        self._owned = owned
        self._start = 0
        self.size_bytes: int | None = None
        self.replayable = file.seekable()
        if self.replayable:
            self._start = file.tell()
            self.size_bytes = max(0, file.seek(0, 2) - self._start)
            file.seek(self._start)

    def chunks(self) -> Iterator[Buffer]:
        """Yield the file in large steps."""
        if self.replayable:
            self._file.seek(self._start)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk

    def close(self) -> None:
        """Close an owned file."""
        if self._owned:
            self._file.close()


class StreamBody:
    """Chunks that come once."""

    replayable = False

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = iter(chunks)
        self.size_bytes: int | None = None

    def chunks(self) -> Iterator[Buffer]:
        """Yield what is left."""
        return self._chunks

    def close(self) -> None:
        """Nothing was opened."""


class Meter:
    """Counts, hashes and reports bytes that pass; one for each attempt to send them."""

    def __init__(self, total: int | None, digest: Digest | None, progress: Progress) -> None:
        self._total = total
        self._digest = digest
        self._progress = progress
        self._hasher = Hasher()
        self._done = 0

    def take(self, chunk: Buffer) -> bytes:
        """See the next bytes on their way out."""
        data = bytes(chunk)
        self._done += len(data)
        if self._total is not None and self._done > self._total:
            raise self._changed()
        if self._digest is None:
            self._hasher.update(data)
        self._progress(self._done, self._total)
        return data

    def end(self) -> None:
        """See the end; InvalidError when the source has shrunk meanwhile."""
        if self._total is not None and self._done < self._total:
            raise self._changed()

    def ref(self) -> BlobRef:
        """Name what has passed."""
        return BlobRef(self._digest, self._done) if self._digest else self._hasher.ref()

    def _changed(self) -> InvalidError:
        return InvalidError("data", self._done, "a file that keeps its size while it is sent")


class Upload:
    """A body that may be sent several times; one thread at a time."""

    def __init__(self, data: Data, progress: Progress) -> None:
        self._body = body_of(data)
        self._progress = progress
        self.digest: Digest | None = None
        if self._body.replayable and (self.size_bytes or 0) <= HASH_FIRST_BYTES_MAX:
            self._read_whole()
        self.meter = self._new_meter()

    @property
    def size_bytes(self) -> int | None:
        """The size, where it is known beforehand."""
        return self._body.size_bytes

    @property
    def replayable(self) -> bool:
        """Whether `chunks` may be called again."""
        return self._body.replayable

    @property
    def is_ready(self) -> bool:
        """Whether all of it is in memory and hashed, so that no step blocks."""
        return self.digest is not None and isinstance(self._body, MemoryBody)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body; `meter` knows its name afterwards."""
        self.meter = self._new_meter()
        for chunk in self._body.chunks():
            if len(chunk) > 0:
                yield self.meter.take(chunk)
        self.meter.end()

    def hash_first(self) -> BlobRef:
        """Read everything once to know its digest, keeping it in a file if it comes only once."""
        if self.digest is None:
            if not self.replayable:
                self._body = FileBody(spool(self._body.chunks()), owned=True)
            hasher = Hasher()
            for chunk in self._body.chunks():
                hasher.update(chunk)
            self.digest = hasher.ref().digest
        assert self.size_bytes is not None
        return BlobRef(self.digest, self.size_bytes)

    def close(self) -> None:
        """Close the file that was opened here, if any."""
        self._body.close()

    def _read_whole(self) -> None:
        data = b"".join(self._body.chunks())
        self._body.close()
        self._body = MemoryBody(data)
        self.digest = Digest.of(data)

    def _new_meter(self) -> Meter:
        return Meter(self.size_bytes, self.digest, self._progress)


def body_of(data: Data) -> Body:
    """Find out how `data` is read.

    Raises:
        InvalidError: a path that cannot be opened.
    """
    if isinstance(data, str):
        raise TypeError("text is no data: encode it, or give a Path")
    if isinstance(data, Path):
        return FileBody(_open(data), owned=True)
    if isinstance(data, bytes | bytearray | memoryview):
        return MemoryBody(data)
    if hasattr(data, "read"):
        return FileBody(cast(BinaryIO, data), owned=False)
    return StreamBody(data)


def spool(chunks: Iterable[Buffer]) -> BinaryIO:
    """Keep chunks in a nameless file, positioned at its beginning."""
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    for chunk in chunks:
        file.write(chunk)
    file.seek(0)
    return file


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("data", str(path), f"a readable file ({reason})") from error
