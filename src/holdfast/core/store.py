"""The contract of a place for bytes: immutable blobs named by their digest.

Engines and wrappers are the same type, so they compose. A store blocks and is safe from any
thread. Nobody ever sees a partly written blob: it is there whole, under the digest of its bytes,
or it is not there. What differs between stores is said as data in `Traits`, never by type tests,
and the suite in holdfast.testing.store_suite asserts both sides of every trait.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol, Self

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, NotFoundError, UnsatisfiableError
from holdfast.core.pending import Pending
from holdfast.core.seams import Buffer


@dataclass(frozen=True, slots=True)
class Traits:
    """What a store can and cannot do."""

    durable: bool
    """A finished commit survives a power cut."""
    native_file: bool
    """Sources may hand out a descriptor for sendfile."""
    files: bool = False
    """`file_refs` names files."""
    log_id: str = ""
    """Names the log that holds the bytes; a KV with the same `log_id` takes what `Sink.stage` gives
    along with the commit that names it, so that both are durable at once, or neither is."""
    encodes: bool = False
    """Blobs are stored in another form: `scan` says how many bytes that takes, and `Staged.ref` is
    what the log knows of it."""


class Span(NamedTuple):
    """A part of a blob: `size_bytes` from `offset`; both at least zero."""

    offset: int
    size_bytes: int


class FileRef(NamedTuple):
    """Where bytes lie, for another program to read; once they are moved, the path is gone."""

    path: Path
    offset: int
    size_bytes: int


class NativeFile(NamedTuple):
    """Where bytes lie in an open file; valid until their Source is closed."""

    descriptor: int
    offset: int
    size_bytes: int


class Staged(Protocol):
    """A blob that goes along with the commit that names it, which is refused if it cannot."""

    @property
    def ref(self) -> BlobRef:
        """The blob, or what the log knows of it where traits.encodes is True."""

    @property
    def is_stored(self) -> bool:
        """It is there already, and the commit makes sure that it still is."""


class Usage(NamedTuple):
    """What a store takes on its medium."""

    files: int = 0
    """Blobs in files of their own."""
    file_bytes: int = 0
    segments: int = 0
    segment_bytes: int = 0
    """As the file system has them, with what is reserved behind the end of the newest."""
    live_bytes: int = 0
    """Of the segments: blobs, and the newest writes of metadata."""
    dead_bytes: int = 0
    """Of the segments: what compaction gives back."""
    temporary_files: int = 0
    """On their way in, or left by a crash until the store is opened again."""
    temporary_bytes: int = 0
    torn_files: int = 0
    """Cut off by recovery, for people to look at."""
    torn_bytes: int = 0


class Verdict(Enum):
    """What became of a blob that nothing seemed to need."""

    REMOVED = "removed"
    YOUNG = "young"
    """It was stored too lately, or is on its way."""
    KEPT = "kept"
    """Somebody wanted it, after all."""


class Moment(Protocol):
    """The KV with the log of the store, as it is at the very moment of a removal."""

    def is_empty(self, start: bytes, end: bytes) -> bool:
        """Whether no key k with start <= k < end exists, however that moment ends."""


Keep = Callable[[Digest, Moment | None], bool]
"""Whether a blob is wanted. It is asked in whatever thread removes, perhaps twice, while nobody can
commit or put between the answer and the removal; it must be quick and change nothing. Without a
Moment there is no KV to look at: who names blobs elsewhere must protect them (core/protection)."""


class Source(Protocol):
    """Bytes of one blob, open for reading by one thread at a time.

    Stays readable until closed, whatever is removed meanwhile.
    """

    @property
    def size_bytes(self) -> int:
        """Size of the opened span; of the whole blob when none was asked."""

    @property
    def turns(self) -> int:
        """How often it went on in another copy, where the one that was read was damaged.

        The bytes of the blob are the same; who decodes them must know that their form may not be.
        """

    def read(self, size_bytes: int) -> Buffer:
        """Read the next verified bytes: at least one, at most `size_bytes`; empty at the end.

        Raises:
            CorruptError: stored bytes are not what was promised; nothing wrong was returned.
        """

    def seek(self, offset: int) -> None:
        """Let the next read begin at `offset` of the span, at most its size."""

    def file(self) -> NativeFile | None:
        """Say where the whole span lies now, for sendfile; None where traits.native_file is False.

        The bytes of a window may be sent only after `verify` of that window returned, and from the
        file that is said then: where damage was found, it is another copy's, or None.
        """

    def verify(self, window: Span, *, wait: bool = True) -> bool:
        """Check the stored bytes of `window` (within the span) against their checksums.

        With `wait=False` it answers False instead of touching a disk: call again from a thread.

        Raises:
            CorruptError: they do not match.
        """

    def close(self) -> None:
        """Let go; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Sink(Protocol):
    """One blob on its way in, written by one thread at a time; closing it uncommitted discards."""

    def write(self, chunk: Buffer) -> None:
        """Take the next bytes; they are copied or written when this returns.

        Raises:
            FullError: no space; close the sink.
            UnavailableError: the medium refused; close the sink.
        """

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Make the blob appear under `ref`, whose digest the caller computed from these bytes.

        The future ends when the blob is as durable as the traits say and can be opened. Its size
        must be that of the bytes written (a wrong program otherwise). Committing a blob that is
        there already succeeds. A lost answer may be retried with a new sink.
        """

    def stage(self, ref: BlobRef) -> Staged | None:
        """Ready the blob for the commit that names it, in the KV with the `log_id` of the traits.

        The KV gets what this returns. Whether the blob is there already is looked up in the batch
        of that commit, so nobody can remove it between the two: a small one is stored with it, and
        without its bytes a large one is not named. None means that the blob is as after `commit`
        and that no log of the store's could say more.

        Raises:
            FullError, UnavailableError: close the sink.
        """

    def close(self) -> None:
        """Discard unless committed; a second call does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Store(Protocol):
    """Immutable blobs named by digest; safe from any thread; blocking."""

    @property
    def traits(self) -> Traits:
        """What this store can do; never changes."""

    def sink(self) -> Sink:
        """Open a way in for one blob."""

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store whole blobs and say in order what became of each; an error is a value here.

        At most `limits.BATCH_REFS_MAX` at once. Equal ones are stored once. Those with a ref are
        as durable as the traits say; small ones share one append and one sync for each
        `limits.BATCH_BYTES_MAX` of them. May be repeated as a whole.
        """

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob, or the part of it that `span` clamps to.

        With `wait=False` it answers None instead of waiting for a disk: call again from a thread.

        Raises:
            NotFoundError: no such blob.
            CorruptError: its stored bytes or their description are damaged.
            UnsatisfiableError: `span` begins behind the end of the blob.
        """

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs in the order asked, waiting for the disk; an error is a value here.

        At most `limits.BATCH_REFS_MAX` at once. Each is opened when it is asked for, but small ones
        are read ahead, up to `limits.READ_AHEAD_BYTES` together in the order of their places and
        each of them once. Whoever gets a Source closes it; the rest may be left unasked.
        """

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Say in order in which files blobs lie; an error is a value here.

        At most `limits.BATCH_REFS_MAX` at once. Each path is a regular file and no link, the very
        one that this store reads, and has the description of this blob in its place; the content
        is not looked at. Whoever opens it does so at once and follows no links (O_NOFOLLOW): then
        it stays readable. A path that is gone by then says that the blob was moved, or removed:
        ask again, which names its new place or says NotFoundError.
        UnsupportedError where traits.files is False.
        """

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist; at most `limits.BATCH_REFS_MAX` at once.

        Raises:
            UnavailableError: one may exist that cannot be looked at now.
        """

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob in digest order, from the first behind `after`.

        Their sizes are those of the stored form where traits.encodes is True; `stat` tells theirs.
        Blobs that come or go during the scan may or may not appear; all others appear once.
        """

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs; a missing one is no error, so a lost answer may be retried.

        At most `limits.BATCH_REFS_MAX` at once. When it returns, no new `open` succeeds, also
        after a power cut; open Sources stay readable.

        Raises:
            UnavailableError: the medium refused; some may be gone.
        """

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget blobs that were stored before a time, unless `keep` says that they are wanted.

        Says what became of each that was there. In doubt about its age a blob is young. At most
        `limits.BATCH_REFS_MAX` at once; what is gone is gone as after `remove`.

        Raises:
            UnavailableError: the medium refused; some may be gone.
            BlobError: from `keep`; some may be gone, but not those that it was asked about.
        """

    def usage(self) -> Usage:
        """Count what is on the medium; it takes a look at each file.

        Raises:
            UnavailableError: the medium refuses.
        """

    def close(self) -> None:
        """Finish what was committed and let go of the medium; a second call does nothing."""


def clamp(span: Span | None, size_bytes: int) -> Span:
    """Cut `span` to a blob of `size_bytes`; None is the whole.

    Raises:
        UnsatisfiableError: it begins behind the end (beginning at the end gives an empty span).
    """
    if span is None:
        return Span(0, size_bytes)
    assert span.offset >= 0
    assert span.size_bytes >= 0
    if span.offset > size_bytes:
        raise UnsatisfiableError(size_bytes)
    return Span(span.offset, min(span.size_bytes, size_bytes - span.offset))


def no_such_blob(digest: Digest) -> NotFoundError:
    """Say that a store does not have a blob."""
    return NotFoundError("no such blob", digest=str(digest))
