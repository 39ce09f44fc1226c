"""Where readers of events go on in a store that moved, and webhooks stand: at the end.

The commits stayed behind in the old store; the new one begins to count where that has ended.
"""

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


def begin_behind(old: Engine, new: Engine) -> None:
    """Let history begin anew, behind that of the old store, to which nobody writes any more.

    Who has a cursor at the end of the old store goes on in the new one; all others are refused.

    Raises:
        BlobError: a store refuses; may be repeated.
    """
    new.renumber(max(old.kv.revision(), new.kv.revision()))


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
