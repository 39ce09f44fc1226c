"""`holdfast serve --move-to`: a store is served while it is moved, and then the other one.

One process does it all, at one listening socket. The server of the old store stops as on a signal,
but without closing that: who connects meanwhile waits until the server of the new one answers. A
signal that comes between the two is heard by the second.
"""

from __future__ import annotations

import logging
import signal
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core import limits
from holdfast.core.errors import BlobError
from holdfast.core.events import event
from holdfast.core.rates import doubled
from holdfast.core.seams import SystemEntropy
from holdfast.depot.moving import End, Stage
from holdfast.http.background import bounds, caretaker, dispatch, mover
from holdfast.http.counts import Tally
from holdfast.http.listen import listen
from holdfast.http.meters import Meters
from holdfast.http.processes import Team
from holdfast.http.server import Server, announce, prepare
from holdfast.http.site import Site
from holdfast.services.caretaker import Caretaker
from holdfast.services.moving import Copy, Manner, Move, Read

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from holdfast.config.settings import Settings
    from holdfast.services.caretaker import Task


def ends(settings: Settings) -> tuple[End, End]:
    """Both stores, as the settings have them; the new one says how it is made in its own URL.

    Raises:
        InvalidError: the new one is none, or a secret is not where it should be.
    """
    old = bounds(settings)
    located = locate(settings.move_to, {})
    new = bounds_of(located)._replace(
        max_bytes=old.max_bytes,
        content_max_bytes=old.content_max_bytes,
        undelete_s=old.undelete_s,
        small_blob_bytes_max=old.small_blob_bytes_max,
        audit_days=old.audit_days,
    )
    return End(settings.data, old), End(located.folder, new)


def serve_moving(settings: Settings, begin: Callable[[Move], None]) -> None:
    """Serve the store of a move until SIGTERM or SIGINT; `begin` is called when it is open.

    Raises:
        BlobError: the move cannot be begun or gone on with, or its last step failed.
    """
    manner = Manner(settings.move_bytes_s_max, settings.move_verify)
    with Move(*ends(settings), manner) as move:
        begin(move)
        listener = listen(settings.host, settings.port)
        prepare(settings)
        with listener:
            _Course(settings, move, listener).run()


class _Course:
    """One server after the other, until one is told to stop."""

    def __init__(self, settings: Settings, move: Move, listener: socket.socket) -> None:
        self._settings = settings
        self._move = move
        self._listener = listener
        clock = move.clock
        self._team = Team(Tally(), meters=Meters(clock, SystemEntropy()))
        self._before: Server | None = None
        self._failures = 0

    def run(self) -> None:
        """Serve the old store, then the new one.

        Raises:
            FullError, UnavailableError: the last step of the switch failed.
        """
        served = replace(self._settings, data=self._move.folder)
        on_start: Callable[[], None] = partial(announce, served, self._listener)
        while self._move.progress.stage is Stage.COPY:
            if self._serve_old(on_start):
                return
            on_start = _nothing
            self._switch()
        self._serve(on_start, lambda server: Read(self._move))

    def _serve_old(self, on_start: Callable[[], None]) -> bool:
        """Serve while everything is copied; say whether a signal has ended it."""
        wait_s = self._wait_s()
        return self._serve(
            on_start, lambda server: Copy(self._move, server.make_way, wait_s)
        ).is_signalled

    def _serve(self, on_start: Callable[[], None], task: Callable[[Server], Task]) -> Server:
        """Serve what is the store now, with a caretaker for the move."""
        settings, depot = self._settings, self._move.depot
        site = Site(depot, self._team, settings)
        site.move = self._move.progress
        with ExitStack() as stack:
            stack.enter_context(caretaker(depot, settings))
            stack.enter_context(mover(depot, settings))
            sender = stack.enter_context(dispatch(depot, settings))
            server = Server(site, settings, on_start)
            stack.enter_context(Caretaker([task(server)]))
            self._hand_on_signals(server)
            server.serve_at(self._listener.dup())
            site.queue.settle()
            if self._move.progress.stage is Stage.COPY and not server.is_signalled:
                sender.settle(limits.MOVE_HOOKS_WAIT_S)
        return server

    def _hand_on_signals(self, server: Server) -> None:
        """Hear signals from now on, and what the server before has heard behind its end."""
        server.stop_on_signals()
        if self._before is not None and self._before.is_signalled:
            server.handle_exit(signal.SIGTERM, None)
        self._before = server

    def _switch(self) -> None:
        """Make the new store the one that is served, or go on with the old one.

        Raises:
            FullError, UnavailableError: nobody knows which of them it is, before the next start.
        """
        try:
            self._move.prepare()
        except (BlobError, OSError) as error:
            self._failures += 1
            message = getattr(error, "message", None) or str(error)
            event(logging.WARNING, "move.failed", error=message, wait_s=self._wait_s())
            return
        self._move.commit()
        event(logging.INFO, "move.switched", **self._move.facts())

    def _wait_s(self) -> float:
        """Until a switch is tried again that failed."""
        if not self._failures:
            return 0.0
        return doubled(limits.TASK_RETRY_S, self._failures - 1, limits.TASK_RETRY_S_MAX)


def _nothing() -> None:
    """The line on standard output was printed by the first of them."""
