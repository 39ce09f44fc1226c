"""Streams on their way out: sendfile from verified files, else verified chunks.

uvloop has no sendfile and does not let its own sockets be watched, so the descriptor is duplicated
and written directly, only while the transport's own buffer is empty. With TLS, bytes pass through
the transport.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from holdfast.core import events, limits
from holdfast.core.errors import BlobError, CorruptError
from holdfast.core.store import Span
from holdfast.http.message import WINDOW_BYTES, log_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.store import Source
    from holdfast.http.message import Stream
    from holdfast.http.protocol import HotProtocol

HIGH_BYTES = 64 * limits.KIB  # asyncio's own default

Result = TypeVar("Result")


class Sender:
    """Sends one stream; runs as a task that its connection starts and ends."""

    def __init__(self, protocol: HotProtocol, stream: Stream) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._loop = protocol.shared.loop
        self._stream = stream
        self._room: asyncio.Future[None] | None = None
        self._progress_s = self._loop.time()
        self._is_native = self._transport.get_extra_info("sslcontext") is None
        self._out = -1

    def start(self, head: bytes) -> None:
        """Send the head, then begin with the stream."""
        high_bytes = 0 if self._is_native else HIGH_BYTES
        self._transport.set_write_buffer_limits(high=high_bytes)
        self._transport.write(head)
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._end)

    def stalled_s(self, now_s: float) -> float:
        """For how long the client has taken nothing."""
        return now_s - self._progress_s

    def pause(self) -> None:
        """Wait from now on until the transport has room."""
        if self._room is None:
            self._room = self._loop.create_future()

    def resume(self) -> None:
        """Go on."""
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def lost(self) -> None:
        """Stop: there is nobody to send to."""
        self._task.cancel()

    async def _run(self) -> None:
        for part in self._stream.parts:
            if isinstance(part, Span):
                await self._send_span(self._stream.source, part)
            else:
                self._write(part)
                await self._drained()
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=HIGH_BYTES)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Let go of everything, however the task ended, also when it never began."""
        self._stream.source.close()
        if self._out >= 0:
            os.close(self._out)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, BlobError):
            log_failure(error)
        elif error is not None and not isinstance(error, OSError):
            events.defect(error, "sender")
        self._protocol.sender_done(error)

    async def _send_span(self, source: Source, span: Span) -> None:
        offset, end = span.offset, span.offset + span.size_bytes
        while offset < end and self._is_native and source.file() is not None:
            offset = await self._sendfile(source, Span(offset, min(WINDOW_BYTES, end - offset)))
        if offset < end:
            await self._send_chunks(source, Span(offset, end - offset))

    async def _sendfile(self, source: Source, window: Span) -> int:
        """Send a window, and say how far that came: the source may go on without a file.

        What the disk must give again, while the client is slow, is verified again.
        """
        await self._drained()
        if self._out < 0:
            self._out = os.dup(self._transport.get_extra_info("socket").fileno())
        offset, end = window.offset, window.offset + window.size_bytes
        while offset < end:
            rest = Span(offset, end - offset)
            if not source.verify(rest, wait=False):
                await self._in_thread(partial(source.verify, rest))
            file = source.file()
            if file is None:
                break
            try:
                sent = os.sendfile(
                    self._out, file.descriptor, file.offset + offset, rest.size_bytes
                )
            except BlockingIOError:
                await self._writable()
                continue
            if sent == 0:
                raise CorruptError("a file is shorter than its footer says")
            offset += sent
            self._progress_s = self._loop.time()
        return offset

    async def _send_chunks(self, source: Source, span: Span) -> None:
        source.seek(span.offset)
        missing = span.size_bytes
        while missing:
            step = min(missing, limits.CHUNK_BYTES)
            chunk = await self._in_thread(partial(source.read, step))
            if not chunk:
                raise CorruptError("a blob is shorter than its description says")
            missing -= len(chunk)
            self._write(chunk)
            await self._drained()
            self._progress_s = self._loop.time()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._transport.is_closing():  # uvloop raises when it is closed
            raise ConnectionResetError
        self._transport.write(data)

    async def _drained(self) -> None:
        while self._room is not None:
            await self._room

    async def _writable(self) -> None:
        """Wait until the socket takes bytes again."""
        ready = self._loop.create_future()
        self._loop.add_writer(self._out, _set, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._out)

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        """Wait for a disk thread to its end, also when cancelled: it reads the source."""
        working = self._loop.run_in_executor(self._protocol.shared.disk, call)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait((working,))
            raise


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
