"""Calls for many blobs where some are files, and some of those damaged."""

import os
from pathlib import Path

import pytest

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, NotFoundError, UnavailableError
from holdfast.core.limits import CHUNK_BYTES, KIB, MIB
from holdfast.core.many import get_many, get_range
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.core.store import FileRef, Span, Store
from holdfast.core.verify import verify, verify_many
from holdfast.stores.files import FileStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.tiered import TieredStore
from holdfast.testing.blobs import make, put
from holdfast.testing.faults import Fault, FaultyDisk

BLOBS = [b"small", make(3 * MIB), b"", make(3 * MIB + 1), make(2 * MIB)]
DIGESTS = [Digest.of(data) for data in BLOBS]


def open_store(folder: Path, disk: FaultyDisk) -> Store:
    files = FileStore(folder, disk, SystemEntropy(), SystemClock())
    return TieredStore(MemoryStore(), files, 256 * KIB)


def damage(folder: Path, digest: Digest, offset: int) -> None:
    path = folder / digest.hex()[:2] / f"{digest.hex()}.blob"
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))


@pytest.mark.parametrize("offset", [0, CHUNK_BYTES, 3 * MIB - 1, 3 * MIB, 3 * MIB + 60])
def test_a_damaged_file_is_said_in_its_place_alone(tmp_path: Path, offset: int) -> None:
    store = open_store(tmp_path, FaultyDisk())
    assert store.put_many(BLOBS) == [BlobRef(Digest.of(data), len(data)) for data in BLOBS]
    store.close()
    damage(tmp_path, DIGESTS[1], offset)
    store = open_store(tmp_path, FaultyDisk())
    put(store, b"small")
    put(store, b"")
    found = list(get_many(store, DIGESTS))
    checked = list(verify_many(store, DIGESTS))
    for outcomes in (found, checked):
        assert isinstance(outcomes[1], CorruptError)
        assert not any(isinstance(outcomes[at], BlobError) for at in (0, 2, 3, 4))
    assert [found[at] for at in (0, 2, 3, 4)] == [BLOBS[at] for at in (0, 2, 3, 4)]
    with pytest.raises(CorruptError):
        verify(store, DIGESTS[1])
    store.close()


def test_a_range_reads_its_own_chunks_only(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_store(tmp_path, disk)
    store.put_many(BLOBS)
    damage(tmp_path, DIGESTS[1], CHUNK_BYTES + 5)
    assert get_range(store, DIGESTS[1], Span(7, 10)) == BLOBS[1][7:17]
    assert get_range(store, DIGESTS[1], Span(2 * MIB, MIB)) == BLOBS[1][2 * MIB :]
    for span in (Span(MIB - 1, 2), Span(0, 3 * MIB), Span(MIB + 9, 1)):
        with pytest.raises(CorruptError):
            get_range(store, DIGESTS[1], span)
    disk.arm(None)
    get_range(store, DIGESTS[1], Span(2 * MIB + 9, 9))
    assert disk.calls == ["pread"]
    store.close()


def test_a_call_of_the_disk_that_fails_costs_one_blob_at_most(tmp_path: Path) -> None:
    disk = FaultyDisk()
    store = open_store(tmp_path / "files", disk)
    store.put_many(BLOBS)
    store.close()
    number, struck = 0, True
    while struck:
        number += 1
        store = open_store(tmp_path / "files", disk)
        store.put_many([b"small", b""])
        disk.arm(Fault(number))
        outcomes = list(get_many(store, DIGESTS))
        struck = disk.struck
        disk.arm(None)
        failed = [each for each in outcomes if isinstance(each, BlobError)]
        assert [type(each) for each in failed] == [UnavailableError] * struck
        for data, outcome in zip(BLOBS, outcomes, strict=True):
            assert outcome == data or isinstance(outcome, BlobError)
        store.close()
    assert number > len(BLOBS)


@pytest.mark.parametrize("kind", [{}, {"after": True}, {"short": True}], ids=str)
def test_a_put_of_many_that_fails_at_a_call_refuses_one_blob_at_most(
    tmp_path: Path, kind: dict[str, bool]
) -> None:
    number, struck = 0, True
    while struck:
        number += 1
        disk = FaultyDisk()
        store = open_store(tmp_path / str(number), disk)
        after, short = kind.get("after", False), kind.get("short", False)
        disk.arm(Fault(number, after=after, short=short))
        outcomes = store.put_many(BLOBS)
        struck = disk.struck
        disk.arm(None)
        assert sum(isinstance(each, BlobError) for each in outcomes) <= struck
        for data, outcome, found in zip(BLOBS, outcomes, get_many(store, DIGESTS), strict=True):
            if isinstance(outcome, BlobError):
                assert isinstance(found, NotFoundError)
            else:
                assert found == data
        store.close()
    assert number > len(BLOBS)


def test_file_refs_look_at_footers_and_at_no_content(tmp_path: Path) -> None:
    store = FileStore(tmp_path, FaultyDisk(), SystemEntropy(), SystemClock())
    store.put_many(BLOBS)
    before = store.file_refs(DIGESTS)
    damage(tmp_path, DIGESTS[1], 5)
    assert store.file_refs(DIGESTS) == before
    for offset in (3 * MIB, 3 * MIB + 30):
        damage(tmp_path, DIGESTS[1], offset)
        found = store.file_refs(DIGESTS)
        assert isinstance(found[1], CorruptError)
        assert [found[0], *found[2:]] == [before[0], *before[2:]]
        damage(tmp_path, DIGESTS[1], offset)
    store.close()


@pytest.mark.parametrize("swap", ["link", "pipe", "cut", "nothing"])
def test_a_file_ref_never_names_what_is_not_the_blob(tmp_path: Path, swap: str) -> None:
    store = FileStore(tmp_path / "files", FaultyDisk(), SystemEntropy(), SystemClock())
    store.put_many(BLOBS)
    (found,) = store.file_refs(DIGESTS[4:])
    assert isinstance(found, FileRef)
    assert list(get_many(store, DIGESTS[4:])) == BLOBS[4:]  # which keeps it open
    copy = found.path.rename(tmp_path / "copy")
    if swap == "link":
        found.path.symlink_to(copy)
    elif swap == "pipe":
        os.mkfifo(found.path)
    elif swap == "cut":
        found.path.write_bytes(copy.read_bytes()[:-1])
    (outcome,) = store.file_refs(DIGESTS[4:])
    assert type(outcome) is (NotFoundError if swap == "nothing" else CorruptError)
    store.close()
