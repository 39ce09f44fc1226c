"""What all views of one store share, and the small steps between its parts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast

from holdfast.core import limits
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError, UnavailableError
from holdfast.depot.ingest import Ingest, Upload
from holdfast.depot.names import Names
from holdfast.depot.reader import Reader
from holdfast.depot.stack import BARE, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from holdfast.core.bucket import Data
    from holdfast.core.digest import Digest
    from holdfast.core.inspection import Medium
    from holdfast.core.kv import KV
    from holdfast.core.seams import Disk
    from holdfast.core.store import Source, Span, Store
    from holdfast.depot.audit import Audit
    from holdfast.depot.cold import Tier
    from holdfast.depot.kept import Expiry, Kept
    from holdfast.depot.keys import Keys
    from holdfast.depot.ownership import Ownership
    from holdfast.depot.stamps import Stamps
    from holdfast.depot.trail import Trail
    from holdfast.depot.webhooks import Webhooks
    from holdfast.log.compaction import Freed
    from holdfast.log.report import Recovery
    from holdfast.log.spot import Spot
    from holdfast.stores.coded import CodedSpot
    from holdfast.stores.encoded import Form

    Spots = Callable[..., Spot | CodedSpot | None]
    """From a digest, and a coding if one is wanted (`log.spot.find`)."""

LOOKS_MAX = 100

Result = TypeVar("Result")
Named = TypeVar("Named")


class Limits(NamedTuple):
    """How a depot works where no policy says more; a largest size of 0 means no limit."""

    max_bytes: int = 0
    content_max_bytes: int = 0
    undelete_s: int = 0
    """For how long a deleted name can be restored, where its bucket does not say."""
    small_blob_bytes_max: int = limits.SMALL_BLOB_BYTES_MAX
    """Larger blobs are files of their own."""
    audit_days: int = limits.AUDIT_DAYS
    """For how long it is kept what admins did."""
    stack: Stack = BARE
    """The wrappers that are wanted around the bytes."""
    engine: str = ""
    """That of a new store; empty: LOG, unless shards are asked for."""
    shards: int = 0
    """How many a new store in SQLite has; 0: as many as a store has that is there."""
    shard_hash: str = ""
    batch_size: int = 1
    """Requests that share an epoch there at most."""
    batch_wait_s: float = 0.0
    """How long the first of them waits for the others."""
    is_moving: bool = False
    """Open it also while it takes part in a move (depot/moving.py)."""


class Engine(NamedTuple):
    """What all views of one store share."""

    store: Store
    kv: KV
    names: Names
    keys: Keys
    webhooks: Webhooks
    trail: Trail
    kept: Kept
    expiry: Expiry
    ingest: Ingest
    limits: Limits
    facts: Callable[[], Mapping[str, int]]
    """What the log says of itself; `healthy` is 1 while it takes writes."""
    recovery: Recovery
    """What opening the log found and did."""
    media: Sequence[Medium]
    """Where the bytes of blobs lie, then the catalog that holds them; for what looks after it."""
    audit: Audit
    """What can be asked of it when nobody changes it."""
    stamps: Stamps
    """When what was last verified."""
    make_hints: Callable[[], Iterator[int]]
    """Makes the hints that the log lacks, in steps that give the bytes they move."""
    compact: Callable[..., Iterator[Freed]]
    """Frees the disk of what is dead in the log (log/compaction.py), in bounded steps."""
    disk: Disk
    spot: Spots
    """Where the log has a small blob, for reading it again and again."""
    close: Callable[[], None]
    sweep_uploads: Callable[[float], Iterator[int]]
    """Removes uploads to an object store that a crash has left, behind a grace, in steps that give
    the bytes they free."""
    renumber: Callable[[int], None]
    """Commits something behind a revision, at least the newest one, and keeps no history before
    that; nobody else may write."""
    zstd: Callable[..., Form | None] | None = None
    """Opens a blob as zstd, if it is stored so (`EncodedStore.open_form`); None where none is."""
    tier: Tier | None = None
    """Moves old blobs to a cold store; None where there is none."""
    ownership: Ownership | None = None
    """Whether the object store of large or old blobs is away; None where there is none."""

    @property
    def away(self) -> str:
        """Why blobs that lie elsewhere are not available; empty where they are."""
        return "" if self.ownership is None else self.ownership.why


def feed(upload: Upload[Result], data: Data) -> None:
    """Write bytes, a path, a file or chunks into an upload, a chunk at a time."""
    if isinstance(data, str):
        raise TypeError("bytes, a file, a Path or chunks of bytes, not str")
    if isinstance(data, bytes | bytearray | memoryview):
        view = memoryview(data).cast("B")
        for at in range(0, len(view), limits.CHUNK_BYTES):
            upload.write(view[at : at + limits.CHUNK_BYTES])
    elif isinstance(data, Path):
        with _open(data) as file:
            _feed_file(upload, file)
    elif hasattr(data, "read"):
        _feed_file(upload, cast("BinaryIO", data))
    else:
        for chunk in data:
            upload.write(chunk.cast("B") if isinstance(chunk, memoryview) else chunk)


def _open(path: Path) -> BinaryIO:
    try:
        return cast("BinaryIO", path.open("rb", buffering=0))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidError("data", str(path), f"a readable file ({reason})") from error


def _feed_file(upload: Upload[Result], file: BinaryIO) -> None:
    while chunk := file.read(limits.CHUNK_BYTES):
        upload.write(chunk)


def open_blob(store: Store, digest: Digest, span: Span | None) -> Source:
    """Open a blob, waiting for the disk."""
    source = store.open(digest, span)
    assert source is not None
    return source


def open_named(
    store: Store, look: Callable[[], tuple[Named, Digest]], span: Span | None
) -> tuple[Named, Source]:
    """Open what `look` names, again while that changes: bytes may go once their name is gone.

    Raises:
        NotFoundError: from `look`.
        CorruptError: the stored bytes are damaged, or the name stayed and they are missing.
        UnavailableError: the name changes too fast.
    """
    named, digest = look()
    for _ in range(LOOKS_MAX):
        try:
            return named, open_blob(store, digest, span)
        except NotFoundError as error:
            before, (named, digest) = named, look()
            if named == before:
                raise missing(digest) from error
    raise UnavailableError("the name changes too fast to be read")


def chunks(source: Source) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the rest of a source."""
    while chunk := source.read(limits.CHUNK_BYTES):
        yield chunk


def read_rest(source: Source) -> bytes:
    """Read the rest of a source into memory."""
    first = source.read(limits.CHUNK_BYTES)
    if len(first) == source.size_bytes:
        return bytes(first)
    return b"".join((first, *chunks(source)))


def as_file(source: Source) -> BinaryIO:
    """Make a source a buffered binary file."""
    return io.BufferedReader(Reader(source), limits.CHUNK_BYTES // 8)


def missing(digest: Digest) -> CorruptError:
    """Say that a name holds a blob whose bytes are not there."""
    return CorruptError("the bytes of a blob are missing", digest=str(digest))
