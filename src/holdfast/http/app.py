"""The ASGI app: every route again, for what the hot path hands over and for other servers.

Routing, conditions, answers and errors are those of the hot path (route.py, site.py); this module
only moves bytes between ASGI and them. Starlette adds CORS.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as StarletteRequest

from holdfast.core import limits
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    HeadTooLargeError,
    InvalidError,
    SlowError,
)
from holdfast.core.store import Span
from holdfast.depot.ingest import check_size
from holdfast.http import route
from holdfast.http.cold import abort_of
from holdfast.http.feed import Listeners
from holdfast.http.form import Form
from holdfast.http.message import (
    Answer,
    Request,
    defect_answer,
    error_answer,
    head_error,
    log_failure,
)
from holdfast.http.outcome import Intake, is_transfer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from holdfast.config.settings import Settings
    from holdfast.http.feed import Feed
    from holdfast.http.loop import Shared
    from holdfast.http.message import Stream
    from holdfast.http.site import Site

STEP_BYTES = 256 * limits.KIB
UVLOOP_CLOSED = "the handler is closed"  # what its transport says when the client left
CLOSE = b"connection: close\r\n"
EXPOSED = (
    "etag",
    "location",
    "content-range",
    "content-disposition",
    "repr-digest",
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
)

Result = TypeVar("Result")


def make_app(site: Site, settings: Settings, shared: Callable[[], Shared]) -> ASGIApp:
    """Build the app; `shared` gives what the running loop shares."""
    endpoint = Endpoint(site, settings, shared)
    if not settings.cors_origins:
        return endpoint
    cors = CORSMiddleware(
        endpoint,
        allow_origins=settings.cors_origins,
        allow_methods=("GET", "HEAD", "PUT", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Leave whoever may not come to the endpoint, which says so."""
        await (cors if endpoint.lets_in(scope) else endpoint)(scope, receive, send)

    return app


class Endpoint:
    """Answers every HTTP request of the app."""

    def __init__(self, site: Site, settings: Settings, shared: Callable[[], Shared]) -> None:
        self._site = site
        self._settings = settings
        self._shared = shared
        self._listeners = Listeners(self._in_thread, site.counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI 3 (asgi.readthedocs.io)."""
        assert scope["type"] == "http"
        request, body = self._request(scope), StarletteRequest(scope, receive)
        refused = _refusal(request, scope["http_version"])
        try:
            if refused is None:
                request = self._site.gate.check(request, _length(request))
                answer = await self._answer(request, body)
            else:
                answer = error_answer(refused)
        except BlobError as error:
            answer = error_answer(error)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - the client waits for an answer
            answer = defect_answer(error, "app")
        self._count(request, answer)
        if refused is not None or b"upgrade" in request.headers or self._settings.hot_path:
            answer.head += CLOSE  # the hot path watches the time between requests, uvicorn not
        await self._send(request, answer, body, send)

    def lets_in(self, scope: Scope) -> bool:
        """Whether a request comes from where one may come from."""
        return self._site.gate.lets_in(self._request(scope).address)

    def _request(self, scope: Scope) -> Request:
        headers: dict[bytes, bytes] = {}
        for name, raw in scope["headers"]:
            before = headers.get(name)
            value = raw.strip(b" \t")
            headers[name] = value if before is None else before + b", " + value
        peer = scope["client"][0] if scope["client"] else ""
        address = self._site.gate.address(peer, headers)
        return Request(scope["method"], scope["raw_path"], scope["query_string"], headers, address)

    def _count(self, request: Request, answer: Answer) -> None:
        self._site.counts.add("cold", request.method, answer.status, answer.sent_bytes)
        if request.method != "HEAD":
            request.charge(answer.sent_bytes)

    async def _answer(self, request: Request, body: StarletteRequest) -> Answer:
        target = route.resolve(request.method, request.path)
        if target.route in {route.ADMIN, route.PRESIGN}:
            data = await self._whole(request, body, limits.ADMIN_BODY_BYTES_MAX)
            return await self._in_thread(lambda: self._site.desk.answer(request, target, data))
        if request.method in {"GET", "HEAD"}:
            return await self._look(request, target, body)
        if target.route in route.MANY:
            return await self._many(request, target, body)
        if target.route in route.REVIVALS:
            _refuse_body(request)
            return await self._in_thread(lambda: self._site.revive(request, target))
        if request.method == "DELETE" or is_transfer(request):
            if request.method != "DELETE":
                _refuse_body(request)
            return await self._ended(lambda done: self._site.change(request, target, done))
        return await self._receive(request, target, body)

    async def _look(self, request: Request, target: route.Target, body: StarletteRequest) -> Answer:
        if target.route == route.EVENTS:
            self._listeners.check()
            _refuse_old(body)
        if target.route not in {route.BLOB, route.HASH}:
            return await self._in_thread(lambda: self._site.look(request, target))
        answer = await self._in_thread(lambda: self._site.read(request, target, wait=True))
        assert answer is not None
        return answer

    async def _many(self, request: Request, target: route.Target, body: StarletteRequest) -> Answer:
        _refuse_old(body)
        data = await self._whole(request, body, limits.BATCH_BODY_BYTES_MAX)
        return await self._in_thread(lambda: self._site.many(request, target, data))

    async def _whole(self, request: Request, body: StarletteRequest, bound: int) -> bytes:
        """Read a body that is small."""
        check_size(_length(request), bound, "body")
        request.charge(_length(request))
        data = bytearray()
        async for chunk in self._timed(body.stream()):
            data += chunk
            self._received(request, len(chunk))
            check_size(len(data), bound, "body")
        return bytes(data)

    async def _receive(
        self, request: Request, target: route.Target, body: StarletteRequest
    ) -> Answer:
        size_bytes = _length(request)
        form = Form.of(request)
        if form is not None:
            request, size_bytes = form.request, 0
        admitted = await self._in_thread(lambda: self._site.admit(request, target, size_bytes))
        if isinstance(admitted, Answer):
            return admitted
        request.charge(_length(request))
        try:
            await self._feed(request, admitted, form, body)
            if form is not None:
                await self._in_thread(lambda: form.end(admitted.upload))
            return await self._ended(admitted.finish)
        finally:
            await self._in_thread(admitted.upload.close)

    async def _feed(
        self, request: Request, intake: Intake, form: Form | None, body: StarletteRequest
    ) -> None:
        """Write the body in steps, each in a thread, so that the loop never waits for a disk."""
        waiting = bytearray()
        async for chunk in self._timed(body.stream()):
            waiting += chunk
            self._received(request, len(chunk))
            if len(waiting) >= STEP_BYTES:
                step, waiting = bytes(waiting), bytearray()
                await self._write(intake, form, step)
        if waiting:
            await self._write(intake, form, bytes(waiting))

    def _received(self, request: Request, size_bytes: int) -> None:
        """Count bytes of a body, and charge those that nobody announced."""
        self._site.counts.receive(size_bytes)
        if b"content-length" not in request.headers:
            request.charge(size_bytes)

    async def _write(self, intake: Intake, form: Form | None, step: bytes) -> None:
        if form is None:
            await self._in_thread(lambda: intake.upload.write(step))
        else:
            await self._in_thread(lambda: form.write(intake.upload, step))

    async def _timed(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass chunks on; a client that sends none for too long is refused."""
        chunks = aiter(stream)
        while True:
            try:
                async with asyncio.timeout(self._settings.body_wait_s):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise SlowError("the body of the request did not arrive in time") from None
            yield chunk

    async def _ended(self, begin: Callable[[Callable[[Answer], None]], None]) -> Answer:
        """Begin something that ends by a callback, in a thread, and wait for it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Answer] = loop.create_future()

        def end(answer: Answer) -> None:
            if not ended.done():
                ended.set_result(answer)

        def done(answer: Answer) -> None:
            loop.call_soon_threadsafe(end, answer)

        await self._in_thread(lambda: begin(done))
        return await ended

    async def _send(
        self, request: Request, answer: Answer, body: StarletteRequest, send: Send
    ) -> None:
        try:
            if answer.feed is not None:
                await self._send_feed(answer, answer.feed, body, _charged(request, send))
            elif answer.parts is not None:
                await self._send_parts(answer, answer.parts, body, _charged(request, send))
            else:
                await self._send_all(request, answer, send)
        except BlobError as error:
            log_failure(error)  # the answer stays too short, which clients see
            abort = abort_of(body.scope)
            if isinstance(error, SlowError) and abort is not None:
                abort()
                await body.receive()  # that it is gone
        except RuntimeError as error:
            if UVLOOP_CLOSED not in str(error):
                raise
        finally:
            answer.close()

    async def _send_parts(
        self, answer: Answer, parts: Generator[bytes], body: StarletteRequest, send: Send
    ) -> None:
        """Send a body as it is made, while somebody takes it."""
        await send(_start(answer))
        while chunk := await self._in_thread(partial(next, parts, b"")):
            if await body.is_disconnected():
                return
            await self._give(chunk, send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_feed(
        self, answer: Answer, feed: Feed, body: StarletteRequest, send: Send
    ) -> None:
        """Send events as they happen, until the client leaves or the server stops."""

        async def is_over() -> bool:
            return self._shared().is_stopping or await body.is_disconnected()

        await send(_start(answer))
        await self._listeners.tell(feed, lambda chunk: self._give(chunk, send), is_over)
        await send({"type": "http.response.body", "body": b""})

    async def _give(self, chunk: bytes, send: Send) -> None:
        """Send a part of an answer to a client that takes it in time."""
        self._site.counts.send(len(chunk))
        try:
            async with asyncio.timeout(self._settings.body_wait_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            raise SlowError("the client did not take the answer in time") from None

    async def _send_all(self, request: Request, answer: Answer, send: Send) -> None:
        await send(_start(answer))
        if answer.stream is not None and request.method != "HEAD":
            await self._stream(answer.stream, send)
        body = b"" if request.method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, stream: Stream, send: Send) -> None:
        """Send verified chunks."""
        for part in stream.parts:
            if not isinstance(part, Span):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                continue
            stream.source.seek(part.offset)
            missing = part.size_bytes
            while missing:
                step = min(missing, limits.CHUNK_BYTES)
                chunk = bytes(await self._in_thread(partial(stream.source.read, step)))
                if not chunk:
                    raise CorruptError("a blob is shorter than its description says")
                missing -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        """Wait for a disk thread to its end, also when cancelled: it has what is closed then."""
        working = asyncio.get_running_loop().run_in_executor(self._shared().disk, call)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait((working,))
            raise


def _charged(request: Request, send: Send) -> Send:
    """Charge the bytes of an answer as they are sent, for nobody knows how many there are."""
    if request.bill is None:
        return send

    async def charge(message: Message) -> None:
        request.charge(len(message.get("body", b"")))
        await send(message)

    return charge


def _refusal(request: Request, version: str) -> BlobError | None:
    """Why this request cannot be read in one way only."""
    headers = request.headers
    size_bytes = sum(len(name) + len(value) + 4 for name, value in headers.items())
    size_bytes += len(request.method) + len(request.path) + len(request.query) + 14
    if size_bytes > limits.HEAD_BYTES_MAX:
        return HeadTooLargeError("head of the request", limits.HEAD_BYTES_MAX)
    coding = headers.get(b"transfer-encoding")
    if coding is not None and coding.lower() != b"chunked":
        got = coding[:100].decode("latin-1")
        return InvalidError("transfer-encoding", got, "chunked and nothing else")
    if b"upgrade" in headers and _has_body(request):  # uvicorn's parser drops the body
        return InvalidError("upgrade", request.header(b"upgrade"), "not together with a body")
    return None if version in {"2", "3"} else head_error(version, headers.get(b"host"))


def _refuse_old(body: StarletteRequest) -> None:
    if body.scope["http_version"] == "1.0":
        raise InvalidError("version", "1.0", "HTTP/1.1: the length of this answer is not known")


def _refuse_body(request: Request) -> None:
    if _has_body(request):
        raise InvalidError("content-length", None, "no body for this request")


def _has_body(request: Request) -> bool:
    return b"transfer-encoding" in request.headers or _length(request) > 0


def _length(request: Request) -> int:
    text = request.headers.get(b"content-length", b"0")
    if not text.isdigit():
        raise InvalidError("content-length", text[:100].decode("latin-1"), "digits")
    return int(text)


def _start(answer: Answer) -> Message:
    headers = [_line(line) for line in (answer.head + answer.content_length).splitlines()]
    headers.append((b"server", b"holdfast"))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


def _line(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b": ")
    return name, value
