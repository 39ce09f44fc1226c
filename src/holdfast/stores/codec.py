"""Other forms of blobs, which a store of encoded blobs writes and reads (stores/encoded.py).

A codec cuts the bytes of a blob into frames of `limits.FRAME_BYTES`, the last one maybe shorter,
writes each in its own form, and behind them a tail that says what blob this is. A part of a blob is
read by the tail and the frames that hold it. What is gained by no other form may stay as it is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from holdfast.core.digest import Hasher
from holdfast.core.errors import CorruptError
from holdfast.core.limits import CHUNK_BYTES, FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Source, Span

LOOK_BYTES = 128  # from either end, by which a codec knows its own


class Encoder(Protocol):
    """One blob on its way into its other form; for one thread."""

    @property
    def is_plain(self) -> bool:
        """Whether this blob stays as it is; it may be known from the first frame on."""

    def frame(self, plain: Buffer) -> Buffer:
        """Encode the next frame; all but the last are full, and there is none of zero bytes."""

    def finish(self, ref: BlobRef) -> Buffer:
        """Make the tail of a blob."""


class Frames(Protocol):
    """An encoded blob, described by its tail; for one thread."""

    @property
    def size_bytes(self) -> int:
        """Size of the blob itself."""

    @property
    def is_common(self) -> bool:
        """Whether who knows the codec's coding, and nothing else, can read the encoded bytes."""

    def place(self, number: int) -> Span:
        """Where frame `number` lies in the encoded bytes; the tail has shown that it does."""

    def decode(self, number: int, data: Buffer) -> Buffer:
        """Bring frame `number` back, to exactly the bytes that it should have.

        Raises:
            CorruptError: it is another frame, or damaged.
        """


class Codec(Protocol):
    """One other form of blobs; safe from any thread."""

    @property
    def coding(self) -> str:
        """What HTTP calls this form of a blob; empty where it has no name there."""

    @property
    def keeps_names(self) -> bool:
        """Whether a blob is stored under its own digest."""

    @property
    def leaves_plain(self) -> bool:
        """Whether some blobs stay as they are."""

    def hide(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Under what names blobs are stored."""

    def show(self, names: Sequence[Digest]) -> Sequence[Digest]:
        """Which blobs are stored under these names."""

    def encoder(self) -> Encoder:
        """Begin with a blob."""

    def is_likely(self, stored: Source) -> bool:
        """Whether stored bytes look like a blob in this form; reads `LOOK_BYTES` at either end."""

    def frames(self, stored: Source, digest: Digest) -> Frames | None:
        """Read the tail of a blob; None when it is stored as it is.

        Raises:
            CorruptError: the stored bytes are another blob's, or damaged.
            UnsupportedError: a newer holdfast wrote them.
        """


def frame_count(size_bytes: int) -> int:
    """How many frames make up a blob."""
    return -(-size_bytes // FRAME_BYTES)


def frame_size(size_bytes: int, number: int) -> int:
    """Of how many bytes of the blob a frame is."""
    return min(FRAME_BYTES, size_bytes - number * FRAME_BYTES)


def read_span(stored: Source, span: Span) -> Buffer:
    """Read exactly these stored bytes.

    Raises:
        CorruptError: there are fewer, or they are damaged.
    """
    stored.seek(span.offset)
    first = stored.read(span.size_bytes) if span.size_bytes else b""
    if len(first) == span.size_bytes:
        return first
    data = bytearray(first)
    while len(data) < span.size_bytes:
        more = stored.read(span.size_bytes - len(data))
        if not more:
            raise CorruptError("the encoded bytes of a blob end too early")
        data += more
    return data


def peek(stored: Source, span: Span) -> Buffer:
    """Do the same; what lies in a file and was verified lately is not read chunk by chunk again.

    Raises:
        CorruptError: as `read_span` does.
    """
    if stored.file() is None:
        return read_span(stored, span)
    stored.verify(span)
    file = stored.file()
    if file is None:
        return read_span(stored, span)
    data = os.pread(file.descriptor, span.size_bytes, file.offset + span.offset)
    return data if len(data) == span.size_bytes else read_span(stored, span)


def has_digest(stored: Source, digest: Digest) -> bool:
    """Whether stored bytes are those of the blob, by reading them all."""
    hasher = Hasher()
    stored.seek(0)
    while chunk := stored.read(CHUNK_BYTES):
        hasher.update(chunk)
    return hasher.ref().digest == digest
