"""Servers for the HTTP tests: each behaviour is tested through the hot path and the ASGI app."""

import itertools
from collections.abc import Generator, Iterator

import pytest
from serving import Server, Servers

_names = itertools.count(1)
WAYS = {"hot": "true", "cold": "false"}


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers by their settings, stopped at the end of the session."""
    servers = Servers(tmp_path_factory.mktemp("http"))
    yield servers
    servers.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The setting `hot_path`, for tests that want other settings too."""
    return WAYS[request.param]


@pytest.fixture
def server(servers: Servers, way: str) -> Server:
    """A shared server with default settings, on the hot path and on the cold one."""
    return servers.shared(hot_path=way)


@pytest.fixture
def hot(servers: Servers) -> Server:
    """A shared server on the hot path, for what only it does."""
    return servers.shared(hot_path="true")


@pytest.fixture
def bucket() -> str:
    """A bucket that no other test uses."""
    return f"test{next(_names)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers wrote beside a failure."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if report.failed and servers is not None:
        report.sections += list(servers.logs())
    return report
