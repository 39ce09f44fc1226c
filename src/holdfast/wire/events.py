"""Events as lines of JSON, and for browsers (docs/http.md, "Events")."""

import msgspec

from holdfast.core.entry import EPOCH, moment
from holdfast.core.errors import BlobError, InvalidError, UnavailableError
from holdfast.core.stream import Cursor, Event, Kind, parse_cursor
from holdfast.wire.documents import (
    MICROSECOND,
    EntryDoc,
    Moment,
    decode_entry,
    decode_peer,
    encode_entry,
    peer_digest,
)
from holdfast.wire.failures import encode_error, parse_error

MARK, ERROR = "mark", "error"
KINDS = frozenset(Kind)


class EventDoc(msgspec.Struct, omit_defaults=True):
    """A line as JSON; unknown members and kinds of a newer server are passed over."""

    kind: str
    cursor: str = ""
    topic: str = ""
    revision: int = 0
    bucket: str = ""
    key: str = ""
    digest: str | None = None
    entry: EntryDoc | None = None
    at: Moment | None = None
    error: dict[str, object] | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(EventDoc)


def event_json(event: Event) -> bytes:
    """Write an event, without the end of its line."""
    return _encoder.encode(
        EventDoc(
            event.kind.value,
            str(event.cursor),
            event.kind.topic,
            event.revision,
            event.bucket,
            event.key,
            None if event.digest is None else str(event.digest),
            None if event.entry is None else encode_entry(event.entry),
            moment(event.at_us) if event.at_us else None,
        )
    )


def mark_json(cursor: Cursor) -> bytes:
    """Write where a reader goes on that nothing was told."""
    return _encoder.encode(EventDoc(MARK, str(cursor)))


def event_error_json(error: BlobError) -> bytes:
    """Write why no more events follow."""
    return _encoder.encode(EventDoc(ERROR, error=encode_error(error).error))


def parse_event(data: bytes) -> Event | Cursor:
    """Read a line: an event, or where to go on.

    Raises:
        BlobError: what the line says; UnavailableError when it is none of ours.
    """
    doc = decode_peer(_decoder, data)
    if doc.error is not None:
        raise parse_error(500, {}, _encoder.encode({"error": doc.error}))
    try:
        cursor = parse_cursor(doc.cursor)
    except InvalidError as error:
        raise UnavailableError(f"the server's answer is not ours: {error}") from None
    if doc.kind not in KINDS:
        return cursor
    return Event(
        cursor,
        doc.revision,
        Kind(doc.kind),
        doc.bucket,
        doc.key,
        None if doc.digest is None else peer_digest(doc.digest),
        None if doc.entry is None else decode_entry(doc.entry),
        0 if doc.at is None else (doc.at - EPOCH) // MICROSECOND,
    )
