"""A real S3 server for the tests of this folder, shared by all of one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
