"""The cold way: uvicorn's own protocol, with a 400 that waits for its turn.

uvicorn refuses what is no HTTP as soon as it has read it. While a request before it is still being
answered, the client would take the 400 for that answer, or for a part of it. And it knows no way to
let go of a client that takes nothing: a transport that is closed waits until all is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

ABORT = "holdfast.abort"


class ColdProtocol(HttpToolsProtocol):
    """One connection, whose answers come in the order of what was asked."""

    _refusal = ""

    def on_message_begin(self) -> None:
        """Tell the app how to abort the connection."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item] # what an extension says is its own

    def data_received(self, data: bytes) -> None:
        """Read on, but not behind what is no HTTP."""
        if not self._refusal:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what was read last, once all before it is answered, and close."""
        newest: RequestResponseCycle | None = self.cycle
        if newest is None or newest.response_complete:
            super().send_400_response(msg)
        elif not newest.more_body:
            self._refusal = msg
        elif self.pipeline and self.pipeline[0][0] is newest:  # its own body is at fault
            self.pipeline.popleft()
            self._refusal = msg
        elif newest.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """Go on with the next request, or with the refusal."""
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal and not self.transport.is_closing():
            super().send_400_response(self._refusal)


def abort_of(scope: Scope) -> Callable[[], None] | None:
    """What aborts the connection of a request, where the server says how."""
    abort: Callable[[], None] | None = (scope.get("extensions") or {}).get(ABORT)
    return abort
