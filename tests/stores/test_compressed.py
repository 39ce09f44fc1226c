"""Compression: what the suites say of a store, what lies in it, and what damage does."""

import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import zstandard
from stack_steps import (
    Eager,
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
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, InvalidError, UnsupportedError
from holdfast.core.limits import FRAME_BYTES, KIB, MIB
from holdfast.core.many import drain
from holdfast.core.seams import Buffer
from holdfast.core.store import Span, Store
from holdfast.stores import seekable
from holdfast.stores.compressed import Compression, compressed
from holdfast.stores.encoded import EncodedStore
from holdfast.stores.layout import blob_path
from holdfast.stores.memory import MemoryStore
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.folders import quick_folder
from holdfast.testing.store_suite import StoreSuite

SIZES = [300, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES + 17]


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep everything in memory; the stores underneath are on a real disk in their own tests."""
    with quick_folder() as folder:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 256 * limits.KIB)
        yield folder


@pytest.mark.slow
class TestCompressedMemory(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return compressed(MemoryStore())


@pytest.mark.slow
class TestCompressedFiles(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return compressed(open_files(folder))


@pytest.mark.slow
class TestCompressedTiered(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return compressed(open_tiered(folder), dictionaries=[dictionary()])


class TestFramesInMemory(StoreSuite):
    """Everything in frames, also what is random."""

    def open_store(self, folder: Path) -> Store:
        return EncodedStore(MemoryStore(), Eager())


@pytest.mark.slow
class TestFramesInSegments(StoreSuite):
    def open_store(self, folder: Path) -> Store:
        return EncodedStore(open_segments(folder), Eager())


def dictionary() -> bytes:
    samples = [b'{"id": %d, "name": "name %d", "kind": "small"}' % (n, n * 7) for n in range(2000)]
    return zstandard.train_dictionary(4 * KIB, list[Buffer](samples)).as_bytes()


# What is stored


@pytest.mark.parametrize("size_bytes", SIZES)
def test_what_is_stored_is_a_file_of_zstd(size_bytes: int, tmp_path: Path) -> None:
    inner = MemoryStore()
    data = words(size_bytes)
    digest = put(compressed(inner), data).digest
    encoded = stored(inner, digest)
    assert len(encoded) < len(data) // 2 + 200
    reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(encoded), read_across_frames=True)
    assert reader.read() == data
    if shutil.which("zstd"):
        file = tmp_path / "stored.zst"
        file.write_bytes(encoded)
        assert subprocess.run(["zstd", "-dc", file], check=True, capture_output=True).stdout == data


def test_the_table_is_that_of_the_seekable_format() -> None:
    """Its page says: entries behind a skippable header, then their number, and a magic number."""
    inner = MemoryStore()
    data = words(5 * FRAME_BYTES + 3)
    encoded = stored(inner, put(compressed(inner), data).digest)
    count, descriptor, magic = struct.unpack("<IBI", encoded[-9:])
    assert (descriptor, magic) == (0, 0x8F92EAB1)
    table = encoded[-9 - 8 * count : -9]
    assert struct.unpack("<II", encoded[-17 - 8 * count : -9 - 8 * count]) == (
        0x184D2A5E,
        8 * count + 9,
    )
    at, plain = 0, b""
    for size_bytes, plain_bytes in struct.iter_unpack("<II", table):
        frame = encoded[at : at + size_bytes]
        if plain_bytes:
            plain += zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        at += size_bytes
    assert plain == data
    assert at == len(encoded) - 17 - 8 * count


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"x", words(90), make(1000), make(2 * MIB), make(FRAME_BYTES) + words(2 * MIB)),
        *(b"\x1f\x8b" + words(9000), b"\xff\xd8\xff" + words(MIB), b"0000ftypisom" + words(9000)),
        zstandard.compress(words(MIB)),
    ],
    ids=range(10),
)
def test_what_gains_nothing_stays_as_it_is(data: bytes) -> None:
    inner = MemoryStore()
    store = compressed(inner)
    digest = put(store, data).digest
    assert stored(inner, digest) == data
    assert read(store, digest) == data


def test_what_stays_as_it_is_leaves_by_sendfile(tmp_path: Path) -> None:
    store = compressed(open_files(tmp_path))
    data, text = make(MIB), words(2 * MIB)
    for each, span in ((data, None), (data, Span(1000, 70_000)), (text, None)):
        with whole(store, put(store, each).digest, span) as source:
            file = source.file()
            assert (file is None) == (each is text)
            assert file is None or file.size_bytes == source.size_bytes
    store.close()


def test_a_store_that_was_not_compressed_can_be(tmp_path: Path) -> None:
    blobs = [words(1000), make(1000), words(2 * MIB), make(2 * MIB)]
    plain = open_tiered(tmp_path)
    for data in blobs:
        put(plain, data)
    plain.close()
    store = compressed(open_tiered(tmp_path))
    before = store.usage()
    assert [read(store, Digest.of(data)) for data in blobs] == blobs
    more = words(2 * MIB, seed=1)
    put(store, more)
    assert store.usage().live_bytes - before.live_bytes < 300 * KIB
    assert [read(store, Digest.of(data)) for data in (*blobs, more)] == [*blobs, more]
    assert store.stat([Digest.of(more)]) == {Digest.of(more): len(more)}
    store.close()


def test_a_scan_says_what_is_stored() -> None:
    store = compressed(MemoryStore())
    ref = put(store, words(10_000))
    ((digest, stored_bytes),) = store.scan()
    assert digest == ref.digest
    assert 0 < stored_bytes < 5000
    assert store.traits.encodes


def test_put_many_is_one_batch_of_the_log(tmp_path: Path) -> None:
    inner = open_tiered(tmp_path)
    store = compressed(inner)
    blobs = [words(3000, seed) for seed in range(100)]
    assert store.put_many(blobs) == [BlobRef(Digest.of(data), len(data)) for data in blobs]
    assert inner.usage().live_bytes < 100 * 1000
    store.close()


# Parts


def test_a_part_reads_its_own_frames_only() -> None:
    inner = Watched(MemoryStore())
    store = EncodedStore(inner, Eager())
    check_parts(store, inner)


def test_verify_finds_a_frame_of_another_blob() -> None:
    inner = MemoryStore()
    store = compressed(inner)
    one, other = (stored(inner, put(store, words(600_000, seed)).digest) for seed in (1, 2))
    digest = Digest.of(words(600_000, 1))
    overwrite(inner, digest, other[:1000] + one[1000:])
    with whole(store, digest) as source, pytest.raises(CorruptError):
        source.verify(Span(0, 10))


# Damage


@pytest.mark.parametrize("size_bytes", [1000, 3 * FRAME_BYTES])
def test_a_swapped_blob_is_found(size_bytes: int) -> None:
    inner = MemoryStore()
    store = compressed(inner)
    one, other = (put(store, words(size_bytes, seed)).digest for seed in (1, 2))
    first, second = stored(inner, one), stored(inner, other)
    overwrite(inner, one, second)
    overwrite(inner, other, first)
    for digest in (one, other):
        with pytest.raises(CorruptError, match="another blob"):
            store.open(digest)
        (found,) = store.open_many([digest])
        assert isinstance(found, CorruptError)
        assert found.facts["digest"] == str(digest)
    assert store.stat([one, other]) == {}


@pytest.mark.parametrize("size_bytes", [1000, 3 * FRAME_BYTES])
def test_a_blob_cut_anywhere_is_found(size_bytes: int) -> None:
    inner = MemoryStore()
    store = compressed(inner)
    data = words(size_bytes)
    digest = put(store, data).digest
    encoded = stored(inner, digest)
    name_at = encoded.rindex(seekable.BEGINNING)
    for at in {*range(16, len(encoded), max(1, len(encoded) // 300)), name_at, len(encoded) - 1}:
        overwrite(inner, digest, encoded[:at])
        assert _reads_as(store, digest) is None
        overwrite(inner, digest, encoded[min(at, name_at) :])
        assert _reads_as(store, digest) is None


def test_no_flipped_bit_gives_wrong_bytes() -> None:
    """In memory, where nothing else would find it."""
    inner = MemoryStore()
    store = compressed(inner)
    data = words(2 * FRAME_BYTES, seed=5)[-FRAME_BYTES - 500 :]
    digest = put(store, data).digest
    encoded = stored(inner, digest)
    rng = random.Random(5)
    places = [*range(300), *range(len(encoded) - 300, len(encoded))]
    places += rng.sample(range(300, len(encoded) - 300), 300)
    for place in places:
        damaged = bytearray(encoded)
        damaged[place] ^= 1 << rng.randrange(8)
        overwrite(inner, digest, bytes(damaged))
        assert _reads_as(store, digest) in {None, data}


def test_no_flipped_byte_of_a_file_gives_wrong_bytes(tmp_path: Path) -> None:
    store = compressed(open_files(tmp_path))
    data = words(2000)
    digest = put(store, data).digest
    file = blob_path(tmp_path, digest)
    sound = file.read_bytes()
    for place in range(len(sound)):
        file.write_bytes(sound[:place] + bytes((sound[place] ^ 0x40,)) + sound[place + 1 :])
        store.close()
        store = compressed(open_files(tmp_path))
        assert _reads_as(store, digest) is None
    store.close()


def test_nothing_unpacks_to_more_than_the_blob_has() -> None:
    """A frame of few bytes that would become 64 MiB, with and without saying so."""
    inner = MemoryStore()
    store = compressed(inner)
    digest = put(store, words(1000)).digest
    bombs = [
        zstandard.ZstdCompressor(write_checksum=True).compress(bytes(64 * MIB)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 * MIB)),
        zstandard.ZstdCompressor(write_checksum=True).compress(bytes(1001)),
        zstandard.ZstdCompressor(write_checksum=False).compress(words(1000)),
    ]
    for bomb in bombs:
        end = seekable.pack(BlobRef(digest, 1000), [len(bomb)], 0)
        overwrite(inner, digest, seekable.START + bomb + end)
        assert _reads_as(store, digest) is None
        assert drain(next(iter(store.open_many([digest])))) != words(1000)


def test_a_size_that_the_frames_do_not_have_is_found() -> None:
    inner = MemoryStore()
    store = compressed(inner)
    digest = put(store, words(3 * FRAME_BYTES)).digest
    encoded = stored(inner, digest)
    end_bytes = len(seekable.pack(BlobRef(digest, 3 * FRAME_BYTES), [1, 2, 3], 0))
    sizes = struct.unpack("<10I", encoded[-9 - 40 : -9])[2:-2:2]
    for size_bytes in (3 * FRAME_BYTES - 1, 2 * FRAME_BYTES + 1):
        end = seekable.pack(BlobRef(digest, size_bytes), sizes, 0)
        overwrite(inner, digest, encoded[:-end_bytes] + end)
        assert _reads_as(store, digest) is None
    for wrong in ([sizes[0] + 1, *sizes[1:]], [sizes[1], sizes[0], sizes[2]], [0, *sizes[1:]]):
        end = seekable.pack(BlobRef(digest, 3 * FRAME_BYTES), wrong, 0)
        overwrite(inner, digest, encoded[:-end_bytes] + end)
        assert _reads_as(store, digest) is None


def test_a_huge_table_is_not_read() -> None:
    """The end of a file may say anything."""
    inner = Watched(MemoryStore())
    store = compressed(inner)
    data = make(MIB) + struct.pack("<IBI", 100_000, 0, 0x8F92EAB1)
    digest = put(inner, data).digest
    inner.read_bytes = 0
    with whole(store, digest, Span(0, 1)) as source:
        assert bytes(source.read(1)) == data[:1]
    assert inner.read_bytes < 1000


@pytest.mark.parametrize("size_bytes", [1000, 3 * FRAME_BYTES])
def test_content_that_is_a_compressed_blob_is_content(size_bytes: int) -> None:
    """Also when it was stored before, by a store that was not compressed."""
    inner = MemoryStore()
    store = compressed(inner)
    encoded = stored(inner, put(store, words(size_bytes)).digest)
    put(inner, encoded)
    assert read(store, Digest.of(encoded)) == encoded
    other = MemoryStore()
    put(compressed(other), encoded)
    assert stored(other, Digest.of(encoded)) == encoded
    assert read(compressed(other), Digest.of(encoded)) == encoded


def test_a_form_of_the_future_is_refused() -> None:
    inner = MemoryStore()
    store = compressed(inner)
    digest = put(store, words(1000)).digest
    encoded = stored(inner, digest)
    end = seekable.pack(BlobRef(digest, 1000), [len(encoded) - 72 - 16], 0x8000)
    overwrite(inner, digest, encoded[:-72] + end)
    with pytest.raises(UnsupportedError):
        store.open(digest)


# Dictionaries


def test_small_blobs_gain_by_a_dictionary() -> None:
    inner = MemoryStore()
    known = dictionary()
    store = compressed(inner, dictionaries=[known])
    data = b"".join(b'{"id": %d, "name": "name", "kind": "small"}' % n for n in (1, 900, 77, 41))
    digest = put(store, data).digest
    assert stored(inner, digest) != data
    assert read(store, digest) == data
    large = put(store, words(80 * KIB)).digest
    assert read(compressed(inner, dictionaries=[dictionary(), known]), digest) == data
    without = compressed(inner)
    assert read(without, large) == words(80 * KIB)
    with whole(without, digest) as source, pytest.raises(CorruptError, match="dictionary"):
        source.read(10)


def test_threads_share_what_they_compress_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four at once need four compressors at most, however many threads there were."""
    made: list[str] = []
    for name in ("ZstdCompressor", "ZstdDecompressor"):
        monkeypatch.setattr(zstandard, name, _counted(getattr(zstandard, name), name, made))
    store = compressed(MemoryStore())
    for turn in range(5):
        with ThreadPoolExecutor(4) as pool:
            blobs = [words(20 * KIB, seed) for seed in range(10 * turn, 10 * turn + 10)]
            digests = [ref.digest for ref in pool.map(partial(put, store), blobs)]
            assert list(pool.map(partial(read, store), digests)) == blobs
    assert made.count("ZstdCompressor") in range(1, 5)
    assert made.count("ZstdDecompressor") in range(1, 5)


def _counted(make: Callable[..., object], name: str, made: list[str]) -> Callable[..., object]:
    def counted(**options: object) -> object:
        made.append(name)
        return make(**options)

    return counted


def test_what_is_no_dictionary_is_refused() -> None:
    for data in (b"", b"a dictionary", dictionary() + bytes(2 * MIB)):
        with pytest.raises(InvalidError):
            Compression(dictionaries=[data])
    for level in (0, 20):
        with pytest.raises(InvalidError):
            Compression(level)


def _reads_as(store: Store, digest: Digest) -> bytes | None:
    """The bytes of a blob, the same in parts; None when an error says that it is damaged."""
    try:
        data = read(store, digest)
        assert data is not None
        with whole(store, digest, Span(len(data) // 2, 100)) as source:
            assert read_all(source) == data[len(data) // 2 :][:100]
    except CorruptError:
        return None
    return data
