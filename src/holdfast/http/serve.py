"""`holdfast serve`: from settings to the last commit, in one process or several."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from holdfast.core import events
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.http import journal
from holdfast.http.background import caretaker
from holdfast.http.listen import listen
from holdfast.http.server import announce, prepare, serve_site
from holdfast.http.site import Site

if TYPE_CHECKING:
    from holdfast.config.settings import Settings


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests and drain commits.

    Prints one line on standard output when requests are taken.

    Raises:
        UnavailableError: the folder is in use, or the address is, or a worker cannot start.
        CorruptError, UnsupportedError: the folder cannot be read.
    """
    journal.start(settings.log_level, settings.log_format)
    bounds = Limits(settings.max_body_bytes, settings.content_max_body_bytes)
    with open_depot(settings.data, bounds, settings.small_blob_bytes_max) as depot:
        events.event(logging.INFO, "store.open", data=str(settings.data), **depot.engine.facts())
        listener = listen(settings.host, settings.port)
        prepare(settings)
        with caretaker(depot, settings):
            serve_site(Site(depot), settings, listener, partial(announce, settings, listener))
    events.event(logging.INFO, "store.closed", data=str(settings.data))
