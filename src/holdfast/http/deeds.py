"""Deeds of the admin face: kept in the trail, and told to the log."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from holdfast.core.events import event
from holdfast.depot.trail import Deed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Caller
    from holdfast.core.errors import BlobError
    from holdfast.core.kv import Write
    from holdfast.depot.trail import Trail
    from holdfast.http.message import Request

SECRET = re.compile(r"(hf_[0-9a-f]{12}_|whsec_)[A-Za-z0-9+=_-]+|[A-Za-z0-9_-]{40,}")
"""What looks like one, where somebody has put it into a path."""
PATH_CHARS_MAX = 200
ADMIN_CHARS = len("/admin/")
READS = frozenset(("GET", "HEAD"))
REFUSALS = frozenset((401, 403))


class Clerk:
    """Writes down what one caller does."""

    def __init__(self, trail: Trail, caller: Caller, address: str) -> None:
        self._trail = trail
        key = caller.key
        self._key = key.id if key is not None else ""
        self._owner = caller.owner
        self._address = address

    def deed(self, action: str, **about: str) -> Deed:
        """What is about to be done."""
        return Deed(
            action=action, about=about, key=self._key, owner=self._owner, address=self._address
        )

    def writes(self, deed: Deed) -> Sequence[Write]:
        """What keeps a deed by the commit that does it."""
        return self._trail.writes(deed)

    def keep(self, deed: Deed) -> None:
        """Keep a deed that commits nothing, and tell it."""
        self._trail.keep(deed)
        self.tell(deed)

    def tell(self, deed: Deed) -> None:
        """Tell a deed that was done."""
        event(logging.INFO, "admin.done", action=deed.action, by=self._key, **deed.about)


def refuse(trail: Trail, request: Request, caller: Caller | None, error: BlobError) -> None:
    """Keep what was refused: whatever would have changed something, and what nobody may see."""
    if request.method in READS and error.status not in REFUSALS:
        return
    path = unquote(request.path.decode("latin-1"))[ADMIN_CHARS:]
    path = SECRET.sub(lambda found: f"{found[1] or ''}...", path)
    key = None if caller is None else caller.key
    trail.refuse(
        Deed(
            action=f"{request.method} {path[:PATH_CHARS_MAX]}",
            key="" if key is None else key.id,
            owner="" if key is None else key.owner,
            address=request.address,
            outcome=error.code,
        )
    )
