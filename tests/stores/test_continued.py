"""Who reads a blob of which there are several sound copies does not see damage of one."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cooled_steps import Memory
from stack_steps import open_files, words

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.many import drain
from holdfast.core.seams import Disk, SystemClock, SystemEntropy
from holdfast.core.store import Span
from holdfast.stores.cached import CachedStore
from holdfast.stores.compressed import compressed
from holdfast.stores.cooled import ColdStore, CooledStore
from holdfast.stores.encrypted import encrypted
from holdfast.stores.files import FileStore
from holdfast.stores.keyring import Keyring
from holdfast.stores.layout import blob_path
from holdfast.stores.spread import Member, SpreadStore
from holdfast.stores.successor import SuccessorStore
from holdfast.stores.tiered import TieredStore
from holdfast.testing.blobs import make, put, read, read_all, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.core.store import Source, Store
    from holdfast.stores.encoded import EncodedStore

DATA = make(5 * MIB + 7)
DIGEST = Digest.of(DATA)
NAMES = ("one", "other")


def spread(one: Store, other: Store) -> Store:
    return SpreadStore([Member("a", one), Member("b", other)], SystemClock())


def cooled(one: Store, other: ColdStore) -> Store:
    register = Memory()
    register.add([BlobRef(DIGEST, len(DATA))])
    return CooledStore(one, other, register, SystemClock())


STORES: dict[str, Callable[..., Store]] = {
    "spread": spread,
    "cooled": cooled,
    "successor": SuccessorStore,
    "tiered": partial(TieredStore, small_bytes_max=MIB),
    "cached": lambda one, other: CachedStore(other, one, 100 * MIB),
}
"""Each over two stores that have the same blob."""


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    one, other = (open_files(tmp_path / name) for name in NAMES)
    put(one, DATA)
    put(other, DATA)
    with closing(STORES[request.param](one, other)) as store:
        yield store
    one.close()
    other.close()


def flip(folder: Path, *chunks: int, digest: Digest = DIGEST) -> None:
    with blob_path(folder, digest).open("r+b") as file:
        for chunk in chunks:
            file.seek(chunk * MIB + 77)
            byte = file.read(1)[0]
            file.seek(chunk * MIB + 77)
            file.write(bytes((byte ^ 1,)))


def is_read_now(source: Source, folder: Path) -> bool:
    file = source.file()
    assert file is not None
    path = blob_path(folder, DIGEST)
    return path.exists() and os.fstat(file.descriptor).st_ino == path.stat().st_ino


def read_of(source: Source, tmp_path: Path) -> Path:
    """The folder of the copy that is read now."""
    (folder,) = [tmp_path / name for name in NAMES if is_read_now(source, tmp_path / name)]
    return folder


def other_than(folder: Path) -> Path:
    return folder.with_name(NAMES[folder.name == NAMES[0]])


def test_a_reader_goes_on_where_the_copy_is_damaged(store: Store, tmp_path: Path) -> None:
    with whole(store, DIGEST) as source:
        first = bytes(source.read(3))
        flip(read_of(source, tmp_path), 0, 2)
        assert first + read_all(source, 300 * KIB) == DATA
        source.seek(MIB + 5)
        assert bytes(source.read(9)) == DATA[MIB + 5 : MIB + 14]
        assert source.turns


def test_a_part_goes_on_too(store: Store, tmp_path: Path) -> None:
    with whole(store, DIGEST, Span(MIB - 9, 3 * MIB)) as source:
        first = bytes(source.read(20))
        flip(read_of(source, tmp_path), 2)
        assert first + read_all(source) == DATA[MIB - 9 : 4 * MIB - 9]


def test_one_of_many_goes_on_too(store: Store, tmp_path: Path) -> None:
    (source,) = store.open_many([DIGEST])
    assert not isinstance(source, Exception)
    flip(read_of(source, tmp_path), 3)
    assert drain(source) == DATA


def test_who_sends_the_file_is_given_another(store: Store, tmp_path: Path) -> None:
    """Without waiting nothing else is opened, and the first file stays open for who has it."""
    window = Span(MIB, 2 * MIB)
    with whole(store, DIGEST) as source:
        folder, before = read_of(source, tmp_path), source.file()
        assert before is not None
        flip(folder, 2)
        assert source.verify(window, wait=False) is False
        assert source.verify(window)
        assert read_of(source, tmp_path) == other_than(folder)
        file = source.file()
        assert file is not None
        sent = os.pread(file.descriptor, window.size_bytes, file.offset + window.offset)
        assert sent == DATA[MIB : 3 * MIB]
        assert os.fstat(before.descriptor).st_size > len(DATA)


def test_each_chunk_is_taken_from_who_has_it_sound(store: Store, tmp_path: Path) -> None:
    with whole(store, DIGEST) as source:
        folder = read_of(source, tmp_path)
        flip(folder, 1, 4)
        flip(other_than(folder), 0, 3)
        assert read_all(source) == DATA


def test_a_window_that_no_copy_has_whole_is_read_instead_of_sent(
    store: Store, tmp_path: Path
) -> None:
    """From then on there is no file, and what is left is read."""
    with whole(store, DIGEST) as source:
        folder = read_of(source, tmp_path)
        flip(folder, 1)
        flip(other_than(folder), 2)
        first = bytes(source.read(9))
        window = Span(0, 4 * MIB)
        assert source.verify(window, wait=False) is False
        assert source.verify(window)
        assert source.file() is None
        assert source.verify(Span(3 * MIB, MIB))
        assert first + read_all(source) == DATA


def test_what_no_copy_has_is_an_error_and_the_rest_is_read(store: Store, tmp_path: Path) -> None:
    with whole(store, DIGEST) as source:
        for name in NAMES:
            flip(tmp_path / name, 2)
        got = b"".join(bytes(source.read(MIB)) for _ in range(2))
        assert got == DATA[: 2 * MIB]
        for _ in range(2):
            with pytest.raises(CorruptError):
                source.read(MIB)
        with pytest.raises(CorruptError):
            source.verify(Span(0, 3 * MIB))
        source.seek(3 * MIB)
        assert read_all(source) == DATA[3 * MIB :]


def test_a_copy_that_is_gone_is_none(store: Store, tmp_path: Path) -> None:
    with whole(store, DIGEST) as source:
        folder = read_of(source, tmp_path)
        blob_path(other_than(folder), DIGEST).unlink()
        flip(folder, 2)
        with pytest.raises(CorruptError):
            read_all(source)


def test_damage_that_nobody_sees_is_told(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with whole(store, DIGEST) as source, caplog.at_level(logging.ERROR, "holdfast"):
        flip(read_of(source, tmp_path), 2)
        read_all(source)
    (told,) = caplog.records
    assert told.message == "copy.damaged"
    fields = vars(told)["fields"]
    assert (fields["digest"], fields["offset"]) == (str(DIGEST), 2 * MIB)


class Refusing(Disk):
    """A disk of which one file has a sector that it cannot read."""

    bad: tuple[int, int] | None = None

    def pread(self, descriptor: int, size_bytes: int, offset: int) -> bytes:
        here = offset, os.fstat(descriptor).st_ino, offset + size_bytes
        if self.bad is not None and here[1] == self.bad[0] and here[0] <= self.bad[1] < here[2]:
            raise OSError(5, "Input/output error")
        return super().pread(descriptor, size_bytes, offset)


@pytest.mark.parametrize("kind", STORES)
def test_what_a_disk_cannot_read_is_read_elsewhere(kind: str, tmp_path: Path) -> None:
    disk = Refusing()
    stores = [FileStore(tmp_path / name, disk, SystemEntropy(), SystemClock()) for name in NAMES]
    for each in stores:
        put(each, DATA)
    store = STORES[kind](*stores)
    with whole(store, DIGEST) as source:
        folder = read_of(source, tmp_path)
        disk.bad = blob_path(folder, DIGEST).stat().st_ino, 3 * MIB
        assert read_all(source) == DATA
    store.close()


def test_what_no_disk_can_read_is_an_error(tmp_path: Path) -> None:
    disk = Refusing()
    store = spread(
        *(FileStore(tmp_path / name, disk, SystemEntropy(), SystemClock()) for name in NAMES)
    )
    put(store, DATA)
    with whole(store, DIGEST) as source:
        disk.bad = blob_path(read_of(source, tmp_path), DIGEST).stat().st_ino, 3 * MIB
        with pytest.raises(UnavailableError):
            read_all(source)
    store.close()


# Below a codec.


KEYRING = Keyring.make(SystemEntropy(), 1)
CODECS: dict[str, Callable[[Store, int], EncodedStore]] = {
    "encrypted": lambda inner, level: encrypted(inner, KEYRING),
    "compressed": lambda inner, level: compressed(inner, level=level),
    "both": lambda inner, level: compressed(encrypted(inner, KEYRING), level=level),
}
TEXT = words(5 * MIB)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("levels", [(3, 3), (1, 9)])
def test_copies_that_are_encoded_otherwise_are_never_mixed(
    tmp_path: Path, codec: str, levels: tuple[int, int]
) -> None:
    """One that is encrypted again has the same size, and no byte is the same."""
    inner = [open_files(tmp_path / name) for name in NAMES]
    data = TEXT if codec != "encrypted" else DATA
    for each, level in zip(inner, levels, strict=True):
        put(CODECS[codec](each, level), data)
    store = CODECS[codec](spread(*inner), 3)
    digest = Digest.of(data)
    files = [next((tmp_path / name).rglob("*.blob")) for name in NAMES]
    sound = [file.read_bytes() for file in files]
    is_same_size = len(sound[0]) == len(sound[1])
    for at, file in enumerate(files):
        for place in (5, len(sound[at]) // 3, len(sound[at]) // 2, len(sound[at]) - 300):
            damaged = bytearray(sound[at])
            damaged[place] ^= 1
            file.write_bytes(damaged)
            try:
                assert read(store, digest) == data
            except CorruptError:
                assert not is_same_size
            file.write_bytes(sound[at])
    store.close()


def test_a_copy_of_another_size_is_none_however_often_it_is_asked(tmp_path: Path) -> None:
    inner = [open_files(tmp_path / name) for name in NAMES]
    for each, level in zip(inner, (1, 9), strict=True):
        put(compressed(each, level=level), TEXT)
    store = spread(*inner)
    with whole(store, Digest.of(TEXT)) as source:
        native = source.file()
        assert native is not None
        for name in NAMES:
            path = blob_path(tmp_path / name, Digest.of(TEXT))
            if path.stat().st_ino == os.fstat(native.descriptor).st_ino:
                flip(tmp_path / name, 0, digest=Digest.of(TEXT))
        for _ in range(3):
            with pytest.raises(CorruptError):
                source.read(9)
    store.close()


def test_what_leaves_as_it_is_stored_is_one_copys(tmp_path: Path) -> None:
    """Who gets zstd gets all of it from one copy; damage ends that."""
    inner = [open_files(tmp_path / name) for name in NAMES]
    for each in inner:
        put(compressed(each), TEXT)
    store = compressed(spread(*inner))
    form = store.open_form(Digest.of(TEXT))
    assert form is not None
    assert form.coding == "zstd"
    native = form.source.file()
    assert native is not None
    (file,) = [
        file
        for file in tmp_path.rglob("*.blob")
        if file.stat().st_ino == os.fstat(native.descriptor).st_ino
    ]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptError):
        read_all(form.source)
    with pytest.raises(CorruptError):
        form.source.verify(Span(0, form.source.size_bytes))
    form.source.close()
    assert read(store, Digest.of(TEXT)) == TEXT
    store.close()
