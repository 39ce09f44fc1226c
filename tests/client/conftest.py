"""Clients of both kinds, and servers that misbehave as they are told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awaited import Awaited, Loop
from scripted_server import Action, ScriptedServer

from holdfast.client import AsyncClient, Client, ClientOptions

QUICK = ClientOptions(retry_wait_s=0.001, connect_timeout_s=2, idle_timeout_s=5)

Connect = Callable[..., Any]


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(params=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Connect]:
    """Make clients of either kind, closed at the end."""
    made: list[Any] = []

    def make(url: str, options: ClientOptions = QUICK) -> Any:
        if request.param == "blocking":
            made.append(Client(url, options=options))
        else:
            made.append(Awaited(AsyncClient(url, options=options), loop))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., ScriptedServer]]:
    """Start servers that follow a script."""
    servers: list[ScriptedServer] = []

    def start(*actions: Action) -> ScriptedServer:
        servers.append(ScriptedServer(list(actions)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
