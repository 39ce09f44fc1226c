"""Answers in another content coding (RFC 9110 section 8.4), to who takes it.

A blob that is stored compressed (stores/compressed.py) is a valid body with `content-encoding:
zstd`, and is sent as it lies there, by sendfile where it is a file. Others are compressed on their
way, if the server is to do that. Ranges are parts of the blob itself, and so are batches. Each form
has an ETag of its own, the others with the coding's name behind the digest; conditions of writes
take any of them for the blob.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.errors import NotFoundError
from holdfast.core.store import Span
from holdfast.http import transfer
from holdfast.stores.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.digest import Digest
    from holdfast.core.store import Source
    from holdfast.http.message import Answer, Request

    Opener = Callable[[Span | None], Source | None]

ZSTD, GZIP, IDENTITY = "zstd", "gzip", "identity"
MADE = {ZSTD, GZIP} if find_spec("zstandard") else {GZIP}
WEIGHT = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")
HEADER_BYTES_MAX = 1024
UNLISTED = 1e-9  # identity is taken by everybody, and liked less than what is named
GZIP_LEVEL = 4
GZIP_WINDOW = 31  # with the head and tail of gzip
UNKNOWN = -1
TEXTS = re.compile(
    r"text/.*|.*[+/](?:json|xml|yaml)|application/(?:javascript|x-ndjson|wasm|toml|sql|x-sh|rtf)"
    r"|image/(?:svg\+xml|bmp)|font/(?:ttf|otf)|model/.*"
)
"""Types of which a blob gets smaller; images, sound, films and archives are compressed already."""


@dataclass(frozen=True, slots=True)
class Codings:
    """What forms of a blob a server has to give."""

    stored: Callable[[Digest], Source | None] | None
    """Opens the zstd form of a blob that is stored so; None where no blob is."""
    makes: bool
    """Compress on the way what is not."""

    def answer(
        self,
        request: Request,
        download: transfer.Download,
        opener: Opener,
        *,
        inline: bool,
        wait: bool,
    ) -> Answer | None:
        """Answer as `transfer.answer` does, in the form that the client likes best.

        Raises:
            BlobError: as `transfer.answer` has it.
        """
        if self.stored is None and not self.makes:
            return transfer.answer(request, download, opener, inline=inline, wait=wait)
        download = download._replace(varies=True)
        liked = _liked(request.headers.get(b"accept-encoding", b""))
        if b"range" in request.headers or not liked:
            return self._plain(request, download, opener, inline=inline, wait=wait)
        if not wait and ((self.stored and ZSTD in liked) or self._is_made(download)):
            return None
        for coding in liked:
            source = self._source(coding, download, opener)
            if source is not None:
                return _coded(request, download, (coding, source), inline=inline)
            if coding == IDENTITY:
                break
        return self._plain(request, download, opener, inline=inline, wait=wait)

    def _plain(
        self,
        request: Request,
        download: transfer.Download,
        opener: Opener,
        *,
        inline: bool,
        wait: bool,
    ) -> Answer | None:
        made = transfer.answer(request, download, opener, inline=inline, wait=wait)
        if made is not None and (self.stored or self._is_made(download)):
            made.digest = None  # the next one who asks may like another form
        return made

    def _is_made(self, download: transfer.Download) -> bool:
        is_apt = limits.CODED_BYTES_MIN <= download.size_bytes <= limits.CODED_BYTES_MAX
        return self.makes and is_apt and is_text(download.content_type)

    def _source(
        self, coding: str, download: transfer.Download, opener: Opener
    ) -> Source | _Made | None:
        """A form of the blob; None when there is none in this coding."""
        if coding == ZSTD and self.stored is not None:
            try:
                source = self.stored(download.digest)
            except NotFoundError:
                return None  # which the opener of the blob itself meets again, and knows
            if source is not None:
                return source
        is_made = coding in MADE and self._is_made(download)
        return _Made(coding, opener) if is_made else None


class _Made(NamedTuple):
    """A form that is made when it is opened."""

    coding: str
    opener: Opener

    def open(self) -> Source | None:
        source = self.opener(None)
        if source is None:
            return None
        with source:
            plain = b"".join(iter(lambda: bytes(source.read(limits.CHUNK_BYTES)), b""))
        data = _compress(self.coding, plain)
        return MemorySource(data, Span(0, len(data)))


def _coded(
    request: Request,
    download: transfer.Download,
    form: tuple[str, Source | _Made],
    *,
    inline: bool,
) -> Answer | None:
    """Answer with one form; its source is closed if it is not in the answer."""
    coding, found = form
    if isinstance(found, _Made):
        coded = download._replace(coding=coding, size_bytes=UNKNOWN)
        return transfer.answer(request, coded, lambda _: found.open(), inline=inline, wait=True)
    coded = download._replace(coding=coding, size_bytes=found.size_bytes)
    made = None
    try:
        made = transfer.answer(request, coded, lambda _: found, inline=inline, wait=True)
    finally:
        if made is None or made.stream is None:
            found.close()
    return made


def is_text(content_type: str) -> bool:
    """Whether blobs of a type get smaller.

    >>> is_text("text/html; charset=utf-8"), is_text("application/ld+json"), is_text("image/png")
    (True, True, False)
    """
    return TEXTS.fullmatch(content_type.partition(";")[0].strip().lower()) is not None


@lru_cache(maxsize=1024)
def _liked(header: bytes) -> tuple[str, ...]:
    """The codings of ours that a client takes, what it likes best first; of equals, the smallest.

    Without zstd and gzip in it, there is nothing to choose.
    """
    if not header or len(header) > HEADER_BYTES_MAX:
        return ()
    weights = {IDENTITY: UNLISTED}
    everything: float | None = None
    for item in header.decode("latin-1").lower().split(","):
        name, _, parameters = item.partition(";")
        name = name.strip().removeprefix("x-")
        weight = _weight(parameters)
        if name == "*":
            everything = weight
        elif name in {ZSTD, GZIP, IDENTITY}:
            weights[name] = weight
    if everything is not None:
        weights = dict.fromkeys((ZSTD, GZIP), everything) | weights
    taken = [name for name in (ZSTD, GZIP, IDENTITY) if weights.get(name, 0)]
    taken.sort(key=lambda name: -weights[name])
    return tuple(taken) if taken != [IDENTITY] else ()


def _weight(parameters: str) -> float:
    """The weight of an item; one that cannot be read is not taken."""
    if not parameters.strip():
        return 1
    name, _, value = parameters.partition("=")
    value = value.strip()
    return float(value) if name.strip() == "q" and WEIGHT.fullmatch(value) else 0


def _compress(coding: str, plain: bytes) -> bytes:
    if coding == ZSTD:
        import zstandard  # noqa: PLC0415 - an extra

        return zstandard.compress(plain, limits.COMPRESS_LEVEL)
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return packer.compress(plain) + packer.flush()
