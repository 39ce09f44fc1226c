"""The dictionaries by which small blobs of a folder are compressed.

    DIR/wrappers               {..., "dictionaries": ["<64 hex digits>", ...]}
    DIR/dictionaries/<digits>  one of them, under its SHA-256

The first one is for new blobs. Blobs need them to be read, so they are never removed, and a folder
that lacks one is not opened. They consist of parts of blobs: in an encrypted store they are
encrypted as these, and so are their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError
from holdfast.core.many import cut, read_all
from holdfast.core.marker import replace_file
from holdfast.core.store import Span
from holdfast.stores.encoded import EncodedStore
from holdfast.stores.handles import blob_error, world
from holdfast.stores.memory import MemorySource, MemoryStore
from holdfast.stores.through import Codecs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.core.store import Store
    from holdfast.depot.wrapped import Written
    from holdfast.stores.codec import Codec

DICTIONARIES = "dictionaries"


def load(folder: Path, names: Sequence[str], hiding: Sequence[Codec]) -> list[bytes]:
    """Read dictionaries of a folder.

    Raises:
        CorruptError: one is gone, or damaged.
        UnavailableError: the disk refuses.
    """
    return [_load(folder / DICTIONARIES, name, Codecs(hiding)) for name in names]


def added(
    folder: Path, found: Written, data: bytes, hiding: Sequence[Codec], disk: Disk
) -> Written:
    """Keep a dictionary in a folder, durably; what it has to say then, with this one first.

    Raises:
        InvalidError: it is none, or another one has its id.
        FullError, UnavailableError: the disk refuses.
    """
    from holdfast.stores.compressed import Compression  # noqa: PLC0415 - an extra

    name, encoded = _encoded(data, hiding)
    others = [each for each in found.dictionaries if each != name]
    Compression(dictionaries=[data, *load(folder, others, hiding)])
    if name not in found.dictionaries:
        with world("keeping a dictionary"):
            disk.make_directory(folder / DICTIONARIES)
            replace_file(folder / DICTIONARIES / name, encoded, disk)
    return replace(found, dictionaries=(name, *others))


def _load(folder: Path, name: str, hiding: Codecs) -> bytes:
    path = folder / name
    try:
        encoded = path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptError(
            "a dictionary is gone, and with it the blobs that need it", file=str(path)
        ) from error
    except OSError as error:
        raise blob_error("reading a dictionary", error) from error
    try:
        stored = MemorySource(encoded, Span(0, len(encoded)))
        with hiding.open(stored, Digest.parse(name)) as source:
            data = read_all(source)
    except BlobError as error:
        raise CorruptError("a dictionary is damaged", file=str(path)) from error
    if Digest.of(data) != hiding.show(Digest.parse(name)):
        raise CorruptError("a dictionary is damaged", file=str(path))
    return data


def _encoded(data: bytes, hiding: Sequence[Codec]) -> tuple[str, bytes]:
    """Bring it into the form of the store; name it."""
    inner = MemoryStore()
    store: Store = inner
    for codec in reversed(hiding):
        store = EncodedStore(store, codec)
    with store.sink() as sink:
        for part in cut(data):
            sink.write(part)
        sink.commit(BlobRef(Digest.of(data), len(data))).result()
    (ref,) = inner.scan()
    with inner.open(ref.digest) as source:
        return ref.digest.hex(), read_all(source)
