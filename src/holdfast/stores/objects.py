"""Blobs in an object store: S3 and what speaks it, Google Cloud Storage, Azure (decisions/013).

A blob up to one part is one object, under the name of its digest, with the content, the checksums
of its chunks and the footer of a file (stores/footer.py). It is created, never overwritten, unless
what is there proves to be damaged. A larger one is an object for each part, under the random name
of its upload, and a head that names the upload, which is stored last (stores/naming.py).

One process at a time may have the store open. It remembers what it stores and removes, which an
object store cannot be asked together with a change: `_busy` orders changes of one digest, `_ages`
says since when it is there, `_pledges` what waits for its name, `_doubts` what may still go.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.many import name_all, open_each, outcome
from holdfast.core.store import Span, Traits, Verdict, no_such_blob
from holdfast.log.staged import StoredBlob
from holdfast.stores import footer, head, listings, naming
from holdfast.stores.ages import Ages
from holdfast.stores.busy import Busy
from holdfast.stores.lookup import Found, Lookup
from holdfast.stores.outgoing import ObjectSink, Upload
from holdfast.stores.pledges import Doubts, Pledges
from holdfast.stores.removal import Removal
from holdfast.stores.windows import Handle, Handles, ObjectSource

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from holdfast.core.seams import Buffer, Clock, Entropy
    from holdfast.core.store import FileRef, Keep, Moment, Source, Usage
    from holdfast.stores.remote import Remote

TRAITS = Traits(durable=True, native_file=False)
TOKEN_BYTES = 16
TRIES_MAX = 3  # to create what somebody removes meanwhile


class ObjectStore:
    """The store contract over an object store.

    `_in_use` are uploads that are not named yet, and names of what is kept for readers; threads
    only add and remove.
    """

    def __init__(
        self,
        remote: Remote,
        entropy: Entropy,
        clock: Clock,
        part_bytes: int = limits.OBJECT_PART_BYTES,
    ) -> None:
        """Use what lies behind `remote`; nothing is asked of it yet."""
        assert part_bytes % limits.CHUNK_BYTES == 0
        self._remote = remote
        self._entropy = entropy
        self._clock = clock
        self._part_bytes = part_bytes
        self._handles = Handles()
        self._busy = Busy()
        self._ages = Ages(clock)
        self._pledges = Pledges()
        self._doubts = Doubts(clock)
        self._in_use: set[str] = set()
        self._lookup = Lookup(remote, part_bytes)
        self._removal = Removal(remote, self._handles, self._doubts, self._in_use, self._token)
        self.between: Callable[[Callable[[Moment | None], None]], None] = _alone
        """Does something while nobody can commit a name for a blob of this store."""
        self._pool = ThreadPoolExecutor(limits.OBJECT_THREADS, "holdfast-objects")
        """For single steps, which wait neither for each other nor for who holds a digest and
        waits for them."""

    @property
    def traits(self) -> Traits:
        """Durable once the object store has answered; in no files."""
        return TRAITS

    def sink(self) -> ObjectSink:
        """Open a way in; nothing is sent before a part is full."""
        return ObjectSink(self, self._part_bytes)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store blobs, those of one part several at once."""
        named = name_all(payloads)
        distinct = list(dict(named).items())
        small = [each for each in distinct if each[0].size_bytes <= self._part_bytes]
        outcomes = dict(self._pool.map(self._put_small, small))
        for ref, payload in distinct:
            if ref not in outcomes:
                outcomes[ref] = outcome(self._put_large, ref, payload)
        return [outcomes[ref] for ref, _ in named]

    def open(
        self, digest: Digest, span: Span | None = None, *, wait: bool = True
    ) -> ObjectSource | None:
        """Open a blob; never without waiting, for whoever may not wait would read from it next."""
        if not wait:
            return None
        handle = self._take(digest)
        try:
            return ObjectSource(handle, span, self._release)
        except BlobError:
            self._release(handle)
            raise

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """There are no files."""
        there = self.stat(digests)
        return [
            UnsupportedError("blobs in an object store lie in no file")
            if digest in there
            else no_such_blob(digest)
            for digest in digests
        ]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Tell sizes from footers and names of heads; one with a damaged footer is no blob."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        distinct = list(set(digests))
        sizes = zip(distinct, self._pool.map(self._lookup.size_bytes, distinct), strict=True)
        return {digest: size_bytes for digest, size_bytes in sizes if size_bytes is not None}

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Yield every blob by its names and sizes alone, a folder at a time."""
        return listings.scan(self._remote, after)

    def remove(self, digests: Collection[Digest]) -> None:
        """Remove what names the content, then the content; what is read stays till then."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        for _ in self._pool.map(self._remove, set(digests)):
            pass

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Ask first, while nobody can name them, and remove then, while nobody can store them."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        distinct = list(set(digests))
        looked = zip(distinct, self._pool.map(self._lookup.find, distinct), strict=True)
        found = {digest: each for digest, each in looked if each is not None}
        with self._busy.hold(found):
            waiting = self._pledges.waiting()
            old = [
                digest
                for digest, each in found.items()
                if digest not in waiting
                and not self._ages.is_young(digest, each.modified_us, before_us)
            ]
            verdicts = dict.fromkeys(found, Verdict.YOUNG) | self._ask(old, keep)
            for digest, verdict in verdicts.items():
                if verdict is Verdict.REMOVED:
                    self._pledges.break_off(digest)
                    self._removal.withdraw(digest, found[digest])
                    self._ages.forget(digest)
        return verdicts

    def usage(self) -> Usage:
        """Add up the sizes of all objects."""
        return listings.usage(self._remote)

    def sweep(self, grace_s: float = limits.SWEEP_GRACE_S) -> Iterator[int]:
        """Remove what crashes left, once it is older than a grace; yield each time how many bytes.

        What was sent without an answer may still come for `limits.OBJECT_DOUBT_S`, so the grace is
        twice that at least.

        Raises:
            UnavailableError: no answer; some may be gone.
        """
        grace_us = int(max(grace_s, 2 * limits.OBJECT_DOUBT_S) * 1_000_000)
        before_us = self._clock.now_us() - grace_us
        for each in listings.stale(self._remote, before_us, frozenset(self._in_use)):
            for name in each.names:
                self._remote.delete(name)
            yield each.size_bytes

    def find(self, ref: BlobRef) -> StoredBlob | None:
        """Find a blob, sound in every chunk, for a commit to name; None when it is not there.

        It takes reading it.

        Raises:
            UnavailableError: no answer, or a removal without one could still reach it.
        """
        digest = ref.digest
        try:
            with ObjectSource(self._take(digest), None, self._release) as source:
                source.verify(Span(0, source.size_bytes))
        except (NotFoundError, CorruptError):
            return None
        with self._busy.hold([digest]):
            self._doubts.check(digest)
            if self._lookup.find(digest) is None:
                return None
            self._ages.note(digest)
            return StoredBlob(ref, self._pledges.give(digest, is_there=True).is_kept)

    def close(self) -> None:
        """Finish what is on its way."""
        self._pool.shutdown()

    # For ObjectSink alone.

    def begin(self) -> Upload:
        """Begin an upload in parts."""
        token = self._token()
        self._in_use.add(token)
        return Upload(token, self._remote, self._pool)

    def discard(self, upload: Upload) -> None:
        """Remove the parts of an upload that comes to nothing.

        Raises:
            UnavailableError: no answer; the rest is swept later.
        """
        try:
            for number in range(upload.count):
                self._remote.delete(naming.part(upload.token, number))
        finally:
            self._in_use.discard(upload.token)

    def publish_one(self, ref: BlobRef, data: bytes) -> None:
        """Store a blob of one part with its footer.

        Raises:
            FullError, UnavailableError: it may be there all the same, or come to be.
        """
        name = naming.blob(ref.digest)
        with self._busy.hold([ref.digest]):
            self._doubts.check(ref.digest)
            for _ in range(TRIES_MAX):
                if self._remote.create(name, data) or self._is_there(ref, name, data):
                    self._ages.note(ref.digest)
                    return
        raise UnavailableError(f"{self._remote.place}: an object comes and goes")

    def publish_parts(self, ref: BlobRef, upload: Upload, checksums: bytes) -> None:
        """Store the head of a blob whose parts are stored, and remove older heads of it.

        Nothing is looked up: the content is here already, and replaces what may be damaged.

        Raises:
            FullError, UnavailableError: it may be there all the same, or come to be.
        """
        own = naming.Head(ref.digest, ref.size_bytes, upload.token)
        described = head.Description(ref, upload.token, self._part_bytes, checksums)
        try:
            with self._busy.hold([ref.digest]):
                self._remote.write(own.name, head.pack(described))
                self._ages.note(ref.digest)
                with suppress(BlobError):  # the blob is stored; what is left takes room only
                    older = [each for each in self._lookup.heads(ref.digest) if each != own]
                    self._removal.withdraw_heads(older, self._handles.drop(ref.digest))
        finally:
            self._in_use.discard(upload.token)

    def stored(self, ref: BlobRef) -> StoredBlob:
        """What the commit has to look at that names a blob which was stored."""
        with self._busy.hold([ref.digest]):
            pledge = self._pledges.give(ref.digest, is_there=self._ages.knows(ref.digest))
        return StoredBlob(ref, pledge.is_kept)

    # Storing.

    def _put_small(self, named: tuple[BlobRef, bytes]) -> tuple[BlobRef, BlobRef | BlobError]:
        ref, payload = named
        checksums = footer.Checksums()
        checksums.update(memoryview(payload))
        data = payload + footer.pack(ref, checksums.finish())
        return ref, outcome(self.publish_one, ref, data) or ref

    def _token(self) -> str:
        return self._entropy.random_bytes(TOKEN_BYTES).hex()

    def _put_large(self, ref: BlobRef, payload: bytes) -> BlobRef:
        with self.sink() as sink:
            sink.write(payload)
            sink.commit(ref).result()
        return ref

    def _is_there(self, ref: BlobRef, name: str, data: bytes) -> bool:
        """Look at what has the name already; what is damaged is replaced."""
        there = self._remote.whole(name, len(data))
        if there is None:
            return False
        if there != data and not _is_sound(ref, there):
            self._remote.write(name, data)
            self._handles.drop(ref.digest)
        return True

    def _take(self, digest: Digest) -> Handle:
        return self._handles.take(digest) or self._load(digest)

    def _load(self, digest: Digest) -> Handle:
        """Use a handle of a blob, made from its footer or head."""
        with self._busy.hold([digest]):
            handle = self._handles.take(digest)
            if handle is None:
                handle = Handle(self._remote, self._lookup.describe(digest))
                self._handles.add(handle)
            return handle

    def _release(self, handle: Handle) -> None:
        """Stop reading; what was kept for the last reader goes, or is swept later."""
        leftover = self._handles.release(handle)
        if leftover is not None:
            with suppress(RuntimeError):  # the store is closed
                self._pool.submit(leftover)

    # Removing.

    def _remove(self, digest: Digest) -> None:
        with self._busy.hold([digest]):
            found = Found(self._lookup.heads(digest), is_one=True)
            self._pledges.break_off(digest)
            self._removal.withdraw(digest, found)
            self._ages.forget(digest)

    def _ask(self, digests: list[Digest], keep: Keep) -> dict[Digest, Verdict]:
        """Ask whether blobs are wanted; nobody can come to want one that is held here."""
        verdicts: dict[Digest, Verdict] = {}

        def act(moment: Moment | None) -> None:
            for digest in digests:
                verdicts[digest] = Verdict.KEPT if keep(digest, moment) else Verdict.REMOVED

        if digests:
            self.between(act)
        return verdicts


def _alone(act: Callable[[Moment | None], None]) -> None:
    """Without a log of names there is nobody else."""
    act(None)


def _is_sound(ref: BlobRef, data: bytes) -> bool:
    """Whether an object is this blob, with its footer."""
    content = memoryview(data)[: ref.size_bytes]
    try:
        footer.unpack(data[ref.size_bytes :], ref)
    except BlobError:
        return False
    return Digest.of(content) == ref.digest
