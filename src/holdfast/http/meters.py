"""Meters: how much of its rates an address, a key or an owner has used, over all workers.

A meter is one number: the time at which all that was taken will have been paid off (GCRA, ITU-T
I.371 annex A). While that lies less than the burst ahead, a request is let in and moves it on by
what it takes. Bytes may take it further than the burst: nobody is stopped in the midst of a body,
and who comes next waits until that is paid.

The numbers are in memory that all workers share. They are changed in turns, by a lock of the kernel
that goes with its process (fcntl(2)), and so they are exact over all of them. A meter whose time
has come is as good as new, and its place is free. Where all places are taken, the meter that is
nearest to its end gives way: its owner gains the rest of a burst, and nobody ever waits for others.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import threading
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits
from holdfast.core.errors import RateError
from holdfast.core.rates import BYTES, REQUESTS, Rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.seams import Clock, Entropy

SECOND_NS = 1_000_000_000
ROUNDED = 1e-6  # of a unit, that no quotient of floats may cost
DEBT_NS_MAX = limits.RATE_DEBT_S_MAX * SECOND_NS
WAYS = 8  # places where a meter may be
SETS = limits.METERS_MAX // WAYS
WORDS = 2  # of a place: the tag of its meter, and the time
TAG_BYTES = 8
BARRED, FIRST = 0, 1  # a word of its own, then the places
TABLE_BYTES = 8 * (FIRST + WORDS * limits.METERS_MAX)


class Meter(NamedTuple):
    """One rate of somebody."""

    tag: int
    policy: str
    unit: str
    unit_ns: float
    """The time that pays for one request or byte."""
    burst_ns: int

    @property
    def limit(self) -> int:
        """How many may come at once."""
        return int(self.burst_ns / self.unit_ns + ROUNDED)

    @property
    def window_s(self) -> int:
        """After how long as many may come again."""
        return max(1, ceil(self.burst_ns / SECOND_NS))

    def error(self, wait_ns: float) -> RateError:
        """Say that it is over."""
        wait_s = max(1, ceil(wait_ns / SECOND_NS))
        return RateError(self.policy, self.limit, self.window_s, wait_s, self.unit)


class Standing(NamedTuple):
    """What is left of a meter, and when all of it is there again."""

    left: int
    full_in_s: int


class Bill(NamedTuple):
    """What more a request is charged to that was let in."""

    table: Meters
    meters: tuple[Meter, ...]

    def spend(self, size_bytes: int) -> None:
        """Take bytes, whether they are there or not."""
        self.table.spend(self.meters, size_bytes)


class Meters:
    """The meters of a server; safe from any thread and forked process.

    `_lock` and, where processes share it, the kernel's guard the table.
    """

    def __init__(self, clock: Clock, entropy: Entropy, *, shared: bool = False) -> None:
        """Make the table; one that is `shared` is made before the processes are forked."""
        self._clock = clock
        self._salt = entropy.random_bytes(16)
        self._lock = threading.Lock()
        self._descriptor = os.memfd_create("holdfast-meters") if shared else -1
        if shared:
            os.ftruncate(self._descriptor, TABLE_BYTES)
        self._words = memoryview(mmap.mmap(self._descriptor, TABLE_BYTES)).cast("Q")

    def of(self, policy: str, who: str, rates: Rates) -> tuple[Meter, ...]:
        """The meters of somebody: none, where there is no limit."""
        burst_s = rates.burst_s or limits.RATE_BURST_S
        found = []
        for unit, per_s in ((REQUESTS, rates.requests_s), (BYTES, rates.bytes_s)):
            if per_s:
                unit_ns = SECOND_NS / per_s
                burst_ns = int(max(burst_s * SECOND_NS, unit_ns))
                found.append(Meter(self._tag(policy, who, unit), policy, unit, unit_ns, burst_ns))
        return tuple(found)

    def take(self, meters: Sequence[Meter], size_bytes: int) -> None:
        """Take a request of so many bytes from all meters, or nothing from any.

        Raises:
            RateError: one is over.
        """
        with self._lock:
            self._begin_turn()
            try:
                words, now_ns = self._words, self._now_ns()
                moves: list[tuple[int, int]] = []
                for meter in meters:
                    tag, _, unit, unit_ns, burst_ns = meter
                    at = self._place(tag)
                    paid_ns: float = max(words[at], now_ns)
                    wait_ns = paid_ns - now_ns + unit_ns - burst_ns
                    if wait_ns > 0:
                        raise meter.error(wait_ns)
                    units = 1 if unit == REQUESTS else size_bytes
                    paid_ns = min(paid_ns + units * unit_ns, now_ns + burst_ns + DEBT_NS_MAX)
                    moves.append((at, int(paid_ns)))
                for at, time_ns in moves:
                    words[at] = time_ns
            finally:
                self._end_turn()

    def spend(self, meters: Sequence[Meter], size_bytes: int) -> None:
        """Take bytes of a request that was let in, whether they are there or not."""
        with self._lock:
            self._begin_turn()
            try:
                now_ns = self._now_ns()
                for meter in meters:
                    if meter.unit == BYTES:
                        self._move(meter, self._place(meter.tag), size_bytes, now_ns)
            finally:
                self._end_turn()

    def fail(self, meter: Meter) -> None:
        """Take a failure; who had too many is barred until they are paid."""
        with self._lock:
            self._begin_turn()
            try:
                at = self._place(meter.tag)
                self._move(meter, at, 1, self._now_ns())
                until_ns = int(self._words[at] + meter.unit_ns - meter.burst_ns)
                self._words[BARRED] = max(self._words[BARRED], until_ns, 0)
            finally:
                self._end_turn()

    def check(self, meter: Meter) -> None:
        """Refuse who is barred; that is a look at one number while nobody is.

        Raises:
            RateError: too many failures.
        """
        barred_ns = self._words[BARRED]
        if barred_ns and barred_ns > self._now_ns():
            wait_ns = self._ahead_ns(meter) + meter.unit_ns - meter.burst_ns
            if wait_ns > 0:
                raise meter.error(wait_ns)

    def standing(self, meter: Meter) -> Standing:
        """What is left of a meter now."""
        ahead_ns = self._ahead_ns(meter)
        left = int((meter.burst_ns - ahead_ns) / meter.unit_ns + ROUNDED)
        return Standing(max(0, left), ceil(ahead_ns / SECOND_NS))

    def _ahead_ns(self, meter: Meter) -> int:
        with self._lock:
            self._begin_turn()
            try:
                return max(0, self._words[self._place(meter.tag)] - self._now_ns())
            finally:
                self._end_turn()

    def _now_ns(self) -> int:
        return int(self._clock.monotonic_s() * SECOND_NS)

    def _tag(self, policy: str, who: str, unit: str) -> int:
        """A number that nobody can choose."""
        name = f"{policy} {unit} {who}".encode()
        hashed = hashlib.blake2b(name, digest_size=TAG_BYTES, key=self._salt).digest()
        return int.from_bytes(hashed, "little") or 1

    def _place(self, tag: int) -> int:
        """Where the time of a meter stands; from now on, if it stood nowhere."""
        words = self._words
        start = FIRST + tag % SETS * WORDS * WAYS
        ends = start + WORDS * WAYS
        for at in range(start, ends, WORDS):
            if words[at] == tag:
                return at + 1
        freest = min(range(start, ends, WORDS), key=lambda at: words[at + 1])
        words[freest + 1] = 0
        words[freest] = tag
        return freest + 1

    def _move(self, meter: Meter, at: int, units: int, now_ns: int) -> None:
        paid_ns = max(self._words[at], now_ns) + units * meter.unit_ns
        self._words[at] = int(min(paid_ns, now_ns + meter.burst_ns + DEBT_NS_MAX))

    def _begin_turn(self) -> None:
        if self._descriptor >= 0:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def _end_turn(self) -> None:
        if self._descriptor >= 0:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
