"""The trail: what admins did and what was refused to them, for a while.

    td <time> <chance>  -> a deed that was done
    tr <time> <chance>  -> one that was refused
    tn                  -> counters: done, refused

What was done is kept by the commit that did it, so neither is there without the other. What was
refused is kept by commits of its own, a few a minute: whoever is refused more often is counted, but
can neither fill the disk nor push out what was done.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, InvalidError
from holdfast.core.kv import Add, Delete, Put, counters, prefix_end
from holdfast.core.policy import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.kv import KV, Item, Write
    from holdfast.core.seams import Clock, Entropy

DONE = b"td"
REFUSED = b"tr"
COUNT = b"tn"
TABLES = (DONE, REFUSED)
TIME_BYTES = 8
CHANCE_BYTES = 4
KEY_BYTES = TIME_BYTES + CHANCE_BYTES
STEP_ROWS = 32
DAY_US = 86_400 * 1_000_000
WAS_DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody did, or was refused."""

    action: str
    """Such as `policy.set`; of what was refused, the method and the path."""
    about: Mapping[str, str] = field(default_factory=dict)
    """On what: owner, bucket, id of a key, webhook."""
    key: str = ""
    """The id of the key that was shown; empty: none, or one that opens nothing."""
    owner: str = ""
    """Whose key that is; empty: that of who runs the store, or nobody's."""
    address: str = ""
    outcome: str = WAS_DONE
    """`done`, or the code of the error."""
    missed: int = 0
    """How many like it were refused since the last that is kept."""
    asked_us: int = 0

    def concerns(self, owner: str) -> bool:
        """Whether an owner did it, or it was done to what an owner has."""
        names = (self.about.get("bucket", ""), self.about.get("webhook", ""))
        return owner in {self.owner, self.about.get("owner"), *map(owner_of, names)}

    def seen_by(self, owner: str) -> Deed:
        """What an owner sees of it."""
        return self if self.owner == owner else replace(self, key="", address="")


class DeedPage(NamedTuple):
    """Some deeds, and before which the next page begins."""

    deeds: list[Deed]
    next: str | None


class _Kept(NamedTuple):
    """A deed and where it is."""

    position: bytes
    deed: Deed


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Deed).decode


class Trail:
    """The trail of a store; safe from any thread. `_lock` guards what is left to refusals."""

    def __init__(self, kv: KV, clock: Clock, entropy: Entropy, days: int) -> None:
        self._kv = kv
        self._clock = clock
        self._entropy = entropy
        self._days = days
        self._lock = threading.Lock()
        self._left: dict[bool, float] = {}
        self._seen_s: dict[bool, float] = {}
        self._missed: Counter[bool] = Counter()

    def writes(self, deed: Deed) -> list[Write]:
        """The writes that keep what is done by the same commit."""
        return self._keeping(DONE, deed)

    def keep(self, deed: Deed) -> None:
        """Keep what was done without a commit of its own; durable when it returns."""
        self._kv.commit((), self.writes(deed)).result()

    def refuse(self, deed: Deed) -> None:
        """Keep what was refused, unless there is too much of that; never fails."""
        missed = self._take(is_known=bool(deed.key))
        if missed is None:
            return
        try:
            self._kv.commit((), self._keeping(REFUSED, replace(deed, missed=missed))).result()
        except BlobError:
            return  # the refusal itself is what matters

    def page(self, cursor: str, limit: int, owner: str | None = None) -> DeedPage:
        """Deeds before a position, from the newest on, of what concerns an owner, or all.

        Looks at `limits.TRAIL_SCAN_MAX` of them at most, so that a page may have fewer than asked.
        Of what others did to an owner, the owner is not told by which key and from where.

        Raises:
            InvalidError: the position is none.
        """
        end = _position(cursor) if cursor else b"\xff" * KEY_BYTES
        both = merge(
            *(self._backwards(table, end) for table in TABLES),
            key=lambda kept: kept.position,
            reverse=True,
        )
        found: list[Deed] = []
        position = b""
        for kept in islice(both, limits.TRAIL_SCAN_MAX):
            position = kept.position
            if owner is None or kept.deed.concerns(owner):
                found.append(kept.deed if owner is None else kept.deed.seen_by(owner))
            if len(found) == limit:
                break
        is_end = not position or next(both, None) is None
        return DeedPage(found, None if is_end else position.hex())

    def steps(self) -> Iterator[int]:
        """Remove what is too old or too much, in bounded steps; yields how many rows each did."""
        before_us = self._clock.now_us() - self._days * DAY_US
        for number, (table, rows_max) in enumerate(
            ((DONE, limits.TRAIL_ROWS_MAX), (REFUSED, limits.TRAIL_REFUSED_MAX))
        ):
            while rows := self._surplus(table, self._count(number) - rows_max, before_us):
                deltas = (-len(rows), 0) if table == DONE else (0, -len(rows))
                writes: list[Write] = [Delete(row) for row in rows]
                self._kv.commit((), [*writes, Add(COUNT, deltas)]).result()
                yield len(rows)

    def _keeping(self, table: bytes, deed: Deed) -> list[Write]:
        now_us = self._clock.now_us()
        row = table + now_us.to_bytes(TIME_BYTES, "big") + self._entropy.random_bytes(CHANCE_BYTES)
        deltas = (1, 0) if table == DONE else (0, 1)
        return [Put(row, _encode(replace(deed, asked_us=now_us))), Add(COUNT, deltas)]

    def _take(self, *, is_known: bool) -> int | None:
        """Take room for one more refusal: how many had none since the last; None if there is none.

        Those who show a good key have room of their own.
        """
        now_s = self._clock.monotonic_s()
        with self._lock:
            past_s = now_s - self._seen_s.get(is_known, now_s)
            left = self._left.get(is_known, limits.TRAIL_REFUSALS_BURST)
            left = min(left + past_s / limits.TRAIL_REFUSAL_S, limits.TRAIL_REFUSALS_BURST)
            self._seen_s[is_known] = now_s
            if left < 1:
                self._left[is_known] = left
                self._missed[is_known] += 1
                return None
            self._left[is_known] = left - 1
            return self._missed.pop(is_known, 0)

    def _backwards(self, table: bytes, end: bytes) -> Iterator[_Kept]:
        start, stop = table, table + end
        while items := self._kv.scan(start, stop, limit=limits.LIST_LIMIT_DEFAULT, reverse=True):
            yield from map(_kept, items)
            stop = items[-1].key

    def _count(self, number: int) -> int:
        stored = self._kv.get(COUNT)
        return 0 if stored is None else counters(stored.value)[number]

    def _surplus(self, table: bytes, surplus: int, before_us: int) -> list[bytes]:
        """The oldest rows that must go, some of them."""
        oldest = self._kv.scan(table, prefix_end(table), limit=STEP_ROWS)
        return [
            item.key
            for number, item in enumerate(oldest)
            if number < surplus or _time_of(item.key) < before_us
        ]


def _kept(item: Item) -> _Kept:
    try:
        return _Kept(item.key[len(DONE) :], _decode(item.value))
    except msgspec.DecodeError as error:
        raise CorruptError("a deed is damaged") from error


def _position(cursor: str) -> bytes:
    try:
        found = bytes.fromhex(cursor)
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise InvalidError("cursor", cursor[:100], "one of an earlier page")
    return found


def _time_of(row: bytes) -> int:
    return int.from_bytes(row[len(DONE) : len(DONE) + TIME_BYTES], "big")
