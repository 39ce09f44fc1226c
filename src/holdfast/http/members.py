"""What the bodies of the admin face say of values, and the way back.

A value has the same members in JSON as here, but for times: those are RFC 3339 there.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from holdfast import wire
from holdfast.core import limits
from holdfast.core.entry import EPOCH, moment
from holdfast.core.errors import InvalidError
from holdfast.http.message import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT, US = "_at", "_us"  # how times end, there and here
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_encode = msgspec.json.Encoder().encode

Value = TypeVar("Value")


def plain(value: object) -> dict[str, Any]:
    """The members of a value, for JSON."""
    found = msgspec.to_builtins(value)
    assert isinstance(found, dict)
    return dict(_spelled(name, member) for name, member in found.items())


def _spelled(name: str, member: object) -> tuple[str, object]:
    if not (name.endswith(US) and isinstance(member, int)):
        return name, member
    return name.removesuffix(US) + AT, wire.format_moment(moment(member)) if member else None


def read(kind: type[Value], body: bytes, given: dict[str, Any]) -> Value:
    """Read what a body says of something, of which some is given already.

    Raises:
        InvalidError: it is no JSON object, or has members that are unknown or out of bounds.
    """
    said = read_object(body)
    members = {field.name for field in fields(kind)} - {"created_us"}  # type: ignore[arg-type] # a dataclass
    known = {name.removesuffix(US) + AT if name.endswith(US) else name for name in members}
    for name in said:
        if name not in known or (name in given and said[name] != given[name]):
            raise InvalidError("body", name[:100], f"members {', '.join(sorted(known - {'id'}))}")
    expires_at = said.pop("expires_at", None)
    try:
        if expires_at is not None:
            expires = msgspec.convert(expires_at, Moment)
            given = {**given, "expires_us": (expires - EPOCH) // timedelta(microseconds=1)}
        return msgspec.convert({**said, **given}, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InvalidError):
            raise error.__cause__ from None
        raise InvalidError("body", str(error)[:200], "members of their types") from None


def read_object(body: bytes) -> dict[str, Any]:
    """Read a body; nothing at all is an object without members.

    Raises:
        InvalidError: it is no JSON object.
    """
    try:
        said = msgspec.json.decode(body or b"{}")
    except msgspec.DecodeError as error:
        raise InvalidError("body", str(error)[:100], "a JSON object") from None
    if not isinstance(said, dict):
        raise InvalidError("body", type(said).__name__, "a JSON object")
    return said


def answer(status: int, value: object) -> Answer:
    """Answer with JSON that nobody keeps."""
    return json_answer(status, _encode(value), b"cache-control: no-store\r\n")


def page(
    name: str,
    read_more: Callable[[str, int], Sequence[Value]],
    asked: dict[str, str],
    position: Callable[[Value], str],
    show: Callable[[Value], dict[str, Any]] = plain,
) -> Answer:
    """Answer with a page of values, which `read_more` gives behind a position."""
    found = read_more(asked.get("cursor", ""), limits.LIST_LIMIT_DEFAULT + 1)
    shown = found[: limits.LIST_LIMIT_DEFAULT]
    following = position(shown[-1]) if len(found) > len(shown) else None
    return answer(200, {name: [show(one) for one in shown], "next": following})
