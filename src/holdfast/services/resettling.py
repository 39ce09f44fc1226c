"""Where a webhook stands in a store that it moved to: at the end, for the commits stayed behind."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.stream import parse_cursor
from holdfast.depot.events import EventReader, Scope
from holdfast.depot.webhooks import STANDING, Standing

if TYPE_CHECKING:
    from holdfast.core.kv import Item
    from holdfast.core.stream import Cursor
    from holdfast.depot.engine import Engine


def standing_moved(old: Engine, row: Item, new_end: Cursor, now_us: int) -> bytes:
    """What the row says in the new store; `lost_us` if there is something it was not told."""
    standing = msgspec.json.decode(row.value, type=Standing)
    name = row.key.removeprefix(STANDING).decode()
    lost_us = now_us if misses(old, name, standing) else standing.lost_us
    moved = replace(standing, cursor=str(new_end), waiting_us=0, lost_us=lost_us)
    return msgspec.json.encode(moved)


def misses(engine: Engine, name: str, standing: Standing) -> bool:
    """Whether there may be something behind where a webhook stands that it wants to be told."""
    try:
        wants = engine.webhooks.stored(name).webhook.wants
        cursor = parse_cursor(standing.cursor)
        with EventReader(engine.kv, engine.names.clock, Scope(), cursor, 0) as reader:
            some = islice(reader, limits.MOVE_EVENTS_MAX)
            return any(map(wants, some)) or reader.is_behind()
    except BlobError:  # it is gone, or what it missed is not kept any more
        return True
