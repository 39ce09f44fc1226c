"""Many things in one request (docs/http.md, "Many at once").

What is wanted is JSON. The answer is one line of JSON for each thing, in the order asked, each with
`body_bytes` bytes behind it; so is what brings things to store.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.bucket import CREATE_ONLY, Description, Item
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import BlobError, InvalidError, TooLargeError, UnavailableError
from holdfast.core.preconditions import NO_CONDITIONS
from holdfast.wire.documents import EntryDoc, decode_entry, decode_peer, encode_entry, peer_digest
from holdfast.wire.failures import encode_error, parse_error

GET, HEAD, DELETE = "get", "head", "delete"
WANTED = 'one of {"get": [...]}, {"head": [...]} and {"delete": [...]}, with strings'
HASHES = '{"hashes": [...]}, with strings'
MANY_TYPE = "application/vnd.holdfast.many"
ITEM = 'lines as {"name": "...", "body_bytes": 0}, each with so many bytes behind it'

Found = Entry | BlobRef | bool | BlobError
"""What a line says: an entry, a blob, whether something was deleted, or what went wrong."""


class Wanted(NamedTuple):
    """What is to be done with what."""

    verb: str
    names: list[str]


class Line(NamedTuple):
    """One thing of an answer."""

    name: str
    found: Found
    body_bytes: int
    """So many bytes follow the line."""


class WantedDoc(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request for many things; exactly one member."""

    get: list[str] | None = None
    head: list[str] | None = None
    delete: list[str] | None = None


class HashesDoc(msgspec.Struct, forbid_unknown_fields=True):
    """Digests, in a request and in its answer."""

    hashes: list[str]


class ItemDoc(msgspec.Struct, forbid_unknown_fields=True):
    """A line of a request, behind which the bytes of a blob stand."""

    name: str
    body_bytes: Annotated[int, msgspec.Meta(ge=0)]
    content_type: str | None = None
    metadata: dict[str, str] | None = None
    digest: str | None = None
    expire_s: int | None = None
    create_only: bool = False


class LineDoc(msgspec.Struct, omit_defaults=True):
    """A line as JSON; unknown members of a newer server are ignored."""

    name: str
    body_bytes: int
    entry: EntryDoc | None = None
    digest: str | None = None
    size_bytes: int | None = None
    deleted: bool | None = None
    error: dict[str, object] | None = None


_encoder = msgspec.json.Encoder()
_wanted_decoder = msgspec.json.Decoder(WantedDoc)
_hashes_decoder = msgspec.json.Decoder(HashesDoc)
_item_decoder = msgspec.json.Decoder(ItemDoc)
_line_decoder = msgspec.json.Decoder(LineDoc)


def wanted_json(wanted: Wanted) -> bytes:
    """Write the body of a request for many things."""
    return _encoder.encode({wanted.verb: wanted.names})


def parse_wanted(data: bytes) -> Wanted:
    """Read the body of such a request.

    Raises:
        InvalidError: it is none.
        TooLargeError: it wants too many things.
    """
    try:
        doc = _wanted_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError("body", str(error)[:100], WANTED) from None
    lists = {GET: doc.get, HEAD: doc.head, DELETE: doc.delete}
    found = [Wanted(verb, names) for verb, names in lists.items() if names is not None]
    if len(found) != 1:
        raise InvalidError("body", f"{len(found)} members", WANTED)
    _check_count(len(found[0].names))
    return found[0]


def parse_items(data: bytes) -> list[Item]:
    """Read things to store, each from its line and the bytes behind it.

    Raises:
        InvalidError: one of them is none, or ends too early.
        TooLargeError: they are too many.
    """
    items: list[Item] = []
    at = 0
    while at < len(data):
        _check_count(len(items) + 1)
        end = data.find(b"\n", at)
        if end < 0:
            raise InvalidError("body", f"line {len(items) + 1} has no end", ITEM)
        doc = _item_doc(data[at:end], len(items) + 1)
        at = end + 1 + doc.body_bytes
        if at > len(data):
            there = f"{len(data) - end - 1} bytes behind line {len(items) + 1}"
            raise InvalidError("body", there, f"the {doc.body_bytes} that it announces")
        items.append(_item(doc, data[end + 1 : at]))
    return items


def _item_doc(line: bytes, number: int) -> ItemDoc:
    try:
        return _item_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError("body", f"line {number}: {str(error)[:100]}", ITEM) from None


def _item(doc: ItemDoc, data: bytes) -> Item:
    digest = None if doc.digest is None else Digest.parse(doc.digest)
    about = Description(doc.content_type, doc.metadata, digest, doc.expire_s)
    return Item(doc.name, data, about, CREATE_ONLY if doc.create_only else NO_CONDITIONS)


def hashes_json(digests: Sequence[Digest]) -> bytes:
    """Write digests."""
    return _encoder.encode(HashesDoc(list(map(str, digests))))


def parse_hashes(data: bytes) -> list[Digest]:
    """Read the digests of a request.

    Raises:
        InvalidError: they are none.
        TooLargeError: they are too many.
    """
    try:
        hashes = _hashes_decoder.decode(data).hashes
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidError("body", str(error)[:100], HASHES) from None
    _check_count(len(hashes))
    return list(map(Digest.parse, hashes))


def parse_peer_hashes(data: bytes) -> list[Digest]:
    """Read the digests of an answer; UnavailableError when they are none."""
    return list(map(peer_digest, decode_peer(_hashes_decoder, data).hashes))


def line_json(line: Line) -> bytes:
    """Write a line, with its end."""
    doc = LineDoc(line.name, line.body_bytes)
    found = line.found
    if isinstance(found, Entry):
        doc.entry = encode_entry(found)
    elif isinstance(found, BlobRef):
        doc.digest, doc.size_bytes = str(found.digest), found.size_bytes
    elif isinstance(found, BlobError):
        doc.error = encode_error(found).error
    else:
        doc.deleted = found
    return _encoder.encode(doc) + b"\n"


def parse_line(data: bytes) -> Line:
    """Read a line; UnavailableError when it is none."""
    doc = decode_peer(_line_decoder, data)
    if doc.body_bytes < 0:
        raise UnavailableError("the server's answer is not ours: body_bytes")
    return Line(doc.name, _found(doc), doc.body_bytes)


def _found(doc: LineDoc) -> Found:
    if doc.error is not None:
        return parse_error(500, {}, _encoder.encode({"error": doc.error}))
    if doc.entry is not None:
        return decode_entry(doc.entry)
    if doc.digest is not None and doc.size_bytes is not None:
        return BlobRef(peer_digest(doc.digest), doc.size_bytes)
    if doc.deleted is None:
        raise UnavailableError("the server's answer is not ours: a line says nothing")
    return doc.deleted


def _check_count(count: int) -> None:
    if count > limits.BATCH_REFS_MAX:
        raise TooLargeError("names of one request", limits.BATCH_REFS_MAX, "names")
