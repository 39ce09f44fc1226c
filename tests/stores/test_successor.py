"""A store that reads what it does not have yet in the one before it, which is only read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stack_steps import open_files, open_segments, overwrite

from holdfast.core.digest import Digest
from holdfast.core.errors import CorruptError, NotFoundError, UnsupportedError
from holdfast.core.limits import KIB, MIB
from holdfast.core.many import get_many
from holdfast.core.store import FileRef, Span, Store, Verdict
from holdfast.stores.compressed import compressed
from holdfast.stores.memory import MemoryStore
from holdfast.stores.successor import SuccessorStore
from holdfast.stores.verified import VerifiedStore
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.store_suite import StoreSuite


class TestSuccessor(StoreSuite):
    """Everything new is in the new store; that there is another one changes nothing."""

    def open_store(self, folder: Path) -> Store:
        return SuccessorStore(MemoryStore(), MemoryStore())


OLD, BOTH, NEW = make(MIB), make(2 * MIB), make(3 * MIB)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Store]:
    store = open_files(tmp_path / "old")
    put(store, OLD)
    put(store, BOTH)
    yield store
    store.close()


@pytest.fixture
def store(tmp_path: Path, old: Store) -> Iterator[SuccessorStore]:
    store = SuccessorStore(open_files(tmp_path / "new"), old)
    put(store, BOTH)
    put(store, NEW)
    yield store
    store.close()


def test_what_either_store_has_is_there_once(store: SuccessorStore, old: Store) -> None:
    digests = [Digest.of(data) for data in (OLD, BOTH, NEW)]
    sizes = {digest: len(data) for digest, data in zip(digests, (OLD, BOTH, NEW), strict=True)}
    assert [read(store, digest) for digest in digests] == [OLD, BOTH, NEW]
    assert list(get_many(store, digests)) == [OLD, BOTH, NEW]
    assert store.stat(digests) == sizes
    assert [ref.digest for ref in store.scan()] == sorted(digests)
    assert all(isinstance(each, FileRef) for each in store.file_refs(digests))
    assert store.usage().files == 4
    with whole(store, digests[0], Span(KIB, 5)) as source:
        assert read_all(source) == OLD[KIB : KIB + 5]
    with pytest.raises(NotFoundError):
        store.open(Digest.of(b"neither"))
    assert old.stat(digests) == {digest: sizes[digest] for digest in digests[:2]}


def test_nothing_is_removed_from_the_old_store(store: SuccessorStore, old: Store) -> None:
    digests = [Digest.of(data) for data in (OLD, BOTH, NEW)]
    verdicts = store.expire(digests, 1 << 60, lambda *_: False)
    assert verdicts == {digests[1]: Verdict.KEPT, digests[2]: Verdict.REMOVED}
    assert read(store, digests[1]) == BOTH
    store.remove(digests)
    assert read(store, digests[0]) == OLD
    assert set(old.stat(digests)) == set(digests[:2])


def test_a_blob_that_is_damaged_in_one_is_read_in_the_other() -> None:
    inner, old = MemoryStore(), MemoryStore()
    new = VerifiedStore(inner, StillClock())
    store = SuccessorStore(new, old)
    for each in (new, old):
        put(each, OLD)
    overwrite(inner, Digest.of(OLD), b"something else")
    assert read(store, Digest.of(OLD)) == OLD
    assert list(get_many(store, [Digest.of(OLD)])) == [OLD]
    store.let_go()
    with pytest.raises(CorruptError):
        store.open(Digest.of(OLD))


def test_it_lets_go_of_the_old_store_when_nobody_reads_there(store: SuccessorStore) -> None:
    digest = Digest.of(OLD)
    assert store.lent == 0
    with whole(store, digest) as source:
        store.let_go()
        assert store.lent == 1
        with pytest.raises(NotFoundError):
            store.open(digest)
        assert read_all(source) == OLD
        assert store.lent == 1
    source.close()
    assert store.lent == 0
    assert [ref.digest for ref in store.scan()] == sorted(map(Digest.of, (BOTH, NEW)))
    assert store.stat([digest]) == {}
    assert store.usage().files == 2


def test_a_scan_keeps_the_old_store_until_it_ends(store: SuccessorStore) -> None:
    scan = store.scan()
    next(scan)
    store.let_go()
    assert store.lent == 1
    assert len(list(scan)) == 2
    assert store.lent == 0


def test_its_traits_are_those_of_the_new_store_and_what_the_old_one_needs(tmp_path: Path) -> None:
    new, old = open_segments(tmp_path / "new"), compressed(open_files(tmp_path / "old"))
    store = SuccessorStore(new, old)
    assert store.traits.log_id == new.traits.log_id
    assert store.traits.durable
    assert store.traits.encodes
    data = b"a" * MIB
    put(old, data)
    (found,) = store.file_refs([Digest.of(data)])
    assert isinstance(found, UnsupportedError)
    store.close()
    old.close()
