"""Messages: events as receivers of webhooks get them, and sending one, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast import wire
from holdfast.core.entry import moment
from holdfast.core.webhook import Message, headers, message_id
from holdfast.depot.webhooks import DeadLetter

if TYPE_CHECKING:
    from holdfast.core.seams import Clock, Entropy
    from holdfast.core.stream import Event
    from holdfast.core.webhook import Line, Outcome
    from holdfast.depot.webhooks import Stored

TYPE = "blob."  # what the type of a message of an event begins with
PING = "ping"
PING_BYTES = 16  # of chance in its id


class _Payload(msgspec.Struct):
    """The body of a message, as the specification recommends it."""

    type: str
    timestamp: str
    data: msgspec.Raw


_encode = msgspec.json.Encoder().encode


def message_of(log_id: str, event: Event, now_us: int) -> Message:
    """What a receiver gets of an event of a store; `now_us` stands in for an unknown time."""
    at = wire.format_moment(moment(event.at_us or now_us))
    payload = _Payload(TYPE + event.kind, at, msgspec.Raw(wire.event_json(event)))
    return Message(message_id(log_id, event), _encode(payload))


def letter_of(message: Message, event: Event, error: str, now_us: int) -> DeadLetter:
    """The message of an event as it is kept once it is given up."""
    topic, body = event.kind.topic, message.body.decode()
    return DeadLetter(id=message.id, topic=topic, body=body, created_us=now_us, error=error)


def send(line: Line, stored: Stored, message: Message, clock: Clock) -> Outcome:
    """Sign a message and send it once."""
    now_us = clock.now_us()
    signed = headers(message, stored.secrets.valid(now_us), now_us)
    return line.post(stored.webhook.url, signed, message.body)


def ping(line: Line, stored: Stored, clock: Clock, entropy: Entropy) -> Outcome:
    """Send a message that tells of nothing, to see whether one arrives."""
    data = msgspec.Raw(_encode({"webhook": stored.webhook.name}))
    at = wire.format_moment(moment(clock.now_us()))
    new_id = "msg_" + entropy.random_bytes(PING_BYTES).hex()
    return send(line, stored, Message(new_id, _encode(_Payload(PING, at, data))), clock)
