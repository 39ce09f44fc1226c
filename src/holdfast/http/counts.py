"""What happened, counted in memory that all worker processes share.

Every worker has a block and is the only one that writes there; whoever is asked adds all blocks
up. A worker in the place of one that died goes on with its block, so that no sum ever goes back.

A block holds numbers of 64 bits: those below, then one for each slot. A slot is given to a kind of
request, or to a fact that the worker reports, when it first happens; behind the numbers stand the
names of the slots, NAME_BYTES each and padded with zeros.
"""

from __future__ import annotations

import mmap
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Kind = tuple[str, str, int]
"""Route, method and status of a request."""

RECEIVED, SENT, CONNECTIONS, PROCESS, READY, RESTARTS, UNHEALTHY, LISTENERS, USED = range(9)
FIRST_SLOT = 9
SLOTS_MAX = 1024
NAME_BYTES = 48
NUMBERS_BYTES = 8 * (FIRST_SLOT + SLOTS_MAX)
BLOCK_BYTES = NUMBERS_BYTES + SLOTS_MAX * NAME_BYTES
OTHER: Kind = ("other", "other", 0)  # requests that find no slot


class Block:
    """The part of one worker; only that worker, and who starts it, may write."""

    __slots__ = ("_names", "numbers")

    def __init__(self, memory: memoryview) -> None:
        self.numbers = memory[:NUMBERS_BYTES].cast("Q")
        self._names = memory[NUMBERS_BYTES:]

    def slots(self) -> Iterator[tuple[str, int]]:
        """Yield the names of slots and where their numbers stand."""
        for at in range(self.numbers[USED]):
            name = bytes(self._names[at * NAME_BYTES : (at + 1) * NAME_BYTES])
            yield name.rstrip(b"\0").decode(), FIRST_SLOT + at

    def allot(self, name: str) -> int | None:
        """Begin a slot; None when there is none left, or the name is too long."""
        at, data = self.numbers[USED], name.encode()
        if at == SLOTS_MAX or len(data) > NAME_BYTES:
            return None
        self._names[at * NAME_BYTES : (at + 1) * NAME_BYTES] = data.ljust(NAME_BYTES, b"\0")
        self.numbers[USED] = at + 1
        return FIRST_SLOT + at


class Sums(NamedTuple):
    """All blocks together."""

    requests: Mapping[Kind, int]
    facts: Mapping[str, int]
    numbers: Sequence[int]
    """By their places, of which the last, USED, means nothing."""


class Tally:
    """The blocks of all workers, made before the first of them is forked."""

    def __init__(self, workers: int = 1) -> None:
        memory = memoryview(mmap.mmap(-1, workers * BLOCK_BYTES))
        starts = range(0, workers * BLOCK_BYTES, BLOCK_BYTES)
        self.blocks = [Block(memory[start : start + BLOCK_BYTES]) for start in starts]

    def sums(self) -> Sums:
        """Add everything up."""
        requests: Counter[Kind] = Counter()
        facts: Counter[str] = Counter()
        for block in self.blocks:
            for name, at in block.slots():
                kind = _kind(name)
                if kind is None:
                    facts[name] += block.numbers[at]
                elif block.numbers[at]:
                    requests[kind] += block.numbers[at]
        numbers = [sum(block.numbers[at] for block in self.blocks) for at in range(FIRST_SLOT)]
        return Sums(requests, facts, numbers)


class Counts:
    """What one worker counts, on the thread of its loop; `_lock` guards what it reports."""

    __slots__ = ("_block", "_kinds", "_lock", "_numbers", "_others", "_reported")

    def __init__(self, tally: Tally, number: int = 0) -> None:
        """Go on with block `number`; its connections ended with the process that had it."""
        self._block = tally.blocks[number]
        self._others = [each.numbers for each in tally.blocks if each is not self._block]
        self._numbers = self._block.numbers
        for at in (CONNECTIONS, UNHEALTHY, LISTENERS):
            self._numbers[at] = 0
        self._lock = threading.Lock()
        self._kinds: dict[Kind, int] = {}
        self._reported: dict[str, tuple[int, int]] = {}
        """Where the number of a fact stands, and what others before have left there."""
        for name, at in self._block.slots():
            kind = _kind(name)
            if kind is None:
                self._reported[name] = (at, self._numbers[at])
            else:
                self._kinds[kind] = at
        if OTHER not in self._kinds:
            self._slot(OTHER)

    def begin(self) -> None:
        """Say that this worker takes requests."""
        self._numbers[READY] = 1

    def add(self, route: str, method: str, status: int, sent_bytes: int) -> None:
        """Count one answered request."""
        kind = (route, method, status)
        at = self._kinds.get(kind)
        self._numbers[self._slot(kind) if at is None else at] += 1
        self._numbers[SENT] += sent_bytes

    def receive(self, size_bytes: int) -> None:
        """Count bytes of a body."""
        self._numbers[RECEIVED] += size_bytes

    def send(self, size_bytes: int) -> None:
        """Count bytes of a body whose length nobody knew when it began."""
        self._numbers[SENT] += size_bytes

    def connect(self) -> int:
        """Count a new connection; return how many the other workers have."""
        self._numbers[CONNECTIONS] += 1
        return sum(numbers[CONNECTIONS] for numbers in self._others)

    def disconnect(self) -> None:
        """Count one that is gone."""
        self._numbers[CONNECTIONS] -= 1

    def listen(self, change: int) -> None:
        """Count those who listen to events: one more, or one less."""
        self._numbers[LISTENERS] += change

    def report(self, facts: Mapping[str, int], *, healthy: bool) -> None:
        """Tell what this process counted elsewhere since it began; safe from any thread."""
        with self._lock:
            self._numbers[UNHEALTHY] = not healthy
            for name, value in facts.items():
                at, before = self._reported[name] = self._reported.get(name) or self._begin(name)
                self._numbers[at] = max(self._numbers[at], before + value)

    def _begin(self, name: str) -> tuple[int, int]:
        at = self._block.allot(name)
        assert at is not None
        return at, 0

    def _slot(self, kind: Kind) -> int:
        at = self._block.allot("{} {} {}".format(*kind))
        if at is None:
            return self._kinds[OTHER]
        self._kinds[kind] = at
        return at


def _kind(name: str) -> Kind | None:
    route, *rest = name.split(" ")
    return (route, rest[0], int(rest[1])) if rest else None
