"""What a key, the metadata and the time of life of an upload may be."""

import re

from holdfast.core import limits
from holdfast.core.errors import InvalidError

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_key(key: str) -> bytes:
    """Accept a key and give its UTF-8.

    Raises:
        InvalidError: empty, too long, not Unicode text, or with control characters.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        raise InvalidError("key", ascii(key[:100]), "text without lone surrogates") from None
    if not 0 < len(raw) <= limits.KEY_BYTES_MAX:
        allowed = f"1 to {limits.KEY_BYTES_MAX} bytes of UTF-8"
        raise InvalidError("key", f"{len(raw)} bytes", allowed)
    if CONTROL.search(key) is not None:
        raise InvalidError("key", key[:100], "no control characters (U+0000-U+001F, U+007F)")
    return raw


def check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Accept user metadata; names are compared in lower case.

    Raises:
        InvalidError: a malformed name or value, too many items, or too long together.
    """
    checked = {name.lower(): value for name, value in metadata.items()}
    if len(checked) > limits.METADATA_ITEMS_MAX:
        raise InvalidError("metadata", len(checked), f"at most {limits.METADATA_ITEMS_MAX} items")
    for name, value in checked.items():
        if METADATA_NAME.fullmatch(name) is None:
            raise InvalidError("metadata name", name[:100], "1 to 64 of a-z 0-9 . _ -")
        if CONTROL.search(value) is not None:
            raise InvalidError("metadata value", value[:100], "no control characters")
    try:
        size_bytes = sum(len(name) + len(value.encode()) for name, value in checked.items())
    except UnicodeEncodeError:
        raise InvalidError("metadata value", None, "text without lone surrogates") from None
    if size_bytes > limits.METADATA_BYTES_MAX:
        raise InvalidError("metadata", size_bytes, f"{limits.METADATA_BYTES_MAX} bytes together")
    return checked


def check_version(version: int) -> int:
    """Accept the number of a version, as it may be.

    Raises:
        InvalidError: there can be none with this number.
    """
    if not 0 <= version <= limits.WHOLE_MAX:
        raise InvalidError("version", version, f"0 to {limits.WHOLE_MAX}")
    return version


def check_expiry(expire_s: int | None) -> int | None:
    """Accept after how many seconds a name shall go by itself.

    Raises:
        InvalidError: it is out of bounds.
    """
    if expire_s is not None and not 0 < expire_s <= limits.EXPIRE_S_MAX:
        raise InvalidError("expiry", expire_s, f"1 to {limits.EXPIRE_S_MAX} seconds")
    return expire_s
