"""Presigned URLs at a server: what they open, what holds their uploads, and who is given one.

Who has a key may sign without a server (wire/presigned); POST /presign does it for those who would
rather ask.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from holdfast import wire
from holdfast.core.access import Scope
from holdfast.core.digest import Digest
from holdfast.core.entry import moment
from holdfast.core.errors import BlobError, InvalidError, TooLargeError, UnsupportedTypeError
from holdfast.http import route
from holdfast.http.message import FORM, json_answer
from holdfast.http.outcome import is_transfer
from holdfast.wire import Presigned

if TYPE_CHECKING:
    from holdfast.core.access import Caller
    from holdfast.depot.engine import Engine
    from holdfast.http.gate import Gate
    from holdfast.http.message import Answer, Request

BLOBS = frozenset((route.BLOB, route.HASH))
PATH = re.compile(r"/[!-\"$->@-~]{1,8191}")  # visible, without ? and #
USUAL = Presigned()


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /presign is asked for."""

    path: str
    method: str = USUAL.method
    expires_s: int = USUAL.expires_s
    bytes_max: int | None = None
    content_type: str | None = None
    digest: str | None = None
    create_only: bool = False
    inline: bool = False

    def read(self) -> Presigned:
        """The same as a value.

        Raises:
            InvalidError: there is no such thing.
        """
        digest = None if self.digest is None else Digest.parse(self.digest)
        limited = (self.bytes_max, self.content_type, digest, self.create_only)
        wanted = Presigned(self.method, self.expires_s, *limited, inline=self.inline)
        wanted.check()
        if PATH.fullmatch(self.path) is None:
            raise InvalidError("path", self.path[:100], "that of a blob, as it will be sent")
        return wanted


def is_for_blob(request: Request) -> bool:
    """Whether a request brings or fetches a blob, which is all that a URL may be signed for."""
    try:
        target = route.resolve(request.method, request.path)
    except BlobError:
        return False
    return target.route in BLOBS and not is_transfer(request)


def held(request: Request, wanted: Presigned, size_bytes: int) -> Request:
    """Hold a request to what its URL says of the body, which has this size if it was announced.

    Raises:
        TooLargeError, UnsupportedTypeError: the body is another one.
        InvalidError: nobody can tell.
    """
    headers = dict(request.headers)
    if wanted.bytes_max is not None:
        if b"content-length" not in headers:
            raise InvalidError("content-length", None, "that of the body, which this URL limits")
        if size_bytes > wanted.bytes_max:
            raise TooLargeError("blob", wanted.bytes_max)
    if wanted.content_type is not None:
        _check_type(headers.get(b"content-type", FORM).decode("latin-1"), wanted.content_type)
        headers[b"content-type"] = wanted.content_type.encode("latin-1", "replace")
    if wanted.digest is not None:
        headers[b"repr-digest"] = wire.repr_digest(wanted.digest).encode()
    if wanted.create_only:
        headers[b"if-none-match"] = b"*"
    return request._replace(headers=headers)


def answer(engine: Engine, gate: Gate, request: Request, body: bytes) -> Answer:
    """Sign a URL for the caller, with the key that it shows, if it may do itself what it is for.

    Raises:
        UnauthenticatedError, DeniedError, NotFoundError: it may not.
        InvalidError: the request is none.
    """
    caller = gate.enter(request)
    try:
        wish = msgspec.json.decode(body, type=Wish)
    except msgspec.DecodeError as error:
        raise InvalidError("body", str(error)[:200], "a JSON object with a path") from None
    wanted = wish.read()
    _check_allowed(engine, caller, wish.path, wanted)
    now_us = engine.names.clock.now_us()
    told = {
        "method": wanted.method,
        "url": wire.presign(gate.token(request), wish.path, wanted, now_us),
        "expires_at": wire.format_moment(moment(wire.expires_us(wanted, now_us))),
    }
    return json_answer(200, msgspec.json.encode(told), b"cache-control: no-store\r\n")


def _check_allowed(engine: Engine, caller: Caller, path: str, wanted: Presigned) -> None:
    target = route.resolve(wanted.method, path.encode())
    scope = Scope.READ if wanted.method == USUAL.method else Scope.WRITE
    if target.route == route.BLOB:
        bucket = caller.bucket(target.bucket)
        caller.check(scope, bucket, engine.names.policies.of(bucket).policy)
    elif target.route == route.HASH:
        caller.check_content(scope)
    else:
        raise InvalidError("path", path[:100], "that of a blob, as it will be sent")


def _check_type(declared: str, allowed: str) -> None:
    """Hold a declared type to the one that a URL is for; a form's is what curl says by itself."""
    if _plain(declared) not in {_plain(allowed), FORM.decode()}:
        raise UnsupportedTypeError(
            f"this URL is for {allowed[:100]}", got=declared[:100], allowed=allowed[:100]
        )


def _plain(content_type: str) -> str:
    return content_type.replace(" ", "").lower()
