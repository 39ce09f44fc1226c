"""A store over a real S3 server: the whole suite."""

import hashlib
from pathlib import Path

import pytest
from object_steps import open_objects, s3

from holdfast.core.limits import MIB
from holdfast.core.store import Store
from holdfast.testing.store_suite import StoreSuite

pytestmark = [pytest.mark.xdist_group("seaweed"), pytest.mark.slow]


class TestObjectsInSeaweed(StoreSuite):
    port = 0

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, s3_port: int) -> None:
        cls.port = s3_port

    def open_store(self, folder: Path) -> Store:
        prefix = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
        return open_objects(s3(self.port, prefix), MIB)
