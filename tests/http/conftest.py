"""Servers for the HTTP tests: each behaviour is tested through the hot path and the ASGI app.

What several processes could make different is tested with two workers, too.
"""

import itertools
from collections.abc import Generator, Iterator

import pytest
from serving import Server, Servers

_names = itertools.count(1)
WAYS = {
    "hot": {"hot_path": "true"},
    "cold": {"hot_path": "false"},
    "two": {"hot_path": "true", "workers": "2"},
}
BY_TWO = {
    "test_http_access",
    "test_http_audit",
    "test_http_events",
    "test_http_kept",
    "test_http_rates",
    "test_http_recent",
    "test_http_service",
    "test_http_stopping",
    "test_http_webhooks",
}
"""Modules whose tests run with two workers, too: what one must know of the other."""
SLOWLY_BY_TWO = {
    "test_http_content",
    "test_http_keyed",
    "test_http_limits",
    "test_http_listing",
    "test_http_model",
    "test_http_presigned",
}
"""Modules of which only the long run does that: one worker is enough for what they ask."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the ways that a test goes."""
    if "ways" in metafunc.fixturenames:
        only_way = "way" in metafunc.definition.fixturenames
        name = metafunc.module.__name__
        chosen: list[object] = ["hot", "cold"]
        if name in BY_TWO and not only_way:
            chosen.append("two")
        if name in SLOWLY_BY_TWO and not only_way:
            chosen.append(pytest.param("two", marks=pytest.mark.slow))
        metafunc.parametrize("ways", chosen, indirect=True)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers by their settings, stopped at the end of the session."""
    servers = Servers(tmp_path_factory.mktemp("http"))
    yield servers
    servers.close()


@pytest.fixture
def ways(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of one way through a server."""
    return WAYS[request.param]


@pytest.fixture
def way(ways: dict[str, str]) -> str:
    """The setting `hot_path`, for tests that want other settings too."""
    return ways["hot_path"]


@pytest.fixture
def server(servers: Servers, ways: dict[str, str]) -> Server:
    """A shared server with default settings but for the way."""
    return servers.shared(**ways)


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
