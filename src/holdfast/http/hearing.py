"""An ASGI app around ours that hears a client out whom it has answered early.

A client that is still sending its body when the connection is closed may lose the answer (RFC 9112
section 9.6). The answer goes out at once; behind it, what is still sent is read and dropped for a
while, as the hot path does (http/drain.py).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.http.drain import PAUSE_S_MAX

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_LENGTHS = (b"", b"0")


class HearsOut:
    """Passes requests on; whoever sends one with a body is heard out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI 3 (asgi.readthedocs.io)."""
        if not _has_body(scope):
            await self._app(scope, receive, send)
            return
        heard = _Heard(receive)

        async def say(message: Message) -> None:
            is_end = message["type"] == "http.response.body" and not message.get("more_body")
            if is_end and not heard.is_all:
                await send({**message, "more_body": True})
                await heard.out()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, heard.receive, say)


class _Heard:
    """What came of a body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_all = False

    async def receive(self) -> Message:
        """Take the next part."""
        message = await self._receive()
        self.is_all = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def out(self) -> None:
        """Drop the rest, for as long as a client is given."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S_MAX):
                while not self.is_all:
                    await self.receive()


def _has_body(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    headers = dict(scope["headers"])
    is_long = headers.get(b"content-length", b"") not in NO_LENGTHS
    return is_long or b"transfer-encoding" in headers
