"""Real object stores for the tests of this folder, each shared by all of one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azurite import Azurite

from bench.process import start
from bench.seaweed import Seaweed, install
from bench.table import NotRunError

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
