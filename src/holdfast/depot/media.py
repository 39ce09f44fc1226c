"""Content types: what the writer declares, else what the bytes show, else what the key's end says.

The table is our own and reads at most `limits.SNIFF_BYTES`; it names only formats with a signature
that text cannot have by accident, and never raises on hostile bytes.
"""

import mimetypes
import re
from functools import lru_cache

from holdfast.core import limits
from holdfast.core.errors import InvalidError, UnsupportedTypeError
from holdfast.core.policy import Mismatch, Policy
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
SHOWN = frozenset(
    (
        *(kind for _, kind in SIGNATURES),
        *BRANDS.values(),
        *RIFF_FORMS.values(),
        "video/mp4",
        "video/webm",
        "video/x-matroska",
    )
)
"""What `sniff` finds wherever it is."""
ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/mp3": "audio/mpeg",
    "audio/x-m4a": "audio/mp4",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/x-pdf": "application/pdf",
    "application/x-msdownload": "application/vnd.microsoft.portable-executable",
    "application/x-sqlite3": "application/vnd.sqlite3",
}
WITHIN: dict[str, frozenset[str]] = {
    "video/mp4": frozenset(("audio/mp4", "image/heif", "image/heic", "video/3gpp", "video/3gpp2")),
    "image/heif": frozenset(("image/heic",)),
    "image/heic": frozenset(("image/heif",)),
    "video/webm": frozenset(("audio/webm",)),
    "application/ogg": frozenset(("audio/ogg", "video/ogg", "audio/opus")),
    "video/x-matroska": frozenset(("audio/x-matroska", "video/webm")),
    "application/gzip": frozenset(("application/x-tar", "image/svg+xml")),
}
"""Formats that are a use of another one, and show that one's signature."""

_extensions = mimetypes.MimeTypes(filenames=())  # Python's own table, the same on every machine


def choose(declared: str | None, head: Buffer, key: str) -> str:
    """Pick the content type that is stored with a blob that begins with `head`."""
    return declared or sniff(head) or guess(key)


def settle(policy: Policy, declared: str | None, head: Buffer, key: str) -> str:
    """Pick the content type of a blob that begins with `head`, as a policy wants it.

    Raises:
        UnsupportedTypeError: the policy refuses it, or the bytes are not what was declared.
    """
    if policy.mismatch is Mismatch.ACCEPT:
        chosen = choose(declared, head, key)
    else:
        chosen = _compare(policy.mismatch, declared, head, key)
    check_allowed(policy, chosen)
    return chosen


def check_allowed(policy: Policy, content_type: str) -> None:
    """Hold a content type to a policy; parameters and case are ignored.

    Raises:
        UnsupportedTypeError: it is not taken.
    """
    if policy.types and not _is_one_of(policy.types, content_type):
        kind, allowed = essence(content_type), ", ".join(policy.types)
        raise UnsupportedTypeError(
            f"{kind} is not taken here, but {allowed}", got=kind, allowed=allowed
        )


@lru_cache(maxsize=4096)
def _is_one_of(types: tuple[str, ...], content_type: str) -> bool:
    kind = essence(content_type)
    return not {kind, kind.partition("/")[0] + "/*", "*/*"}.isdisjoint(types)


def essence(content_type: str) -> str:
    """A content type without its parameters, in lower case.

    >>> essence("Image/PNG; x=y")
    'image/png'
    """
    return content_type.partition(";")[0].strip().lower()


def _compare(mismatch: Mismatch, declared: str | None, head: Buffer, key: str) -> str:
    """Hold what was declared against what the bytes show."""
    shown = sniff(head)
    kind = UNKNOWN if declared is None else essence(declared)
    if declared is None or kind == UNKNOWN:
        return shown or _unless_shown(guess(key))
    if shown == kind or ALIASES.get(kind, kind) == shown or kind in WITHIN.get(shown or "", ()):
        return declared
    if shown is None and kind not in SHOWN:
        return declared  # a format that shows itself by nothing
    if mismatch is Mismatch.REJECT:
        got = shown or "none of its signatures"
        raise UnsupportedTypeError(
            f"declared {kind}, but the bytes show {got}", declared=kind, shown=shown
        )
    return shown or UNKNOWN


def _unless_shown(guessed: str) -> str:
    """A guess, unless bytes of that format would have shown it."""
    return UNKNOWN if guessed in SHOWN else guessed


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
