"""Names of objects: they say what a listing must know, so that no object is read to be listed.

    blobs/2c/2cf24d...9824.blob             a blob of one part: content, checksums, footer
    large/2c/2cf24d...9824/SIZE-UPLOAD      what a larger blob consists of (stores/head.py)
    parts/7f/7f83b1...69e4/00000000         its parts, by UPLOAD and number
    gone/d2/d2a84f...b27c                   removed while somebody reads it

The first byte of a digest, or of the random UPLOAD, picks one of 256 folders, which fill evenly.
"""

import re
from typing import NamedTuple

from holdfast.core.digest import Digest

BLOBS = "blobs"
LARGE = "large"
PARTS = "parts"
GONE = "gone"
MARKER = "HOLDFAST"
BLOB = re.compile(r"blobs/([0-9a-f]{2})/(\1[0-9a-f]{62})\.blob")
HEAD = re.compile(r"large/([0-9a-f]{2})/(\1[0-9a-f]{62})/([0-9]{1,16})-([0-9a-f]{32})")
PART = re.compile(r"parts/([0-9a-f]{2})/(\1[0-9a-f]{30})/([0-9]{8})")
FOLDER = re.compile(r"[0-9a-f]{2}")


class Head(NamedTuple):
    """What the name of a large blob's head says; orders by digest."""

    digest: Digest
    size_bytes: int
    upload: str

    @property
    def name(self) -> str:
        """The name that says it."""
        return f"{heads(self.digest)}/{self.size_bytes}-{self.upload}"


def blob(digest: Digest) -> str:
    """Name a blob of one part."""
    return f"{BLOBS}/{digest.hex()[:2]}/{digest.hex()}.blob"


def heads(digest: Digest) -> str:
    """Name the folder of a large blob's heads: more than one while it is stored again."""
    return f"{LARGE}/{digest.hex()[:2]}/{digest.hex()}"


def parts(upload: str) -> str:
    """Name the folder of an upload's parts."""
    return f"{PARTS}/{upload[:2]}/{upload}"


def part(upload: str, number: int) -> str:
    """Name one of them."""
    return f"{parts(upload)}/{number:08d}"


def gone(token: str) -> str:
    """Name what is on its way out."""
    return f"{GONE}/{token[:2]}/{token}"


def digest_of(name: str) -> Digest | None:
    """Read the digest from the name of a blob of one part; None for other names."""
    found = BLOB.fullmatch(name)
    return Digest(bytes.fromhex(found[2])) if found else None


def head_of(name: str) -> Head | None:
    """Read the name of a head; None for other names.

    >>> head_of("large/00/" + "00" * 32 + "/5-" + "ab" * 16).size_bytes
    5
    """
    found = HEAD.fullmatch(name)
    return Head(Digest(bytes.fromhex(found[2])), int(found[3]), found[4]) if found else None


def upload_of(name: str) -> str | None:
    """Read the upload from the name of a part; None for other names."""
    found = PART.fullmatch(name)
    return found[2] if found else None
