"""The server's log: one event a line on standard error, for people or for machines."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.events import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.errors import Fact


class TextFormat(logging.Formatter):
    """For people: time, level, event, then fields as name=value; `always` is in every event."""

    def __init__(self, always: Mapping[str, Fact]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        moment, fields = _moment(record), {**self._always, **_fields(record)}
        pairs = " ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{moment} {record.levelname.lower()} {record.getMessage()} {pairs}".rstrip()


class JsonFormat(TextFormat):
    """For machines: one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        head = {"time": _moment(record), "level": record.levelname.lower()}
        line = {**head, "event": record.getMessage(), **self._always, **_fields(record)}
        return msgspec.json.encode(line).decode()


def start(level: str, style: str, **always: Fact) -> None:
    """Send events of `level` and above to standard error, as `text` or `json`.

    The fields `always` are those of every event.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormat(always) if style == "json" else TextFormat(always))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)  # it would tell URLs and headers


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, Fact]:
    fields: dict[str, Fact] = getattr(record, FIELDS, {})
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1]))
        return {**fields, "trace": trace}
    return fields
