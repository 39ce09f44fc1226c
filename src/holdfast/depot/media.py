"""Content types: what the writer declares, else what the bytes show, else what the key's end says.

The table is our own and reads at most `limits.SNIFF_BYTES`; it names only formats with a signature
that text cannot have by accident, and never raises on hostile bytes.
"""

import mimetypes
import re

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.seams import Buffer

UNKNOWN = "application/octet-stream"
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 section 5.6.2, not a secret
MEDIA_TYPE = re.compile(
    rf'{TOKEN}/{TOKEN}(?:\s*;\s*{TOKEN}=(?:{TOKEN}|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*"))*\s*;?'
)

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"OggS\x00", "application/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00asm", "application/wasm"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"MZ", "application/vnd.microsoft.portable-executable"),
    (b"\x7fELF", "application/x-elf"),
)
BY_FIRST_BYTE = {
    first: [pair for pair in SIGNATURES if pair[0][:1] == first]
    for first in {signature[:1] for signature, _ in SIGNATURES}
}
BRANDS = {  # ISO base media files: the major brand at byte 8 (mp4ra.org)
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
RIFF_FORMS = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}

_extensions = mimetypes.MimeTypes(filenames=())  # Python's own table, the same on every machine


def choose(declared: str | None, head: Buffer, key: str) -> str:
    """Pick the content type that is stored with a blob that begins with `head`."""
    return declared or sniff(head) or guess(key)


def check(content_type: str) -> str:
    """Accept a declared content type as it is (RFC 9110 section 8.3.1).

    Raises:
        InvalidError: it is none, or longer than `limits.TYPE_BYTES_MAX`.
    """
    fits = len(content_type) <= limits.TYPE_BYTES_MAX
    if not fits or MEDIA_TYPE.fullmatch(content_type) is None:
        raise InvalidError("content type", content_type[:100], "type/subtype with parameters")
    return content_type


def sniff(head: Buffer) -> str | None:
    """Name the format that the first bytes show; None when they show none.

    >>> sniff(b"GIF89a...")
    'image/gif'
    """
    start = bytes(head[: limits.SNIFF_BYTES])
    if start[:4] == b"RIFF":
        return RIFF_FORMS.get(start[8:12])
    if start[4:8] == b"ftyp":
        return BRANDS.get(start[8:12], "video/mp4")
    if start[:4] == b"\x1a\x45\xdf\xa3":  # EBML: WebM and Matroska differ in the DocType
        return "video/webm" if b"webm" in start else "video/x-matroska"
    for signature, content_type in BY_FIRST_BYTE.get(start[:1], ()):
        if start.startswith(signature):
            return content_type
    return None


def guess(key: str) -> str:
    """Guess from the end of the key.

    >>> guess("notes/today.txt"), guess("README")
    ('text/plain', 'application/octet-stream')
    """
    extension = key.rsplit("/", 1)[-1].rpartition(".")[2] if "." in key else ""
    return _extensions.types_map[True].get(f".{extension.lower()}", UNKNOWN)
