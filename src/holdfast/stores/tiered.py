"""Two stores as one: blobs up to a size go to the first, larger ones to the second.

A blob is buffered until it proves to be large, so that each store sees only its own. Reading looks
in the small store first. The size may change between runs: what was stored stays where it is, and a
blob that is in both is one blob: who reads it goes on in the large store where the small one has it
damaged.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import LOST, BlobError, CorruptError, NotFoundError, UnavailableError
from holdfast.core.many import begin, joined, merged, open_one, total
from holdfast.core.pending import Pending
from holdfast.core.seams import Buffer
from holdfast.core.store import (
    FileRef,
    Keep,
    Sink,
    Source,
    Span,
    Staged,
    Store,
    Traits,
    Usage,
    Verdict,
)
from holdfast.stores.continued import ContinuedSource, instead


class TieredStore:
    """A store over two others, which it owns and closes.

    Its `traits.log_id` is that of the small store; it stays true because a commit to the large
    store is waited for.
    """

    def __init__(self, small: Store, large: Store, small_bytes_max: int) -> None:
        assert small_bytes_max >= 0
        self._small = small
        self._large = large
        self._stores = (large, small)
        self._small_bytes_max = small_bytes_max
        self._is_log = bool(small.traits.log_id)
        """Small blobs are verified whole before they are given out, and not damaged later."""
        self._traits = Traits(
            durable=small.traits.durable and large.traits.durable,
            native_file=small.traits.native_file or large.traits.native_file,
            files=small.traits.files and large.traits.files,
            log_id=small.traits.log_id if large.traits.durable else "",
            encodes=small.traits.encodes or large.traits.encodes,
        )

    @property
    def traits(self) -> Traits:
        """Durable where both are; in native files where one is."""
        return self._traits

    def sink(self) -> "TieredSink":
        """Open a way in that chooses the store by the size."""
        return TieredSink(self._small, self._large, self._small_bytes_max)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Hand each store what is its own, the small ones as one batch."""
        assert len(payloads) <= limits.BATCH_REFS_MAX
        small = [memoryview(one).nbytes <= self._small_bytes_max for one in payloads]
        parts: dict[bool, list[Buffer]] = {True: [], False: []}
        for one, is_small in zip(payloads, small, strict=True):
            parts[is_small].append(one)
        outcomes = {
            True: iter(self._small.put_many(parts[True])),
            False: iter(self._large.put_many(parts[False])),
        }
        return [next(outcomes[is_small]) for is_small in small]

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob where it is; in the large store also when the small one cannot give it."""
        try:
            source = self._small.open(digest, span, wait=wait)
        except NotFoundError:
            return self._large.open(digest, span, wait=wait)
        except (CorruptError, UnavailableError) as error:
            with suppress(NotFoundError):
                return instead(self._large.open(digest, span, wait=wait), error)
            raise
        return source if self._is_log or source is None else self._both(source, digest, span)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs where they are; the small store reads ahead."""
        opened = self._small.open_many(digests)
        return (self._found(*each) for each in zip(digests, opened, strict=True))

    def _found(self, digest: Digest, found: Source | BlobError) -> Source | BlobError:
        """What the small store gives, or else the large one."""
        if isinstance(found, NotFoundError):
            return open_one(self._large, digest)
        if isinstance(found, BlobError):
            return open_one(self, digest) if isinstance(found, LOST) else found
        return found if self._is_log else self._both(found, digest, None)

    def _both(self, source: Source, digest: Digest, span: Span | None) -> Source:
        """A source of the small store, which goes on in the large one where it is damaged."""
        others = (open_one(store, digest, span) for store in (self._large,))
        return ContinuedSource(source, others)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name the files of either store."""
        found = self._small.file_refs(digests)
        missing = [at for at, each in enumerate(found) if isinstance(each, NotFoundError)]
        large = self._large.file_refs([digests[at] for at in missing])
        for at, each in zip(missing, large, strict=True):
            found[at] = each
        return found

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist in either."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found = self._small.stat(digests)
        missing = [digest for digest in digests if digest not in found]
        return {**found, **self._large.stat(missing)} if missing else found

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Merge both scans, which are in order already."""
        return merged(self._small.scan(after), self._large.scan(after))

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs in both."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        for store in self._stores:
            store.remove(digests)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget blobs in both; one that is left in either is not gone."""
        return joined(store.expire(digests, before_us, keep) for store in self._stores)

    def usage(self) -> Usage:
        """Add both up."""
        return total(store.usage() for store in self._stores)

    def close(self) -> None:
        """Close both."""
        for store in self._stores:
            store.close()


class TieredSink(Closing):
    """One blob on its way: chunks in memory until there are too many, then the large sink."""

    def __init__(self, small: Store, large: Store, small_bytes_max: int) -> None:
        self._small = small
        self._large = large
        self._room_bytes = small_bytes_max
        self._chunks: list[bytes] = []
        self._sink: Sink | None = None

    def write(self, chunk: Buffer) -> None:
        """Keep a copy while the blob may be small, else pass it on."""
        if self._sink is None and len(chunk) <= self._room_bytes:
            self._room_bytes -= len(chunk)
            self._chunks.append(bytes(chunk))
            return
        if self._sink is None:
            self._sink = begin(self._large, self._taken())
        self._sink.write(chunk)

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Commit where the bytes are; a large blob is durable when this returns."""
        if self._sink is None:
            self._sink = begin(self._small, self._taken())
            return self._sink.commit(ref)
        done = self._sink.commit(ref)
        done.exception()
        return done

    def stage(self, ref: BlobRef) -> Staged | None:
        """Leave it to the store where the bytes are."""
        if self._sink is None:
            self._sink = begin(self._small, self._taken())
        return self._sink.stage(ref)

    def close(self) -> None:
        """Discard unless committed."""
        self._chunks.clear()
        if self._sink is not None:
            self._sink.close()

    def _taken(self) -> Iterator[bytes]:
        """What is in memory, which is held no longer than it must be."""
        chunks, self._chunks = self._chunks, []
        return iter(chunks)
