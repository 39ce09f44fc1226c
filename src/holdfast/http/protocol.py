"""The hot path: blob requests answered without building an ASGI scope.

uvicorn loads this class as its HTTP protocol, so sockets, TLS, limits and graceful stop are its
own. The head of a request is parsed by httptools (llhttp); a body of known length never passes
the parser. What is not a plain request for a blob (chunked bodies, forms, upgrades, CORS, unknown
routes) is handed to uvicorn's own protocol, with the bytes read so far, and the ASGI app answers.

One request at a time: pipelined ones wait in `_ahead`, also while the client takes no answers. A
connection is in one of four phases: HEAD (reading a head, or idle), BODY (body.py receives an
upload), BUSY (an answer is being made or sent) and DRAIN (a request was refused; what is still sent
is read and dropped for a while, because closing at once would tear the answer away).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.core import limits
from holdfast.core.errors import BlobError, InvalidError, UnavailableError
from holdfast.http import patience, route, triage
from holdfast.http.body import Receiver
from holdfast.http.drain import Drain
from holdfast.http.head import HeadReader
from holdfast.http.message import Answer, Request, defect_answer, error_answer, head_error
from holdfast.http.outcome import is_transfer
from holdfast.http.patience import BODY, BUSY, DRAIN, HEAD
from holdfast.http.quick import Quick
from holdfast.http.recent import HEAD_BYTES_MAX
from holdfast.http.sender import Sender
from holdfast.http.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.server import ServerState

    from holdfast.core.pending import Pending
    from holdfast.depot.names import Placed
    from holdfast.http.loop import Shared
    from holdfast.http.meters import Bill
    from holdfast.http.recent import Known
    from holdfast.http.route import Target
    from holdfast.http.site import Site

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DRAIN_BYTES_MAX = limits.MIB  # behind what is not HTTP


class HotProtocol(asyncio.Protocol):
    """One connection; everything runs on the loop's thread."""

    def __init__(
        self, site: Site, shared: Shared, cold: Callable[[], HttpToolsProtocol], state: ServerState
    ) -> None:
        self._site = site
        self.shared = shared
        self._cold = cold
        self._state = state
        self.reader = HeadReader()
        self.phase = HEAD
        self._ahead = b""  # pipelined behind the request that is being answered
        self.since_s = 0.0  # when the phase last moved on
        self._head_began_s = 0.0
        self._version = "1.1"
        self._keep = True
        self.is_choked = False  # the client does not take what was written
        self._at_end = False  # the client stopped sending
        self._method = ""
        self._target: Target | None = None
        self._bill: Bill | None = None
        self.receiver: Receiver | None = None
        self.sender: Sender | None = None
        self.drain = Drain(0, 0.0)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a socket's, as uvicorn has it
        """Begin to wait for a request."""
        self.transport = transport
        self.unread = Unread(transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else ""
        self._quick = Quick(self._site, self._address)
        self._state.connections.add(self)  # type: ignore[arg-type] # uvicorn calls shutdown() only
        self.shared.connections.add(self)
        others = self._site.counts.connect()
        self.since_s = self.shared.loop.time()
        if len(self._state.connections) + others > self.shared.settings.max_connections:
            self.refuse(UnavailableError("too many connections are open"))

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection; an unfinished upload leaves nothing behind."""
        del error
        self._forget()
        if self.receiver is not None:
            self.receiver.abandon()
        if self.sender is not None:
            self.sender.lost()

    def pause_writing(self) -> None:
        """Let the sender wait, and the requests ahead: the client is slower than we are."""
        if self.sender is not None:
            self.sender.pause()
        else:
            self.is_choked = True

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self.sender is not None:
            self.sender.resume()
        if self.is_choked:
            self.is_choked = False
            self._read_ahead()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client, whatever the phase."""
        self.since_s = self.shared.loop.time()
        if self.phase == HEAD and not self._ahead:
            known = self._quick.heads.get(data) if len(data) <= HEAD_BYTES_MAX else None
            if known is None or self.reader.partial or not self._answer_known(known):
                self._read(data)
        elif self.phase == BODY:
            assert self.receiver is not None
            self._hold(self.receiver.receive(data))
        elif self.phase == DRAIN:
            if self.drain.take(len(data)):
                self.transport.close()
        else:
            self._hold(data)

    def eof_received(self) -> bool:
        """Close, unless answers are on their way to a client that only stopped sending."""
        self._at_end = True
        is_tls = self.transport.get_extra_info("sslcontext") is not None
        return not is_tls and (self.phase == BUSY or bool(self._ahead) or self.is_choked)

    # uvicorn

    def shutdown(self) -> None:
        """Finish the request, if there is one, then close."""
        if self.phase in {HEAD, DRAIN}:
            self.transport.close()

    def check_time(self, now_s: float) -> None:
        """End what has waited too long (called once a second)."""
        patience.check_time(self, now_s)

    # Reading heads

    def _read(self, data: bytes) -> None:
        """Read as many requests as `data` holds; stop at the first that takes time."""
        while data and self.phase == HEAD and not self.is_choked:
            if self.transport.is_closing():
                return
            if not self.reader.partial:
                self._head_began_s = self.since_s
            self.since_s = self._head_began_s
            try:
                is_whole, data = self.reader.read(data)
            except BlobError as error:
                self.refuse(error)
                return
            if is_whole:
                data = self._begin(data)
        self._hold(data)

    def _hold(self, data: bytes) -> None:
        """Keep what came behind a request until its turn."""
        if data and not self.transport.is_closing():
            if not self._ahead and self.phase == HEAD and not self.is_choked:
                self.shared.loop.call_soon(self._read_ahead)
            self._ahead += data
            if len(self._ahead) > limits.HEAD_BYTES_MAX:
                self.transport.pause_reading()

    def _read_ahead(self) -> None:
        """Go on with what was held; behind the last request of a client that stopped, close."""
        if self.phase != HEAD or self.is_choked or self.transport.is_closing():
            return
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self.since_s = self.shared.loop.time()
            self.transport.resume_reading()
            self._read(ahead)
        if self._at_end and self.phase == HEAD and not self.is_choked:
            self.transport.close()

    def _begin(self, rest: bytes) -> bytes:
        """Start the request whose head was read; return the bytes behind it."""
        reader = self.reader
        if (known := self._quick.find(reader)) is not None and self._answer_known(known):
            return rest
        self._method = reader.verb.decode()
        self._version = reader.version
        self._keep = reader.stays and not self.shared.is_stopping
        if (refused := head_error(reader.version, reader.headers.get(b"host"))) is not None:
            self.refuse(refused)
            return b""
        path, _, query = reader.url.partition(b"?")
        address = self._site.gate.address(self._address, reader.headers)
        request = Request(self._method, path, query, reader.headers, address)
        size_bytes = int(reader.headers.get(b"content-length", b"0"))
        if triage.is_cold(request, size_bytes):
            self._hand_over(reader.raw + rest)
            return b""
        if size_bytes > len(rest):
            reader.skip_body()
        elif size_bytes:
            reader.pass_body(rest[:size_bytes])
        return self._try(request, size_bytes, rest)

    def _try(self, request: Request, size_bytes: int, rest: bytes) -> bytes:
        """Start a request, or answer why not."""
        try:
            return self._start(request, size_bytes, rest)
        except BlobError as error:
            return self._answer_early(error_answer(error), size_bytes, rest)
        except Exception as error:  # noqa: BLE001 - the client waits for an answer
            self._keep = False
            self._send(defect_answer(error, "hot path"))
            return b""

    def _answer_known(self, known: Known) -> bool:
        """Answer a plain GET of a path that was served before and did not change."""
        if self.shared.is_stopping or self.is_choked:
            return False
        body = self._quick.body(known)
        if body is None:
            return False
        self.transport.write(b"".join((self.shared.ok_head, known.head, body)))
        self._site.counts.add(known.route, "GET", 200, len(body))
        return True

    def _start(self, request: Request, size_bytes: int, rest: bytes) -> bytes:
        """Do what the request asks.

        Raises:
            BlobError: refused before any body byte was used.
        """
        request = self._site.gate.check(request, size_bytes)
        self._bill = request.bill
        target = self._target = route.resolve(request.method, request.path)
        if request.method in {"PUT", "POST"} and not is_transfer(request):
            return self._receive(request, target, size_bytes, rest)
        self.phase = BUSY
        if request.method in {"GET", "HEAD"}:
            keep = triage.is_plain(self.reader)
            if target.route not in {route.BLOB, route.HASH}:
                self.shared.answer_in_thread(lambda: self._site.look(request, target), self.post)
            elif (answer := self._site.read_now(request, target, keep=keep)) is not None:
                self._send(answer)
            else:
                self.shared.answer_in_thread(
                    lambda: self._site.read(request, target, wait=True), self.post
                )
        elif size_bytes:
            raise InvalidError("content-length", size_bytes, "0 for a copy or a move")
        else:
            self._site.change(request, target, self.post)
        return rest

    def _receive(self, request: Request, target: Target, size_bytes: int, rest: bytes) -> bytes:
        is_whole = len(rest) >= size_bytes
        if is_whole and size_bytes <= self.shared.small_bytes_max and target.route == route.BLOB:
            self._store(request, target, rest[:size_bytes])
            return rest[size_bytes:]
        intake = self._site.admit(request, target, size_bytes)
        if isinstance(intake, Answer):
            return self._answer_early(intake, size_bytes, rest)
        self._receives(size_bytes)
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and not rest:
            self.transport.write(CONTINUE)
        self.phase = BODY
        self.receiver = Receiver(self, intake, size_bytes)
        return self.receiver.receive(rest)

    def _store(self, request: Request, target: Target, body: bytes) -> None:
        """Store a small body that came with its head, in one step."""
        self.phase = BUSY
        stored = self._site.store(request, target, body)
        self._receives(len(body))
        stored.add_done_callback(partial(self.shared.mailbox.post, self._answer_stored))

    def _receives(self, size_bytes: int) -> None:
        self._site.counts.receive(size_bytes)
        if self._bill is not None:
            self._bill.spend(size_bytes)

    def _answer_stored(self, stored: Pending[Placed]) -> None:
        self._send(self._site.stored_answer(stored, self.reader.url))

    # Answering

    def receiver_done(self) -> None:
        """The body is whole; its answer will be posted."""
        self.phase = BUSY

    def fail(self, error: BlobError, missing_bytes: int) -> None:
        """Answer an upload that went wrong while its body still came."""
        self.receiver = None
        self.phase = BUSY
        self._answer_early(error_answer(error), missing_bytes, b"")

    def post(self, answer: Answer) -> None:
        """Send `answer` for the request that is being answered; safe from any thread."""
        self.shared.mailbox.post(self._send, answer)

    def _send(self, answer: Answer) -> None:
        """Send an answer, then go on with what came meanwhile."""
        self.phase = BUSY
        self.receiver = None
        if self.transport.is_closing():
            answer.close()
            return
        self._count(answer)
        head = self._spell(answer)
        if answer.stream is None or self._method == "HEAD":
            answer.close()
            self.transport.write(head if self._method == "HEAD" else head + answer.body)
            self._done()
            return
        self.sender = Sender(self, answer.stream)
        self.sender.start(head)

    def sender_done(self, error: BaseException | None) -> None:
        """A stream was sent; one that broke off must not look like a whole one."""
        self.sender = None
        if error is not None:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._done()

    def _spell(self, answer: Answer) -> bytes:
        keep = self._keep and not self.shared.is_stopping
        return answer.spell(self.shared.common_head, self._version, keep=keep)

    def _done(self) -> None:
        """End the exchange: close, or read on."""
        if not self._keep or self.shared.is_stopping:
            self.transport.close()
            return
        self.phase = HEAD
        self.since_s = self.shared.loop.time()
        if self._ahead or self._at_end:
            self.shared.loop.call_soon(self._read_ahead)

    # Refusing

    def _answer_early(self, answer: Answer, size_bytes: int, rest: bytes) -> bytes:
        """Answer without wanting the body, which the client may be sending already."""
        if len(rest) >= size_bytes:
            self._send(answer)
            return rest[size_bytes:]
        self._part(answer, size_bytes - len(rest))
        return b""

    def refuse(self, error: BlobError) -> None:
        """Answer what is not HTTP, or not in time, and close."""
        self._method = self._method or "GET"
        self._version = "1.1"
        self._part(error_answer(error), DRAIN_BYTES_MAX)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _part(self, answer: Answer, size_bytes: int) -> None:
        """Answer for the last time, and drop what the client may still send."""
        self._keep = False
        self._count(answer)
        self.transport.write(self._spell(answer) + answer.body)
        self.phase = DRAIN
        self._ahead = b""
        self.since_s = self.shared.loop.time()
        self.drain = Drain(size_bytes, self.since_s)

    def _count(self, answer: Answer) -> None:
        name = self._target.route if self._target is not None else "none"
        self._site.counts.add(name, self._method, answer.status, answer.sent_bytes)
        if self._bill is not None and self._method != "HEAD":
            self._bill.spend(answer.sent_bytes)
        self._bill = None

    def _hand_over(self, raw: bytes) -> None:
        """Let uvicorn's own protocol take the connection, from the first byte of this request."""
        self._forget()
        cold = self._cold()
        self.transport.set_protocol(cold)
        cold.connection_made(self.transport)
        cold.data_received(raw)

    def _forget(self) -> None:
        self._state.connections.discard(self)
        if self in self.shared.connections:
            self.shared.connections.discard(self)
            self._site.counts.disconnect()
