"""The cryptography that encryption stands on: AES-256-GCM, AES-256 and HKDF, by `cryptography`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from holdfast.core.errors import CorruptError, UnsupportedError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import ECB
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ModuleNotFoundError as error:
    raise UnsupportedError("encryption needs pip install 'holdfast[encrypt]'") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.seams import Buffer

KEY_BYTES = 32
TAG_BYTES = 16
NONCE_BYTES = 12
HASH = SHA256()


class Seal:
    """AES-256-GCM with one key; safe from any thread. No nonce may seal twice."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._cipher = AESGCM(key)

    def seal(self, nonce: bytes, plain: Buffer, bound: bytes) -> bytes:
        """Encrypt, and bind to it what must come along unchanged."""
        assert len(nonce) == NONCE_BYTES
        return self._cipher.encrypt(nonce, plain, bound)

    def unseal(self, nonce: bytes, sealed: Buffer, bound: bytes) -> bytes:
        """Decrypt.

        Raises:
            CorruptError: it was not sealed so.
        """
        try:
            return self._cipher.decrypt(nonce, sealed, bound)
        except InvalidTag as error:
            raise CorruptError("encrypted bytes are not what was written") from error


def derive(secret: bytes, salt: bytes, purpose: bytes, size_bytes: int = KEY_BYTES) -> bytes:
    """Make a key for one purpose out of another (RFC 5869)."""
    return HKDF(HASH, size_bytes, salt, b"holdfast " + purpose).derive(secret)


class BlockFunctions(threading.local):
    """AES-256 of each of many blocks of 16 bytes, by key; for a larger whole, and no cipher.

    Each thread makes its own, for two may not use one at once, and making one takes longer than
    what it does here.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        ciphers = (Cipher(AES256(key), ECB()) for key in keys)  # noqa: S305 - as said
        self.each: Sequence[Callable[[bytes], bytes]] = [one.encryptor().update for one in ciphers]
