"""The catalog: which keys and values of the KV say what (docs/format.md, "Catalog").

    e <bucket> 0 <key>                 -> the entry
    r <digest> e <bucket> 0 <key>      -> Held: an entry holds the blob
    r <digest> c                       -> Held: the content face holds the blob
    u <bucket>                         -> counters: entries, bytes
    s                                  -> counters: blobs, bytes that sweeps removed

A blob is held while any key begins with `r <digest>`. Every change of an entry changes its
reference and the counters in the same commit, so none of them can drift.
"""

import re

import msgspec

from holdfast.core import limits
from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import CorruptError, InvalidError
from holdfast.core.kv import Add, Delete, Put, Write

ENTRY = b"e"
REFERENCE = b"r"
USAGE = b"u"
SWEPT = b"s"
BY_CONTENT = b"c"
BY_ENTRY = b"e"

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
METADATA_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An entry's value, as a MessagePack array; members are only ever added at the end."""

    digest: bytes
    size_bytes: int
    content_type: str
    created_us: int
    modified_us: int
    version: int
    metadata: dict[str, str]


class Held(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a holder of a blob says of it; members are only ever added at the end."""

    size_bytes: int
    content_type: str
    since_us: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_decode_held = msgspec.msgpack.Decoder(Held).decode


def check_bucket(name: str) -> str:
    """Accept a bucket's name.

    Raises:
        InvalidError: it has other characters or is too long.
    """
    if BUCKET.fullmatch(name) is None:
        allowed = f"1 to {limits.BUCKET_BYTES_MAX} of a-z 0-9 - _ ., first a letter or digit"
        raise InvalidError("bucket", name[:100], allowed)
    return name


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


def entry_key(bucket: str, key: bytes) -> bytes:
    """The KV key of an entry; entries of a bucket order as their keys' bytes."""
    return ENTRY + bucket.encode() + b"\x00" + key


def holds(digest: bytes) -> bytes:
    """What every reference to a blob begins with."""
    return REFERENCE + digest


def held_by_entry(digest: bytes, bucket: str, key: bytes) -> bytes:
    """The reference of an entry."""
    return holds(digest) + BY_ENTRY + bucket.encode() + b"\x00" + key


def held_by_content(digest: bytes) -> bytes:
    """The reference of the content face."""
    return holds(digest) + BY_CONTENT


def referenced_digest(reference: bytes) -> Digest:
    """The blob that a reference holds."""
    return Digest(reference[1 : 1 + DIGEST_BYTES])


def holder_name(reference: bytes) -> str:
    """Who holds a blob, for people: bucket/key, or the digest where it is held by that."""
    entry = holding_entry(reference)
    return str(referenced_digest(reference)) if entry is None else entry_name(entry)


def holding_entry(reference: bytes) -> bytes | None:
    """The KV key of the entry that a reference is of; None for that of the content face."""
    holder = reference[1 + DIGEST_BYTES :]
    return None if holder == BY_CONTENT else ENTRY + holder[len(BY_ENTRY) :]


def entry_name(key: bytes) -> str:
    """The bucket and key of an entry's KV key, for people."""
    return key[len(ENTRY) :].replace(b"\x00", b"/", 1).decode(errors="replace")


def usage_key(bucket: str) -> bytes:
    """The counters of a bucket."""
    return USAGE + bucket.encode()


def encode_entry(entry: Entry) -> bytes:
    """The value of an entry; its bucket and key are in the KV key."""
    return _encode(
        _Record(
            bytes(entry.digest),
            entry.size_bytes,
            entry.content_type,
            entry.created_us,
            entry.modified_us,
            entry.version,
            dict(entry.metadata),
        )
    )


def decode_entry(bucket: str, key: str, value: bytes) -> Entry:
    """Read an entry back.

    Raises:
        CorruptError: the value is no entry.
    """
    try:
        record = _decode(value)
    except msgspec.DecodeError as error:
        raise CorruptError("an entry is damaged", bucket=bucket, key=key) from error
    return Entry(
        bucket,
        key,
        Digest(record.digest),
        record.size_bytes,
        record.content_type,
        record.created_us,
        record.modified_us,
        record.version,
        record.metadata,
    )


def encode_held(held: Held) -> bytes:
    """The value of a reference."""
    return _encode(held)


def decode_held(value: bytes) -> Held:
    """Read the value of a reference back.

    Raises:
        CorruptError: it is none.
    """
    try:
        return _decode_held(value)
    except msgspec.DecodeError as error:
        raise CorruptError("a reference is damaged") from error


def replacing(old: Entry | None, new: Entry) -> list[Write]:
    """The writes that put `new` in the place of `old` (None: a new name)."""
    key = new.key.encode()
    held = Held(new.size_bytes, new.content_type, new.created_us)
    writes: list[Write] = [
        Put(entry_key(new.bucket, key), encode_entry(new)),
        Put(held_by_entry(new.digest, new.bucket, key), encode_held(held)),
    ]
    if old is None:
        writes.append(Add(usage_key(new.bucket), (1, new.size_bytes)))
        return writes
    if old.digest != new.digest:
        writes.append(Delete(held_by_entry(old.digest, old.bucket, key)))
    if old.size_bytes != new.size_bytes:
        writes.append(Add(usage_key(new.bucket), (0, new.size_bytes - old.size_bytes)))
    return writes


def removing(entry: Entry) -> list[Write]:
    """The writes that remove a name."""
    key = entry.key.encode()
    return [
        Delete(entry_key(entry.bucket, key)),
        Delete(held_by_entry(entry.digest, entry.bucket, key)),
        Add(usage_key(entry.bucket), (-1, -entry.size_bytes)),
    ]
