"""Every way to a bucket, clients of both kinds, and servers that misbehave as they are told."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awaited import Awaited, Loop
from scripted_server import Action, ScriptedServer
from ways import LIMIT, WAYS

from holdfast.aio import AsyncBucket
from holdfast.client import AsyncClient, Client, ClientOptions
from holdfast.config import open_bucket

QUICK = ClientOptions(retry_wait_s=0.001, connect_timeout_s=2, idle_timeout_s=5)

Connect = Callable[..., Any]
names = itertools.count()


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, on a free port."""
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "holdfast", "serve", "--data", str(folder), "--port", "0"]
    limit = str(LIMIT)
    limits = {"HOLDFAST_MAX_BODY_BYTES": limit, "HOLDFAST_CONTENT_MAX_BODY_BYTES": limit}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | limits)
    assert server.stdout is not None
    ready = re.search(r"http://\S+", server.stdout.readline())
    assert ready is not None
    yield ready[0]
    server.terminate()
    assert server.wait(30) in {0, -signal.SIGTERM}
    server.stdout.close()


@pytest.fixture(scope="session")
def depot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with open_bucket(tmp_path_factory.mktemp("depot")) as depot:
        yield depot


@pytest.fixture(params=WAYS)
def bucket(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Any]:
    """An empty bucket."""
    name = f"bucket-{next(names)}"
    if "depot" in request.param:
        inner = request.getfixturevalue("depot")
        view = Awaited(AsyncBucket(inner, threads=2), loop) if "await" in request.param else inner
        yield view.bucket(name)
        return
    server = request.getfixturevalue("url")
    client: Any = Client(server)
    if "await" in request.param:
        client = Awaited(AsyncClient(server), loop)
    with client:
        yield client.bucket(name)


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
