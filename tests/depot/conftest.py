"""What tests of the depot share: both engines, where a test is about what every depot promises."""

from pathlib import Path

import pytest

from holdfast.core.marker import LOG, SQLITE

ON_DISK = {"test_depot_disk"}
"""Modules that ask a real disk; the others open depots by the hundred."""


@pytest.fixture(params=[LOG, SQLITE])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine."""
    return str(request.param)


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder in memory, but for what asks a disk."""
    if request.module.__name__ in ON_DISK:
        return tmp_path
    path: Path = request.getfixturevalue("memory_path")
    return path
