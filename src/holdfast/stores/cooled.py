"""Two stores as one: blobs are stored in the one here, and old ones lie in a cold one.

Nothing is ever stored in the cold store but by moving it there (stores/moving.py): it is copied,
read back and verified before it is removed here. The register names whatever may be in the cold
store: a row is durable before the first byte is sent, and goes when nothing is there any more. So
nobody asks the cold store, which may be far away, for what it never had; and wherever a move ends,
the blob is here, or there, or in both, and is found.

Readers look here first. Who finds nothing here, and nothing there either, looks here once more:
the blob may have been stored again in between. What is put and lies in the cold store stays there
if it is sound; else, or while the cold store does not answer, it is stored here.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import LOST, BlobError, NotFoundError, UnavailableError
from holdfast.core.many import joined, name_all, open_one, total
from holdfast.core.pending import Promise
from holdfast.core.store import Store, Traits, Usage, Verdict
from holdfast.stores.busy import Busy
from holdfast.stores.continued import ContinuedSource, instead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer, Clock
    from holdfast.core.store import FileRef, Keep, Moment, Sink, Source, Span, Staged


class Register(Protocol):
    """The names of all blobs that may be in the cold store, with their sizes; durable."""

    def has(self, digest: Digest) -> bool:
        """Whether a blob may be there."""

    def between(self, after: Digest | None, last: Digest | None) -> Iterator[BlobRef]:
        """Yield those behind `after` up to `last`, in order."""

    def add(self, refs: Collection[BlobRef]) -> None:
        """Name blobs, durably; at most `limits.WRITES_MAX`.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget names, durably; a missing one is no error.

        Raises:
            UnavailableError: the disk refuses; some may be gone.
        """


class ColdStore(Store, Protocol):
    """A store that can be asked to keep what it has for a commit, and what crashes left there."""

    def sweep(self, grace_s: float) -> Iterator[int]:
        """Remove what crashes left, once it is older than a grace.

        Raises:
            UnavailableError: no answer; some may be gone.
        """

    def find(self, ref: BlobRef) -> Staged | None:
        """Find a blob, sound in every chunk, for a commit to name; None when it is not there.

        Raises:
            UnavailableError: no answer.
        """


class Claim:
    """That somebody moves a blob; nobody else has the same."""


class CooledStore:
    """A store over `here` and `cold`, which it owns and closes; both share the log of names.

    `busy` orders what takes a blob away, here or there, and lasts for no longer than that takes. A
    move claims its blob and does its irrevocable steps only while the claim stands, and whoever
    takes the blob away lets no claim stand. `_lock` guards the claims.
    """

    def __init__(self, here: Store, cold: ColdStore, register: Register, clock: Clock) -> None:
        self.here = here
        self.cold = cold
        self.register = register
        self.busy = Busy()
        self._clock = clock
        self._lock = threading.Lock()
        self._claims: dict[Digest, Claim] = {}
        self._asked_again_s = 0.0
        """Until then it did not answer, and only those ask who must."""
        self._traits = Traits(
            durable=here.traits.durable and cold.traits.durable,
            native_file=here.traits.native_file or cold.traits.native_file,
            log_id=here.traits.log_id if cold.traits.durable else "",
            encodes=here.traits.encodes or cold.traits.encodes,
        )

    @property
    def traits(self) -> Traits:
        """Durable where both are; in native files where one is."""
        return self._traits

    def sink(self) -> CooledSink:
        """Open a way in."""
        return CooledSink(self, self.here.sink())

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store here what is not in the cold store."""
        named = name_all(payloads)
        away = {ref for ref in dict(named) if self.find(ref) is not None}
        rest = [payload for ref, payload in named if ref not in away]
        outcomes = iter(self.here.put_many(rest))
        return [ref if ref in away else next(outcomes) for ref, _ in named]

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob here, or there; also there when it is damaged here, or cannot be read.

        The same holds in the middle of a read, in either direction.
        """
        try:
            source = self.here.open(digest, span, wait=wait)
        except LOST as error:
            if not self.register.has(digest):
                raise
            with suppress(NotFoundError):
                source = instead(self.cold.open(digest, span, wait=wait), error)
                return self._both(source, self.here, digest, span)
            if not isinstance(error, NotFoundError):
                raise
            source = self.here.open(digest, span, wait=wait)
        return self._both(source, self.cold, digest, span)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs where they are; those here are read ahead."""
        opened = self.here.open_many(digests)
        return (self._found(*each) for each in zip(digests, opened, strict=True))

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Name files of those that are here."""
        found = self.here.file_refs(digests)
        away = [at for at, each in enumerate(found) if isinstance(each, NotFoundError)]
        cold = self.cold.file_refs([digests[at] for at in away])
        for at, each in zip(away, cold, strict=True):
            found[at] = each
        return found

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Size in bytes of those that exist; the cold store is asked for what may be there."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        found = self.here.stat(digests)
        away = [each for each in digests if each not in found and self.register.has(each)]
        return {**found, **self.cold.stat(away)} if away else found

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Merge what is here with the register, which is read later: so no move hides a blob."""
        here = self.here.scan(after)
        while True:
            page = list(islice(here, limits.BATCH_REFS_MAX))
            is_last = len(page) < limits.BATCH_REFS_MAX
            last = None if is_last else page[-1].digest
            known = {ref.digest for ref in page}
            away = (ref for ref in self.register.between(after, last) if ref.digest not in known)
            yield from merge(page, away)
            if is_last:
                return
            after = last

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs in both."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        with self.taking(digests):
            away = {digest for digest in digests if self.register.has(digest)}
            self.cold.remove(away)
            self.here.remove(digests)
            self.register.remove(away)

    def withdraw(self, digests: Collection[Digest]) -> None:
        """Forget blobs in the cold store alone, where what they are is damaged."""
        with self.taking(digests):
            self.cold.remove(digests)
            self.register.remove(set(digests))

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget blobs in both; one that is left in either is not gone.

        What may be in the cold store is young while that does not answer, and the rest goes on.
        """
        assert len(digests) <= limits.BATCH_REFS_MAX
        with self.taking(digests):
            away = {digest for digest in digests if self.register.has(digest)}
            cold = self._expire_cold(away, before_us, keep) if away else {}
            here = self.here.expire(digests, before_us, keep)
            removed = Verdict.REMOVED
            self.register.remove([each for each in away if cold.get(each, removed) is removed])
        return joined((cold, here))

    def _expire_cold(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Ask the cold store, unless it did not answer just now.

        Raises:
            BlobError: from `keep`.
        """
        refusals: list[BlobError] = []

        def asked(digest: Digest, moment: Moment | None) -> bool:
            try:
                return keep(digest, moment)
            except BlobError as error:
                refusals.append(error)
                raise

        if self._answers():
            try:
                return self.cold.expire(digests, before_us, asked)
            except UnavailableError:
                if refusals:
                    raise
                self._pass_over()
        return dict.fromkeys(digests, Verdict.YOUNG)

    def usage(self) -> Usage:
        """Add both up."""
        return total((self.here.usage(), self.cold.usage()))

    def close(self) -> None:
        """Close both."""
        self.cold.close()
        self.here.close()

    def _found(self, digest: Digest, found: Source | BlobError) -> Source | BlobError:
        """What is said of one of many here, or what there is instead."""
        if not isinstance(found, BlobError):
            return ContinuedSource(found, self._copy(self.cold, digest, None))
        return open_one(self, digest) if isinstance(found, LOST) else found

    def _both(
        self, source: Source | None, other: Store, digest: Digest, span: Span | None
    ) -> Source | None:
        """A source of one copy, which goes on in the other where it is damaged."""
        return None if source is None else ContinuedSource(source, self._copy(other, digest, span))

    def _copy(
        self, store: Store, digest: Digest, span: Span | None
    ) -> Iterator[Source | BlobError]:
        """Open the other copy, if there may be one."""
        if store is self.here or self.register.has(digest):
            yield open_one(store, digest, span)

    # For CooledSink and Mover alone.

    def find(self, ref: BlobRef) -> Staged | None:
        """Find in the cold store what is put; None to store it here.

        It takes reading it. What does not answer is not asked again for a while.
        """
        if not self.register.has(ref.digest) or not self._answers():
            return None
        with suppress(UnavailableError):
            if self.here.stat([ref.digest]):
                return None
        try:
            return self.cold.find(ref)
        except UnavailableError:
            self._pass_over()
            return None

    def _answers(self) -> bool:
        """Whether the cold store is to be asked by those who could do without."""
        return self._clock.monotonic_s() >= self._asked_again_s

    def _pass_over(self) -> None:
        self._asked_again_s = self._clock.monotonic_s() + limits.PASS_OVER_S

    def claim(self, digests: Collection[Digest]) -> dict[Digest, Claim]:
        """Claim blobs for a move; those that somebody moves already are left out."""
        with self._lock:
            claims = {digest: Claim() for digest in digests if digest not in self._claims}
            self._claims.update(claims)
            return claims

    def holds(self, digest: Digest, claim: Claim) -> bool:
        """Whether a claim stands; to be asked while the digest is held in `busy`."""
        with self._lock:
            return self._claims.get(digest) is claim

    def release(self, claims: Mapping[Digest, Claim]) -> None:
        """Give claims back."""
        with self._lock:
            for digest, claim in claims.items():
                if self._claims.get(digest) is claim:
                    del self._claims[digest]

    @contextmanager
    def taking(self, digests: Collection[Digest]) -> Iterator[None]:
        """Take blobs away for the length of a block: whoever moves one must let go of it."""
        with self.busy.hold(digests):
            with self._lock:
                for digest in digests:
                    self._claims.pop(digest, None)
            yield


class CooledSink(Closing):
    """One blob on its way in, which is discarded if the cold store has it."""

    __slots__ = ("_find", "_sink")

    def __init__(self, store: CooledStore, sink: Sink) -> None:
        self._find: Callable[[BlobRef], Staged | None] = store.find
        self._sink = sink

    def write(self, chunk: Buffer) -> None:
        """Take the next bytes."""
        self._sink.write(chunk)

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Make the blob appear, unless it is in the cold store."""
        if self._find(ref) is None:
            return self._sink.commit(ref)
        self._sink.close()
        done: Promise[None] = Promise()
        done.set_result(None)
        return done

    def stage(self, ref: BlobRef) -> Staged | None:
        """Leave it to the store that has it, or will."""
        found = self._find(ref)
        if found is None:
            return self._sink.stage(ref)
        self._sink.close()
        return found

    def close(self) -> None:
        """Discard unless committed."""
        self._sink.close()
