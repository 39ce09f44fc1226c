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
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import NotFoundError
from holdfast.core.many import read_all
from holdfast.core.store import Span
from holdfast.http import transfer
from holdfast.stores.encoded import Form
from holdfast.stores.memory import MemorySource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.store import Source
    from holdfast.http.message import Answer, Request

    Opener = Callable[[Span | None], Source | None]
    Mark = Callable[[bytes, Mapping[bytes, bytes]], bytes]

ACCEPT = b"accept-encoding"
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

    stored: Callable[..., Form | None] | None
    """Opens a blob in zstd if it is stored so (`EncodedStore.open_form`); None where none is."""
    makes: bool
    """Compress on the way what is not."""

    @property
    def vary(self) -> bool:
        """Whether there is more than one form of some blobs."""
        return self.stored is not None or self.makes

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
        if not self.vary:
            return transfer.answer(request, download, opener, inline=inline, wait=wait)
        download = download._replace(varies=True)
        accepted = b"" if b"range" in request.headers else request.headers.get(ACCEPT, b"")
        liked, is_made = _liked(accepted), self._is_made(download)
        if liked and is_made and not wait:
            return None
        chosen = self._choose(download.digest, liked, is_made=is_made, wait=wait)
        if chosen is None:
            return None
        if isinstance(chosen, Form):
            return _stored(request, download, chosen, inline=inline, wait=wait)
        if chosen:
            return _made(request, download, chosen, opener, inline=inline)
        return transfer.answer(request, download, opener, inline=inline, wait=wait)

    def _choose(
        self, digest: Digest, liked: Sequence[str], *, is_made: bool, wait: bool
    ) -> Form | str | None:
        """The stored form, or the coding of one to be made, or none; None instead of waiting.

        Raises:
            BlobError: the stored form cannot be read.
        """
        for coding in liked:
            if coding == ZSTD and self.stored is not None:
                try:
                    form = self.stored(digest, wait=wait)
                except NotFoundError:
                    break  # the opener of the blob itself meets it again, and knows
                if form is None or form.coding:
                    return form
                form.source.close()
            if is_made and coding in MADE:
                return coding
            if coding == IDENTITY:
                break
        return ""

    def marking(self, mark: Mark) -> Mark:
        """What names a path for whoever sends some headers, if `mark` does but for codings."""
        if not self.vary:
            return mark
        return lambda path, headers: b"%b\0%b" % (headers.get(ACCEPT, b""), mark(path, headers))

    def _is_made(self, download: transfer.Download) -> bool:
        is_apt = limits.CODED_BYTES_MIN <= download.size_bytes <= limits.CODED_BYTES_MAX
        return self.makes and is_apt and is_text(download.content_type)


def _stored(
    request: Request, download: transfer.Download, form: Form, *, inline: bool, wait: bool
) -> Answer | None:
    """Answer with what is stored, which is closed if it is not in the answer."""
    source = form.source
    coded = download._replace(coding=form.coding, size_bytes=source.size_bytes)
    made = None
    try:
        made = transfer.answer(request, coded, lambda _: source, inline=inline, wait=wait)
    finally:
        if made is None or made.stream is None:
            source.close()
    return made


def _made(
    request: Request, download: transfer.Download, coding: str, opener: Opener, *, inline: bool
) -> Answer | None:
    """Answer with a form that is made now, and not kept."""

    def open_made(span: Span | None) -> Source | None:
        source = opener(span)
        if source is None:
            return None
        with source:
            data = _compress(coding, read_all(source))
        return MemorySource(data, Span(0, len(data)))

    coded = download._replace(coding=coding, size_bytes=UNKNOWN)
    made = transfer.answer(request, coded, open_made, inline=inline, wait=True)
    if made is not None:
        made.digest = None
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
