"""`holdfast serve`: from settings to the last commit, in one process or several."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core.access import ApiKey
from holdfast.core.events import event
from holdfast.core.seams import SystemClock
from holdfast.depot.local import hold_depot, open_depot
from holdfast.http import journal
from holdfast.http.background import bounds, caretaker, dispatch, mover
from holdfast.http.listen import listen, listen_together
from holdfast.http.moving import serve_moving
from holdfast.http.server import announce, prepare, serve_site
from holdfast.http.site import Site
from holdfast.http.supervisor import Supervisor

if TYPE_CHECKING:
    from holdfast.config.settings import Settings
    from holdfast.depot.depot import Depot
    from holdfast.services.moving import Move


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests and drain commits.

    Prints one line on standard output when requests are taken.

    Raises:
        UnavailableError: the folder is in use, or the address is, or a worker cannot start.
        CorruptError, UnsupportedError: the folder cannot be read.
    """
    journal.start(settings.log_level, settings.log_format)
    if settings.move_to:
        serve_moving(settings, partial(_begin_move, settings))
    else:
        (_serve_alone if settings.workers == 1 else _supervise)(settings)
    event(logging.INFO, "store.closed", data=str(settings.data))


def _begin_move(settings: Settings, move: Move) -> None:
    if settings.asks_keys:
        _make_first_key(move.depot)
    event(logging.INFO, "store.open", data=str(move.folder), **move.depot.engine.facts())


def _serve_alone(settings: Settings) -> None:
    with open_depot(settings.data, bounds(settings)) as depot:
        if settings.asks_keys:
            _make_first_key(depot)
        event(logging.INFO, "store.open", data=str(settings.data), **depot.engine.facts())
        listener = listen(settings.host, settings.port)
        prepare(settings)
        with caretaker(depot, settings), mover(depot, settings), dispatch(depot, settings):
            site = Site(depot, settings=settings)
            serve_site(site, settings, listener, partial(announce, settings, listener))


def _make_first_key(depot: Depot) -> None:
    """Print a key for who runs the store, if nobody has one; it is never shown again."""
    if not depot.engine.keys.has_operator():
        token, _ = depot.engine.keys.create(ApiKey(id="", label="first"))
        print(f"the key of who runs this store, shown only now: {token}", flush=True)  # noqa: T201


def _supervise(settings: Settings) -> None:
    if settings.asks_keys:
        with open_depot(settings.data, bounds(settings)) as depot:
            _make_first_key(depot)
    with hold_depot(settings.data, bounds(settings)) as opening:
        event(logging.INFO, "store.open", data=str(settings.data), **opening)
        listeners = listen_together(settings.host, settings.port, settings.workers)
        prepare(settings)
        supervisor = Supervisor(settings, listeners, opening, SystemClock())
        supervisor.run(partial(announce, settings, listeners[0]))
