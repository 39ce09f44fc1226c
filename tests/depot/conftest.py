"""What tests of the depot share: both engines, where a test is about what every depot promises."""

import pytest

from holdfast.depot.engine import LOG, SQLITE


@pytest.fixture(params=[LOG, SQLITE])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine."""
    return str(request.param)
