"""Blobs spread over several stores, such as disks: more of them where there is more room.

    from holdfast.stores.spread import Member, SpreadStore

    SpreadStore([Member("a", FileStore(...), 2), Member("b", FileStore(...), 1)], clock)

Which member a blob should be in follows from its digest and the members' names and weights
(rendezvous hashing): a new member takes its share from all, and a blob's place depends on no list.
A member that is full or fails is passed over for a while, and what is looked for is looked for in
all, the likeliest first. So members may be added and weights changed, and a large blob, whose
digest is known only at its end, goes by the hash of its first MiB. As long as one member fails,
what the others do not have is not called missing, but not available, and nothing can be listed or
removed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import BlobError, CorruptError, FullError, NotFoundError, UnavailableError
from holdfast.core.many import begin, joined, merged, open_each, open_one, put_each, total
from holdfast.core.store import Traits, Usage, Verdict, no_such_blob
from holdfast.stores.continued import ContinuedSource, instead

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from holdfast.core.digest import BlobRef, Digest
    from holdfast.core.pending import Pending
    from holdfast.core.seams import Buffer, Clock
    from holdfast.core.store import FileRef, Keep, Sink, Source, Span, Staged, Store

ELSEWHERE = (FullError, UnavailableError)  # of a member, when another may do
SURPLUS_BITS = 12  # of a hash, so that its share of 1 is exact and less than 1
SHARES = 1 << (64 - SURPLUS_BITS)

Ended = TypeVar("Ended")


class Member(NamedTuple):
    """One of the stores; its name is what blobs are spread by, so it must stay as it is."""

    name: str
    store: Store
    weight: float = 1
    """How much of all it takes, compared with the others; with 0 it takes nothing new."""


class SpreadStore:
    """A store over several others, which it owns and closes; none of them shares a log."""

    def __init__(self, members: Sequence[Member], clock: Clock) -> None:
        assert len({member.name for member in members}) == len(members) > 0
        assert all(member.weight >= 0 for member in members)
        self._members = members
        self._clock = clock
        self._passed_s: dict[str, float] = {}
        traits = [member.store.traits for member in members]
        self._traits = Traits(
            durable=all(each.durable for each in traits),
            native_file=all(each.native_file for each in traits),
            files=all(each.files for each in traits),
            encodes=any(each.encodes for each in traits),
        )

    @property
    def traits(self) -> Traits:
        """What all members can do."""
        return self._traits

    def ranked(self, key: bytes) -> list[Member]:
        """The members by how likely each has, or gets, what has this key."""
        return sorted(self._members, key=lambda member: _score(member, key), reverse=True)

    def takers(self, key: bytes) -> list[Member]:
        """The members for new blobs, in the order in which they are tried."""
        now_s = self._clock.monotonic_s()
        members = [member for member in self.ranked(key) if member.weight]
        return sorted(members, key=lambda member: now_s < self._passed_s.get(member.name, now_s))

    def pass_over(self, member: Member) -> None:
        """Try a member last for a while; it has refused something."""
        self._passed_s[member.name] = self._clock.monotonic_s() + limits.PASS_OVER_S

    def sink(self) -> SpreadSink:
        """Open a way in that chooses the member."""
        return SpreadSink(self)

    def put_many(self, payloads: Sequence[Buffer]) -> list[BlobRef | BlobError]:
        """Store blobs one by one."""
        return put_each(self, payloads)

    def open(self, digest: Digest, span: Span | None = None, *, wait: bool = True) -> Source | None:
        """Open a blob where it is found first, sound; without waiting, where that is at hand.

        Where it turns out to be damaged later, it is read on in any other member that has it.

        Raises:
            NotFoundError: no member has it.
            CorruptError: who has it has it damaged.
            UnavailableError: who may have it fails.
        """
        failures: list[BlobError] = []
        for member in self.ranked(digest):
            try:
                source = member.store.open(digest, span, wait=wait)
            except (NotFoundError, CorruptError, UnavailableError) as error:
                failures.append(error)
                continue
            if source is not None:
                for failure in failures:
                    instead(source, failure)
                return ContinuedSource(source, self._copies(member, digest, span))
        if len(failures) < len(self._members):
            return None  # who did not answer would have had to wait
        raise _worst(failures) or no_such_blob(digest)

    def open_many(self, digests: Sequence[Digest]) -> Iterator[Source | BlobError]:
        """Open blobs one by one."""
        return open_each(self, digests)

    def file_refs(self, digests: Sequence[Digest]) -> list[FileRef | BlobError]:
        """Ask the members that have them."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return [self._file_ref(digest) for digest in digests]

    def stat(self, digests: Collection[Digest]) -> Mapping[Digest, int]:
        """Ask every member.

        Raises:
            UnavailableError: one fails, and may have what the others do not.
        """
        assert len(digests) <= limits.BATCH_REFS_MAX
        sizes: dict[Digest, int] = {}
        failure: BlobError | None = None
        for member in self._members:
            try:
                sizes |= member.store.stat(digests)
            except UnavailableError as error:
                failure = error
        if failure is not None and len(sizes) < len(set(digests)):
            raise failure
        return sizes

    def scan(self, after: Digest | None = None) -> Iterator[BlobRef]:
        """Merge the scans of all; a blob that is in several is one."""
        return merged(*(member.store.scan(after) for member in self._members))

    def remove(self, digests: Collection[Digest]) -> None:
        """Forget blobs everywhere."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        for member in self._members:
            member.store.remove(digests)

    def expire(
        self, digests: Collection[Digest], before_us: int, keep: Keep
    ) -> Mapping[Digest, Verdict]:
        """Forget blobs everywhere; one that is left anywhere is not gone."""
        assert len(digests) <= limits.BATCH_REFS_MAX
        return joined(each.store.expire(digests, before_us, keep) for each in self._members)

    def usage(self) -> Usage:
        """Add all up."""
        return total(member.store.usage() for member in self._members)

    def close(self) -> None:
        """Close all."""
        for member in self._members:
            member.store.close()

    def _copies(
        self, read: Member, digest: Digest, span: Span | None
    ) -> Iterator[Source | BlobError]:
        """Open a blob in the members but the one that is read; nothing before it is wanted."""
        for member in self.ranked(digest):
            if member is not read:
                yield open_one(member.store, digest, span)

    def _file_ref(self, digest: Digest) -> FileRef | BlobError:
        failures: list[BlobError] = []
        for member in self.ranked(digest):
            (found,) = member.store.file_refs([digest])
            if not isinstance(found, BlobError):
                return found
            failures.append(found)
        return _worst(failures) or no_such_blob(digest)


class SpreadSink(Closing):
    """One blob on its way: in memory while it is small, then in some member's sink."""

    def __init__(self, store: SpreadStore) -> None:
        self._store = store
        self._part = bytearray()
        self._member: Member | None = None
        self._sink: Sink | None = None

    def write(self, chunk: Buffer) -> None:
        """Keep a copy while the digest may decide, else pass it on."""
        if self._sink is None:
            self._part += chunk
            if len(self._part) > limits.CHUNK_BYTES:
                self._open(xxh3_128_digest(self._part[: limits.CHUNK_BYTES]))
            return
        try:
            self._sink.write(chunk)
        except ELSEWHERE:
            self._refused()
            raise

    def commit(self, ref: BlobRef) -> Pending[None]:
        """Commit where the bytes are, or where they should be and are taken; it has ended then.

        Raises:
            FullError, UnavailableError: all refuse; close the sink.
        """
        if self._sink is None:
            return self._by_digest(ref, _committed)
        done = self._sink.commit(ref)
        if isinstance(done.exception(), ELSEWHERE):
            self._refused()
        return done

    def stage(self, ref: BlobRef) -> Staged | None:
        """Leave it to the member where the bytes are, or should be and are taken.

        Raises:
            FullError, UnavailableError: all refuse; close the sink.
        """
        if self._sink is None:
            return self._by_digest(ref, _staged)
        assert self._member is not None
        try:
            return _staged(self._member, self._sink, ref)
        except ELSEWHERE:
            self._refused()
            raise

    def close(self) -> None:
        """Discard unless committed."""
        self._part = bytearray()
        if self._sink is not None:
            self._sink.close()

    def _open(self, key: bytes) -> None:
        """Open the sink of the first member that takes what there is by now."""
        failure: BlobError = UnavailableError("no store takes new blobs")
        for member in self._store.takers(key):
            try:
                self._sink = begin(member.store, [self._part])
            except ELSEWHERE as error:
                self._store.pass_over(member)
                failure = error
                continue
            self._member = member
            self._part = bytearray()
            return
        raise failure

    def _refused(self) -> None:
        assert self._member is not None
        self._store.pass_over(self._member)

    def _by_digest(self, ref: BlobRef, end: Callable[[Member, Sink, BlobRef], Ended]) -> Ended:
        """End in the first member that takes a small blob."""
        assert ref.size_bytes == len(self._part)
        failure: BlobError = UnavailableError("no store takes new blobs")
        for member in self._store.takers(ref.digest):
            try:
                with begin(member.store, [self._part]) as sink:
                    return end(member, sink, ref)
            except ELSEWHERE as error:
                self._store.pass_over(member)
                failure = error
        raise failure


def _committed(member: Member, sink: Sink, ref: BlobRef) -> Pending[None]:
    del member
    done = sink.commit(ref)
    done.result()
    return done


def _staged(member: Member, sink: Sink, ref: BlobRef) -> Staged | None:
    """Store it; what is staged in a log of the member's own, no name could go along with."""
    if member.store.traits.log_id:
        sink.commit(ref).result()
        return None
    return sink.stage(ref)


def _score(member: Member, key: bytes) -> float:
    """How much a member wants a key: the greatest of all gets it (Thaler and Ravishankar, 1998)."""
    share = ((xxh3_64_intdigest(member.name.encode() + b"\0" + key) >> SURPLUS_BITS) + 0.5) / SHARES
    return member.weight / -math.log(share)


def _worst(failures: Sequence[BlobError]) -> BlobError | None:
    """Of what members said, what is so for all: missing only if none may have it."""
    found: list[BlobError] = [each for each in failures if isinstance(each, UnavailableError)]
    found += [each for each in failures if not isinstance(each, NotFoundError)]
    return found[0] if found else None
