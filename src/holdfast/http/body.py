"""Bodies of known length on their way into an upload, past the HTTP parser.

A small body is gathered and stored in one step on the loop. A large one is written in the disk
threads, one step at a time, while the next chunks arrive; when the disk is behind, the socket is
not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core import events, limits
from holdfast.core.errors import BlobError, CorruptError

if TYPE_CHECKING:
    from holdfast.http.outcome import Intake
    from holdfast.http.protocol import HotProtocol

QUEUE_BYTES_MAX = limits.UPLOAD_QUEUE_CHUNKS * limits.CHUNK_BYTES


class Receiver:
    """Receives one body; its methods run on the loop's thread but for `_write`."""

    def __init__(self, protocol: HotProtocol, intake: Intake, size_bytes: int) -> None:
        self._protocol = protocol
        self._shared = protocol.shared
        self._intake = intake
        self._missing_bytes = size_bytes
        self._is_small = size_bytes <= protocol.shared.small_bytes_max
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        self._writing = False
        self._abandoned = False
        self.is_full = False
        """Whether the disk is behind, so that the client is not to blame for the silence."""

    def receive(self, data: bytes) -> bytes:
        """Take the next bytes; return what lies behind the body."""
        rest = data[self._missing_bytes :]
        if rest:
            data = data[: self._missing_bytes]
        if data:
            self._chunks.append(data)
            self._chunk_bytes += len(data)
            self._missing_bytes -= len(data)
        if self._missing_bytes == 0:
            self._protocol.receiver_done()
            if self._is_small:
                self._store_small()
        if not self._is_small:
            self._step()
        return rest

    def abandon(self) -> None:
        """Give the upload up; what was written is removed."""
        if not self._abandoned:
            self._abandoned = True
            if not self._writing:
                self._shared.disk.submit(self._intake.upload.close)

    def _store_small(self) -> None:
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        with self._intake.upload:
            try:
                self._intake.upload.write(body)
            except BlobError as error:
                self._protocol.fail(error, 0)
                return
            self._intake.finish(self._protocol.post)

    def _step(self) -> None:
        """Let a disk thread write what is there, if it is enough or the end."""
        is_last = self._missing_bytes == 0
        if self._writing or not (is_last or self._chunk_bytes >= limits.CHUNK_BYTES):
            if self._chunk_bytes >= QUEUE_BYTES_MAX and not self.is_full:
                self.is_full = True
                self._protocol.transport.pause_reading()
            return
        chunks, self._chunks, self._chunk_bytes = self._chunks, [], 0
        self._writing = True
        self._shared.disk.submit(self._write, chunks, is_last)

    def _write(self, chunks: list[bytes], is_last: bool) -> None:  # noqa: FBT001 - of submit
        """Write chunks and, behind the last, store the blob; in a disk thread."""
        error: BlobError | None = None
        try:
            self._intake.upload.write(b"".join(chunks))
        except BlobError as refused:
            error = refused
        except Exception as wrong:  # noqa: BLE001 - the client waits for an answer
            events.defect(wrong, "upload")
            error = CorruptError("an internal error")
        if is_last and error is None:
            with self._intake.upload:
                self._intake.finish(self._protocol.post)
        else:
            self._shared.mailbox.post(self._written, error)

    def _written(self, error: BlobError | None) -> None:
        self._writing = False
        if self._abandoned or error is not None:
            self._shared.disk.submit(self._intake.upload.close)
            if not self._abandoned and error is not None:
                self._abandoned = True
                self._resume()
                self._protocol.fail(error, self._missing_bytes)
            return
        self._resume()
        self._step()

    def _resume(self) -> None:
        if self.is_full:
            self.is_full = False
            self._protocol.transport.resume_reading()
