"""Moves without a server: steps taken by hand, and somebody who writes between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core.limits import KIB
from holdfast.core.stream import Kind
from holdfast.depot.depot import Depot
from holdfast.depot.moving import End, Stage
from holdfast.services.caretaker import Done
from holdfast.services.moving import Copy, Manner, Move, Read
from holdfast.testing.blobs import make

if TYPE_CHECKING:
    from holdfast.core.seams import Clock, Disk


class Writer:
    """Writes between the steps of a move, and remembers what was acknowledged."""

    def __init__(self, move: Move, there: dict[str, bytes | None] | None = None) -> None:
        self.move = move
        self.there = {} if there is None else there
        """What names hold, None: they are gone; of others, nobody knows."""
        self._number = len(self.there) * 10

    def __call__(self) -> None:
        """Put, replace, delete and undelete, to whichever store is the one; not for ever."""
        self._number += 1
        depot, number = self.move.depot, self._number
        if number % (1 + number // 20):
            return
        for key in (f"w/{number % 7}", f"w/new {number}"):
            data = b"%d" % number + make(300 * KIB if number % 9 == 0 else 50)
            self.there.pop(key, None)
            depot.put(key, data)
            self.there[key] = data
        gone = f"w/{(number + 1) % 7}"
        self.there.pop(gone, None)
        depot.delete(gone)
        self.there[gone] = None
        if number % 4 == 0:
            depot.put("comes and goes", b"%d" % number)
            depot.delete("comes and goes")
            depot.undelete("comes and goes")

    def check(self, depot: Depot) -> None:
        for key, data in self.there.items():
            if data is None:
                assert not depot.list(prefix=key).entries
            else:
                assert depot.get(key) == data, key


def end(url: object) -> End:
    located = locate(str(url), {})
    return End(located.folder, bounds_of(located))


def moving(
    old: object,
    new: object,
    manner: Manner | None = None,
    disk: Disk | None = None,
    clock: Clock | None = None,
) -> Move:
    return Move(end(old), end(new), manner or Manner(), disk, clock)


def copying(move: Move) -> Iterator[Done]:
    """The steps of the first stage, until it is ready."""
    ready: list[bool] = []
    task = Copy(move, lambda: ready.append(True))
    try:
        while not ready:
            yield task.step()
    finally:
        task.close()


def reading(move: Move) -> Iterator[Done]:
    """The steps of the last stage, until the old store is closed or there is nothing to do."""
    task = Read(move)
    try:
        while move.progress.stage is Stage.READ or move._old is not None:
            done = task.step()
            yield done
            if done.wait_s:
                return
    finally:
        task.close()


def switch(move: Move) -> None:
    move.prepare()
    move.commit()


def finish(move: Move, between: Callable[[], object] = lambda: None) -> None:
    """Take all steps that are left, and do something between any two."""
    if move.progress.stage is Stage.COPY:
        for _ in copying(move):
            between()
        switch(move)
    between()
    for _ in reading(move):
        between()


def check_events(depot: Depot) -> None:
    """Whoever applies all events that are kept has these names as they are."""
    names = {
        (bucket, entry.key): entry.digest
        for bucket in ("default", "many", "ann~kept")
        for entry in depot.bucket(bucket).entries()
    }
    told = {}
    for event in depot.events(all_buckets=True):
        told[(event.bucket, event.key)] = event.digest if event.kind is Kind.UPLOADED else None
    assert told == {name: names.get(name) for name in told}
