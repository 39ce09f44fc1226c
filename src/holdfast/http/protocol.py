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
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.core import limits
from holdfast.core.errors import BlobError, InvalidError, SlowError, UnavailableError
from holdfast.http import route, triage
from holdfast.http.body import Receiver
from holdfast.http.drain import Drain
from holdfast.http.head import HeadReader
from holdfast.http.message import (
    Answer,
    Request,
    defect_answer,
    error_answer,
    head_error,
)
from holdfast.http.sender import Sender
from holdfast.http.site import is_transfer
from holdfast.http.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.server import ServerState

    from holdfast.http.loop import Shared
    from holdfast.http.recent import Known
    from holdfast.http.route import Target
    from holdfast.http.site import Site

BLANKS = b" \t"  # the parser leaves those behind a value
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DRAIN_BYTES_MAX = limits.MIB  # behind what is not HTTP
HEAD, BODY, BUSY, DRAIN = range(4)  # the phases; plain integers, for they are compared often


class HotProtocol(asyncio.Protocol):
    """One connection; everything runs on the loop's thread."""

    def __init__(
        self, site: Site, shared: Shared, cold: Callable[[], HttpToolsProtocol], state: ServerState
    ) -> None:
        self._site = site
        self._recent = site.recent
        self._heads = site.recent.heads
        self.shared = shared
        self._cold = cold
        self._state = state
        self._reader = HeadReader()
        self._phase = HEAD
        self._ahead = b""  # pipelined behind the request that is being answered
        self._since_s = 0.0  # when the phase last moved on
        self._head_began_s = 0.0
        self._version = "1.1"
        self._keep = True
        self._stopping = False
        self._choked = False  # the client does not take what was written
        self._at_end = False  # the client stopped sending
        self._method = ""
        self._target: Target | None = None
        self._receiver: Receiver | None = None
        self._sender: Sender | None = None
        self._drain = Drain(0, 0.0)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # a socket's, as uvicorn has it
        """Begin to wait for a request."""
        self.transport = transport
        self._unread = Unread(transport)
        self._state.connections.add(self)  # type: ignore[arg-type] # uvicorn calls shutdown() only
        self.shared.connections.add(self)
        others = self._site.counts.connect()
        self._since_s = self.shared.loop.time()
        if len(self._state.connections) + others > self.shared.settings.max_connections:
            self._refuse(UnavailableError("too many connections are open"))

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection; an unfinished upload leaves nothing behind."""
        del error
        self._forget()
        if self._receiver is not None:
            self._receiver.abandon()
        if self._sender is not None:
            self._sender.lost()

    def pause_writing(self) -> None:
        """Let the sender wait, and the requests ahead: the client is slower than we are."""
        if self._sender is not None:
            self._sender.pause()
        else:
            self._choked = True

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self._sender is not None:
            self._sender.resume()
        if self._choked:
            self._choked = False
            self._read_ahead()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client, whatever the phase."""
        self._since_s = self.shared.loop.time()
        if self._phase == HEAD and not self._ahead:
            known = self._heads.get(data)
            if known is None or self._reader.partial or not self._answer_known(known):
                self._read(data)
        elif self._phase == BODY:
            assert self._receiver is not None
            self._hold(self._receiver.receive(data))
        elif self._phase == DRAIN:
            if self._drain.take(len(data)):
                self.transport.close()
        else:
            self._hold(data)

    def eof_received(self) -> bool:
        """Close, unless answers are on their way to a client that only stopped sending."""
        self._at_end = True
        is_tls = self.transport.get_extra_info("sslcontext") is not None
        return not is_tls and (self._phase == BUSY or bool(self._ahead) or self._choked)

    # uvicorn

    def shutdown(self) -> None:
        """Finish the request, if there is one, then close."""
        self._stopping = True
        if self._phase in {HEAD, DRAIN}:
            self.transport.close()

    def check_time(self, now_s: float) -> None:
        """End what has waited too long (called once a second)."""
        body_wait_s = self.shared.settings.body_wait_s
        waited_s = now_s - self._since_s
        if self._unread.wait_s(now_s, self._sender) > body_wait_s:
            self.transport.abort()
        elif self._choked or self.transport.is_closing():
            return
        elif self._phase == HEAD:
            self._check_head(waited_s)
        elif self._phase == BODY:
            self._check_body(waited_s)
        elif self._phase == DRAIN and self._drain.is_over(now_s, waited_s, body_wait_s):
            self.transport.close()

    def _check_body(self, waited_s: float) -> None:
        assert self._receiver is not None
        if waited_s > self.shared.settings.body_wait_s and not self._receiver.is_full:
            self._receiver.abandon()
            self._refuse(SlowError("the body of the request did not arrive in time"))

    def _check_head(self, waited_s: float) -> None:
        settings = self.shared.settings
        if not self._reader.is_between and waited_s > settings.head_wait_s:
            self._refuse(SlowError("the head of the request did not arrive in time"))
        elif self._reader.is_between and waited_s > settings.idle_wait_s:
            self.transport.close()

    # Reading heads

    def _read(self, data: bytes) -> None:
        """Read as many requests as `data` holds; stop at the first that takes time."""
        while data and self._phase == HEAD and not self._choked:
            if self.transport.is_closing():
                return
            if self._reader.is_between:
                self._head_began_s = self._since_s
            self._since_s = self._head_began_s
            try:
                is_whole, data = self._reader.read(data)
            except BlobError as error:
                self._refuse(error)
                return
            if is_whole:
                data = self._begin(data)
        self._hold(data)

    def _hold(self, data: bytes) -> None:
        """Keep what came behind a request until its turn."""
        if data and not self.transport.is_closing():
            if not self._ahead and self._phase == HEAD and not self._choked:
                self.shared.loop.call_soon(self._read_ahead)
            self._ahead += data
            if len(self._ahead) > limits.HEAD_BYTES_MAX:
                self.transport.pause_reading()

    def _read_ahead(self) -> None:
        """Go on with what was held; behind the last request of a client that stopped, close."""
        if self._phase != HEAD or self._choked or self.transport.is_closing():
            return
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self._since_s = self.shared.loop.time()
            self.transport.resume_reading()
            self._read(ahead)
        if self._at_end and self._phase == HEAD and not self._choked:
            self.transport.close()

    def _begin(self, rest: bytes) -> bytes:
        """Start the request whose head was read; return the bytes behind it."""
        reader = self._reader
        if triage.is_plain(reader) and triage.is_ordinary(reader):
            known = self._recent.find(reader.url, reader.raw)
            if known is not None and self._answer_known(known):
                return rest
        self._method = reader.verb.decode()
        self._version = reader.version
        self._keep = reader.stays and not self._stopping
        headers = {name: value.rstrip(BLANKS) for name, value in reader.headers.items()}
        if (refused := head_error(reader.version, headers.get(b"host"))) is not None:
            self._refuse(refused)
            return b""
        path, _, query = reader.url.partition(b"?")
        request = Request(self._method, path, query, headers)
        size_bytes = int(headers.get(b"content-length", b"0"))
        if triage.is_cold(request, size_bytes):
            self._hand_over(reader.raw + rest)
            return b""
        if size_bytes:
            reader.skip_body()
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
        if self._stopping or self._choked:
            return False
        body = self._recent.body(known)
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
        target = self._target = route.resolve(request.method, request.path)
        if request.method in {"PUT", "POST"} and not is_transfer(request):
            return self._receive(request, target, size_bytes, rest)
        self._phase = BUSY
        if request.method in {"GET", "HEAD"}:
            keep = triage.is_plain(self._reader)
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
        intake = self._site.admit(request, target, size_bytes)
        if isinstance(intake, Answer):
            return self._answer_early(intake, size_bytes, rest)
        self._site.counts.receive(size_bytes)
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and not rest:
            self.transport.write(CONTINUE)
        self._phase = BODY
        self._receiver = Receiver(self, intake, size_bytes)
        return self._receiver.receive(rest)

    # Answering

    def receiver_done(self) -> None:
        """The body is whole; its answer will be posted."""
        self._phase = BUSY

    def fail(self, error: BlobError, missing_bytes: int) -> None:
        """Answer an upload that went wrong while its body still came."""
        self._receiver = None
        self._phase = BUSY
        self._answer_early(error_answer(error), missing_bytes, b"")

    def post(self, answer: Answer) -> None:
        """Send `answer` for the request that is being answered; safe from any thread."""
        self.shared.mailbox.post(self._send, answer)

    def _send(self, answer: Answer) -> None:
        """Send an answer, then go on with what came meanwhile."""
        self._phase = BUSY
        self._receiver = None
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
        self._sender = Sender(self, answer.stream)
        self._sender.start(head)

    def sender_done(self, error: BaseException | None) -> None:
        """A stream was sent; one that broke off must not look like a whole one."""
        self._sender = None
        if error is not None:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._done()

    def _spell(self, answer: Answer) -> bytes:
        keep = self._keep and not self._stopping
        return answer.spell(self.shared.common_head, self._version, keep=keep)

    def _done(self) -> None:
        """End the exchange: close, or read on."""
        if not self._keep or self._stopping:
            self.transport.close()
            return
        self._phase = HEAD
        self._since_s = self.shared.loop.time()
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

    def _refuse(self, error: BlobError) -> None:
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
        self._phase = DRAIN
        self._ahead = b""
        self._since_s = self.shared.loop.time()
        self._drain = Drain(size_bytes, self._since_s)

    def _count(self, answer: Answer) -> None:
        name = self._target.route if self._target is not None else "none"
        self._site.counts.add(name, self._method, answer.status, answer.sent_bytes)

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
