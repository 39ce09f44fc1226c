"""Presigned URLs: a request that anybody may send who has its URL, signed with an API key.

    /b/photos/1.jpg?key_id=...&signed_at=2026-11-21T20:00:00Z&expires_s=3600&signature=...

Signed are the method and the target as they are sent, byte by byte, up to the signature, which is
last. So there is nothing to put in order or to spell anew, and nothing that two sides could read in
two ways. It is the HMAC-SHA-256 (RFC 2104) of the text that `_message` spells; its key is the
SHA-256 of the secret of the API key: who signs knows the secret, and a store keeps just that.
"""

import base64
import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from holdfast.core import limits
from holdfast.core.access import Token, parse_token
from holdfast.core.digest import Digest
from holdfast.core.errors import InvalidError

GET, HEAD, PUT = "GET", "HEAD", "PUT"
VERSION = b"holdfast-presigned-1"
KEY_ID, SIGNED_AT, EXPIRES_S = "key_id", "signed_at", "expires_s"
BYTES_MAX, CONTENT_TYPE, DIGEST, CREATE_ONLY = "bytes_max", "content_type", "digest", "create_only"
NAMES = frozenset((KEY_ID, SIGNED_AT, EXPIRES_S, BYTES_MAX, CONTENT_TYPE, DIGEST, CREATE_ONLY))
MARK = b"&signature="
SIGNS = (b"signature", b"key_id")
"""Parameters by which such a URL is known, whole or not."""
SIGNATURE = re.compile(rb"[A-Za-z0-9_-]{43}")
MOMENT = "%Y-%m-%dT%H:%M:%SZ"
MOMENT_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
WHOLE = re.compile(r"[0-9]{1,18}")
SECOND_US = 1_000_000
INLINE = "disposition=inline"


class Presigned(NamedTuple):
    """What a presigned URL is for. What follows `expires_s` holds uploads to something."""

    method: str = GET
    """GET, which allows HEAD, too, or PUT."""
    expires_s: int = limits.PRESIGN_S
    bytes_max: int | None = None
    content_type: str | None = None
    digest: Digest | None = None
    create_only: bool = False
    """Only while there is nothing of that name: so it stores once."""
    inline: bool = False
    """Let browsers show a download instead of keeping it."""

    def check(self) -> None:
        """Accept every member.

        Raises:
            InvalidError: one is out of its bounds, or not for this method.
        """
        if self.method not in {GET, PUT}:
            raise InvalidError("method", self.method[:100], "GET or PUT")
        if not 1 <= self.expires_s <= limits.PRESIGN_S_MAX:
            allowed = f"1 to {limits.PRESIGN_S_MAX} seconds"
            raise InvalidError(EXPIRES_S, self.expires_s, allowed)
        if self.bytes_max is not None and not 0 <= self.bytes_max <= limits.WHOLE_MAX:
            raise InvalidError(BYTES_MAX, self.bytes_max, f"0 to {limits.WHOLE_MAX}")
        uploads = (self.bytes_max, self.content_type, self.digest)
        if self.method == GET and (uploads != (None, None, None) or self.create_only):
            raise InvalidError("method", GET, "PUT, where an upload is held to something")
        if self.method == PUT and self.inline:
            raise InvalidError("method", PUT, "GET, where browsers show something")


class Shown(NamedTuple):
    """A presigned URL as it came, whose signature nobody has looked at."""

    key_id: str
    signed_us: int
    wanted: Presigned
    rest: bytes
    """The query without all that is about the signature."""
    message: bytes
    signature: bytes

    def is_signed(self, secret_hash: bytes) -> bool:
        """Whether the signature is that of a key; compared in constant time."""
        return hmac.compare_digest(_sign(secret_hash, self.message), self.signature)

    def is_current(self, now_us: int) -> bool:
        """Whether it is good now: not expired, and not signed by a clock that is far ahead."""
        ends_us = self.signed_us + self.wanted.expires_s * SECOND_US
        begins_us = self.signed_us - limits.PRESIGN_SKEW_S * SECOND_US
        return begins_us <= now_us < ends_us


def presign(token: str, target: str, wanted: Presigned, now_us: int) -> str:
    """Sign a target, which is a path as it will be sent; give it with its query.

    Raises:
        InvalidError: the token is no API key, or something else is asked for than there is.
    """
    key = parse_token(token)
    if key is None:
        raise InvalidError("API key", None, "as it was shown when it was made")
    wanted.check()
    query = _query(key, wanted, now_us)
    signature = _sign(key.hash, _message(wanted.method, target.encode(), query.encode()))
    return f"{target}?{query}{MARK.decode()}{signature.decode()}"


def expires_us(wanted: Presigned, now_us: int) -> int:
    """When a URL is no good any more that is signed now."""
    return (now_us // SECOND_US + wanted.expires_s) * SECOND_US


def is_presigned(query: bytes) -> bool:
    """Whether a query looks like that of a presigned URL, or what is left of one."""
    return any(sign in query for sign in SIGNS) and any(
        pair.partition(b"=")[0] in SIGNS for pair in query.split(b"&")
    )


def parse_presigned(method: str, path: bytes, query: bytes) -> Shown | None:
    """Read a presigned URL; None if it is none, whyever."""
    method = GET if method == HEAD else method
    signed, mark, signature = query.rpartition(MARK)
    if not mark or method not in {GET, PUT} or SIGNATURE.fullmatch(signature) is None:
        return None
    found: dict[str, str] = {}
    rest: list[bytes] = []
    for pair in signed.split(b"&"):
        raw, _, value = pair.partition(b"=")
        name = raw.decode("latin-1")
        if name not in NAMES:
            rest.append(pair)
        elif name in found or (text := _decode(value)) is None:
            return None
        else:
            found[name] = text
    wanted = _wanted(method, found)
    signed_us = _moment_us(found.get(SIGNED_AT, ""))
    if wanted is None or signed_us is None:
        return None
    message = _message(method, path, signed)
    return Shown(found.get(KEY_ID, ""), signed_us, wanted, b"&".join(rest), message, signature)


def _query(key: Token, wanted: Presigned, now_us: int) -> str:
    """Spell all but the signature."""
    signed_at = datetime.fromtimestamp(now_us // SECOND_US, UTC).strftime(MOMENT)
    pairs = [(KEY_ID, key.id), (SIGNED_AT, signed_at), (EXPIRES_S, str(wanted.expires_s))]
    if wanted.bytes_max is not None:
        pairs.append((BYTES_MAX, str(wanted.bytes_max)))
    if wanted.content_type is not None:
        pairs.append((CONTENT_TYPE, wanted.content_type))
    if wanted.digest is not None:
        pairs.append((DIGEST, str(wanted.digest)))
    if wanted.create_only:
        pairs.append((CREATE_ONLY, "true"))
    spelled = [f"{name}={quote(value, safe=':')}" for name, value in pairs]
    return "&".join([INLINE, *spelled] if wanted.inline else spelled)


def _wanted(method: str, found: dict[str, str]) -> Presigned | None:
    """What parameters ask for; None if one of them cannot be read."""
    texts = (found.get(EXPIRES_S, ""), found.get(BYTES_MAX, "0"))
    if not all(map(WHOLE.fullmatch, texts)) or found.get(CREATE_ONLY, "true") != "true":
        return None
    expires_s, bytes_max = map(int, texts)
    try:
        wanted = Presigned(
            method,
            expires_s,
            bytes_max if BYTES_MAX in found else None,
            found.get(CONTENT_TYPE),
            Digest.parse(found[DIGEST]) if DIGEST in found else None,
            CREATE_ONLY in found,
        )
        wanted.check()
    except InvalidError:
        return None
    return wanted


def _moment_us(text: str) -> int | None:
    if MOMENT_FORM.fullmatch(text) is None:
        return None
    try:
        at = datetime.strptime(text, MOMENT).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(at.timestamp()) * SECOND_US


def _decode(value: bytes) -> str | None:
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        return None


def _message(method: str, path: bytes, query: bytes) -> bytes:
    return b"%b\n%b\n%b?%b" % (VERSION, method.encode(), path, query)


def _sign(secret_hash: bytes, message: bytes) -> bytes:
    signed = hmac.new(secret_hash, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(signed).rstrip(b"=")
