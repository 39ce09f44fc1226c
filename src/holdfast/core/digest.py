"""The name of a blob: the SHA-256 of its bytes.

Inside holdfast a digest is always 32 bytes. Its spellings belong to the edges: bare hex,
`sha256:<hex>`, `sha256-<hex>` (safe in file names) and the CIDv1 of AT Protocol blobs
(raw codec, sha2-256, base32 lower case: `bafkrei...`).

    >>> hello = Digest.of(b"hello")
    >>> str(hello)
    'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'
    >>> hello.cid
    'bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq'
    >>> Digest.parse(hello.cid) == hello
    True
"""

import base64
import hashlib
import re
from typing import NamedTuple, Self

from holdfast.core.errors import InvalidError

DIGEST_BYTES = 32
HEX = re.compile(r"[0-9a-f]{64}")
CID_PREFIX = bytes((0x01, 0x55, 0x12, 0x20))  # CIDv1, raw, sha2-256, 32 bytes (multiformats.io/cid)
CID = re.compile(r"bafkrei[a-z2-7]{52}")
SEED_CID = re.compile(r"bafyrei[0-9a-f]{64}")  # read for old Aurora Locus records, never written

SPELLINGS = "a digest is 64 hex digits, sha256:<hex>, sha256-<hex> or a bafkrei... CID"


class Digest(bytes):
    """The 32 bytes of a SHA-256; orders, hashes and compares as bytes."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Take exactly 32 raw bytes; any other length is a wrong program."""
        assert len(raw) == DIGEST_BYTES
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Self:
        """Hash `data`."""
        return cls(hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read any of the spellings.

        Raises:
            InvalidError: `text` is none of them; upper-case hex is refused, so that one blob
                has one name in every cache on the way.
        """
        if text.startswith(("sha256:", "sha256-")):
            text = text[7:]
        if HEX.fullmatch(text):
            return cls(bytes.fromhex(text))
        if SEED_CID.fullmatch(text):
            return cls(bytes.fromhex(text[7:]))
        if CID.fullmatch(text):
            raw = base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
            digest = cls(raw[len(CID_PREFIX) :])
            if digest.cid == text:  # the unused bits of the last character must be zero
                return digest
        raise InvalidError("digest", text[:100], SPELLINGS)

    def __str__(self) -> str:
        return "sha256:" + bytes.hex(self)

    def __repr__(self) -> str:
        return f"Digest({bytes.hex(self)})"

    @property
    def file_name(self) -> str:
        """`sha256-<hex>`: no colon, so it is legal on every file system and in every URL."""
        return "sha256-" + bytes.hex(self)

    @property
    def cid(self) -> str:
        """The CIDv1 that AT Protocol blesses for blobs (atproto.com/specs/data-model)."""
        return "b" + base64.b32encode(CID_PREFIX + self).decode().rstrip("=").lower()


class BlobRef(NamedTuple):
    """What is known of whole bytes: their digest and how many there are."""

    digest: Digest
    size_bytes: int


class Hasher:
    """Digest and length of bytes seen in one pass; one thread at a time."""

    __slots__ = ("_sha256", "size_bytes")

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; releases the interpreter lock for chunks over 2 KiB."""
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)

    def ref(self) -> BlobRef:
        """Name what was seen so far."""
        return BlobRef(Digest(self._sha256.digest()), self.size_bytes)
