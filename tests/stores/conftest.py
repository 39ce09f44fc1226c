"""Real object stores, each shared by all of one process, and folders in memory around files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azurite import Azurite

from bench.process import start
from bench.seaweed import Seaweed, install
from bench.table import NotRunError

IN_MEMORY = {"test_cached", "test_files_shared", "test_objects", "test_tiered", "test_verified"}
"""Modules that put something around files; what these make of a disk is asked in their own."""
WORK = Path(__file__).parent.parent.parent / "bench" / ".work"


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where SeaweedFS speaks S3; it is installed beside the benchmarks if need be."""
    WORK.mkdir(exist_ok=True)
    try:
        seaweed = Seaweed(tmp_path_factory.mktemp("seaweed"), install(WORK))
    except NotRunError as error:
        pytest.skip(f"needs SeaweedFS: {error}")
    running = start(seaweed.server)
    try:
        seaweed.wait()
        yield seaweed.ports["s3"]
    finally:
        running.kill()


@pytest.fixture(scope="session")
def azure_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where Azurite speaks as Azure does, with a container."""
    try:
        azurite = Azurite(tmp_path_factory.mktemp("azurite"), WORK)
        running = start(azurite.server)
    except NotRunError as error:
        pytest.skip(f"needs Azurite: {error}")
    try:
        azurite.make_container()
        yield azurite.port
    finally:
        running.stop()


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder in memory where no disk is asked."""
    if request.module.__name__ not in IN_MEMORY:
        return tmp_path
    path: Path = request.getfixturevalue("memory_path")
    return path
