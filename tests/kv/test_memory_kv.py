from pathlib import Path

from holdfast.core.kv import KV
from holdfast.kv.memory import MemoryKV
from holdfast.testing.kv_suite import KVSuite


class TestMemoryKV(KVSuite):
    durable = False

    def open_kv(self, folder: Path) -> KV:
        return MemoryKV()
