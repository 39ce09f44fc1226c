"""Blobs encrypted with AES-256-GCM, under names that hide their digests.

    from holdfast.stores.encrypted import encrypted

    encrypted(inner, keyring)

What is stored is a header (key id, salt), frames of 256 KiB of the blob, each with a tag of 16
bytes, and a sealed tail: size and digest. Every blob has a key of its own, derived from the store's
newest key and its salt; a frame's nonce is its number, and the header is bound to each. So frames
cannot be changed, moved, left out or brought over from another blob without that being seen. What
can be seen is how many blobs there are, how large each is, and by which key.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError, UnsupportedError
from holdfast.core.limits import FRAME_BYTES
from holdfast.core.seams import SystemEntropy
from holdfast.core.store import Span
from holdfast.stores.codec import frame_count, frame_size, peek
from holdfast.stores.encoded import EncodedStore
from holdfast.stores.hidden import KEY_BYTES, HiddenNames
from holdfast.stores.sealing import TAG_BYTES, Seal, derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.seams import Buffer, Entropy
    from holdfast.core.store import Source, Store
    from holdfast.stores.keyring import Keyring

MAGIC = b"\x89HFENC\r\n"
VERSION = 1
HEADER = struct.Struct("<8sHHI8s16s")  # magic, version, zero, frame bytes, key id, salt
HEADER_BYTES = HEADER.size
SALT_BYTES = 16
TAIL = struct.Struct("<Q32s")  # size, digest
TAIL_BYTES = TAIL.size + TAG_BYTES
NONCE = struct.Struct("<QI")  # number, kind
FRAME_KIND, TAIL_KIND = 0, 1


def encrypted(inner: Store, keyring: Keyring, entropy: Entropy | None = None) -> EncodedStore:
    """Put encryption around a store, which then belongs to the result."""
    return EncodedStore(inner, Encryption(keyring, entropy or SystemEntropy()))


class Encryption:
    """The codec."""

    coding = ""
    keeps_names = False
    leaves_plain = False

    def __init__(self, keyring: Keyring, entropy: Entropy) -> None:
        self._entropy = entropy
        self._newest = keyring.newest.id
        self._secrets = {key.id: key.secret for key in keyring.keys}
        self._names = HiddenNames(derive(keyring.names, b"", b"names", KEY_BYTES))

    def hide(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Turn digests into names."""
        return self._names.hide(digests)

    def show(self, names: Sequence[Digest]) -> Sequence[Digest]:
        """Turn names into digests."""
        return self._names.show(names)

    def encoder(self) -> EncryptedEncoder:
        """Begin with a blob, with a salt of its own."""
        salt = self._entropy.random_bytes(SALT_BYTES)
        header = HEADER.pack(MAGIC, VERSION, 0, FRAME_BYTES, self._newest, salt)
        return EncryptedEncoder(header, self._blob_seal(self._newest, salt))

    def is_likely(self, stored: Source) -> bool:
        """Nothing is stored in any other form."""
        del stored
        return True

    def frames(self, stored: Source, digest: Digest) -> EncryptedFrames:
        """Read the header and the tail.

        Raises:
            CorruptError: they are damaged, another blob's, or of a key that is not in the keyring.
            UnsupportedError: a newer holdfast wrote them.
        """
        if stored.size_bytes < HEADER_BYTES + TAIL_BYTES:
            raise CorruptError("the encrypted bytes of a blob were cut")
        header = bytes(peek(stored, Span(0, HEADER_BYTES)))
        tail = peek(stored, Span(stored.size_bytes - TAIL_BYTES, TAIL_BYTES))
        magic, version, zero, frame_bytes, key_id, salt = HEADER.unpack(header)
        if magic != MAGIC:
            raise CorruptError("the stored bytes are no encrypted blob")
        if (version, zero, frame_bytes) != (VERSION, 0, FRAME_BYTES):
            raise UnsupportedError("a newer holdfast wrote this blob", version=version)
        seal = self._blob_seal(key_id, salt)
        size_bytes, found = TAIL.unpack(seal.unseal(NONCE.pack(0, TAIL_KIND), tail, header))
        if found != digest:
            raise CorruptError("the stored bytes are those of another blob")
        frames = EncryptedFrames(seal, header, size_bytes)
        if stored.size_bytes != frames.stored_bytes:
            raise CorruptError("the frames are not as many as they should be")
        return frames

    def _blob_seal(self, key_id: bytes, salt: bytes) -> Seal:
        secret = self._secrets.get(key_id)
        if secret is None:
            raise CorruptError(f"the key {key_id.hex()} of a blob is not in the keyring")
        return Seal(derive(secret, salt, b"blob"))


class EncryptedEncoder:
    """One blob on its way in."""

    is_plain = False

    def __init__(self, header: bytes, seal: Seal) -> None:
        self._header = header
        self._seal = seal
        self._count = 0

    def frame(self, plain: Buffer) -> bytes:
        """Encrypt; the header goes before the first."""
        nonce = NONCE.pack(self._count, FRAME_KIND)
        self._count += 1
        frame = self._seal.seal(nonce, plain, self._header)
        return frame if self._count > 1 else self._header + frame

    def finish(self, ref: BlobRef) -> bytes:
        """Seal size and digest."""
        tail = TAIL.pack(ref.size_bytes, ref.digest)
        sealed = self._seal.seal(NONCE.pack(0, TAIL_KIND), tail, self._header)
        return sealed if self._count else self._header + sealed


class EncryptedFrames:
    """An encrypted blob by its tail."""

    __slots__ = ("_header", "_seal", "size_bytes")
    is_common = False

    def __init__(self, seal: Seal, header: bytes, size_bytes: int) -> None:
        self._seal = seal
        self._header = header
        self.size_bytes = size_bytes

    @property
    def stored_bytes(self) -> int:
        """How many bytes the blob takes."""
        tags_bytes = frame_count(self.size_bytes) * TAG_BYTES
        return HEADER_BYTES + self.size_bytes + tags_bytes + TAIL_BYTES

    def place(self, number: int) -> Span:
        """Where a frame lies, with its tag."""
        offset = HEADER_BYTES + number * (FRAME_BYTES + TAG_BYTES)
        return Span(offset, frame_size(self.size_bytes, number) + TAG_BYTES)

    def decode(self, number: int, data: Buffer) -> bytes:
        """Decrypt a frame."""
        return self._seal.unseal(NONCE.pack(number, FRAME_KIND), data, self._header)
