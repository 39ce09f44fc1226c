"""Shards of FerricStore: the same bytes as it writes, and what is left of damaged ones."""

import errno
import os
import random
from pathlib import Path

import pytest

from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    FullError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.limits import MIB
from holdfast.core.store import FileRef, Span
from holdfast.stores.bloblog import Damage, Recovered, Ref, Shard
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk

HELLO = bytes.fromhex("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
HEADER = bytes.fromhex("004653424c4f47010000000000000005") + HELLO
REF_1 = bytes.fromhex("004653424c4f42010000000000000005") + HELLO
PLACE = bytes.fromhex("00000000000000000000000000000030")
REF_2 = bytes.fromhex("004653424c4f42020000000000000005") + PLACE + HELLO
FIRST, SECOND = f"{0:020d}.bloblog", f"{1:020d}.bloblog"


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return Shard(tmp_path)


def sound(shard: Shard) -> dict[Digest, Ref]:
    return {found.digest: found for found in shard.scan() if isinstance(found, Ref)}


def test_a_segment_and_a_ref_have_the_known_bytes(shard: Shard, tmp_path: Path) -> None:
    (ref,) = shard.put_many([b"hello"])
    assert (tmp_path / "segments" / FIRST).read_bytes() == HEADER + b"hello"
    assert ref.pack() == REF_2
    assert Ref(ref.digest, 5).pack() == REF_1
    assert shard.get(Ref.parse(REF_2)) == b"hello"


def test_refs_of_every_release_are_read() -> None:
    digest = Digest(HELLO)
    assert Ref.parse(REF_1) == Ref(digest, 5)
    assert Ref.parse(REF_2) == Ref(digest, 5, 0, 48)
    assert Ref.parse(REF_2[:7] + b"\x01" + REF_2[8:]) == Ref(digest, 5, 0, 48)


@pytest.mark.parametrize(
    "data", [b"", REF_1[:-1], REF_2[:-1], REF_1 + b"x", REF_2[:7] + b"\x03" + REF_2[8:], HEADER]
)
def test_what_is_no_ref_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        Ref.parse(data)


def test_any_bytes_of_the_size_of_a_ref_are_a_ref_or_refused() -> None:
    dice = random.Random(1)
    for _ in range(300):
        data = REF_2[: dice.randrange(17)] + dice.randbytes(64)
        for size_bytes in (48, 64):
            try:
                ref = Ref.parse(data[:size_bytes])
            except InvalidError:
                continue
            assert ref.pack()[8:] == data[8:size_bytes]


def test_payloads_of_the_first_version_are_read(shard: Shard, tmp_path: Path) -> None:
    path = tmp_path / "2c" / f"{HELLO.hex()}.blob"
    path.parent.mkdir()
    path.write_bytes(b"hello")
    ref = Ref.parse(REF_1)
    assert shard.get(ref) == b"hello"
    assert shard.get_range(ref, Span(1, 3)) == b"ell"
    assert shard.file_ref(ref) == FileRef(path, 0, 5)
    assert list(shard.scan()) == [ref]
    path.write_bytes(b"jello")
    assert list(shard.scan()) == [Damage(path, 0, 5)]
    with pytest.raises(CorruptError):
        shard.get(ref)


def test_a_batch_is_one_append_and_one_sync_and_equal_payloads_are_stored_once(
    tmp_path: Path,
) -> None:
    disk = FaultyDisk()
    shard = Shard(tmp_path, disk)
    shard.put_many([b"first"])
    disk.arm(None)
    refs = shard.put_many([b"a", b"", b"bc", b"a"])
    assert disk.calls.count("pwrite_all") == disk.calls.count("sync") == 1
    assert [ref.size_bytes for ref in refs] == [1, 0, 2, 1]
    assert refs[0] == refs[3]
    assert [shard.get(ref) for ref in refs] == [b"a", b"", b"bc", b"a"]
    assert shard.put_many([]) == []
    assert list(Shard(tmp_path).scan()) == [*shard_refs(shard, b"first"), *refs[:3]]


def shard_refs(shard: Shard, *payloads: bytes) -> list[Ref]:
    found = sound(shard)
    return [found[Digest.of(payload)] for payload in payloads]


def test_segments_rotate_and_an_oversized_batch_has_one_of_its_own(tmp_path: Path) -> None:
    shard = Shard(tmp_path, segment_bytes_max=200)
    refs = [shard.put_many([make(size)])[0] for size in (50, 50, 50, 900, 10)]
    assert [ref.segment_id for ref in refs] == [0, 0, 1, 2, 3]
    again = Shard(tmp_path, segment_bytes_max=200)
    assert again.put_many([b"x"])[0].segment_id == 3
    assert [again.get(ref) for ref in refs] == [make(size) for size in (50, 50, 50, 900, 10)]


def test_ids_are_not_used_again(tmp_path: Path) -> None:
    shard = Shard(tmp_path, segment_bytes_max=100)
    shard.put_many([make(80)])
    (tmp_path / "segments" / "next_segment_id").write_bytes(b"7\n")
    assert shard.put_many([make(81)])[0].segment_id == 7
    (tmp_path / "segments" / FIRST).unlink()
    (tmp_path / "segments" / f"{7:020d}.bloblog").unlink()
    assert Shard(tmp_path).put_many([b"x"])[0].segment_id == 7
    (tmp_path / "segments" / "next_segment_id").write_bytes(b"x" * 40)
    with pytest.raises(CorruptError):
        shard.put_many([make(90)])


def test_a_segment_torn_at_any_byte_keeps_what_stands_before(tmp_path: Path) -> None:
    shard = Shard(tmp_path)
    refs = shard.put_many([b"first", b"second"])
    path = tmp_path / "segments" / FIRST
    whole = path.read_bytes()
    for size_bytes in range(len(whole)):
        path.write_bytes(whole[:size_bytes])
        kept = [ref for ref in refs if ref.offset + ref.size_bytes <= size_bytes]
        end = kept[-1].offset + kept[-1].size_bytes if kept else 0
        again = Shard(tmp_path)
        is_cut = int(end < size_bytes)
        assert again.recover() == Recovered(1, is_cut, size_bytes - end, 0)
        assert path.read_bytes() == whole[:end]
        (new,) = again.put_many([b"new"])
        payloads = [b"first", b"second"][: len(kept)]
        assert [again.get(ref) for ref in (*kept, new)] == [*payloads, b"new"]


def test_damage_costs_the_record_that_it_hit_and_no_other(tmp_path: Path) -> None:
    refs = Shard(tmp_path).put_many([b"first", make(3000), b"third"])
    path = tmp_path / "segments" / FIRST
    whole = bytearray(path.read_bytes())
    for at in [*range(110), *range(110, len(whole), 97)]:
        path.write_bytes(bytes([*whole[:at], whole[at] ^ 0x10, *whole[at + 1 :]]))
        hit = sum(ref.offset + ref.size_bytes <= at for ref in refs)
        shard = Shard(tmp_path)
        found = list(shard.scan())
        assert [each for each in found if isinstance(each, Ref)] == refs[:hit] + refs[hit + 1 :]
        damaged = [each for each in found if isinstance(each, Damage)]
        assert [(each.offset, each.size_bytes) for each in damaged] == [
            (refs[hit].offset - 48, refs[hit].size_bytes + 48)
        ]
        with pytest.raises(CorruptError):
            shard.get(refs[hit])


def test_records_in_a_payload_are_no_records(tmp_path: Path) -> None:
    """Also when the damage is in front of them: a digest proves what stands there, at worst."""
    inner = HEADER + b"hello"
    payload = inner * 50
    refs = Shard(tmp_path).put_many([b"front", payload, REF_1, REF_2, b"behind"])
    shard = Shard(tmp_path)
    assert list(shard.scan()) == refs
    assert [shard.get(ref) for ref in refs[1:4]] == [payload, REF_1, REF_2]
    path = tmp_path / "segments" / FIRST
    data = bytearray(path.read_bytes())
    data[refs[1].offset - 40] ^= 1
    path.write_bytes(data)
    for ref in sound(Shard(tmp_path)).values():
        assert Digest.of(shard.get(ref)) == ref.digest


@pytest.mark.parametrize("size_bytes", [0, 1, 5, 2 * MIB + 1])
def test_parts_and_places_of_payloads(shard: Shard, tmp_path: Path, size_bytes: int) -> None:
    data = make(size_bytes)
    (ref,) = shard.put_many([data])
    path = tmp_path / "segments" / FIRST
    assert shard.file_ref(ref) == FileRef(path, 48, size_bytes)
    for span in (Span(0, size_bytes), Span(size_bytes, 0), Span(0, min(size_bytes, 3))):
        assert shard.get_range(ref, span) == data[span.offset : span.offset + span.size_bytes]
    for span in (Span(0, size_bytes + 1), Span(size_bytes + 1, 0), Span(1 << 63, 1 << 63)):
        with pytest.raises(UnsatisfiableError):
            shard.get_range(ref, span)


def test_a_ref_that_leads_elsewhere_is_an_error(shard: Shard, tmp_path: Path) -> None:
    (ref,) = shard.put_many([b"hello"])
    shard.put_many([b"other"])
    wrong = [ref._replace(offset=offset) for offset in (0, 47, 49, 101, (1 << 64) - 1)] + [
        ref._replace(size_bytes=4),
        ref._replace(digest=Digest.of(b"other")),
    ]
    for each in wrong:
        for verb in (shard.get, shard.file_ref):
            with pytest.raises(BlobError):
                verb(each)
    with pytest.raises(NotFoundError):
        shard.get(ref._replace(segment_id=9))
    path = tmp_path / "segments" / FIRST
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptError):
        shard.get(ref)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptError):
        shard.get(ref)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["pwrite_all", "sync"])
def test_an_append_that_fails_is_taken_back_and_goes_on_in_a_new_segment(
    tmp_path: Path, error: int, call: str
) -> None:
    disk = FaultyDisk()
    shard = Shard(tmp_path, disk)
    (first,) = shard.put_many([b"first"])
    for fault in (
        Fault(1, error, only=frozenset({call})),
        Fault(1, error, after=True, only=frozenset({call})),
        Fault(1, error, short=True, only=frozenset({call})),
    ):
        size_bytes = {path: path.stat().st_size for path in (tmp_path / "segments").iterdir()}
        disk.arm(fault)
        with pytest.raises(FullError if error == errno.ENOSPC else UnavailableError):
            shard.put_many([b"refused"])
        disk.arm(None)
        for path, before in size_bytes.items():
            assert path.stat().st_size == before
        (new,) = shard.put_many([b"taken"])
        assert new.segment_id is not None
        assert new.segment_id > 0
    assert set(sound(Shard(tmp_path))) == {first.digest, Digest.of(b"taken")}
