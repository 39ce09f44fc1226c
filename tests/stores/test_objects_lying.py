"""What lies in an object store: names, damage, leftovers of crashes, ages, readers."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING

import obstore
import pytest
import xxhash
from object_steps import names, open_objects
from obstore.store import LocalStore, MemoryStore

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest, Hasher
from holdfast.core.errors import BlobError, CorruptError, UnavailableError, UnsupportedError
from holdfast.core.limits import MIB
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Span, Verdict
from holdfast.stores import footer, head, naming
from holdfast.stores.files import FileStore
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.hand_clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.core.store import Moment
    from holdfast.stores.objects import ObjectStore

SMALL, LARGE = make(MIB - 1), make(3 * MIB + 17)
GRACE_US = 3600 * 1_000_000


@pytest.fixture
def client() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def store(client: MemoryStore, clock: StillClock) -> Iterator[ObjectStore]:
    with closing(open_objects(client, MIB, clock=clock)) as store:
        yield store


def nobody(digest: Digest, moment: Moment | None) -> bool:
    del digest, moment
    return False


def late() -> StillClock:
    """A clock behind every grace."""
    clock = StillClock()
    clock.moved_s = 2 * limits.SWEEP_GRACE_S
    return clock


def content(client: MemoryStore, name: str) -> bytes:
    return bytes(obstore.get(client, name).bytes())


# Names.


def test_an_upload_holds_a_few_parts_however_large_it_is(tmp_path: Path) -> None:
    client = LocalStore(tmp_path / "objects", mkdir=True)
    parts = (limits.OBJECT_PARTS_AHEAD + 3) * MIB
    hasher, chunk = Hasher(), make(MIB)
    with closing(open_objects(client, MIB)) as store, store.sink() as sink:
        tracemalloc.start()
        try:
            for _ in range(4 * parts // MIB):
                hasher.update(chunk)
                sink.write(chunk)
            sink.commit(hasher.ref()).result()
            assert tracemalloc.get_traced_memory()[1] < parts
        finally:
            tracemalloc.stop()
        assert store.stat([hasher.ref().digest]) == {hasher.ref().digest: 4 * parts}


def test_a_small_blob_is_one_object_and_the_same_as_its_file(tmp_path: Path) -> None:
    """So a folder of files is a folder of objects, and the other way round."""
    client = LocalStore(tmp_path / "objects", mkdir=True)
    files = FileStore(tmp_path / "files", Disk(), SystemEntropy(), SystemClock())
    with closing(open_objects(client)) as store, closing(files):
        digest = put(store, SMALL).digest
        put(files, SMALL)
    (name,) = names(client)
    assert name == f"blobs/{digest.hex()[:2]}/{digest.hex()}.blob"
    file = tmp_path / "files" / digest.hex()[:2] / f"{digest.hex()}.blob"
    assert (tmp_path / "objects" / name).read_bytes() == file.read_bytes()


def test_a_large_blob_is_its_parts_and_a_head_that_is_stored_last(
    store: ObjectStore, client: MemoryStore
) -> None:
    with store.sink() as sink:
        sink.write(LARGE)
        sink.write(b"")
        sent = names(client)
        assert all(each.startswith("parts/") for each in sent)
        sink.commit(BlobRef(Digest.of(LARGE), len(LARGE))).result()
    (top,) = names(client, "large")
    parts = names(client, "parts")
    assert top.split("/")[3].startswith(f"{len(LARGE)}-")
    assert b"".join(content(client, each) for each in parts) == LARGE
    assert [len(content(client, each)) for each in parts] == [MIB, MIB, MIB, 17]


def test_names_fill_all_folders_evenly(store: ObjectStore, client: MemoryStore) -> None:
    """A3: by digest, whatever the spelling of digests begins with."""
    for number in range(0, 4000, 1000):
        store.put_many([b"%d" % each for each in range(number, number + 1000)])
    folders = [each.split("/")[1] for each in names(client, "blobs")]
    counts = [folders.count(each) for each in set(folders)]
    assert len(counts) == 256
    assert max(counts) < 45


def test_what_others_put_there_is_left_alone(
    store: ObjectStore, client: MemoryStore, clock: StillClock
) -> None:
    digest = put(store, SMALL).digest
    for name in ("notes.txt", "blobs/00/x", "blobs/zz/y", "large/00/zz/5-q", "parts/aa/b/c"):
        obstore.put(client, name, b"somebody else's")
    assert [each.digest for each in store.scan()] == [digest]
    clock.moved_s = 2 * limits.SWEEP_GRACE_S
    assert list(store.sweep()) == []
    assert "parts/aa/b/c" in names(client)


# Damage.


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0x40,)) + data[at + 1 :]


@pytest.mark.parametrize("where", ["content", "checksums", "footer"])
def test_damage_of_a_small_blob_is_found_and_mended_by_a_put(
    store: ObjectStore, client: MemoryStore, where: str
) -> None:
    digest = put(store, SMALL).digest
    name = naming.blob(digest)
    stored = content(client, name)
    at = {"content": 1000, "checksums": len(SMALL) + 2, "footer": len(stored) - 30}[where]
    obstore.put(client, name, damaged(stored, at))
    with closing(open_objects(client, MIB)) as other:
        with pytest.raises(CorruptError):
            read(other, digest)
        put(other, SMALL)
        assert read(other, digest) == SMALL
    assert content(client, name) == stored


@pytest.mark.parametrize("size_bytes", [0, 1, 71, 1000])
def test_a_cut_object_is_damage(store: ObjectStore, client: MemoryStore, size_bytes: int) -> None:
    digest = put(store, SMALL).digest
    obstore.put(client, naming.blob(digest), content(client, naming.blob(digest))[:size_bytes])
    with closing(open_objects(client, MIB)) as other:
        with pytest.raises(CorruptError):
            read(other, digest)
        put(other, SMALL)
        assert read(other, digest) == SMALL


def test_a_damaged_part_costs_its_chunk_and_a_put_mends_it(
    store: ObjectStore, client: MemoryStore
) -> None:
    digest = put(store, LARGE).digest
    name = names(client, "parts")[1]
    obstore.put(client, name, damaged(content(client, name), 5))
    with whole(store, digest, Span(0, MIB)) as source:
        assert read_all(source) == LARGE[:MIB]
    with whole(store, digest, Span(2 * MIB, 9)) as source:
        assert read_all(source) == LARGE[2 * MIB : 2 * MIB + 9]
    with whole(store, digest) as source, pytest.raises(CorruptError) as caught:
        read_all(source)
    assert caught.value.facts["offset"] == MIB
    put(store, LARGE)
    assert read(store, digest) == LARGE
    assert len(names(client, "parts")) == 4
    assert len(names(client, "large")) == 1


def test_a_missing_part_is_an_error_that_names_it(store: ObjectStore, client: MemoryStore) -> None:
    digest = put(store, LARGE).digest
    name = names(client, "parts")[2]
    obstore.delete(client, name)
    with pytest.raises(CorruptError) as caught:
        read(store, digest)
    assert caught.value.facts["object"] == name


@pytest.mark.parametrize("size_bytes", [0, 80, 100])
def test_a_cut_head_is_damage(store: ObjectStore, client: MemoryStore, size_bytes: int) -> None:
    digest = put(store, LARGE).digest
    (name,) = names(client, "large")
    obstore.put(client, name, content(client, name)[:size_bytes])
    with closing(open_objects(client, MIB)) as other, pytest.raises(CorruptError):
        read(other, digest)


def test_every_flipped_bit_of_a_head_is_found(store: ObjectStore, client: MemoryStore) -> None:
    digest = put(store, LARGE).digest
    stored = content(client, names(client, "large")[0])
    assert head.unpack(stored, digest).ref == BlobRef(digest, len(LARGE))
    for at in range(len(stored)):
        for bit in range(8):
            bad = stored[:at] + bytes((stored[at] ^ 1 << bit,)) + stored[at + 1 :]
            with pytest.raises(CorruptError):
                head.unpack(bad, digest)


def test_swapped_objects_are_found(store: ObjectStore, client: MemoryStore) -> None:
    one, other = make(1000, seed=1), make(1000, seed=2)
    digests = [put(store, each).digest for each in (one, other)]
    stored = [content(client, naming.blob(each)) for each in digests]
    obstore.put(client, naming.blob(digests[0]), stored[1])
    with closing(open_objects(client)) as fresh:
        with pytest.raises(CorruptError):
            read(fresh, digests[0])
        assert read(fresh, digests[1]) == other


def test_a_head_under_another_name_is_found(store: ObjectStore, client: MemoryStore) -> None:
    digest = put(store, LARGE).digest
    (name,) = names(client, "large")
    obstore.rename(client, name, name.replace(f"/{len(LARGE)}-", "/12345-"))
    with closing(open_objects(client)) as fresh, pytest.raises(CorruptError):
        read(fresh, digest)


def test_what_a_newer_release_wrote_is_refused(store: ObjectStore, client: MemoryStore) -> None:
    digest = put(store, LARGE).digest
    found = head.unpack(content(client, names(client, "large")[0]), digest)
    newer = bytearray(head.pack(found)[: -footer.CHECKSUM_BYTES])
    newer[8] = head.VERSION + 1
    newer += xxhash.xxh3_64_intdigest(bytes(newer)).to_bytes(8, "little")
    with pytest.raises(UnsupportedError):
        head.unpack(bytes(newer), digest)


# What crashes leave.


def test_what_a_crash_leaves_is_swept_behind_the_grace_and_nothing_else(
    client: MemoryStore,
) -> None:
    """The process dies with two uploads half way, and another one takes over."""
    dead = open_objects(client, MIB)
    kept = [put(dead, data).digest for data in (SMALL, LARGE)]
    for seed in range(2):
        dead.sink().write(make(3 * MIB, seed=seed))
    dead.close()
    clock = StillClock()
    store = open_objects(client, MIB, clock=clock)
    usage = store.usage()
    assert (usage.files, usage.temporary_files) == (2, 2)
    assert list(store.sweep(0)) == []
    clock.moved_s = limits.SWEEP_GRACE_S + 5
    own = store.sink()
    own.write(make(3 * MIB, seed=7))
    assert list(store.sweep()) == [2 * MIB] * 2
    own.commit(BlobRef(Digest.of(make(3 * MIB, seed=7)), 3 * MIB)).result()
    assert [read(store, each) for each in kept] == [SMALL, LARGE]
    assert read(store, Digest.of(make(3 * MIB, seed=7))) == make(3 * MIB, seed=7)
    assert store.usage().temporary_files == 0
    store.close()


def test_a_crash_between_parts_and_head_leaves_no_blob(client: MemoryStore) -> None:
    store = open_objects(client, MIB)
    put(store, LARGE)
    (name,) = names(client, "large")
    obstore.delete(client, name)
    with closing(open_objects(client, MIB, clock=late())) as other:
        assert list(other.scan()) == []
        assert read(other, Digest.of(LARGE)) is None
        assert list(other.sweep()) == [len(LARGE)]
    assert names(client) == []
    store.close()


# Ages, and what waits for its name.


def test_what_another_process_stored_is_young_until_no_clock_can_say_else(
    client: MemoryStore,
) -> None:
    with closing(open_objects(client)) as store:
        digest = put(store, SMALL).digest
    now_us = SystemClock().now_us()
    with closing(open_objects(client)) as store:
        skew_us = limits.OBJECT_SKEW_S * 1_000_000
        young = store.expire([digest], now_us + skew_us // 2, nobody)
        assert young == {digest: Verdict.YOUNG}
        old = store.expire([digest], now_us + 2 * skew_us, nobody)
        assert old == {digest: Verdict.REMOVED}


def test_what_was_found_there_is_as_young_as_what_was_stored(client: MemoryStore) -> None:
    """By our own clock: the object keeps the time at which it was stored."""
    clock = StillClock()
    store = open_objects(client, clock=clock)
    digest = put(store, SMALL).digest
    clock.moved_s = 7200
    put(store, SMALL)
    before_us = clock.now_us() - GRACE_US
    assert store.expire([digest], before_us, nobody) == {digest: Verdict.YOUNG}
    clock.moved_s += 7200
    before_us = clock.now_us() - GRACE_US
    assert store.expire([digest], before_us, nobody) == {digest: Verdict.REMOVED}
    store.close()


def test_what_had_to_be_forgotten_is_young(
    client: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OBJECT_AGES_MAX", 2)
    clock = StillClock()
    clock.moved_s = 100_000  # ahead of what the object store says
    store = open_objects(client, clock=clock)
    digests = [put(store, b"%d" % number).digest for number in range(3)]
    before_us = clock.now_us()
    assert store.expire(digests[:1], before_us, nobody) == {digests[0]: Verdict.YOUNG}
    assert store.expire(digests[:1], before_us + 1, nobody) == {digests[0]: Verdict.REMOVED}
    store.close()


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_waits_for_its_name_is_not_expired_and_its_removal_refuses_the_name(
    store: ObjectStore, data: bytes
) -> None:
    ref = BlobRef(Digest.of(data), len(data))
    with store.sink() as sink:
        sink.write(data)
        staged = sink.stage(ref)
    assert store.expire([ref.digest], 1 << 60, nobody) == {ref.digest: Verdict.YOUNG}
    staged.stage(None)
    store.remove([ref.digest])
    with pytest.raises(UnavailableError):
        staged.stage(None)
    del staged
    put(store, data)
    assert store.expire([ref.digest], 1 << 60, nobody) == {ref.digest: Verdict.REMOVED}


def test_too_many_removals_in_doubt_are_refused(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OBJECT_DOUBTS_MAX", 0)
    digest = put(store, SMALL).digest
    with pytest.raises(UnavailableError):
        store.remove([digest])
    assert read(store, digest) == SMALL


# Readers.


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_was_kept_for_readers_goes_with_the_last(
    store: ObjectStore, client: MemoryStore, clock: StillClock, data: bytes
) -> None:
    digest = put(store, data).digest
    one, other = whole(store, digest), whole(store, digest)
    store.remove([digest])
    assert read(store, digest) is None
    clock.moved_s = 2 * limits.SWEEP_GRACE_S
    assert list(store.sweep()) == []
    assert read_all(one) == data
    one.close()
    assert read_all(other) == data
    other.close()
    store.close()
    assert names(client) == []


def test_what_a_dead_reader_kept_is_swept(client: MemoryStore) -> None:
    store = open_objects(client)
    digest = put(store, SMALL).digest
    source = whole(store, digest)
    store.remove([digest])
    assert len(names(client, "gone")) == 1
    with closing(open_objects(client, clock=late())) as other:
        assert len(list(other.sweep())) == 1
    assert names(client) == []
    with pytest.raises(BlobError):
        read_all(source)
    source.close()
    store.close()


def test_a_range_costs_its_own_chunks_and_the_description_is_asked_for_once(
    store: ObjectStore, client: MemoryStore
) -> None:
    """Other parts may be missing."""
    digest = put(store, LARGE).digest
    with whole(store, digest, Span(MIB + 5, 10)) as source:
        assert read_all(source) == LARGE[MIB + 5 : MIB + 15]
    for name in names(client):
        if not name.endswith("/00000002"):
            obstore.delete(client, name)
    assert read_part(store, digest, Span(2 * MIB + 1, MIB - 1)) == LARGE[2 * MIB + 1 : 3 * MIB]


def read_part(store: ObjectStore, digest: Digest, span: Span) -> bytes:
    with whole(store, digest, span) as source:
        return read_all(source)


def test_nothing_is_opened_for_who_may_not_wait(store: ObjectStore) -> None:
    """Not even what is known: reading it would wait for the network, in a server for all."""
    digest = put(store, SMALL).digest
    with whole(store, digest):
        assert store.open(digest, wait=False) is None


def test_descriptions_are_kept_within_a_bound(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OBJECT_HEADS_BYTES_MAX", 5000)
    blobs = [b"%d" % number for number in range(30)]
    store.put_many(blobs)
    held = whole(store, Digest.of(blobs[0]))
    for data in blobs * 2:
        assert read(store, Digest.of(data)) == data
    assert len(store._handles._table) <= 7
    assert read_all(held) == blobs[0]
    held.close()
