"""uvicorn around the hot path and the app: what one process serves, from its start to its stop."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
import uvicorn.lifespan.off
import uvicorn.loops.uvloop

from holdfast.core import limits
from holdfast.core.seams import SystemClock
from holdfast.http.app import make_app
from holdfast.http.cold import ColdProtocol
from holdfast.http.hearing import HearsOut
from holdfast.http.listen import BACKLOG
from holdfast.http.loop import Shared
from holdfast.http.protocol import HotProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from holdfast.config.settings import Settings
    from holdfast.http.site import Site

OTHER_FILES = 256  # of the log, the index and uploads
COLLECTOR_THRESHOLDS = (50_000, 20, 50)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
YIELD_S = 0.3  # in which whoever is connected may still ask, before another server follows


def serve_site(
    site: Site, settings: Settings, listener: socket.socket, on_start: Callable[[], None]
) -> None:
    """Answer what comes to `listener` until SIGTERM or SIGINT, then finish open requests."""
    Server(site, settings, on_start).serve_at(listener)


def announce(settings: Settings, listener: socket.socket) -> None:
    """Say on standard output that requests are taken, and where."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if settings.tls_certificate else "http"
    name = f"[{host}]" if ":" in host else host
    sys.stdout.write(f"holdfast serves {settings.data} at {scheme}://{name}:{port}\n")
    sys.stdout.flush()


def prepare(settings: Settings) -> None:
    """Set this process up for many requests, and those that it forks."""
    _tune_collector()
    _allow_descriptors(settings.max_connections)


class Server(uvicorn.Server):
    """uvicorn with our protocol in front."""

    def __init__(self, site: Site, settings: Settings, on_start: Callable[[], None]) -> None:
        self._site = site
        self._settings = settings
        self._on_start = on_start
        self._shared: Shared | None = None
        self._yields = False
        app = HearsOut(make_app(site, settings, self._share))
        config = uvicorn.Config(
            app,
            ws="none",
            http=self._connect if settings.hot_path else ColdProtocol,  # type: ignore[arg-type] # a factory of protocols serves as well as a class
            loop="uvloop",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=None if settings.hot_path else settings.max_connections,
            timeout_keep_alive=int(settings.idle_wait_s),
            timeout_graceful_shutdown=int(settings.stop_wait_s),
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        super().__init__(config)

    def serve_at(self, listener: socket.socket) -> None:
        """Answer what comes to `listener`, which this closes, until it is time to stop."""
        self.stop_on_signals()
        try:
            self.run(sockets=[listener])
        finally:
            self.close()
            listener.close()

    def make_way(self) -> None:
        """Stop for another server that is going to follow at the same socket; from any thread.

        Who is connected and has not asked yet gets an answer, and what connects from now on waits.
        """
        self._yields = True
        self.should_exit = True

    @property
    def is_signalled(self) -> bool:
        """Whether a signal has come."""
        return bool(self._captured_signals)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._site.begin()
            self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way; what has no end of its own ends now."""
        self._share().is_stopping = True
        if self._yields:
            for server in self.servers:
                server.close()
            await asyncio.sleep(YIELD_S)
        await super().shutdown(sockets)

    def stop_on_signals(self) -> None:
        """Stop on SIGINT and SIGTERM, and survive them until the store is closed.

        uvicorn raises a signal again when it has stopped; by default that would end the process
        before the last commits are drained. A worker is forked with both blocked.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self.handle_exit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; an interrupt behind another signal ends open requests, too.

        A terminal interrupts all processes at once, and a worker may hear of it first from its
        supervisor, by SIGTERM: it leaves interrupts to that.
        """
        if sig != signal.SIGINT or not self._site.team.supervisor:
            super().handle_exit(sig, frame)

    def close(self) -> None:
        """End the threads of the loop."""
        if self._shared is not None:
            self._shared.close()

    def _share(self) -> Shared:
        if self._shared is None:
            loop = asyncio.get_running_loop()
            self._shared = Shared(loop, self._settings, SystemClock(), self._site.report)
        return self._shared

    def _connect(self, config: uvicorn.Config, **rest: Any) -> HotProtocol:  # noqa: ANN401 - uvicorn's own call
        cold = partial(ColdProtocol, config=config, **rest)
        return HotProtocol(self._site, self._share(), cold, self.server_state)


def _tune_collector() -> None:
    """Look for cycles seldom, and never among what the start has made.

    Requests make thousands of objects a second and no cycles; at the default threshold the
    collector took a third of the time of a small PUT (docs/decisions/004).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _allow_descriptors(connections: int) -> None:
    """Raise the soft limit of open files, as far as the hard one allows, to what we may need.

    A connection has its socket, and while it downloads, a copy of that and a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + limits.OPEN_FILES_MAX + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
