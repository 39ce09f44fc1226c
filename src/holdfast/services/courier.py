"""A courier: brings the events that one webhook wants to its receiver, one by one and in order.

It remembers in the catalog how far it came: once a second while all goes well, and at once when
something goes wrong. So whatever happens, an event is sent again rather than never. A message that
is not taken is tried again after a wait that doubles; one that has waited for too long while the
receiver failed is given up, becomes a dead letter in the commit that moves on, and the next is
tried.
"""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import events, limits
from holdfast.core.errors import BlobError, CompactedError, NotFoundError
from holdfast.core.kv import Delete, Put
from holdfast.core.rates import doubled
from holdfast.core.stream import Cursor, parse_cursor
from holdfast.core.webhook import Message
from holdfast.depot.webhooks import STEP_LETTERS
from holdfast.services.messages import letter_of, message_of, send
from holdfast.services.standing import REASON_CHARS_MAX, failed, succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.kv import Write
    from holdfast.core.seams import Clock, Entropy
    from holdfast.core.stream import Event
    from holdfast.core.webhook import Line, Outcome, Webhook
    from holdfast.depot.webhooks import DeadLetter, Letter, Standing, Stored, Webhooks
    from holdfast.services.pages import Pages

TURN_S = 1.0  # of one turn, about; a message that is under way is waited for
SAVE_S = 1.0  # between two commits of how far it came, while all goes well
PAGES_PASSED = 4  # of events that nobody wants, outside of a turn
IDLE_SAVE_S = 60.0  # the same, where it only passed events that nobody wants
PASSED_MAX = 1000  # such events, behind which it is committed earlier
MICROSECONDS = 1_000_000


class Kit(NamedTuple):
    """What couriers work with."""

    hooks: Webhooks
    pages: Pages
    clock: Clock
    entropy: Entropy
    log_id: str
    give_up_s: float


class Courier:
    """One webhook; `turn` is for one thread at a time, the others are safe from any."""

    def __init__(self, kit: Kit, line: Line, standing: Standing, revision: int) -> None:
        self._kit = kit
        self._line = line
        self._news: deque[tuple[Stored, bool]] = deque(maxlen=1)
        self._stored: Stored | None = None
        self._is_active = False
        self._is_stopping = False
        self._standing = standing
        self._revision = revision
        self._cursor = parse_cursor(standing.cursor)
        self._saved_s = kit.clock.monotonic_s()
        self._is_unsaved = False
        self._passed = 0
        self._troubles = 0
        self._rest_until_s = 0.0

    def inform(self, stored: Stored, *, is_active: bool) -> None:
        """Take what the webhook is from now on, and whether its owner may be told anything."""
        self._news.append((stored, is_active))

    def stop(self) -> None:
        """End what is under way as soon as that can be."""
        self._is_stopping = True
        self._line.abort()

    def is_due(self) -> bool:
        """Whether there is something to do; while no turn is under way.

        Passes events that nobody wants: most webhooks want few, and a turn needs a thread.
        """
        now_s = self._kit.clock.monotonic_s()
        if self._is_stopping or now_s < self._rest_until_s:
            return False
        if self._news or (self._is_unsaved and now_s >= self._saved_s + SAVE_S):
            return True
        if not self._is_open():
            return False
        return self._standing.is_asked or (self._may_try() and self._finds()) or self._is_far()

    def turn(self) -> None:
        """Send what waits, for about `TURN_S`; no error leaves."""
        try:
            self._turn()
            self._troubles = 0
        except CompactedError as error:
            self._lose(error.oldest)
        except (BlobError, OSError) as error:
            message = getattr(error, "message", None) or str(error)
            wait_s = self._rest()
            events.event(
                logging.WARNING, "task.failed", task="webhook", error=message, wait_s=wait_s
            )
        except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
            self._rest()
            events.defect(error, "courier")

    def save(self) -> None:
        """Commit how far it came, if that is not done.

        Raises:
            BlobError: that cannot be.
        """
        if self._is_unsaved:
            self._save(self._standing)

    def _finds(self) -> bool:
        """Whether there is something to send, or more to read than should be read here."""
        try:
            for _ in range(PAGES_PASSED):
                if not self._kit.pages.is_behind(self._cursor):
                    return False
                if next(iter(self._wanted()), None) is not None:
                    return True
        except BlobError:
            pass  # the turn meets it again, and tells it
        return True

    # A turn

    def _turn(self) -> None:
        self._hear()
        if self._is_open() and self._standing.is_asked:
            self._send_again()
        if self._is_open() and self._may_try():
            self._go()
        self._save_in_time()

    def _go(self) -> None:
        """Send events until there are none, one is not taken, or the time is over."""
        end_s = self._kit.clock.monotonic_s() + TURN_S
        for event in self._wanted():
            if not self._goes_on(end_s):
                if event is not None:
                    self._standing = replace(self._standing, waiting_us=event.at_us)
                return
            if event is not None and not self._deliver(event):
                return

    def _wanted(self) -> Iterator[Event | None]:
        """Yield what the webhook wants, None behind each page; who deals with one moves on."""
        while self._kit.pages.is_behind(self._cursor):
            page = self._kit.pages.read(self._cursor)
            for event in page.events:
                if self._webhook.wants(event):
                    yield event
                else:
                    self._passed += 1
                    self._cursor = event.cursor
            self._cursor = page.next
            yield None

    def _deliver(self, event: Event) -> bool:
        """Send the message of an event; whether it is dealt with."""
        outcome = self._send(self._message(event))
        if outcome.is_taken:
            self._cursor = event.cursor
            self._succeed()
            return True
        if not self._is_stopping:  # else it was ended by us
            self._fail(event, outcome)
        return False

    def _message(self, event: Event) -> Message:
        return message_of(self._kit.log_id, event, self._kit.clock.now_us())

    def _send(self, message: Message) -> Outcome:
        """Send, signed as is right by now: secrets may have been rotated since the turn began."""
        with suppress(NotFoundError):  # the next look ends what is gone
            stored = self._kit.hooks.stored(self._webhook.name)
            if stored.webhook.created_us == self._webhook.created_us:
                self._stored = stored
        assert self._stored is not None
        return send(self._line, self._stored, message, self._kit.clock)

    # What comes of it

    def _succeed(self) -> None:
        before = self._standing
        now_us = self._kit.clock.now_us()
        self._standing = succeeded(before, now_us)
        self._is_unsaved = True
        if not before.failures:
            return
        self._save(self._standing)
        failed_s = (now_us - before.failing_us) // MICROSECONDS
        name, failures = self._webhook.name, before.failures
        about = {"failures": failures, "failed_s": failed_s}
        events.event(logging.INFO, "webhook.recovered", webhook=name, **about)

    def _fail(self, event: Event, outcome: Outcome) -> None:
        """Plan the next try, and give up what has waited for too long."""
        chance = self._kit.entropy.random_bytes(1)[0]
        now_us = self._kit.clock.now_us()
        self._standing = found = failed(self._standing, event, outcome, chance, now_us)
        name = self._webhook.name
        if found.gone_us:
            events.event(logging.WARNING, "webhook.gone", webhook=name)
        else:
            about = {"failures": found.failures, "wait_s": (found.due_us - now_us) / MICROSECONDS}
            events.event(
                logging.WARNING, "webhook.failed", webhook=name, error=found.error, **about
            )
        self._save(found)
        if self._is_over(event) and not found.gone_us:
            self._give_up()

    def _is_over(self, event: Event) -> bool:
        """Whether an event has waited for too long while the receiver failed."""
        since_us = max(self._standing.failing_us, event.at_us)
        return self._kit.clock.now_us() - since_us >= self._kit.give_up_s * MICROSECONDS

    def _give_up(self) -> None:
        """Make dead letters of the messages that have waited for too long, in their order.

        For about a turn; what is left by then follows behind the next try.
        """
        end_s = self._kit.clock.monotonic_s() + TURN_S
        before = self._standing
        while self._bury_some():
            if not self._goes_on(end_s):
                self._standing = replace(self._standing, due_us=self._kit.clock.now_us())
                self._is_unsaved = True
                break
        messages = self._standing.given_up - before.given_up
        if messages:
            dropped = messages - (self._standing.dead - before.dead)
            about = {"messages": messages, "dropped": dropped}
            events.event(logging.ERROR, "webhook.gave_up", webhook=self._webhook.name, **about)

    def _bury_some(self) -> bool:
        """Give up some messages; whether there may be more."""
        begin = self._cursor
        is_kept = False
        try:
            letters = self._overdue()
            is_kept = not letters or self._bury(letters)
        finally:
            if not is_kept:
                self._cursor = begin
        return is_kept and len(letters) == STEP_LETTERS

    def _overdue(self) -> list[DeadLetter]:
        """The next messages that have waited for too long, some of them; moves behind them."""
        letters: list[DeadLetter] = []
        now_us = self._kit.clock.now_us()
        for event in self._wanted():
            if event is None:
                continue
            if len(letters) == STEP_LETTERS or not self._is_over(event):
                break
            at_us = now_us + len(letters)  # they are kept in the order of their times
            letters.append(letter_of(self._message(event), event, self._standing.error, at_us))
            self._cursor = event.cursor
        return letters

    def _bury(self, letters: Sequence[DeadLetter]) -> bool:
        """Keep dead letters and move on, in one commit; False if somebody came between."""
        before = self._standing
        writes = self._kit.hooks.burying(self._webhook.name, letters, before.dead)
        dropped = sum(isinstance(write, Delete) for write in writes)
        standing = replace(
            before,
            given_up=before.given_up + len(letters),
            dead=before.dead + len(letters) - dropped,
        )
        return self._save(standing, writes)

    def _lose(self, oldest: int) -> None:
        """Go on with the oldest events that are kept."""
        events.event(
            logging.ERROR,
            "webhook.lost",
            webhook=self._webhook.name,
            cursor=str(self._cursor),
            oldest=oldest,
        )
        self._cursor = Cursor(oldest)
        self._standing = replace(self._standing, lost_us=self._kit.clock.now_us())
        self._is_unsaved = True

    def _rest(self) -> float:
        """Leave the store alone for a while that doubles."""
        wait_s = doubled(limits.TASK_RETRY_S, self._troubles, limits.TASK_RETRY_S_MAX)
        self._troubles += 1
        self._rest_until_s = self._kit.clock.monotonic_s() + wait_s
        return wait_s

    # Dead letters

    def _send_again(self) -> None:
        """Send dead letters that somebody asked for, each once."""
        end_s = self._kit.clock.monotonic_s() + TURN_S
        letters = self._kit.hooks.asked(self._webhook.name)
        for one in letters:
            if not (self._goes_on(end_s) and self._settle(one)):
                return
        if not letters:
            self._save(replace(self._standing, is_asked=False))

    def _settle(self, one: Letter) -> bool:
        """Send a dead letter, and keep what came of it; False if that is not known."""
        outcome = self._send(Message(one.letter.id, one.letter.body.encode()))
        if self._is_stopping and not outcome.is_taken:
            return False
        before = self._standing
        if outcome.is_taken:
            at_us = self._kit.clock.now_us()
            standing = replace(
                before, delivered=before.delivered + 1, delivered_us=at_us, dead=before.dead - 1
            )
            return self._save(standing, [Delete(one.row)])
        error = outcome.reason[:REASON_CHARS_MAX]
        letter = msgspec.json.encode(replace(one.letter, is_asked=False, error=error))
        standing = replace(before, failed=before.failed + 1, error=error)
        return self._save(standing, [Put(one.row, letter)])

    # What is known

    @property
    def _webhook(self) -> Webhook:
        assert self._stored is not None
        return self._stored.webhook

    def _is_open(self) -> bool:
        """Whether anything is to be sent at all."""
        if self._stored is None or not self._is_active or self._is_stopping:
            return False
        return not (self._webhook.is_paused or self._standing.gone_us)

    def _may_try(self) -> bool:
        """Whether it is time for events, and there may be some."""
        left_us = self._standing.due_us - self._kit.clock.now_us()
        is_waiting = 0 < left_us <= limits.WEBHOOK_RETRY_S_MAX * MICROSECONDS
        return not is_waiting and self._kit.pages.is_behind(self._cursor)

    def _goes_on(self, end_s: float) -> bool:
        is_over = self._is_stopping or self._news
        return not is_over and self._kit.clock.monotonic_s() < end_s

    def _hear(self) -> None:
        """Take news of the webhook, and what people have changed of where it stands."""
        if self._news:
            self._stored, self._is_active = self._news.pop()
        found = self._kit.hooks.standing(self._webhook.name)
        if found is None:
            self._is_active = False
            return
        standing, revision = found
        if revision != self._revision:
            self._revision = revision
            self._standing = replace(
                self._standing,
                gone_us=standing.gone_us,
                due_us=standing.due_us,
                is_asked=standing.is_asked,
            )
            self._is_unsaved = True

    def _is_far(self) -> bool:
        """Whether it has passed so much that it should be kept."""
        quiet_s = self._kit.clock.monotonic_s() - self._saved_s
        is_much = self._passed >= PASSED_MAX and quiet_s >= SAVE_S
        return is_much or (self._passed > 0 and quiet_s >= IDLE_SAVE_S)

    def _save_in_time(self) -> None:
        quiet_s = self._kit.clock.monotonic_s() - self._saved_s
        if (self._is_unsaved and quiet_s >= SAVE_S) or self._is_far():
            self._save(self._standing)

    def _save(self, standing: Standing, letters: Sequence[Write] = ()) -> bool:
        """Commit where the webhook stands; False if somebody has: the next turn goes by that."""
        standing = replace(standing, cursor=str(self._cursor))
        revision = self._kit.hooks.save(self._webhook.name, standing, self._revision, letters)
        if not revision:
            return False
        self._standing, self._revision = standing, revision
        self._saved_s = self._kit.clock.monotonic_s()
        self._is_unsaved, self._passed = False, 0
        return True
