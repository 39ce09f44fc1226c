"""How long a connection may take in each of its phases; looked at once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import SlowError

if TYPE_CHECKING:
    from holdfast.http.protocol import HotProtocol

HEAD, BODY, BUSY, DRAIN = range(4)  # the phases; plain integers, for they are compared often


def check_time(connection: HotProtocol, now_s: float) -> None:
    """End what has waited too long."""
    body_wait_s = connection.shared.settings.body_wait_s
    waited_s = now_s - connection.since_s
    if connection.unread.wait_s(now_s, connection.sender) > body_wait_s:
        connection.transport.abort()
    elif connection.is_choked or connection.transport.is_closing():
        return
    elif connection.phase == HEAD:
        _check_head(connection, waited_s)
    elif connection.phase == BODY:
        _check_body(connection, waited_s)
    elif connection.phase == DRAIN and connection.drain.is_over(now_s, waited_s, body_wait_s):
        connection.transport.close()


def _check_head(connection: HotProtocol, waited_s: float) -> None:
    settings = connection.shared.settings
    if connection.reader.partial and waited_s > settings.head_wait_s:
        connection.refuse(SlowError("the head of the request did not arrive in time"))
    elif not connection.reader.partial and waited_s > settings.idle_wait_s:
        connection.transport.close()


def _check_body(connection: HotProtocol, waited_s: float) -> None:
    receiver = connection.receiver
    assert receiver is not None
    if waited_s > connection.shared.settings.body_wait_s and not receiver.is_full:
        receiver.abandon()
        connection.refuse(SlowError("the body of the request did not arrive in time"))
