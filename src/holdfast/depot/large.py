"""The object store that a folder names, for its large blobs or for its old ones.

    DIR/large        {"format": 1, "url": "s3://bucket/prefix"}: large ones
    DIR/cold         the same: old ones (depot/cold.py)
    <url>/HOLDFAST   {"format": 1, "id": "<that of the folder>"}; behind it "/cold" for old ones

Each names the other. A folder that has blobs elsewhere is opened with them, whoever opens it, for
their place is no secret; and what belongs to one folder, or serves it otherwise, is not given to
another. Large blobs that were files before stay files, and are found there.
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
LARGE, COLD = "large", "cold"
"""Which blobs lie there, and the files that say where."""
MARKER_BYTES_MAX = 4096


class Named(msgspec.Struct, frozen=True):
    """The content of DIR/large, or of DIR/cold."""

    format: int
    url: str


class Claimed(msgspec.Struct, frozen=True):
    """The content of the marker in the object store."""

    format: int
    id: str


class Elsewhere(NamedTuple):
    """Blobs in an object store."""

    what: str
    """LARGE or COLD."""
    remote: Remote
    store: ObjectStore


def place_of(folder: Path, what: str = LARGE) -> str:
    """Where the large or cold blobs of a folder lie; empty when in the folder.

    Raises:
        CorruptError: what says so is damaged.
        UnsupportedError: a newer holdfast wrote it.
    """
    path = folder / what
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Named)
    except FileNotFoundError:
        return ""
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"the file `{what}` is damaged", file=str(path)) from error
    if found.format != FORMAT:
        raise UnsupportedError(f"a newer holdfast has put the {what} blobs of this store elsewhere")
    return found.url


def check_alone(folder: Path, stack: Stack) -> None:
    """Refuse to share a folder of which blobs lie, or are to lie, anywhere else.

    Raises:
        UnsupportedError: they do.
    """
    if stack.cache_bytes:
        raise UnsupportedError("a cache serves one process: say --workers 1")
    if stack.disks or wrapped.written(folder).disks:
        raise UnsupportedError("large blobs on several disks need one process: say --workers 1")
    for what, wanted in ((LARGE, stack.large), (COLD, stack.cold)):
        url = wanted or place_of(folder, what)
        if url:
            raise UnsupportedError(f"{what} blobs in {url} need one process: say --workers 1")


def open_elsewhere(log: Log, stack: Stack, clock: Clock, entropy: Entropy) -> Elsewhere | None:
    """Open the object store that has the large or the cold blobs of a folder, if there is one.

    A folder that names none yet, and is told one, claims it and remembers it.

    Raises:
        ConflictError: it names another one, or that one belongs to another folder.
        UnavailableError: no answer.
        CorruptError, UnsupportedError: what is there cannot be read, or large and cold are wanted.
    """
    folder = log.root.parent
    urls = {LARGE: _url(folder, LARGE, stack.large), COLD: _url(folder, COLD, stack.cold)}
    if all(urls.values()):
        raise UnsupportedError(
            f"the large blobs of {folder} lie in {urls[LARGE]}: `cold` is for what lies in a folder"
        )
    for what, url in urls.items():
        if url:
            if stack.connect is None:
                raise UnsupportedError(f"the {what} blobs of {folder} lie in {url}")
            remote = stack.connect(url, clock, entropy)
            return _open(log, what, remote, (clock, entropy), as_it_is=stack.as_it_is)
    return None


def _url(folder: Path, what: str, wanted: str) -> str:
    known = place_of(folder, what)
    if wanted and known and wanted != known:
        raise ConflictError(f"the {what} blobs of {folder} lie in {known}, not in {wanted}")
    return wanted or known


def _open(
    log: Log, what: str, remote: Remote, seams: tuple[Clock, Entropy], *, as_it_is: bool
) -> Elsewhere:
    from holdfast.stores.objects import ObjectStore  # noqa: PLC0415 - an extra

    folder = log.root.parent
    clock, entropy = seams
    own = log.id if what == LARGE else f"{log.id}/{what}"
    if place_of(folder, what):
        check_there(remote)
        _claim(remote, own)
    elif as_it_is:
        _is_ours(remote, own)
    else:
        _claim(remote, own)
        _remember(folder / what, remote.place, log.disk)
    store = ObjectStore(remote, entropy, clock)
    store.between = log.between
    return Elsewhere(what, remote, store)


def tier(files: Store, elsewhere: Elsewhere | None) -> Store:
    """The store of large blobs: new ones go elsewhere, if there is such a place."""
    if elsewhere is None or elsewhere.what != LARGE:
        return files
    return TieredStore(files, elsewhere.store, 0)


def check_there(remote: Remote) -> None:
    """See that an object store is still the one that was claimed.

    Raises:
        UnavailableError: a folder that was one is not mounted any more, or there is no answer.
    """
    if remote.look(MARKER) is None:
        raise UnavailableError(f"{remote.place}: the object {MARKER} is gone: is it mounted?")


def _claim(remote: Remote, own: str) -> None:
    """See that it is ours, or make it so; an answer that was lost shows as ours."""
    if _is_ours(remote, own):
        return
    remote.create(MARKER, msgspec.json.encode(Claimed(FORMAT, own)) + b"\n")
    if not _is_ours(remote, own):
        raise UnavailableError(f"{remote.place}: the object {MARKER} comes and goes")


def _is_ours(remote: Remote, own: str) -> bool:
    """Whether it says so; False when it is nobody's yet.

    Raises:
        ConflictError: it belongs to another folder.
        CorruptError, UnsupportedError: it cannot be read.
    """
    data = remote.whole(MARKER, MARKER_BYTES_MAX)
    if data is None:
        return False
    try:
        found = msgspec.json.decode(data, type=Claimed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptError(f"{remote.place}: the object {MARKER} is damaged") from error
    if found.format != FORMAT:
        raise UnsupportedError(f"{remote.place}: a newer holdfast uses it")
    if found.id != own:
        raise ConflictError(f"{remote.place} belongs to another store ({found.id})")
    return True


def _remember(path: Path, url: str, disk: Disk) -> None:
    folder = path.parent
    try:
        replace_file(path, msgspec.json.encode(Named(FORMAT, url)) + b"\n", disk)
        if not (folder / wrapped.WRAPPERS).exists():  # a folder of that format has such a file
            none = msgspec.json.encode(wrapped.Written(wrapped.FORMAT)) + b"\n"
            replace_file(folder / wrapped.WRAPPERS, none, disk)
        mark_wrapped(folder, disk)
    except OSError as error:
        raise map_disk_error(error) from error
