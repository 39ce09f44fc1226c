"""Encryption: what the suites say of a store, what can be seen of it, and what tampering does."""

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stack_steps import (
    Watched,
    check_parts,
    open_files,
    open_segments,
    open_tiered,
    overwrite,
    stored,
    words,
)

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    CorruptError,
    DeniedError,
    InvalidError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import FRAME_BYTES
from holdfast.core.seams import SystemEntropy
from holdfast.core.store import Source, Span, Store
from holdfast.stores.compressed import compressed
from holdfast.stores.encoded import EncodedStore
from holdfast.stores.encrypted import HEADER_BYTES, TAIL_BYTES, encrypted
from holdfast.stores.hidden import KEY_BYTES, HiddenNames
from holdfast.stores.keyring import Keyring, master_id, parse_master
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sealing import TAG_BYTES
from holdfast.testing.blobs import make, put, read
from holdfast.testing.folders import quick_folder
from holdfast.testing.store_suite import StoreSuite

ENTROPY = SystemEntropy()
KEYRING = Keyring.make(ENTROPY, 1)
MASTER, OTHER_MASTER = ENTROPY.random_bytes(32), ENTROPY.random_bytes(32)


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in memory; the stores underneath are on a real disk in their own tests."""
    with quick_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 256 * limits.KIB)
        yield folder


class TestEncryptedMemory(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return encrypted(MemoryStore(), KEYRING)


@pytest.mark.slow
class TestEncryptedFiles(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return encrypted(open_files(folder), KEYRING)


@pytest.mark.slow
class TestEncryptedSegments(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return encrypted(open_segments(folder), KEYRING)


@pytest.mark.slow
class TestCompressedEncryptedTiered(StoreSuite):
    """Compressed first: what is encrypted does not get smaller."""

    def open_store(self, folder: Path) -> Store:
        return compressed(encrypted(open_tiered(folder), KEYRING))


def _pair() -> tuple[MemoryStore, EncodedStore]:
    inner = MemoryStore()
    return inner, encrypted(inner, KEYRING)


def _stored(inner: MemoryStore, store: EncodedStore, digest: Digest) -> bytes:
    return stored(inner, store.codec.hide([digest])[0])


def _overwrite(inner: MemoryStore, store: EncodedStore, digest: Digest, data: bytes) -> None:
    overwrite(inner, store.codec.hide([digest])[0], data)


# What can be seen


def test_neither_content_nor_digests_can_be_seen(tmp_path: Path) -> None:
    store = compressed(encrypted(open_tiered(tmp_path), KEYRING))
    blobs = [b"a secret that is short", words(3000), make(2 * FRAME_BYTES)]
    digests = [put(store, data).digest for data in blobs]
    store.close()
    names = b"\n".join(str(file).encode() for file in tmp_path.rglob("*"))
    everything = names + b"".join(
        file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
    )
    for data, digest in zip(blobs, digests, strict=True):
        assert data[:16] not in everything
        assert bytes(digest) not in everything
        assert digest.hex().encode() not in everything


def test_equal_bytes_are_encrypted_differently_each_time() -> None:
    (inner, store), (other, again) = _pair(), _pair()
    digest = put(store, words(1000)).digest
    put(again, words(1000))
    one, two = _stored(inner, store, digest), _stored(other, again, digest)
    assert len(one) == len(two) == 1000 + HEADER_BYTES + TAG_BYTES + TAIL_BYTES
    same = sum(a == b for a, b in zip(one[HEADER_BYTES:], two[HEADER_BYTES:], strict=True))
    assert same < 30
    assert next(inner.scan()).digest == next(other.scan()).digest


@given(st.lists(st.binary(min_size=32, max_size=32), unique=True, max_size=20))
def test_names_are_turned_back(raw: list[bytes]) -> None:
    digests = [Digest(each) for each in raw]
    names = HiddenNames(bytes(range(128)))
    hidden = names.hide(digests)
    assert names.show(hidden) == digests
    assert [names.hide([digest])[0] for digest in digests] == hidden
    assert len(set(hidden)) == len(digests)
    assert not set(hidden) & set(digests)
    assert HiddenNames(bytes(KEY_BYTES)).hide(digests) != hidden or not digests


def test_one_bit_of_a_digest_changes_half_of_its_name() -> None:
    names = HiddenNames(bytes(range(128)))
    rng = random.Random(1)
    changed = []
    for bit in range(256):
        raw = rng.randbytes(32)
        flipped = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(32, "big")
        one, other = names.hide([Digest(raw), Digest(flipped)])
        changed.append((int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count())
    assert min(changed) > 80
    assert 120 < sum(changed) / len(changed) < 136


def test_a_part_reads_its_own_frames_only() -> None:
    inner = Watched(MemoryStore())
    store = encrypted(inner, KEYRING)
    check_parts(store, inner)


# Tampering


@pytest.mark.parametrize("size_bytes", [0, 1000, FRAME_BYTES + 100])
def test_no_flipped_bit_goes_unseen(size_bytes: int) -> None:
    inner, store = _pair()
    data = make(size_bytes)
    digest = put(store, data).digest
    encoded = _stored(inner, store, digest)
    rng = random.Random(size_bytes)
    places = {*range(300), *range(len(encoded) - 300, len(encoded))}
    places |= {rng.randrange(len(encoded)) for _ in range(100)}
    for place in places & set(range(len(encoded))):
        damaged = bytearray(encoded)
        damaged[place] ^= 1 << rng.randrange(8)
        _overwrite(inner, store, digest, bytes(damaged))
        assert _is_refused(store, digest)


@pytest.mark.parametrize("size_bytes", [0, 1000, 2 * FRAME_BYTES])
def test_a_blob_cut_anywhere_is_found(size_bytes: int) -> None:
    inner, store = _pair()
    digest = put(store, make(size_bytes)).digest
    encoded = _stored(inner, store, digest)
    frame = FRAME_BYTES + TAG_BYTES
    for cut_bytes in (1, TAIL_BYTES, TAIL_BYTES + 1, frame, frame + TAIL_BYTES, len(encoded)):
        _overwrite(inner, store, digest, encoded[: max(0, len(encoded) - cut_bytes)])
        assert _is_refused(store, digest)
        _overwrite(inner, store, digest, encoded[cut_bytes:])
        assert _is_refused(store, digest)


def test_frames_cannot_be_moved_left_out_or_brought_over() -> None:
    inner, store = _pair()
    one, other = (put(store, make(4 * FRAME_BYTES, seed=seed)).digest for seed in (1, 2))
    first, second = _stored(inner, store, one), _stored(inner, store, other)
    frame = FRAME_BYTES + TAG_BYTES
    frames = [first[HEADER_BYTES + n * frame :][:frame] for n in range(4)]
    alien = [second[HEADER_BYTES + n * frame :][:frame] for n in range(4)]
    tail = first[-TAIL_BYTES:]
    for wrong in (
        [frames[1], frames[0], *frames[2:]],
        frames[:3],
        frames[1:],
        [*frames, frames[3]],
        [*frames[:3], alien[3]],
        [frames[0], frames[0], *frames[2:]],
    ):
        _overwrite(inner, store, one, first[:HEADER_BYTES] + b"".join(wrong) + tail)
        assert _is_refused(store, one)
    swapped_tail = first[:-TAIL_BYTES] + second[-TAIL_BYTES:]
    swapped_head = second[:HEADER_BYTES] + first[HEADER_BYTES:]
    for data in (second, swapped_tail, swapped_head, make(4 * FRAME_BYTES, seed=1)):
        _overwrite(inner, store, one, data)
        assert _is_refused(store, one)


def test_a_swapped_blob_names_the_blob_that_was_asked_for() -> None:
    inner, store = _pair()
    one, other = (put(store, data).digest for data in (b"one", b"other"))
    _overwrite(inner, store, one, _stored(inner, store, other))
    with pytest.raises(CorruptError, match="another blob") as caught:
        store.open(one)
    assert caught.value.facts["digest"] == str(one)


# Keys


def test_what_older_keys_have_encrypted_stays_readable() -> None:
    inner = MemoryStore()
    rings = [KEYRING, KEYRING.rotated(ENTROPY, 2)]
    rings.append(rings[1].rotated(ENTROPY, 3))
    blobs = [make(1000, seed=seed) for seed in range(3)]
    for ring, data in zip(rings, blobs, strict=True):
        put(encrypted(inner, ring), data)
    newest = encrypted(inner, rings[2])
    assert [read(newest, Digest.of(data)) for data in blobs] == blobs
    ids = {_stored(inner, newest, Digest.of(data))[16:24] for data in blobs}
    assert ids == {key.id for key in rings[2].keys}
    old = encrypted(inner, KEYRING)
    assert read(old, Digest.of(blobs[0])) == blobs[0]
    with pytest.raises(CorruptError, match=rings[2].newest.id.hex()):
        old.open(Digest.of(blobs[2]))


def test_another_store_finds_nothing() -> None:
    inner, store = _pair()
    digest = put(store, b"hers").digest
    stranger = encrypted(inner, Keyring.make(ENTROPY, 1))
    assert stranger.stat([digest]) == {}
    assert read(stranger, digest) is None


def test_a_keyring_comes_back_from_its_file() -> None:
    ring = KEYRING.rotated(ENTROPY, 77)
    found = Keyring.unseal(ring.seal(MASTER, ENTROPY), MASTER)
    assert (found.names, found.keys) == (ring.names, ring.keys)
    assert ring.keys[0] == KEYRING.newest
    assert ring.newest.made_us == 77


def test_a_wrong_master_key_is_said_to_be_one() -> None:
    with pytest.raises(DeniedError, match="another master key") as caught:
        Keyring.unseal(KEYRING.seal(MASTER, ENTROPY), OTHER_MASTER)
    assert caught.value.facts["needs"] == master_id(MASTER)
    assert caught.value.facts["given"] == master_id(OTHER_MASTER)


def test_no_changed_byte_of_a_keyring_goes_unseen() -> None:
    data = KEYRING.seal(MASTER, ENTROPY)
    assert MASTER not in bytes.fromhex(data.hex())
    assert KEYRING.newest.secret.hex().encode() not in data
    for place in range(len(data) - 1):
        damaged = data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :]
        with pytest.raises((CorruptError, DeniedError, UnsupportedError)):
            Keyring.unseal(damaged, MASTER)
    for cut in (b"", data[:50], b"[]", b"{}", b'{"format": 2}', b"null"):
        with pytest.raises((CorruptError, UnsupportedError)):
            Keyring.unseal(cut, MASTER)


def test_a_master_key_is_64_hex_digits() -> None:
    assert parse_master(MASTER.hex() + "\n", "env:K") == MASTER
    for wrong in ("", "secret", MASTER.hex()[:-2], MASTER.hex() + "00", "zz" * 32):
        with pytest.raises(InvalidError) as caught:
            parse_master(wrong, "env:K")
        assert not wrong or wrong not in str(caught.value)


def _is_refused(store: EncodedStore, digest: Digest) -> bool:
    """Whether reading it to its end is an error."""
    try:
        read(store, digest)
    except (CorruptError, UnsupportedError):
        return True
    return False


class Flickering(MemoryStore):
    """Knows what it has, and cannot read it now."""

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source:  # type: ignore[override]
        raise UnavailableError("HTTP 503")


@pytest.mark.parametrize("wrap", [compressed, lambda inner: encrypted(inner, KEYRING)])
def test_what_cannot_be_read_now_is_not_missing(wrap: Callable[[Store], Store]) -> None:
    """Else a move, or a migration, would take it for lost."""
    store = wrap(Flickering())
    ref = put(store, b"bytes")
    with pytest.raises(UnavailableError, match="503"):
        store.stat([ref.digest])
    assert store.stat([Digest.of(b"nobody has this")]) == {}
