"""Which way a request goes: plain (its answer may be known), hot, or to the ASGI app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.http import route
from holdfast.http.message import CONDITIONAL, Request, head_error

if TYPE_CHECKING:
    from holdfast.http.head import HeadReader

FORM = b"multipart/"
NOT_PLAIN = frozenset((*CONDITIONAL, b"range", b"content-length", b"transfer-encoding", b"origin"))


def is_plain(reader: HeadReader) -> bool:
    """Whether a request is a GET whose headers cannot change the answer."""
    return reader.verb == b"GET" and NOT_PLAIN.isdisjoint(reader.headers)


def is_ordinary(reader: HeadReader) -> bool:
    """Whether the connection just goes on behind this request, as nearly always."""
    return (
        reader.version == "1.1"
        and reader.stays
        and head_error("1.1", reader.headers.get(b"host")) is None
    )


def is_cold(request: Request, size_bytes: int) -> bool:
    """Whether the ASGI app answers a request."""
    headers = request.headers
    if b"transfer-encoding" in headers or b"origin" in headers:
        return True
    if not request.path.startswith(b"/") or b"#" in request.path or b"#" in request.query:
        return True  # absolute form, or none that a client should send
    if request.path.startswith(route.COLD_STARTS):
        return True
    if request.method == "POST" and route.is_action(request.path):
        return True
    if request.method in {"PUT", "POST"}:
        return headers.get(b"content-type", b"").lower().startswith(FORM)
    return request.method not in {"GET", "HEAD", "DELETE"} or size_bytes > 0
