"""Paths and headers: how keys, digests and metadata are spelled outside of JSON."""

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.errors import InvalidError, UnavailableError
from holdfast.core.policy import check_bucket

DEFAULT_BUCKET = "default"
METADATA_PREFIX = b"holdfast-meta-"
COPY_FROM = "Holdfast-Copy-From"
MOVE_FROM = "Holdfast-Move-From"
EXPIRE_IN = "Holdfast-Expire-In"
VERIFIED_AT = "Holdfast-Verified-At"
CURSOR = "Holdfast-Cursor"

VALUE_SAFE = "!#$&'()*+-./:;<=>?@[]^_`{|}~"  # printable, and never cut or joined by a proxy
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def metadata_headers(metadata: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Spell user metadata as headers; names in lower case, values percent-encoded."""
    return [
        (METADATA_PREFIX + name.lower().encode(), quote(value, safe=VALUE_SAFE).encode())
        for name, value in metadata.items()
    ]


def parse_metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Collect user metadata from all headers of a message; other headers are passed over.

    Raises:
        InvalidError: a name is empty, not ASCII or comes twice, or a value is not
            percent-encoded UTF-8.
    """
    metadata: dict[str, str] = {}
    for header, value in headers:
        lower = header.lower()
        if not lower.startswith(METADATA_PREFIX):
            continue
        name = lower[len(METADATA_PREFIX) :].decode("ascii", "replace")
        if not name or not name.isascii() or name in metadata:
            raise InvalidError("metadata name", name, "each once, ASCII, at least one character")
        metadata[name] = _metadata_value(value)
    return metadata


def _metadata_value(value: bytes) -> str:
    try:
        if not BAD_ESCAPE.search(value):
            return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        pass
    shown = value[:100].decode("ascii", "backslashreplace")
    raise InvalidError("metadata value", shown, "percent-encoded UTF-8, a plain % is %25")


def format_moment(at: datetime) -> str:
    """Spell a time as in JSON: RFC 3339, UTC."""
    return at.isoformat().replace("+00:00", "Z")


def parse_moment(text: str) -> datetime:
    """Read a time of a peer.

    Raises:
        UnavailableError: it is none.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UnavailableError(f"the server's answer is not ours: {text[:100]}") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def blob_path(bucket: str, key: str) -> str:
    """Spell the path of a name, so that no client or proxy on the way shortens it.

    Slashes stay readable, but dot segments, empty segments and a final `/metadata` are escaped.

    >>> blob_path("default", "a/../b c"), blob_path("photos", "/x/metadata")
    ('/blob/a/%2E%2E/b%20c', '/b/photos/%2Fx%2Fmetadata')

    Raises:
        InvalidError: an empty key or one that is not text, and malformed bucket names, which
            would be the paths of something else.
    """
    path = _key_path(key)
    if path.endswith("/metadata"):
        path = path.removesuffix("/metadata") + "%2Fmetadata"
    return f"{bucket_path(bucket)}/{path}"


def kept_path(what: str, bucket: str, key: str) -> str:
    """Spell the path of what is kept of a name: `undelete`, `versions` or `restore`.

    >>> kept_path("versions", "photos", "a/../b c")
    '/versions/photos/a/%2E%2E/b%20c'

    Raises:
        InvalidError: as `blob_path` does.
    """
    return f"/{what}/{check_bucket(bucket)}/{_key_path(key)}"


def deleted_path(bucket: str) -> str:
    """Spell the path of the deleted names of a bucket."""
    return f"/deleted/{check_bucket(bucket)}"


def bucket_path(bucket: str) -> str:
    """Spell the path of a bucket, which is that of its listing."""
    check_bucket(bucket)
    return "/blob" if bucket == DEFAULT_BUCKET else f"/b/{bucket}"


def _key_path(key: str) -> str:
    """Spell a key so that no client or proxy on the way shortens it."""
    try:
        segments = quote(key, safe="/").split("/")
    except UnicodeEncodeError:
        segments = [""]
    if segments == [""]:
        raise InvalidError("key", ascii(key)[:100], "1 to 1,024 bytes of UTF-8")
    path = "/".join(one.replace(".", "%2E") if one in {".", ".."} else one for one in segments)
    path = path.replace("//", "/%2F")
    return "%2F" + path[1:] if path.startswith("/") else path


def hash_path(digest: Digest) -> str:
    """Spell the path of a blob on the content face."""
    return "/blobs/" + digest.file_name


def source_name(bucket: str, key: str) -> str:
    """Spell the source of a copy or move as a header value.

    Raises:
        InvalidError: as `blob_path` does.
    """
    return f"{check_bucket(bucket)}/{_key_path(key)}"


def repr_digest(digest: Digest) -> str:
    """Spell a digest for Repr-Digest or Content-Digest (RFC 9530).

    >>> repr_digest(Digest.of(b""))
    'sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:'
    """
    return f"sha-256=:{base64.b64encode(digest).decode()}:"


def parse_digest(header: str) -> Digest | None:
    """Read the SHA-256 of a Repr-Digest, Content-Digest or older Digest header; None without one.

    Raises:
        InvalidError: it names SHA-256, but the value is not 32 bytes in base64.
    """
    for item in header.split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm.strip().lower() != "sha-256":
            continue
        try:
            raw = base64.b64decode(value.strip().strip(":"), validate=True)
        except ValueError:  # also of bytes that are not ASCII
            raw = b""
        if len(raw) != DIGEST_BYTES:
            raise InvalidError("digest header", header[:100], "sha-256=:<base64 of 32 bytes>:")
        return Digest(raw)
    return None
