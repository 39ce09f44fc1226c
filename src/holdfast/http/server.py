"""`holdfast serve`: uvicorn around the hot path and the app, from settings to the last commit."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from holdfast.core import limits
from holdfast.core.errors import UnavailableError
from holdfast.core.seams import SystemClock
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.http import journal
from holdfast.http.app import make_app
from holdfast.http.loop import Shared
from holdfast.http.protocol import HotProtocol
from holdfast.http.site import Site

if TYPE_CHECKING:
    from holdfast.config.settings import Settings

BACKLOG = 2048
OTHER_FILES = 256  # of the log, the index and uploads
COLLECTOR_THRESHOLDS = (50_000, 20, 50)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests and drain commits.

    Prints one line on standard output when requests are taken.

    Raises:
        UnavailableError: the folder is in use, or the address is.
        CorruptError, UnsupportedError: the folder cannot be read.
    """
    journal.start(settings.log_level, settings.log_format)
    bounds = Limits(settings.max_body_bytes, settings.content_max_body_bytes)
    with open_depot(settings.data, bounds, settings.small_blob_bytes_max) as depot:
        journal.event(logging.INFO, "store.open", data=str(settings.data), **depot.engine.facts())
        listener = _listen(settings.host, settings.port)
        server = Server(Site(depot), settings)
        server.stop_on_signals()
        _tune_collector()
        _allow_descriptors(settings.max_connections)
        try:
            server.run(sockets=[listener])
        finally:
            server.close()
            listener.close()
    journal.event(logging.INFO, "store.closed", data=str(settings.data))


class Server(uvicorn.Server):
    """uvicorn with our protocol in front."""

    def __init__(self, site: Site, settings: Settings) -> None:
        self._site = site
        self._settings = settings
        self._shared: Shared | None = None
        app = make_app(site, settings, self._share)
        config = uvicorn.Config(
            app,
            ws="none",
            http=self._connect if settings.hot_path else "httptools",  # type: ignore[arg-type] # a factory of protocols serves as well as a class
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            scheme = "https" if self._settings.tls_certificate else "http"
            name = f"[{host}]" if ":" in host else host
            line = f"holdfast serves {self._settings.data} at {scheme}://{name}:{port}\n"
            sys.stdout.write(line)
            sys.stdout.flush()

    def stop_on_signals(self) -> None:
        """Stop on SIGINT and SIGTERM, and survive them until the store is closed.

        uvicorn raises a signal again when it has stopped; by default that would end the process
        before the last commits are drained.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)

    def close(self) -> None:
        """End the threads of the loop."""
        if self._shared is not None:
            self._shared.close()

    def _share(self) -> Shared:
        if self._shared is None:
            self._shared = Shared(asyncio.get_running_loop(), self._settings, SystemClock())
        return self._shared

    def _connect(self, config: uvicorn.Config, **rest: Any) -> HotProtocol:  # noqa: ANN401 - uvicorn's own call
        cold = partial(HttpToolsProtocol, config=config, **rest)
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


def _listen(host: str, port: int) -> socket.socket:
    """Bind one socket, before anything is printed.

    Raises:
        UnavailableError: the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"cannot listen on {host} port {port}: {error.strerror}"
        raise UnavailableError(message) from error
    return listener
