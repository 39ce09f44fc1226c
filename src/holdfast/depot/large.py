"""Where the large blobs of a folder lie: in its files, or in an object store that it names.

    DIR/large        {"format": 1, "url": "s3://bucket/prefix"}
    <url>/HOLDFAST   {"format": 1, "id": "<that of the folder>"}

Each names the other. A folder that has large blobs elsewhere is opened with them, whoever opens it,
for their place is no secret; and what belongs to one folder is not given to another. Large blobs
that were files before stay files, and are found there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core.errors import ConflictError, CorruptError, UnavailableError, UnsupportedError
from holdfast.depot import wrapped
from holdfast.log.folder import mark_wrapped, replace_file
from holdfast.log.segment import map_disk_error
from holdfast.stores.naming import MARKER
from holdfast.stores.tiered import TieredStore

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.seams import Clock, Disk, Entropy
    from holdfast.core.store import Store
    from holdfast.depot.stack import Stack
    from holdfast.log.log import Log
    from holdfast.stores.objects import ObjectStore
    from holdfast.stores.remote import Remote

FORMAT = 1
LARGE = "large"
MARKER_BYTES_MAX = 4096


class Named(msgspec.Struct, frozen=True):
    """The content of DIR/large."""

    format: int
    url: str


class Claimed(msgspec.Struct, frozen=True):
    """The content of the marker in the object store."""

    format: int
    id: str


class Elsewhere(NamedTuple):
    """Large blobs in an object store."""

    remote: Remote
    store: ObjectStore


def place_of(folder: Path) -> str:
    """Where the large blobs of a folder lie; empty when in its files.

    Raises:
        CorruptError: what says so is damaged.
        UnsupportedError: a newer holdfast wrote it.
    """
    path = folder / LARGE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Named)
    except FileNotFoundError:
        return ""
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError("the file `large` is damaged", file=str(path)) from error
    if found.format != FORMAT:
        raise UnsupportedError("a newer holdfast has put the large blobs of this store elsewhere")
    return found.url


def check_alone(folder: Path, stack: Stack) -> None:
    """Refuse to share a folder whose large blobs lie, or are to lie, anywhere else.

    Raises:
        UnsupportedError: they do.
    """
    if stack.cache_bytes:
        raise UnsupportedError("a cache serves one process: say --workers 1")
    if stack.disks or wrapped.written(folder).disks:
        raise UnsupportedError("large blobs on several disks need one process: say --workers 1")
    url = stack.large or place_of(folder)
    if url:
        raise UnsupportedError(f"large blobs in {url} need one process: say --workers 1")


def open_elsewhere(log: Log, stack: Stack, clock: Clock, entropy: Entropy) -> Elsewhere | None:
    """Open the object store that has the large blobs of a folder; None when its files do.

    A folder that names none yet, and is told one, claims it and remembers it.

    Raises:
        ConflictError: it names another one, or that one belongs to another folder.
        UnavailableError: no answer.
        CorruptError, UnsupportedError: what is there cannot be read.
    """
    folder = log.root.parent
    known = place_of(folder)
    if stack.large and known and stack.large != known:
        raise ConflictError(f"the large blobs of {folder} lie in {known}, not in {stack.large}")
    url = stack.large or known
    if not url:
        return None
    if stack.connect is None:
        raise UnsupportedError(f"the large blobs of {folder} lie in {url}")
    from holdfast.stores.objects import ObjectStore  # noqa: PLC0415 - an extra

    remote = stack.connect(url, clock, entropy)
    _claim(remote, log.id)
    if not known:
        _remember(folder, url, log.disk)
    store = ObjectStore(remote, entropy, clock)
    store.between = log.between
    return Elsewhere(remote, store)


def tier(files: Store, elsewhere: Elsewhere | None) -> Store:
    """The store of large blobs: new ones go elsewhere, if there is such a place."""
    return files if elsewhere is None else TieredStore(files, elsewhere.store, 0)


def _claim(remote: Remote, own: str) -> None:
    """See that it is ours, or make it so; an answer that was lost shows as ours."""
    data = remote.whole(MARKER, MARKER_BYTES_MAX)
    if data is None:
        remote.create(MARKER, msgspec.json.encode(Claimed(FORMAT, own)) + b"\n")
        data = remote.whole(MARKER, MARKER_BYTES_MAX)
    if data is None:
        raise UnavailableError(f"{remote.place}: the object {MARKER} comes and goes")
    try:
        found = msgspec.json.decode(data, type=Claimed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{remote.place}: the object {MARKER} is damaged") from error
    if found.format != FORMAT:
        raise UnsupportedError(f"{remote.place}: a newer holdfast uses it")
    if found.id != own:
        raise ConflictError(f"{remote.place} belongs to another store ({found.id})")


def _remember(folder: Path, url: str, disk: Disk) -> None:
    try:
        replace_file(folder / LARGE, msgspec.json.encode(Named(FORMAT, url)) + b"\n", disk)
        if not (folder / wrapped.WRAPPERS).exists():  # a folder of that format has such a file
            none = msgspec.json.encode(wrapped.Written(wrapped.FORMAT)) + b"\n"
            replace_file(folder / wrapped.WRAPPERS, none, disk)
        mark_wrapped(folder, disk)
    except OSError as error:
        raise map_disk_error(error) from error
