"""Encoded blobs and keyrings that were written by each version stay readable for ever."""

from pathlib import Path

import pytest
from stack_steps import overwrite

from holdfast.core.digest import Digest
from holdfast.stores.compressed import compressed
from holdfast.stores.encrypted import encrypted
from holdfast.stores.keyring import Keyring
from holdfast.stores.memory import MemoryStore
from holdfast.testing.blobs import put, read

GOLDEN = Path(__file__).parent / "golden"
LINE = b"holdfast keeps what it was given\n"
SMALL, LARGE = LINE * 40, LINE * 20_000
MASTER = bytes(range(32))


@pytest.mark.parametrize(("name", "data"), [("small", SMALL), ("large", LARGE)])
def test_compressed_blobs_of_every_version_are_read(name: str, data: bytes) -> None:
    (file,) = GOLDEN.glob(f"compressed-1-{name}.zst")
    inner = MemoryStore()
    store = compressed(inner)
    digest = put(store, data).digest
    overwrite(inner, digest, file.read_bytes())
    assert read(store, digest) == data


def test_encrypted_blobs_and_keyrings_of_every_version_are_read() -> None:
    (file,) = GOLDEN.glob("encrypted-1-*.bin")
    keyring = Keyring.unseal((GOLDEN / "keyring-1.json").read_bytes(), MASTER)
    assert [key.made_us for key in keyring.keys] == [1_700_000_000_000_000, 1_700_000_001_000_000]
    inner = MemoryStore()
    store = encrypted(inner, keyring)
    digest = put(store, SMALL).digest
    ((name, _),) = inner.scan()
    assert name == Digest(bytes.fromhex(file.stem.rpartition("-")[2]))
    overwrite(inner, name, file.read_bytes())
    assert read(store, digest) == SMALL
