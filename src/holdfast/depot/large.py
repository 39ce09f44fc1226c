"""The object store that a folder names, for its large blobs or for its old ones.

    DIR/large        {"format": 1, "url": "s3://bucket/prefix"}: large ones
    DIR/cold         the same: old ones (depot/cold.py)
    <url>/HOLDFAST   whose it is (depot/ownership.py)

Each names the other. A folder that has blobs elsewhere is opened with them, whoever opens it, for
their place is no secret; and what belongs to one folder, or serves it otherwise, is not given to
another. Large blobs that were files before stay files, and are found there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core.errors import ConflictError, CorruptError, UnsupportedError
from holdfast.core.marker import replace_file
from holdfast.depot import wrapped
from holdfast.depot.ownership import Ownership, claim
from holdfast.log.folder import mark_wrapped
from holdfast.log.segment import map_disk_error
from holdfast.stores.tiered import TieredStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.core.seams import Clock, Disk, Entropy
    from holdfast.core.store import Moment, Store
    from holdfast.depot.stack import Stack
    from holdfast.stores.objects import ObjectStore
    from holdfast.stores.remote import Remote

FORMAT = 1
LARGE, COLD = "large", "cold"
"""Which blobs lie there, and the files that say where."""


class Named(msgspec.Struct, frozen=True):
    """The content of DIR/large, or of DIR/cold."""

    format: int
    url: str


class Home(NamedTuple):
    """A folder whose blobs lie elsewhere, whatever engine has it."""

    folder: Path
    id: str
    disk: Disk
    between: Callable[[Callable[[Moment], None]], None]
    """Does something while nobody can commit a name."""


class Elsewhere(NamedTuple):
    """Blobs in an object store."""

    what: str
    """LARGE or COLD."""
    remote: Remote
    """Asks nothing before it is known whose it is."""
    store: ObjectStore
    ownership: Ownership


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


def open_elsewhere(home: Home, stack: Stack, clock: Clock, entropy: Entropy) -> Elsewhere | None:
    """Open the object store that has the large or the cold blobs of a folder, if there is one.

    A folder that names none yet, and is told one, claims it and remembers it. One that is known
    and does not answer is opened all the same, and is asked again when it is needed.

    Raises:
        ConflictError: it names another one, or that one belongs to another folder.
        UnavailableError: a new one does not answer, or one that is known has lost its marker.
        CorruptError, UnsupportedError: what is there cannot be read, or large and cold are wanted.
    """
    folder = home.folder
    asked = {LARGE: stack.large, COLD: stack.cold}
    urls = {what: url_for(folder, what, url) for what, url in asked.items()}
    if all(urls.values()):
        what, other = (LARGE, COLD) if place_of(folder) else (COLD, LARGE)
        raise UnsupportedError(
            f"the {what} blobs of {folder} lie in {urls[what]}: `{other}` does not go with that"
        )
    for what, url in urls.items():
        if url:
            if stack.connect is None:
                raise UnsupportedError(f"the {what} blobs of {folder} lie in {url}")
            remote = stack.connect(url, clock, entropy)
            return _open(home, what, remote, (clock, entropy), as_it_is=stack.as_it_is)
    return None


def url_for(folder: Path, what: str, wanted: str) -> str:
    """Where the large or cold blobs of a folder lie, or are to; empty when in the folder.

    Raises:
        ConflictError: they lie elsewhere than wanted.
        CorruptError, UnsupportedError: as `place_of` has it.
    """
    known = place_of(folder, what)
    if wanted and known and wanted != known:
        raise ConflictError(f"the {what} blobs of {folder} lie in {known}, not in {wanted}")
    return wanted or known


def _open(
    home: Home, what: str, remote: Remote, seams: tuple[Clock, Entropy], *, as_it_is: bool
) -> Elsewhere:
    from holdfast.stores.objects import ObjectStore  # noqa: PLC0415 - an extra

    clock, entropy = seams
    own = home.id if what == LARGE else f"{home.id}/{what}"
    ownership = Ownership(remote, own, what, clock)
    is_new = not place_of(home.folder, what)
    if is_new and not as_it_is:
        claim(remote, own)
        _remember(home.folder / what, remote.place, home.disk)
    ownership.open(may_be_free=is_new and as_it_is)
    guarded = remote.behind(ownership.check)
    store = ObjectStore(guarded, entropy, clock)
    store.between = home.between
    return Elsewhere(what, guarded, store, ownership)


def tier(files: Store, elsewhere: Elsewhere | None) -> Store:
    """The store of large blobs: new ones go elsewhere, if there is such a place."""
    if elsewhere is None or elsewhere.what != LARGE:
        return files
    return TieredStore(files, elsewhere.store, 0)


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
