"""Bodies whose chunks are awaited: files and plain iterators through threads, the rest directly."""

import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from anyio import to_thread

from holdfast.client.options import Progress
from holdfast.client.upload import Meter, Upload
from holdfast.core.bucket import Data
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.limits import KIB
from holdfast.core.seams import Buffer

AsyncData = Data | AsyncIterable[Buffer]
"""What can be stored: all that Data is, or chunks that come asynchronously."""

INLINE_BYTES_MAX = 64 * KIB  # hashing so much costs less than a thread's turn


class AsyncUpload:
    """The asynchronous twin of Upload, whose steps run in threads: they may read files."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    @property
    def size_bytes(self) -> int | None:
        """The size, where it is known beforehand."""
        return self._upload.size_bytes

    @property
    def digest(self) -> Digest | None:
        """The digest, where it is known beforehand."""
        return self._upload.digest

    @property
    def replayable(self) -> bool:
        """Whether `chunks` may be called again."""
        return self._upload.replayable

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body, each chunk from a thread unless it is ready."""
        chunks = self._upload.chunks()
        if self._upload.is_ready:
            for chunk in chunks:
                yield chunk
            return
        while chunk := await to_thread.run_sync(next, chunks, b""):
            yield chunk

    def ref(self) -> BlobRef:
        """Name what the last attempt sent."""
        return self._upload.meter.ref()

    async def hash_first(self) -> BlobRef:
        """Read everything once to know its digest."""
        return await to_thread.run_sync(self._upload.hash_first)

    async def aclose(self) -> None:
        """Close the file that was opened here, if any."""
        if not self._upload.is_ready:
            await to_thread.run_sync(self._upload.close)


class StreamedUpload(AsyncUpload):
    """Chunks that come once, asynchronously."""

    def __init__(self, stream: AsyncIterable[Buffer], progress: Progress) -> None:
        super().__init__(Upload((), progress))
        self._stream: AsyncIterable[Buffer] | None = stream
        self._progress = progress
        self._meter = Meter(None, None, progress)
        self._spool: BinaryIO | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is left, or what `hash_first` kept."""
        stream, self._stream = self._stream, None
        if stream is None:
            async for chunk in super().chunks():
                yield chunk
            return
        async for piece in stream:
            if len(piece) > 0:
                yield self._meter.take(piece)

    def ref(self) -> BlobRef:
        """Name what the last attempt sent."""
        return super().ref() if self._spool else self._meter.ref()

    async def hash_first(self) -> BlobRef:
        """Keep everything in a file to know its digest."""
        stream, self._stream = self._stream, None
        assert stream is not None
        self._spool = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - aclose does
        async for chunk in stream:
            await to_thread.run_sync(self._spool.write, chunk)
        self._spool.seek(0)
        self._upload = Upload(self._spool, self._progress)
        return await super().hash_first()

    async def aclose(self) -> None:
        """Close the file that was made here, if any."""
        if self._spool is not None:
            self._spool.close()


@asynccontextmanager
async def uploading(data: AsyncData, progress: Progress) -> AsyncIterator[AsyncUpload]:
    """Prepare `data` for sending, and close what was opened for it."""
    if isinstance(data, AsyncIterable):
        upload: AsyncUpload = StreamedUpload(data, progress)
    elif isinstance(data, bytes) and len(data) <= INLINE_BYTES_MAX:
        upload = AsyncUpload(Upload(data, progress))
    else:
        upload = AsyncUpload(await to_thread.run_sync(Upload, data, progress))
    try:
        yield upload
    finally:
        await upload.aclose()
