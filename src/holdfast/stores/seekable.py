"""What is around the frames of a compressed blob: who it is, and where they lie (docs/format.md).

    start | zstd frames | a frame that names the blob | seek table

All but the zstd frames are skippable: decoders pass over them. The seek table is that of the zstd
seekable format, and is there if the zstd frames are more than one:
https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md
All integers have their least significant byte first.
"""

from __future__ import annotations

import struct
import sys
from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from holdfast.core.digest import BlobRef
from holdfast.core.errors import CorruptError, UnsupportedError
from holdfast.core.limits import FRAME_BYTES
from holdfast.core.store import Span
from holdfast.stores.codec import frame_count, frame_size, peek

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.digest import Digest
    from holdfast.core.store import Source

START_MAGIC = 0x184D2A52  # skippable frames have 0x184D2A50 to 0x184D2A5F (RFC 8878 section 3.1.2)
NAME_MAGIC = 0x184D2A53
TABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
TAG = b"HOLDFAST"
VERSION = 1
NAME = struct.Struct("<II8sHHIQ32sQ")  # magic, size, tag, version, flags, frame, blob, digest, sum
NAME_BYTES = NAME.size
CHECKSUM_BYTES = 8
HEAD = struct.Struct("<II")  # magic, size
FOOT = struct.Struct("<IBI")  # entries, descriptor, magic
ENTRY_BYTES = 8  # compressed and plain size
MARKS = 2  # entries of the table that are no zstd frames
DICTIONARY = 1  # flag: the frame needs a dictionary
FLAGS = DICTIONARY
SEEKABLE = b"\0" + SEEKABLE_MAGIC.to_bytes(4, "little")  # behind a table without checksums
START = HEAD.pack(START_MAGIC, len(TAG)) + TAG
BEGINNING = HEAD.pack(NAME_MAGIC, NAME_BYTES - HEAD.size) + TAG


class Marks(NamedTuple):
    """What of these is there."""

    has_start: bool
    name: tuple[int, bytes] | None
    """The frame with the name, and where it begins."""


class Layout(NamedTuple):
    """A compressed blob, by its end."""

    ref: BlobRef
    starts: Sequence[int]
    """Where each frame begins, and where the last one ends."""
    flags: int

    def place(self, number: int) -> Span:
        """Where a frame lies."""
        return Span(self.starts[number], self.starts[number + 1] - self.starts[number])


def pack(ref: BlobRef, sizes: Sequence[int], flags: int) -> bytes:
    """Make the end of a blob whose frames have these sizes."""
    assert len(sizes) == frame_count(ref.size_bytes) > 0
    name = NAME.pack(
        *(NAME_MAGIC, NAME_BYTES - HEAD.size, TAG, VERSION, flags, FRAME_BYTES),
        *(ref.size_bytes, ref.digest, 0),
    )[:-CHECKSUM_BYTES]
    name += xxhash.xxh3_64_intdigest(name).to_bytes(CHECKSUM_BYTES, "little")
    return name if len(sizes) == 1 else name + _table(sizes, ref.size_bytes)


def is_likely(stored: Source) -> bool:
    """Whether the ends of what is stored look like these, as those of other files may as well."""
    end = _last_bytes(stored)
    return _has_start(stored) or end.startswith(BEGINNING) or end.endswith(SEEKABLE)


def marks(stored: Source) -> Marks:
    """Look for a start, and for a name where it should be: of this blob or of any other."""
    return Marks(_has_start(stored), _name(stored))


def unpack(stored: Source, digest: Digest, found: Marks) -> Layout | None:
    """Read what is around the frames of a blob; None when it is not that of this blob.

    Raises:
        CorruptError: it is, and contradicts itself.
        UnsupportedError: a newer holdfast wrote it.
    """
    if not found.has_start or found.name is None:
        return None
    offset, name = found.name
    fields = NAME.unpack(name)
    if fields[-1] != xxhash.xxh3_64_intdigest(name[:-CHECKSUM_BYTES]) or fields[-2] != digest:
        return None
    version, flags, frame_bytes, size_bytes = fields[3:7]
    if version != VERSION or flags & ~FLAGS or frame_bytes != FRAME_BYTES:
        raise UnsupportedError("a newer holdfast wrote this blob", version=version)
    layout = Layout(BlobRef(digest, size_bytes), _starts(stored, offset, size_bytes), flags)
    if layout.starts[-1] != offset:
        raise CorruptError("the frames are not as long as they should be", digest=str(digest))
    return layout


def _has_start(stored: Source) -> bool:
    size_bytes = min(stored.size_bytes, len(START))
    return bytes(peek(stored, Span(0, size_bytes))) == START


def _last_bytes(stored: Source) -> bytes:
    size_bytes = min(stored.size_bytes, NAME_BYTES)
    return bytes(peek(stored, Span(stored.size_bytes - size_bytes, size_bytes)))


def _name(stored: Source) -> tuple[int, bytes] | None:
    """The frame with the name, and where it begins."""
    end = _last_bytes(stored)
    if len(end) < NAME_BYTES:
        return None
    if end.startswith(BEGINNING):
        return stored.size_bytes - NAME_BYTES, end
    if not end.endswith(SEEKABLE):
        return None
    count, _, _ = FOOT.unpack(end[-FOOT.size :])
    offset = stored.size_bytes - _table_bytes(count) - NAME_BYTES
    if offset < 0:
        return None
    name = bytes(peek(stored, Span(offset, NAME_BYTES)))
    return (offset, name) if name.startswith(BEGINNING) else None


def _table_bytes(count: int) -> int:
    return HEAD.size + count * ENTRY_BYTES + FOOT.size


def _starts(stored: Source, name_offset: int, size_bytes: int) -> Sequence[int]:
    """Where the frames begin, each of which must have its share of the blob.

    Raises:
        CorruptError: what follows the name is not the table of its frames.
    """
    count = frame_count(size_bytes)
    table_bytes = stored.size_bytes - name_offset - NAME_BYTES
    if count == 1 and not table_bytes:
        return [len(START), name_offset]
    if count < 2 or table_bytes != _table_bytes(count + MARKS):
        raise CorruptError("the frames are not as many as they should be")
    table = bytes(peek(stored, Span(name_offset + NAME_BYTES, table_bytes)))
    sizes = _numbers(table[HEAD.size : -FOOT.size])[2:-2:2]
    if table != _table(sizes, size_bytes):
        raise CorruptError("the table of frames is damaged")
    return array("Q", accumulate(sizes, initial=len(START)))


def _table(sizes: Sequence[int], size_bytes: int) -> bytes:
    """The seek table of a blob whose frames have these sizes."""
    entries = array("I", (len(START), 0))
    for number, encoded_bytes in enumerate(sizes):
        entries.extend((encoded_bytes, frame_size(size_bytes, number)))
    entries.extend((NAME_BYTES, 0))
    if sys.byteorder == "big":
        entries.byteswap()
    table = entries.tobytes() + FOOT.pack(len(sizes) + MARKS, 0, SEEKABLE_MAGIC)
    return HEAD.pack(TABLE_MAGIC, len(table)) + table


def _numbers(data: bytes) -> array[int]:
    numbers = array("I", data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
