"""Blobs compressed with zstd, so that any part is read at the cost of its own frames.

    from holdfast.stores.compressed import compressed

    compressed(inner)                      what gets smaller by a sixteenth or more is compressed
    compressed(inner, level=9)             ... harder
    compressed(inner, dictionaries=[d])    small blobs by what d, trained on others, knows already

What is stored is a .zst file that `zstd -d` reads: independent frames of 256 KiB, each with size
and checksum, then the name of the blob in a frame that decoders skip. What gains too little, or is
compressed already, is stored as it is, byte for byte, and leaves by sendfile as before. The first
frame decides. So this may be put around a store that has blobs: they are read as they are.

A frame says how large it is before anything is unpacked, and that must be what the end of the blob
says: nothing can be made to unpack to more. Dictionaries must be kept as long as blobs need them.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from holdfast.core import limits
from holdfast.core.errors import CorruptError, InvalidError, UnsupportedError
from holdfast.stores import seekable
from holdfast.stores.codec import frame_size, has_digest
from holdfast.stores.encoded import EncodedStore

try:
    import zstandard
except ModuleNotFoundError as error:
    raise UnsupportedError("compression needs pip install 'holdfast[compress]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.seams import Buffer
    from holdfast.core.store import Source, Span, Store

LEVELS = range(1, 20)
GAIN = 16  # a frame must save this part of itself
MAGIC = zstandard.FRAME_HEADER
DICTIONARY_MAGIC = bytes.fromhex("37a430ec")
PACKED = (
    *(MAGIC, seekable.START, b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf'\x1c", b"Rar!"),
    *(b"PK\x03\x04", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"OggS", b"fLaC", b"ID3"),
    *(b"\x04\x22\x4d\x18", b"\x1a\x45\xdf\xa3", b"wOFF", b"wOF2"),
)
"""How files begin that are compressed already."""
BOXES = {b"ftyp": 4, b"WEBP": 8}
"""The same, with what stands where in them."""

Tool = TypeVar("Tool")


def compressed(
    inner: Store, *, level: int = limits.COMPRESS_LEVEL, dictionaries: Sequence[bytes] = ()
) -> EncodedStore:
    """Put compression around a store, which then belongs to the result.

    The first of the dictionaries is for new blobs, all of them for those that are stored.

    Raises:
        InvalidError: there is no such level, or a dictionary is none.
    """
    return EncodedStore(inner, Compression(level, dictionaries))


class Compression:
    """The codec."""

    coding = "zstd"
    keeps_names = True
    leaves_plain = True

    def __init__(
        self, level: int = limits.COMPRESS_LEVEL, dictionaries: Sequence[bytes] = ()
    ) -> None:
        """Compress with this level; see `compressed`."""
        if level not in LEVELS:
            raise InvalidError("level", level, f"{LEVELS[0]} to {LEVELS[-1]}")
        known = [_dictionary(data) for data in dictionaries]
        by_id = {each.dict_id(): each for each in known}
        if len(by_id) < len(set(dictionaries)) or 0 in by_id:
            raise InvalidError("dictionary", "an id that another has", "each with an id of its own")
        self._has_dictionary = bool(known)
        make = partial(
            zstandard.ZstdCompressor, level=level, write_checksum=True, write_content_size=True
        )
        self._compressors = _Idle(make)
        self._small_compressors = _Idle(partial(make, dict_data=known[0] if known else None))
        self._decompressors = {0: _Idle(zstandard.ZstdDecompressor)} | {
            number: _Idle(partial(zstandard.ZstdDecompressor, dict_data=each))
            for number, each in by_id.items()
        }

    def hide(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Blobs keep their names."""
        return digests

    def show(self, names: Sequence[Digest]) -> Sequence[Digest]:
        """Names are those of blobs."""
        return names

    def encoder(self) -> CompressedEncoder:
        """Begin with a blob."""
        return CompressedEncoder(self)

    def is_likely(self, stored: Source) -> bool:
        """Whether the ends of what is stored look like ours."""
        return seekable.is_likely(stored)

    def frames(self, stored: Source, digest: Digest) -> CompressedFrames | None:
        """Read what is around the frames; where that is half, or another blob's, the digest says.

        Raises:
            CorruptError: it is neither this blob compressed nor as it is.
            UnsupportedError: a newer holdfast wrote it.
        """
        found = seekable.marks(stored)
        layout = seekable.unpack(stored, digest, found)
        if layout is not None:
            return CompressedFrames(self, layout)
        is_marked = found.has_start or found.name is not None
        if is_marked and not has_digest(stored, digest):
            raise CorruptError("the stored bytes are those of another blob", digest=str(digest))
        return None

    def compress(self, data: Buffer, *, is_small: bool) -> bytes:
        """Make one frame; of a small blob, with the newest dictionary."""
        idle = self._small_compressors if is_small else self._compressors
        compressor = idle.take()
        frame = compressor.compress(data)
        idle.give(compressor)
        return frame

    def uses_dictionary(self, size_bytes: int) -> bool:
        """Whether a blob of this size is compressed with a dictionary."""
        return self._has_dictionary and size_bytes <= limits.DICTIONARY_BLOB_BYTES_MAX

    def unpack(self, data: Buffer, size_bytes: int) -> bytes:
        """Bring a frame back that must have this size.

        Raises:
            CorruptError: it is none, has another size, or its checksum is wrong.
        """
        try:
            says = zstandard.get_frame_parameters(data)
            if says.content_size != size_bytes or not says.has_checksum:
                raise CorruptError("a compressed frame has not its size")
            idle = self._decompressors.get(says.dict_id)
            if idle is None:
                raise CorruptError(f"the dictionary {says.dict_id} of a blob is missing")
            decompressor = idle.take()
            plain = decompressor.decompress(data, allow_extra_data=False)
            idle.give(decompressor)
        except zstandard.ZstdError as error:
            raise CorruptError(f"a compressed frame is damaged: {error}") from error
        assert len(plain) == size_bytes
        return plain


class _Idle(Generic[Tool]):
    """What one thread works with at a time, kept for the next one; safe from any thread.

    There come to be as many as ever worked at once, and the one that was used last, which the
    caches of the processor may still have, is used first. One that failed does not come back.
    """

    def __init__(self, make: Callable[[], Tool]) -> None:
        self._make = make
        self._tools: list[Tool] = []

    def take(self) -> Tool:
        """Have one for oneself."""
        try:
            return self._tools.pop()
        except IndexError:
            return self._make()

    def give(self, tool: Tool) -> None:
        """Leave it to others."""
        self._tools.append(tool)


class CompressedEncoder:
    """One blob on its way in."""

    def __init__(self, codec: Compression) -> None:
        self._codec = codec
        self._sizes: list[int] = []
        self._flags = 0
        self.is_plain = False

    def frame(self, plain: Buffer) -> Buffer:
        """Compress; the first frame decides about the blob."""
        if self.is_plain:
            return plain
        if not self._sizes:
            return self._first(plain)
        return self._add(self._codec.compress(plain, is_small=False))

    def finish(self, ref: BlobRef) -> bytes:
        """Make the end, unless the blob stays as it is."""
        return seekable.pack(ref, self._sizes, self._flags) if self._sizes else b""

    def gains(self, plain: Buffer, data: bytes) -> bool:
        """Whether the first frame got so much smaller that the blob is stored compressed."""
        stored_bytes = len(seekable.START) + len(data) + seekable.NAME_BYTES
        return stored_bytes <= len(plain) - len(plain) // GAIN

    def _first(self, plain: Buffer) -> Buffer:
        is_small = self._codec.uses_dictionary(len(plain))
        if not is_packed(plain):
            data = self._codec.compress(plain, is_small=is_small)
            if self.gains(plain, data):
                self._flags = seekable.DICTIONARY if is_small else 0
                return seekable.START + self._add(data)
        self.is_plain = True
        return plain

    def _add(self, data: bytes) -> bytes:
        self._sizes.append(len(data))
        return data


class CompressedFrames:
    """A compressed blob by its end."""

    __slots__ = ("_codec", "is_common", "layout", "size_bytes")

    def __init__(self, codec: Compression, layout: seekable.Layout) -> None:
        self._codec = codec
        self.layout = layout
        self.size_bytes = layout.ref.size_bytes
        self.is_common = not layout.flags & seekable.DICTIONARY

    def place(self, number: int) -> Span:
        """Where a frame lies."""
        return self.layout.place(number)

    def decode(self, number: int, data: Buffer) -> bytes:
        """Unpack a frame to the size that it must have."""
        return self._codec.unpack(data, frame_size(self.size_bytes, number))


def train(samples: Sequence[bytes], size_bytes: int, level: int) -> bytes:
    """Make a dictionary out of blobs like those that it is for.

    Raises:
        InvalidError: they are too few, or too much alike.
    """
    try:
        found = zstandard.train_dictionary(size_bytes, list(samples), level=level)
    except zstandard.ZstdError as error:
        allowed = f"more, and more different ones ({error})"
        raise InvalidError("blobs", f"{len(samples)} of them", allowed) from error
    return found.as_bytes()


def is_packed(head: Buffer) -> bool:
    r"""Whether a file that begins so is compressed already.

    >>> is_packed(b"\x1f\x8b\x08..."), is_packed(b"GIF89a"), is_packed(b"some words")
    (True, True, False)
    """
    start = bytes(head[:16])
    return start.startswith(PACKED) or any(
        start[at : at + len(mark)] == mark for mark, at in BOXES.items()
    )


def _dictionary(data: bytes) -> zstandard.ZstdCompressionDict:
    if len(data) > limits.DICTIONARY_BYTES_MAX or not data.startswith(DICTIONARY_MAGIC):
        allowed = f"a dictionary of zstd, at most {limits.DICTIONARY_BYTES_MAX} bytes"
        raise InvalidError("dictionary", f"{len(data)} bytes", allowed)
    return zstandard.ZstdCompressionDict(data)
