"""A store that holds blobs to their digests before it gives them out."""

from pathlib import Path

import pytest
from stack_steps import Watched, overwrite

from holdfast.core import limits
from holdfast.core.errors import CorruptError
from holdfast.core.limits import MIB, VERIFY_AGAIN_S
from holdfast.core.many import drain
from holdfast.core.seams import SystemClock
from holdfast.core.store import Span, Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.verified import VerifiedStore
from holdfast.testing.blobs import make, put, read, whole
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.store_suite import StoreSuite


@pytest.mark.slow
class TestVerifiedMemory(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return VerifiedStore(MemoryStore(), SystemClock())


@pytest.mark.parametrize("span", [None, Span(0, 1), Span(2 * MIB, 5)])
def test_no_byte_of_wrong_bytes_is_given_out(span: Span | None) -> None:
    inner = MemoryStore()
    store = VerifiedStore(inner, SystemClock())
    data = make(2 * MIB + 5)
    digest = put(store, data).digest
    overwrite(inner, digest, data[:MIB] + b"\0" + data[MIB + 1 :])
    assert store.open(digest, span, wait=False) is None
    with pytest.raises(CorruptError):
        store.open(digest, span)
    assert isinstance(drain(next(store.open_many([digest]))), CorruptError)
    overwrite(inner, digest, data)
    assert read(store, digest) == data


def test_what_was_sound_is_believed_for_a_while() -> None:
    inner, clock = Watched(MemoryStore()), StillClock()
    store = VerifiedStore(inner, clock)
    digest = put(store, make(1000)).digest
    whole(store, digest).close()
    for _ in range(3):
        whole(store, digest).close()
    assert inner.read_bytes == 1000
    clock.moved_s += VERIFY_AGAIN_S + 1
    whole(store, digest).close()
    assert inner.read_bytes == 2000


def test_what_comes_back_is_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VERIFIED_REFS_MAX", 2)
    inner = MemoryStore()
    store = VerifiedStore(inner, SystemClock())
    digests = [put(store, make(100, seed=seed)).digest for seed in range(3)]
    for digest in digests:
        whole(store, digest).close()
    overwrite(inner, digests[0], b"wrong")
    with pytest.raises(CorruptError):
        store.open(digests[0])
    store.remove([digests[2]])
    put(store, make(100, seed=2))
    overwrite(inner, digests[2], b"wrong")
    with pytest.raises(CorruptError):
        store.open(digests[2])
