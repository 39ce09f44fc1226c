"""Webhooks as they are kept, where each stands, and the messages that it gave up.

    hw <name>                   -> the webhook and its secrets, JSON
    hs <name>                   -> where it stands, JSON
    hd <name> 0 <time> <id>     -> a dead letter: a message that was given up

Secrets stand in the clear, because a server must sign with them; nobody is shown one again. Only
one process sends, and it writes where a webhook stands on the condition that nobody else did, so
that a change by people is never lost: at worst, something is sent again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from holdfast.core import limits
from holdfast.core.errors import CorruptError, InvalidError, NotFoundError, TooLargeError
from holdfast.core.kv import Committed, Delete, Plan, Put, Unchanged, pages, prefix_end
from holdfast.core.policy import NOBODY, OWNER_MARK
from holdfast.core.webhook import SECRET_BYTES, Secrets, Webhook, new_secret
from holdfast.depot.events import latest
from holdfast.depot.policies import CHANGED, commit_removal, owner_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.kv import KV, Item, Versioned, Write
    from holdfast.core.seams import Clock, Entropy
    from holdfast.depot.policies import Policies

WEBHOOK = b"hw"
STANDING = b"hs"
DEAD = b"hd"
TIME_BYTES = 8
STEP_LETTERS = 16  # moved by one commit
MICROSECONDS = 1_000_000

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Stored:
    """A webhook and what signs its messages."""

    webhook: Webhook
    secrets: Secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a webhook stands. Times are microseconds since 1970 UTC, 0: never, or not now."""

    cursor: str
    """Everything before was dealt with."""
    delivered: int = 0
    """Messages that the receiver took."""
    failed: int = 0
    """Tries that came to nothing."""
    given_up: int = 0
    """Messages that became dead letters."""
    dead: int = 0
    """Dead letters that are kept."""
    delivered_us: int = 0
    """When the receiver last took one."""
    failures: int = 0
    """Tries in a row that came to nothing."""
    failing_us: int = 0
    """Since when."""
    error: str = ""
    """What came of the last of them."""
    due_us: int = 0
    """When the next try is."""
    waiting_us: int = 0
    """Since when the next message has waited, where one does."""
    gone_us: int = 0
    """When the receiver said that it is gone for good (410)."""
    lost_us: int = 0
    """When events were passed over, because the store did not have them any more."""
    is_asked: bool = False
    """Dead letters are to be sent again."""

    def lag_s(self, now_us: int) -> float:
        """For how long the next message has waited; 0 while there is none."""
        return max(0, now_us - self.waiting_us) / MICROSECONDS if self.waiting_us else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that was given up."""

    id: str
    topic: str
    body: str
    created_us: int
    """When it was given up."""
    error: str
    is_asked: bool = False
    """It is to be sent again."""


class Letter(NamedTuple):
    """A dead letter and the row that keeps it."""

    row: bytes
    revision: int
    letter: DeadLetter


_encode = msgspec.json.Encoder().encode
_stored = msgspec.json.Decoder(Stored).decode
_standing = msgspec.json.Decoder(Standing).decode
_dead = msgspec.json.Decoder(DeadLetter).decode


class Webhooks:
    """The webhooks of a store; safe from any thread."""

    def __init__(self, kv: KV, clock: Clock, entropy: Entropy, policies: Policies) -> None:
        self._kv = kv
        self._clock = clock
        self._entropy = entropy
        self._policies = policies

    # For people

    def put(self, wanted: Webhook, *, also: Sequence[Write] = ()) -> tuple[Webhook, str]:
        """Let a webhook be like this from now on; durable when it returns, and so is `also`.

        A new one begins with the events to come; its secret is returned with it, and only then. One
        that was given up by its receiver is tried again.

        Raises:
            InvalidError: its owner does not exist.
            TooLargeError: there are enough.
        """
        rows = [_row(WEBHOOK, wanted.name), _row(STANDING, wanted.name)]
        if wanted.owner != NOBODY:
            rows.append(owner_key(wanted.owner))
        fresh = Standing(cursor=str(latest(self._kv)))
        if self._kv.get(rows[0]) is None:
            self._check_room(wanted.owner)
            self._drop_letters(wanted.name)
        secret = new_secret(self._entropy.random_bytes(SECRET_BYTES))

        def plan(values: Sequence[Versioned | None]) -> Plan[tuple[Webhook, str]]:
            before, stood, *owner = values
            if owner == [None]:
                raise InvalidError("owner", wanted.owner, "one that exists")
            if before is None:
                kept = replace(wanted, created_us=self._clock.now_us())
                stored, shown, standing = Stored(kept, Secrets(secret)), secret, fresh
            else:
                old = _decode(_stored, before.value)
                kept = replace(wanted, created_us=old.webhook.created_us)
                stored, shown = Stored(kept, old.secrets), ""
                standing = fresh if stood is None else _again(stood)
            writes = (Put(rows[0], _encode(stored)), Put(rows[1], _encode(standing)), CHANGED)
            return Plan((*writes, *also), (kept, shown))

        return self._kv.transact(rows, plan).result()

    def get(self, name: str) -> tuple[Webhook, Standing]:
        """Describe a webhook, and say where it stands.

        Raises:
            NotFoundError: no such webhook.
        """
        stored, stood = self._kv.get(_row(WEBHOOK, name)), self._kv.get(_row(STANDING, name))
        if stored is None or stood is None:
            raise no_such_webhook(name)
        return _decode(_stored, stored.value).webhook, _decode(_standing, stood.value)

    def page(
        self, after: str = "", limit: int = limits.LIST_LIMIT_DEFAULT, owner: str | None = None
    ) -> list[Webhook]:
        """Webhooks behind a name, of one owner or all, in the order of their names."""
        start = WEBHOOK if not owner else _row(WEBHOOK, owner + OWNER_MARK)
        end = prefix_end(start)
        if after:
            start = max(start, _row(WEBHOOK, after) + b"\x00")
        items = self._kv.scan(start, end, limit=limit) if start < end else []
        return [_decode(_stored, item.value).webhook for item in items]

    def remove(self, name: str, *, also: Sequence[Write] = ()) -> bool:
        """Let nothing be sent from now on; False if there is no such webhook."""
        was_there = self._kv.get(_row(WEBHOOK, name)) is not None
        if was_there:
            commit_removal(self._kv, removing(name), also)
        self._drop_letters(name)
        return was_there

    def rotate(self, name: str, overlap_s: int, *, also: Sequence[Write] = ()) -> str:
        """Give a webhook a new secret, which is shown only now; the old one signs for a while too.

        Raises:
            NotFoundError: no such webhook.
        """
        row, secret = _row(WEBHOOK, name), new_secret(self._entropy.random_bytes(SECRET_BYTES))

        def plan(values: Sequence[Versioned | None]) -> Plan[str]:
            (before,) = values
            if before is None:
                raise no_such_webhook(name)
            old = _decode(_stored, before.value)
            until_us = self._clock.now_us() + overlap_s * MICROSECONDS if overlap_s else 0
            former = old.secrets.current if overlap_s else ""
            stored = Stored(old.webhook, Secrets(secret, former, until_us))
            return Plan((Put(row, _encode(stored)), CHANGED, *also), secret)

        return self._kv.transact((row,), plan).result()

    def dead(
        self, name: str, after: str = "", limit: int = limits.LIST_LIMIT_DEFAULT
    ) -> list[Letter]:
        """Dead letters behind the position `after`, oldest first.

        Raises:
            NotFoundError: no such webhook.
            InvalidError: the position is none.
        """
        self.get(name)
        start = end = _letters(name)
        try:
            start += bytes.fromhex(after) + b"\x00" if after else b""
        except ValueError:
            raise InvalidError("cursor", after[:100], "one of an earlier page") from None
        return list(map(_letter, self._kv.scan(start, prefix_end(end), limit=limit)))

    def redeliver(self, name: str, ids: frozenset[str] | None = None) -> int:
        """Let dead letters, or all of them, be sent again; returns how many.

        Raises:
            NotFoundError: no such webhook.
        """
        self.get(name)
        count = 0
        for letters in self._pages(name):
            some = [one for one in letters if ids is None or one.letter.id in ids]
            for at in range(0, len(some), STEP_LETTERS):
                count += self._ask_again(name, some[at : at + STEP_LETTERS])
        return count

    # For who sends

    def stored(self, name: str) -> Stored:
        """A webhook with what signs its messages.

        Raises:
            NotFoundError: no such webhook.
        """
        found = self._kv.get(_row(WEBHOOK, name))
        if found is None:
            raise no_such_webhook(name)
        return _decode(_stored, found.value)

    def everyone(self) -> list[tuple[Stored, bool]]:
        """All sound webhooks, each with whether its owner may be told anything now."""
        items = self._kv.scan(WEBHOOK, prefix_end(WEBHOOK), limit=limits.WEBHOOKS_MAX)
        found = []
        for item in items:
            with suppress(CorruptError):
                stored = _decode(_stored, item.value)
                found.append((stored, self._is_active(stored.webhook.owner)))
        return found

    def standing(self, name: str) -> tuple[Standing, int] | None:
        """Where a webhook stands, with the revision of that; None if it is gone."""
        stood = self._kv.get(_row(STANDING, name))
        return None if stood is None else (_decode(_standing, stood.value), stood.revision)

    def save(
        self, name: str, standing: Standing, revision: int, letters: Sequence[Write] = ()
    ) -> int:
        """Keep where a webhook stands, if nobody wrote that since `revision`; returns the new one.

        0 says that somebody did, or that the webhook is gone, and that nothing was written.
        """
        row = _row(STANDING, name)
        writes = (Put(row, _encode(standing)), *letters)
        outcome = self._kv.commit((Unchanged(row, revision),), writes).result()
        return outcome.revision if isinstance(outcome, Committed) else 0

    def asked(self, name: str) -> list[Letter]:
        """Some dead letters that are to be sent again, oldest first."""
        every = (one for letters in self._pages(name) for one in letters)
        return list(islice((one for one in every if one.letter.is_asked), STEP_LETTERS))

    def burying(self, name: str, letters: Sequence[DeadLetter], kept: int) -> list[Write]:
        """The writes that keep dead letters, in the place of the oldest where there are enough.

        `kept` is how many there are.
        """
        assert len(letters) <= STEP_LETTERS
        writes: list[Write] = [
            Put(
                _letters(name) + one.created_us.to_bytes(TIME_BYTES, "big") + one.id.encode(),
                _encode(one),
            )
            for one in letters
        ]
        surplus = kept + len(letters) - limits.DEAD_LETTERS_MAX
        if surplus > 0:
            start = _letters(name)
            oldest = self._kv.scan(start, prefix_end(start), limit=min(surplus, STEP_LETTERS))
            writes += [Delete(item.key) for item in oldest]
        return writes

    # Inside

    def _is_active(self, name: str) -> bool:
        owner = self._policies.owner(name) if name != NOBODY else None
        return name == NOBODY or (owner is not None and not owner.is_suspended)

    def _check_room(self, owner: str) -> None:
        for count, bound, what in (
            (len(self.page(limit=limits.WEBHOOKS_MAX)), limits.WEBHOOKS_MAX, "webhooks"),
            (
                len(self.page(limit=limits.WEBHOOKS_OWNER_MAX, owner=owner)) if owner else 0,
                limits.WEBHOOKS_OWNER_MAX,
                "webhooks of one owner",
            ),
        ):
            if count >= bound:
                raise TooLargeError(what, bound, "of them")

    def _ask_again(self, name: str, letters: Sequence[Letter]) -> int:
        row = _row(STANDING, name)

        def plan(values: Sequence[Versioned | None]) -> Plan[int]:
            stood, *there = values
            if stood is None:
                return Plan((), 0)
            standing = replace(_decode(_standing, stood.value), is_asked=True)
            writes: list[Write] = [
                Put(one.row, _encode(replace(one.letter, is_asked=True)))
                for one, found in zip(letters, there, strict=True)
                if found is not None
            ]
            return Plan((Put(row, _encode(standing)), *writes, CHANGED), len(writes))

        rows = (row, *(one.row for one in letters))
        return self._kv.transact(rows, plan).result()

    def _drop_letters(self, name: str) -> None:
        start = _letters(name)
        while items := self._kv.scan(start, prefix_end(start), limit=STEP_LETTERS):
            self._kv.commit((), [Delete(item.key) for item in items]).result()

    def _pages(self, name: str) -> Iterator[list[Letter]]:
        found = pages(self._kv, _letters(name), size=limits.LIST_LIMIT_DEFAULT)
        return (list(map(_letter, items)) for items in found)


def removing(name: str) -> list[Write]:
    """The writes that end a webhook."""
    return [Delete(_row(WEBHOOK, name)), Delete(_row(STANDING, name)), CHANGED]


def position(letter: Letter) -> str:
    """Where a page goes on behind a dead letter."""
    return letter.row.partition(b"\x00")[2].hex()


def _again(stood: Versioned) -> Standing:
    """Where a webhook stands once people have changed it: what waits is tried now."""
    return replace(_decode(_standing, stood.value), gone_us=0, due_us=0)


def no_such_webhook(name: str) -> NotFoundError:
    """Say that a webhook does not exist."""
    return NotFoundError("no such webhook", webhook=name[:150])


def _row(table: bytes, name: str) -> bytes:
    return table + name.encode()


def _letters(name: str) -> bytes:
    """What the rows of its dead letters begin with."""
    return _row(DEAD, name) + b"\x00"


def _letter(item: Item) -> Letter:
    return Letter(item.key, item.revision, _decode(_dead, item.value))


def _decode(decoder: Callable[[bytes], Value], value: bytes) -> Value:
    try:
        return decoder(value)
    except msgspec.DecodeError as error:
        raise CorruptError("a webhook is damaged") from error
