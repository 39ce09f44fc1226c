"""Moving blobs to the cold store: copied, read back and verified there, then removed here.

A move claims its blobs, so that of several only one is at work, and registers them before the first
byte is sent. It copies the stored bytes as they lie, and then reads the copy as whoever opens it
would, up to the digest of the blob. Then, and only if nobody took the blob away meanwhile, it goes
here. Whatever ends a move in between leaves the blob here, and perhaps in both; the next one finds
the copy and goes on from there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import CorruptError, NotFoundError
from holdfast.core.store import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from holdfast.core.store import Moment, Source
    from holdfast.stores.cooled import Claim, CooledStore

    Check = Callable[[Digest, Source], Iterator[int]]


class Moved(NamedTuple):
    """What a step did."""

    worked_bytes: int = 0
    """Read or sent."""
    blobs: int = 0
    """That lie in the cold store alone now."""
    size_bytes: int = 0
    """Of these, as they are stored."""
    damaged: tuple[Digest, ...] = ()
    """Blobs that could not be read, or whose copy was not what it should be: they stay here."""


class Mover:
    """Moves blobs of a store; safe from any thread."""

    def __init__(self, store: CooledStore, check: Check) -> None:
        """Believe a copy that `check` finds to be the blob that it should be."""
        self._store = store
        self._check = check

    def move(self, refs: Sequence[BlobRef], before_us: int) -> Iterator[Moved]:
        """Move blobs that were stored before a time, at most `limits.WRITES_MAX`, in steps.

        Small ones are moved several at once. Those that are gone, or that somebody stored anew,
        are left where they are. It may be ended behind each step.

        Raises:
            FullError, UnavailableError: the cold store or the disk refuses; nothing is lost.
        """
        assert len(refs) <= limits.WRITES_MAX
        claims = self._store.claim([ref.digest for ref in refs])
        try:
            moves = self._begin([ref for ref in refs if ref.digest in claims], claims)
            small = [move for move in moves if move.ref.size_bytes <= limits.CHUNK_BYTES]
            if small:
                yield self._move_small(small, before_us)
            for move in moves:
                if move.ref.size_bytes > limits.CHUNK_BYTES:
                    yield from self._move_large(move, before_us)
        finally:
            self._store.release(claims)

    def _begin(self, refs: Sequence[BlobRef], claims: Mapping[Digest, Claim]) -> list[_Move]:
        """Register what is here, while nobody can take it away: so no row is left of nothing."""
        with self._store.busy.hold(claims):
            here = self._store.here.stat(claims)
            all_moves = [_Move(self._store, self._check, ref, claims[ref.digest]) for ref in refs]
            moves = [move for move in all_moves if move.ref.digest in here and move.stands()]
            self._store.register.add([move.ref for move in moves if not move.was_sent])
        return moves

    def _move_small(self, moves: Sequence[_Move], before_us: int) -> Moved:
        """Copy several at once, for each waits for answers, and remove them by one request."""
        with ThreadPoolExecutor(limits.COLD_THREADS, "holdfast-move") as pool:
            outcomes = list(pool.map(_run, moves))
        return self._leave(dict(zip(moves, outcomes, strict=True)), before_us)

    def _move_large(self, move: _Move, before_us: int) -> Iterator[Moved]:
        """Copy one a chunk at a time."""
        outcome = yield from move.copying()
        yield self._leave({move: outcome}, before_us)

    def _leave(self, outcomes: dict[_Move, _Outcome], before_us: int) -> Moved:
        """Remove here what is in the cold store and was not stored anew meanwhile."""
        there = [move for move, outcome in outcomes.items() if outcome is _Outcome.THERE]
        digests = [move.ref.digest for move in there]
        with self._store.busy.hold(digests):
            standing = [move.ref.digest for move in there if move.stands()]
            verdicts = self._store.here.expire(standing, before_us, _unwanted)
        gone = [m.ref for m in there if verdicts.get(m.ref.digest) is Verdict.REMOVED]
        return Moved(
            sum(2 * move.ref.size_bytes for move in outcomes if move.is_small),
            len(gone),
            sum(ref.size_bytes for ref in gone),
            tuple(m.ref.digest for m, outcome in outcomes.items() if outcome is _Outcome.DAMAGED),
        )


class _Outcome(Enum):
    """How a copy ended."""

    THERE = "there"
    """It is in the cold store, and verified."""
    TAKEN = "taken"
    """Somebody took the blob away."""
    DAMAGED = "damaged"


class _Move:
    """One blob on its way to the cold store; for one thread at a time."""

    def __init__(self, store: CooledStore, check: Check, ref: BlobRef, claim: Claim) -> None:
        self.ref = ref
        self.was_sent = store.register.has(ref.digest)
        """An earlier move may have done a part, or all."""
        self._store = store
        self._check = check
        self._claim = claim

    @property
    def is_small(self) -> bool:
        """Whether it is copied in one step."""
        return self.ref.size_bytes <= limits.CHUNK_BYTES

    def stands(self) -> bool:
        """Whether nobody took the blob away; to be asked while it is held."""
        return self._store.holds(self.ref.digest, self._claim)

    def copying(self) -> Generator[Moved, None, _Outcome]:
        """Bring it there and read it there, a chunk at a time."""
        try:
            if not (self.was_sent and self._store.cold.find(self.ref) is not None):
                is_there = yield from self._send()
                if not is_there:
                    return _Outcome.TAKEN
        except NotFoundError:
            return _Outcome.TAKEN
        except CorruptError:
            return _Outcome.DAMAGED
        return (yield from self._verify())

    def _send(self) -> Generator[Moved, None, bool]:
        """Copy the stored bytes; False if the claim fell meanwhile."""
        source = self._store.here.open(self.ref.digest)
        assert source is not None
        with source, self._store.cold.sink() as sink:
            while chunk := source.read(limits.CHUNK_BYTES):
                sink.write(chunk)
                yield Moved(len(chunk))
            with self._store.busy.hold([self.ref.digest]):
                if not self.stands():
                    return False
                sink.commit(BlobRef(self.ref.digest, source.size_bytes)).result()
        return True

    def _verify(self) -> Generator[Moved, None, _Outcome]:
        """Read the copy as a blob; what is none is given up."""
        try:
            opened = self._store.cold.open(self.ref.digest)
            assert opened is not None
            for size_bytes in self._check(self.ref.digest, opened):
                yield Moved(size_bytes)
        except (CorruptError, NotFoundError):
            self._give_up()
            return _Outcome.DAMAGED
        return _Outcome.THERE

    def _give_up(self) -> None:
        with self._store.busy.hold([self.ref.digest]):
            if self.stands():
                self._store.cold.remove([self.ref.digest])


def _run(move: _Move) -> _Outcome:
    """Do all of it in one step."""
    steps = move.copying()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome: _Outcome = end.value
            return outcome


def _unwanted(digest: Digest, moment: Moment | None) -> bool:
    """Nobody needs it here any more, whoever needs it."""
    del digest, moment
    return False
