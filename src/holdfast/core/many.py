"""Calls for many blobs, on any store, and on several as one.

`put_each` and `open_each` are for stores that have no better way than one after the other, and
`merged`, `joined` and `total` for those that consist of others. The rest is built on the contract:
whole blobs as bytes, and exact parts of them. An error of one blob is a value, and stops nothing.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import ParamSpec, TypeVar

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, UnsatisfiableError, bare
from holdfast.core.seams import Buffer
from holdfast.core.store import Sink, Source, Span, Store, Usage, Verdict

P = ParamSpec("P")
T = TypeVar("T")


def outcome(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | BlobError:
    """Call, and make an error a value."""
    try:
        return call(*args, **kwargs)
    except BlobError as error:
        return bare(error)


def paged(things: Iterable[T], size: int | None = None) -> Iterator[list[T]]:
    """Cut anything into lists of at most `size`, or of as many as a batch takes."""
    iterator = iter(things)
    while page := list(islice(iterator, size or limits.BATCH_REFS_MAX)):
        yield page


def name_all(payloads: Sequence[Buffer]) -> list[tuple[BlobRef, bytes]]:
    """Name payloads, and keep a copy of those that could change."""
    assert len(payloads) <= limits.BATCH_REFS_MAX
    copies = [one if isinstance(one, bytes) else memoryview(one).tobytes() for one in payloads]
    return [(BlobRef(Digest.of(one), len(one)), one) for one in copies]


def grouped(
    refs: Iterable[BlobRef], bytes_max: int | None = None, count_max: int | None = None
) -> Iterator[list[BlobRef]]:
    """Put blobs together as a batch takes them, or as is said; one that is larger stands alone."""
    group: list[BlobRef] = []
    size_bytes = 0
    for ref in refs:
        is_full = size_bytes + ref.size_bytes > (bytes_max or limits.BATCH_BYTES_MAX)
        if group and (is_full or len(group) == (count_max or limits.BATCH_REFS_MAX)):
            yield group
            group, size_bytes = [], 0
        group.append(ref)
        size_bytes += ref.size_bytes
    if group:
        yield group


def put_each(store: Store, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
    """Do what `Store.put_many` does, with a sink for each blob."""
    named = name_all(payloads)
    outcomes = {ref: outcome(_put, store, ref, payload) for ref, payload in dict(named).items()}
    return [outcomes[ref] for ref, _ in named]


def open_each(store: Store, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
    """Do what `Store.open_many` does, with an `open` for each blob."""
    assert len(digests) <= limits.BATCH_REFS_MAX
    return (open_one(store, digest) for digest in digests)


def open_one(store: Store, digest: Digest, span: Span | None = None) -> Source | BlobError:
    """Open a blob, or a part of it, waiting for the disk; an error is a value here."""
    source = outcome(store.open, digest, span)
    assert source is not None
    return source


def begin(store: Store, chunks: Iterable[Buffer]) -> Sink:
    """Open a way in for a blob, and write what there is of it.

    Raises:
        FullError, UnavailableError: the medium refused; nothing is left open.
    """
    sink = store.sink()
    try:
        for chunk in chunks:
            sink.write(chunk)
    except BaseException:
        sink.close()
        raise
    return sink


def merged(*scans: Iterator[BlobRef]) -> Iterator[BlobRef]:
    """Merge scans of several stores; a blob that is in more than one is one."""
    last = None
    for ref in heapq.merge(*scans):
        if ref.digest != last:
            yield ref
        last = ref.digest


def joined(parts: Iterable[Mapping[Digest, Verdict]]) -> dict[Digest, Verdict]:
    """What became of blobs that several stores were asked for: one that is left is not gone."""
    verdicts: dict[Digest, Verdict] = {}
    for part in parts:
        for digest, verdict in part.items():
            if verdicts.get(digest, Verdict.REMOVED) is Verdict.REMOVED:
                verdicts[digest] = verdict
    return verdicts


def total(usages: Iterable[Usage]) -> Usage:
    """What several stores take."""
    return Usage(*map(sum, zip(*usages, strict=True)))


def drain(opened: Source | BlobError) -> bytes | BlobError:
    """Read an open blob into memory and close it; an error is a value here."""
    if isinstance(opened, BlobError):
        return opened
    with opened:
        return outcome(read_all, opened)


def get_many(store: Store, digests: Sequence[Digest]) -> Iterator[bytes | BlobError]:
    """Read blobs into memory, one at a time, in the order asked; an error is a value here.

    At most `limits.BATCH_REFS_MAX` digests. One that comes again is read once, while the bytes kept
    for that are no more than `limits.READ_AHEAD_BYTES`.
    """
    assert len(digests) <= limits.BATCH_REFS_MAX
    opened = store.open_many(list(dict.fromkeys(digests)))
    return _get_many(store, digests, opened)


def get_range(store: Store, digest: Digest, span: Span) -> bytes:
    """Read exactly `span`, which must lie within the blob.

    Of a large blob only the chunks that hold it are read; a small one has a single checksum and
    is read and verified whole.

    Raises:
        UnsatisfiableError: a part of the span lies outside.
        NotFoundError, CorruptError, UnavailableError: as `Store.open` has it.
    """
    source = store.open(digest, span)
    assert source is not None
    with source:
        if source.size_bytes != span.size_bytes:
            raise UnsatisfiableError(span.offset + source.size_bytes)
        return read_all(source)


def read_all(source: Source) -> bytes:
    """Read the rest of a source into memory.

    Raises:
        CorruptError, UnavailableError: as `Source.read` has it.
    """
    parts = []
    while part := source.read(limits.CHUNK_BYTES):
        parts.append(part)
    return b"".join(parts) if len(parts) != 1 else bytes(parts[0])


def _get_many(
    store: Store, digests: Sequence[Digest], opened: Iterator[Source | BlobError]
) -> Iterator[bytes | BlobError]:
    last = {digest: at for at, digest in enumerate(digests)}
    seen: set[Digest] = set()
    kept: dict[Digest, bytes | BlobError] = {}
    room_bytes = limits.READ_AHEAD_BYTES
    for at, digest in enumerate(digests):
        found = kept.pop(digest, None)
        if found is not None:
            room_bytes += _weight(found)
        else:
            found = drain(open_one(store, digest) if digest in seen else next(opened))
            seen.add(digest)
        if at < last[digest] and _weight(found) <= room_bytes:
            kept[digest] = found
            room_bytes -= _weight(found)
        yield found


def _weight(found: bytes | BlobError) -> int:
    return len(found) if isinstance(found, bytes) else 0


def _put(store: Store, ref: BlobRef, payload: bytes) -> BlobRef:
    with store.sink() as sink:
        for chunk in cut(payload):
            sink.write(chunk)
        sink.commit(ref).result()
    return ref


def cut(payload: Buffer) -> Iterator[memoryview]:
    """Cut bytes into chunks."""
    view = memoryview(payload)
    for start in range(0, len(view), limits.CHUNK_BYTES):
        yield view[start : start + limits.CHUNK_BYTES]
