"""Wrappers around wrappers: the whole suite on stacks of them, over every kind of store.

A stack is written from the outside to the disk. Codecs change bytes, so what compares digests (a
cache, `verified`) is outside of them.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_steps import open_objects
from obstore.store import MemoryStore as ObjectsInMemory
from stack_steps import (
    open_files,
    open_segments,
    open_shards,
    open_tiered,
    words,
)

from holdfast.core import limits
from holdfast.core.limits import FRAME_BYTES, MIB
from holdfast.core.many import get_many
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.core.store import Span, Store
from holdfast.stores.cached import CachedStore
from holdfast.stores.compressed import compressed
from holdfast.stores.encrypted import encrypted
from holdfast.stores.keyring import Keyring
from holdfast.stores.memory import MemoryStore
from holdfast.stores.spread import Member, SpreadStore
from holdfast.stores.successor import SuccessorStore
from holdfast.stores.tiered import TieredStore
from holdfast.stores.verified import VerifiedStore
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.folders import quick_folder
from holdfast.testing.store_suite import StoreSuite

KEYRING = Keyring.make(SystemEntropy(), 1)
OBJECTS: dict[Path, ObjectsInMemory] = {}

Open = Callable[[Path], Store]


def open_bucket(folder: Path) -> Store:
    return open_objects(OBJECTS.setdefault(folder, ObjectsInMemory()), MIB)


BASES: dict[str, Open] = {
    "memory": lambda _: MemoryStore(),
    "files": open_files,
    "segments": open_segments,
    "local": open_tiered,
    "shards": open_shards,
    "objects": open_bucket,
}


def wrap(name: str, open_inner: Open, folder: Path) -> Store:
    """Put one wrapper around what `open_inner` opens."""
    if name == "spread":
        members = [Member(each, open_inner(folder / each)) for each in ("one", "other")]
        return SpreadStore(members, SystemClock())
    if name == "tiered":
        small, large = open_inner(folder / "small"), open_inner(folder / "large")
        return TieredStore(small, large, 256 * limits.KIB)
    inner = open_inner(folder / "inner")
    wrappers: dict[str, Callable[[], Store]] = {
        "compressed": lambda: compressed(inner),
        "encrypted": lambda: encrypted(inner, KEYRING),
        "verified": lambda: VerifiedStore(inner, SystemClock()),
        "cached": lambda: CachedStore(inner, MemoryStore(), 8 * MIB),
        "nearer": lambda: CachedStore(inner, open_files(folder / "cache"), 64 * MIB),
        "successor": lambda: SuccessorStore(inner, MemoryStore()),
    }
    return wrappers[name]()


def open_stack(stack: str, folder: Path) -> Store:
    """Open a stack by its name."""
    first, _, rest = stack.partition(" ")
    if not rest:
        return BASES[first](folder)
    return wrap(first, lambda inner: open_stack(rest, inner), folder)


STACKS = [
    "cached compressed encrypted memory",
    "compressed encrypted files",
    "compressed encrypted segments",
    "compressed encrypted shards",
    "compressed encrypted objects",
    "compressed spread files",
    "compressed shards",
    "encrypted objects",
    "encrypted spread memory",
    "encrypted encrypted memory",
    "compressed compressed files",
    "verified compressed local",
    "verified encrypted files",
    "cached objects",
    "cached verified compressed encrypted local",
    "nearer compressed objects",
    "nearer encrypted segments",
    "nearer spread compressed encrypted files",
    "spread compressed memory",
    "successor compressed local",
    "successor shards",
    "spread cached memory",
    "tiered compressed memory",
    "tiered encrypted files",
]
QUICK = 1


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    OBJECTS.clear()


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in memory; the stores underneath are on a real disk in their own tests."""
    with quick_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 256 * limits.KIB)
        yield folder


def _suite(stack: str) -> type:
    def open_store(self: StoreSuite, folder: Path) -> Store:
        return open_stack(stack, folder)

    name = "Test" + "".join(word.capitalize() for word in stack.split())
    return type(name, (StoreSuite,), {"open_store": open_store, "__doc__": stack})


for number, stack in enumerate(STACKS):
    suite = _suite(stack)
    globals()[suite.__name__] = suite if number < QUICK else pytest.mark.slow(suite)


@pytest.mark.parametrize("stack", STACKS)
def test_every_stack_gives_back_what_it_was_given(stack: str, tmp_path: Path) -> None:
    """Text, which is compressed, and noise, which is not; whole, in part, at once, reopened."""
    sizes = (0, 300, 5000, FRAME_BYTES + 1, 2 * MIB + 17)
    blobs = [kind(size_bytes) for size_bytes in sizes for kind in (words, make)]
    store = open_stack(stack, tmp_path / "store")
    refs = [put(store, data, 100_000) for data in blobs]
    if store.traits.durable:
        store.close()
        store = open_stack(stack, tmp_path / "store")
    for ref, data in zip(refs, blobs, strict=True):
        for _ in range(2):
            assert read(store, ref.digest) == data
        with whole(store, ref.digest, Span(ref.size_bytes // 3, 70_000)) as source:
            assert read_all(source) == data[ref.size_bytes // 3 :][:70_000]
    assert list(get_many(store, [ref.digest for ref in refs])) == blobs
    assert {ref.digest for ref in store.scan()} == {ref.digest for ref in refs}
    assert store.stat([ref.digest for ref in refs]) == dict(refs)
    store.close()
