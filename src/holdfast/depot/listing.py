"""Pages of names in byte order, with prefixes and delimiters; all but the last are full."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.entry import Entry, Page
from holdfast.core.errors import InvalidError
from holdfast.core.kv import prefix_end
from holdfast.depot import catalog

if TYPE_CHECKING:
    from holdfast.core.kv import KV

SCAN_STEP = 256  # keys looked at between two prefixes of a delimited listing


class Query(NamedTuple):
    """What to list."""

    prefix: str = ""
    delimiter: str = ""
    cursor: str | None = None
    limit: int = limits.LIST_LIMIT_DEFAULT


class Listing:
    """One page of names, gathered in steps."""

    def __init__(self, kv: KV, bucket: str, query: Query, now_us: int) -> None:
        """Begin a page of names that have not expired at `now_us`.

        Raises:
            InvalidError: prefix or delimiter are no text.
        """
        self._kv = kv
        self._bucket = bucket
        self._now_us = now_us
        self._query = query
        self._base = catalog.entry_key(bucket, b"")
        self._prefix = _encode("prefix", query.prefix)
        self._delimiter = _encode("delimiter", query.delimiter)
        self._end = prefix_end(self._base + self._prefix)
        self._entries: list[Entry] = []
        self._prefixes: list[str] = []

    def page(self) -> Page:
        """Gather until the page is full or the names end."""
        start = self._base + max(self._prefix, decode_cursor(self._query.cursor))
        while start < self._end:
            step = min(self._room + 1, SCAN_STEP) if self._delimiter else self._room + 1
            items = self._kv.scan(start, self._end, limit=step)
            following = start
            for item in items:
                if self._room == 0:
                    return self._page(encode_cursor(following[len(self._base) :]))
                following, skipped = self._take(item.key, item.value)
                if skipped:
                    break
            else:
                if len(items) < step:
                    break
            start = following
        return self._page(None)

    @property
    def _room(self) -> int:
        return self._query.limit - len(self._entries) - len(self._prefixes)

    def _take(self, stored: bytes, value: bytes) -> tuple[bytes, bool]:
        """Put one key on the page; say where to go on, and whether that is behind a prefix."""
        raw = stored[len(self._base) :]
        at = raw.find(self._delimiter, len(self._prefix)) if self._delimiter else -1
        if at < 0:
            entry = catalog.decode_entry(self._bucket, raw.decode(), value)
            if not 0 < entry.expires_us <= self._now_us:
                self._entries.append(entry)
            return stored + b"\x00", False
        common = raw[: at + len(self._delimiter)]
        self._prefixes.append(common.decode())
        return prefix_end(self._base + common), True

    def _page(self, cursor: str | None) -> Page:
        return Page(self._entries, self._prefixes, cursor)


def check_limit(limit: int) -> None:
    """Hold a page to its bounds.

    Raises:
        InvalidError: out of them.
    """
    if not 0 < limit <= limits.LIST_LIMIT_MAX:
        raise InvalidError("limit", limit, f"1 to {limits.LIST_LIMIT_MAX}")


def _encode(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidError(what, ascii(text[:100]), "text without lone surrogates") from None


def encode_cursor(position: bytes) -> str:
    """Spell where a page ended."""
    return base64.urlsafe_b64encode(position).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> bytes:
    """Read where the page before ended; nothing for the first.

    Raises:
        InvalidError: it is none of ours.
    """
    if not cursor:
        return b""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidError("cursor", cursor[:100], "the `next` of an earlier page") from None
