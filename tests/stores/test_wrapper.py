from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stack_steps import open_tiered

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sorted import in_order
from holdfast.stores.wrapper import Wrapper
from holdfast.testing.store_suite import StoreSuite


@pytest.mark.slow
class TestWrapper(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return Wrapper(MemoryStore())


def test_a_wrapper_is_what_it_is_around(tmp_path: Path) -> None:
    inner = open_tiered(tmp_path)
    store = Wrapper(inner)
    assert store.traits is inner.traits
    assert store.traits.log_id
    assert store.usage() == inner.usage()
    store.close()


@given(numbers=st.sets(st.integers(0, 500)), after=st.integers(-1, 501), room=st.integers(1, 9))
def test_what_lies_in_any_order_is_given_out_in_order(
    numbers: set[int], after: int, room: int
) -> None:
    walks = 0

    def walk() -> list[BlobRef]:
        nonlocal walks
        walks += 1
        return [BlobRef(_digest(number), number) for number in numbers]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SORTED_REFS_MAX", room)
        found = list(in_order(walk, _digest(after) if after >= 0 else None))
    expected = sorted(number for number in numbers if number > after)
    assert [ref.size_bytes for ref in found] == expected
    assert walks <= len(expected) // room + 2


def _digest(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))
