"""A worker: one of several processes that serve a store together.

It is forked with its socket and the read end of a pipe, its lifeline, whose other end only the
supervisor has. The lifeline ends with the supervisor, however that died, and then so does the
worker: at once, for it is safe at any moment, and the folder is free for the next server.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from holdfast.core.events import event
from holdfast.depot.local import open_depot
from holdfast.http.background import bounds, caretaker, dispatch
from holdfast.http.server import serve_site
from holdfast.http.site import Site

if TYPE_CHECKING:
    import socket

    from holdfast.config.settings import Settings
    from holdfast.http.processes import Team

ORPHANED = 1  # exit code


def work(settings: Settings, team: Team, listener: socket.socket, lifeline: int) -> None:
    """Serve until SIGTERM, or until the supervisor is gone.

    Raises:
        UnavailableError: the store cannot be opened.
    """
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
    with ExitStack() as stack:
        depot = stack.enter_context(open_depot(settings.data, bounds(settings), attached=True))
        if team.is_first:
            stack.enter_context(caretaker(depot, settings))
            stack.enter_context(dispatch(depot, settings))
        site = Site(depot, team, settings)
        serve_site(site, settings, listener, _nothing)


def _follow(lifeline: int) -> None:
    """End with the supervisor."""
    os.read(lifeline, 1)
    event(logging.ERROR, "worker.orphaned")
    os._exit(ORPHANED)


def _nothing() -> None:
    """Nobody waits for a word: the supervisor looks at the tally."""
