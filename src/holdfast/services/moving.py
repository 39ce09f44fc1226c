"""Moving a store while it is served: copy, switch, read both (docs/decisions/014-moving.md).

A Move has both stores open. While it copies, the old one is served; then, when nobody is being
served, `prepare` and `commit` make the new one the store, and it is served, with the old one to
read from until nothing is missing. What a crash leaves is gone on with by the next Move between the
same folders.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import ConflictError, UnavailableError
from holdfast.core.events import event
from holdfast.core.kv import Plan
from holdfast.core.seams import Disk, SystemClock
from holdfast.core.verify import verify_steps
from holdfast.depot.around import beneath
from holdfast.depot.assembly import succeed
from holdfast.depot.local import open_depot
from holdfast.depot.moving import End, Stage, State, find, look, write
from holdfast.services.caretaker import Done, Steps
from holdfast.services.copying import LOST, Copying, Lack
from holdfast.services.marks import has_name
from holdfast.services.mirror import END, PAGE, START, Mirror
from holdfast.stores.successor import SuccessorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from holdfast.core.digest import Digest
    from holdfast.core.kv import Versioned
    from holdfast.core.seams import Clock
    from holdfast.core.store import Store
    from holdfast.depot.depot import Depot

ROW_BYTES = 512  # a guess at a row, for the rate
IDLE_S = 3600.0
SHARE_BYTES = 8  # of a digest, which say how far a pass is
EXAMPLES_MAX = 10


class Manner(NamedTuple):
    """How a move is done."""

    bytes_s_max: int = 0
    """Of blobs, copied or verified; 0: no limit."""
    verify: bool = False
    """Read all of the new store before the old one is let go."""


@dataclass(slots=True)
class Progress:
    """How far a move is; written by its own thread, read by any."""

    stage: Stage | None = None
    """None: there is no move."""
    copied_blobs: int = 0
    copied_bytes: int = 0
    left_blobs: int = 0
    """About how many this pass has not looked at yet."""
    left_bytes: int = 0
    damaged: int = 0
    """Blobs that the last pass could not read in the old store."""
    examples: list[str] = field(default_factory=list)


class Move(Closing):
    """Two stores, one of which becomes the other; `progress` may be read by any thread."""

    def __init__(
        self,
        old: End,
        new: End,
        manner: Manner = Manner(),  # noqa: B008 - a tuple
        disk: Disk | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Find out where the move stands, and open what it needs.

        Raises:
            ConflictError: the new store has something of its own, or one takes part in another
                move.
            NotFoundError: there is no store to move, or none any more.
            BlobError: one of them cannot be opened.
        """
        self.ends = old, new
        self.manner = manner
        self.disk, self.clock = disk or Disk(), clock or SystemClock()
        self.progress = Progress(find(old.folder, new.folder))
        with ExitStack() as undo:
            self._old = None
            if self.progress.stage is not Stage.DONE:
                self._old = undo.enter_context(self._open(old))
            self._new = undo.enter_context(self._open(new))
            self._settle_in()
            undo.pop_all()
        if self.progress.stage is Stage.DONE:
            event(logging.INFO, "move.done", **self.facts())
        else:
            event(logging.INFO, "move.began", **self.facts())

    @property
    def depot(self) -> Depot:
        """What is served now."""
        return self.old if self.progress.stage is Stage.COPY else self.new

    @property
    def folder(self) -> Path:
        """Where that lies."""
        return self.ends[self.progress.stage is not Stage.COPY].folder

    @property
    def old(self) -> Depot:
        """The old store, while it is open."""
        assert self._old is not None
        return self._old

    @property
    def new(self) -> Depot:
        """The new store; from the switch on, with what the old one has."""
        return self._new

    def facts(self) -> dict[str, str]:
        """What events say of it."""
        old, new = (str(end.folder) for end in self.ends)
        assert self.progress.stage is not None
        return {"stage": self.progress.stage.value, "old": old, "new": new}

    def prepare(self) -> None:
        """Give the new store all names; nobody may write to the old one any more.

        Raises:
            BlobError: a store refuses; the old one can be served on.
        """
        self.old.engine.kv.transact((), _nothing).result()  # behind all that was asked before
        for _ in self.mirror.run():
            pass
        assert self.mirror.behind == 0
        self.mirror.settle(self.clock.now_us())
        self._mark(State.READY)

    def commit(self) -> None:
        """Let the new store be the store.

        Raises:
            FullError, UnavailableError: the disk refuses, and nobody knows which one it is; the
                next Move will.
        """
        old, new = self.ends
        other = self._new.engine.kv.log_id, new.folder
        write(old.folder, State.LEFT, other, self.disk, self.clock)
        self._mark(State.READING)
        self._enter()

    def finish(self) -> None:
        """Let the old store go: the new one has everything.

        Raises:
            FullError, UnavailableError: the disk refuses; try again.
        """
        self._mark(State.ARRIVED)
        self.store.let_go()
        self.progress.stage = Stage.DONE
        event(logging.INFO, "move.done", **self.facts())

    def release(self) -> bool:
        """Close the old store, unless somebody still reads something there."""
        if self._old is not None and not self.store.lent:
            old, self._old = self._old, None
            old.close()
        return self._old is None

    def close(self) -> None:
        """Close what is open."""
        try:
            self._new.close()
        finally:
            if self._old is not None:
                self._old.close()

    def _open(self, end: End) -> Depot:
        bounds = end.bounds._replace(is_moving=True)
        return open_depot(end.folder, bounds, self.disk, self.clock)

    def _settle_in(self) -> None:
        """Look again, now that nobody else can change either store, and take the first step."""
        old, new = self.ends
        stage = self.progress.stage
        if find(old.folder, new.folder) is not stage:
            raise UnavailableError("another process has just gone on with this move")
        if stage is Stage.COPY:
            self.mirror = Mirror(self.old.engine, self._new.engine)
            if look(new.folder).state not in {State.ARRIVING, State.READY}:
                self._check_empty()
            self._mark(State.ARRIVING)
        elif stage is Stage.READ:
            self.commit()

    def _check_empty(self) -> None:
        engine = self._new.engine
        if engine.kv.scan(START, END, limit=1) or next(engine.store.scan(), None) is not None:
            folder = self.ends[1].folder
            raise ConflictError(f"{folder} is not empty, and nothing in it is written over")

    def _mark(self, state: State) -> None:
        """Write down what the new store is."""
        old, new = self.ends
        other = self.old.engine.kv.log_id, old.folder
        write(new.folder, state, other, self.disk, self.clock)

    def _enter(self) -> None:
        """Read both from now on."""
        self.store = SuccessorStore(self._new.engine.store, self.old.engine.store)
        self._new = succeed(self._new, self.store)
        self.progress.stage = Stage.READ


class MoveTask(Steps):
    """What a caretaker does for a move, in either stage."""

    name = "move"

    def __init__(self, move: Move) -> None:
        self._move = move
        self.bytes_s_max = move.manner.bytes_s_max
        self._known: set[Digest] = set()
        self._told_s = move.clock.monotonic_s()
        super().__init__()

    def _pass(self, target: Depot) -> Generator[Done, None, None]:
        """Copy every blob that is held and that the new store lacks."""
        move, source = self._move, self._move.old
        progress = move.progress
        self._begin_pass()
        store = self._inner()
        copying = Copying(beneath(source.engine.store), store, self._note)
        seen = seen_bytes = 0
        digests = target.content.digests()
        while page := list(islice(digests, PAGE)):
            lack = copying.lack(page)
            for size_bytes in copying.copy(lack):
                progress.copied_bytes += size_bytes
                yield Done(size_bytes, 0)
            progress.copied_blobs += copying.blobs
            copying.blobs = 0
            seen += len(page)
            seen_bytes += sum(lack.sizes.values()) + sum(lack.there.values())
            self._estimate(page[-1], seen, seen_bytes)
            yield Done(0, 0)
        progress.left_blobs = progress.left_bytes = 0
        progress.damaged, progress.examples = self._damaged, self._examples

    def _begin_pass(self) -> None:
        self._damaged = 0
        self._examples: list[str] = []

    def _estimate(self, last: Digest, seen: int, seen_bytes: int) -> None:
        """Say about how much is left: digests are as good as evenly spread."""
        share = (int.from_bytes(last[:SHARE_BYTES], "big") + 1) / (1 << 8 * SHARE_BYTES)
        progress, rest = self._move.progress, (1 - share) / share
        progress.left_blobs, progress.left_bytes = int(seen * rest), int(seen_bytes * rest)
        now_s = self._move.clock.monotonic_s()
        if now_s - self._told_s >= limits.MOVE_TELL_S:
            self._told_s = now_s
            figures = {
                name: getattr(progress, name)
                for name in ("copied_blobs", "copied_bytes", "left_blobs", "left_bytes")
            }
            event(logging.INFO, "move.progress", **self._move.facts(), **figures)

    def _note(self, digest: Digest) -> None:
        """Count a blob that the old store cannot give, if it is still wanted."""
        if not has_name(self._move.depot.engine, digest):
            return
        self._damaged += 1
        if len(self._examples) < EXAMPLES_MAX:
            self._examples.append(str(digest))
        if digest not in self._known and len(self._known) < limits.FINDINGS_MAX:
            self._known.add(digest)
            event(logging.ERROR, "move.damaged", digest=str(digest))

    def _inner(self) -> Store:
        """The new store alone."""
        store = self._move.new.engine.store
        return beneath(store.inner if isinstance(store, SuccessorStore) else store)


class Copy(MoveTask):
    """The first stage: all blobs, all rows, then what changed meanwhile; then it is `ready`."""

    def __init__(self, move: Move, ready: Callable[[], None], wait_s: float = 0) -> None:
        """Call `ready` once, from the caretaker's thread; begin after `wait_s`."""
        self._ready = ready
        self._wait_s = wait_s
        super().__init__(move)

    def _run(self) -> Generator[Done, None, None]:
        yield Done(0, self._wait_s)
        mirror = self._move.mirror
        yield from self._pass(self._move.old)
        for _ in range(limits.MOVE_ROUNDS_MAX):
            for rows in mirror.run():
                yield Done(rows * ROW_BYTES, 0)
            if mirror.behind <= limits.MOVE_BEHIND_MAX:
                break
        self._ready()
        while True:
            yield Done(0, IDLE_S)


class Read(MoveTask):
    """The last stage: what is missing; then the old store is let go."""

    def _run(self) -> Generator[Done, None, None]:
        move = self._move
        while move.progress.stage is Stage.READ:
            yield from self._pass(move.new)
            if (move.manner.verify or move.store.is_suspect) and not self._damaged:
                yield from self._verify()
            if not self._damaged:
                move.finish()
                break
            examples = ", ".join(move.progress.examples)
            event(logging.ERROR, "move.waits", damaged=self._damaged, examples=examples)
            yield Done(0, limits.MOVE_AGAIN_S)
        while not move.release():
            yield Done(0, 1)
        while True:
            yield Done(0, IDLE_S)

    def _verify(self) -> Generator[Done, None, None]:
        """Read every blob in the new store; one that is not right is copied again."""
        digests = self._move.new.content.digests()
        for digest in digests:
            if not (yield from self._is_right(digest)):
                yield from self._copy_again(digest)
                if not (yield from self._is_right(digest)):
                    self._note(digest)
        progress = self._move.progress
        progress.damaged, progress.examples = self._damaged, self._examples

    def _is_right(self, digest: Digest) -> Generator[Done, None, bool]:
        try:
            for size_bytes in verify_steps(self._inner(), digest):
                yield Done(size_bytes, 0)
        except LOST:
            return False
        return True

    def _copy_again(self, digest: Digest) -> Generator[Done, None, None]:
        old = beneath(self._move.old.engine.store)
        for medium in self._move.new.engine.media:
            medium.forget(digest)  # or the store takes what the page cache has for sound
        copying = Copying(old, self._inner(), _look_again)
        for size_bytes in copying.copy(Lack([digest], old.stat([digest]), {})):
            yield Done(size_bytes, 0)


def _look_again(digest: Digest) -> None:
    """Say nothing of a blob that could not be copied: it is verified again."""
    del digest


def _nothing(values: Sequence[Versioned | None]) -> Plan[None]:
    """Write nothing, in one's turn."""
    del values
    return Plan((), None)
