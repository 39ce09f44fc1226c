"""Sends events to webhooks: a courier for each, so that no receiver ever waits for another.

One thread looks from time to time which courier has something to do, and lets each of those take a
turn in a thread of its own; at most one turn of each is under way, so there are never more threads
than webhooks. Of the processes that serve a store, one does this, as it does the rest of the work
in the background; its successor goes on where it was.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from holdfast.core.errors import BlobError
from holdfast.core.events import defect, event
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.services.courier import Courier, Kit
from holdfast.services.pages import Pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.seams import Clock
    from holdfast.core.webhook import Line
    from holdfast.depot.engine import Engine
    from holdfast.depot.webhooks import Stored

LOOK_S = 0.1  # between two looks for something to do
IDLE_LOOK_S = 1.0  # the same where there are no webhooks
TROUBLE_S = 10.0  # the same behind an error
SETTLE_S = 0.02  # between two looks at what is being sent
IDLE_LOOKS = 2  # behind which nothing is: a turn may have ended within one
STOP_S = 5.0  # for what is under way when it stops


class Dispatch:
    """Runs couriers from `start` to `close`, which comes before the store closes."""

    def __init__(
        self,
        engine: Engine,
        dial: Callable[[], Line],
        give_up_s: float,
        clock: Clock | None = None,
    ) -> None:
        """Send over the lines that `dial` gives, and try each message for `give_up_s`."""
        clock = clock or SystemClock()
        self._hooks = engine.webhooks
        self._policies = engine.names.policies
        self._kit = Kit(
            engine.webhooks,
            Pages(engine.kv, clock),
            clock,
            SystemEntropy(),
            engine.kv.log_id,
            give_up_s,
        )
        self._dial = dial
        self._changes = -1
        self._runs: dict[str, _Run] = {}
        self._retired: list[_Run] = []
        """Of webhooks that are gone; perhaps a turn of them is still under way."""
        self._stopping, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-dispatch", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def settle(self, wait_s: float) -> None:
        """Send what waits, for `wait_s` at most, where nothing new comes; only `close` follows."""
        self._end_thread()
        until_s = self._kit.clock.monotonic_s() + wait_s
        idle_looks = 0
        with suppress(BlobError):  # how far each came is known
            while idle_looks < IDLE_LOOKS and self._kit.clock.monotonic_s() < until_s:
                self.look()
                is_busy = any(run.is_busy for run in self._runs.values())
                idle_looks = 0 if is_busy else idle_looks + 1
                self._stopped.wait(SETTLE_S)

    def close(self) -> None:
        """End what is under way, and keep how far each came; a second call does nothing."""
        if self._stopped.is_set():
            return
        self._end_thread()
        self._stopped.set()
        for run in self._runs.values():
            run.courier.stop()
        for run in self._retired:
            run.let_go()
        until_s = self._kit.clock.monotonic_s() + STOP_S
        for run in self._runs.values():
            run.end(max(0.0, until_s - self._kit.clock.monotonic_s()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def look(self) -> float:
        """Let every courier that has something to do take a turn; return until when to rest."""
        changes = self._policies.changes
        if changes != self._changes:
            self._read()
            self._changes = changes
        self._retired = [run for run in self._retired if not run.let_go()]
        for run in self._runs.values():
            run.go()
        return LOOK_S if self._runs else IDLE_LOOK_S

    def _end_thread(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _read(self) -> None:
        """Learn which webhooks there are now."""
        known = {one.webhook.name: (one, is_active) for one, is_active in self._hooks.everyone()}
        for name, run in list(self._runs.items()):
            if name not in known or run.created_us != known[name][0].webhook.created_us:
                run.courier.stop()
                self._retired.append(self._runs.pop(name))
        for name, (stored, is_active) in known.items():
            if (own := self._runs.get(name) or self._begin(stored)) is not None:
                own.courier.inform(stored, is_active=is_active)

    def _begin(self, stored: Stored) -> _Run | None:
        found = self._hooks.standing(stored.webhook.name)
        if found is None:
            return None
        line = self._dial()
        courier = Courier(self._kit, line, *found)
        run = _Run(courier, line, stored.webhook.created_us)
        self._runs[stored.webhook.name] = run
        return run

    def _run(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            try:
                wait_s = self.look()
            except BlobError as error:
                wait_s = TROUBLE_S
                fields = {"task": "webhooks", "error": error.message}
                event(logging.WARNING, "task.failed", **fields, wait_s=wait_s)
            except Exception as error:  # noqa: BLE001 - nobody above this thread would hear of it
                wait_s = TROUBLE_S
                defect(error, "dispatch")


class _Run:
    """A courier, and the thread of its turn."""

    def __init__(self, courier: Courier, line: Line, created_us: int) -> None:
        self.courier = courier
        self.created_us = created_us
        self._line = line
        self._thread: threading.Thread | None = None

    def go(self) -> None:
        """Begin a turn if there is something to do and none is under way."""
        if not self.is_busy and self.courier.is_due():
            self._thread = threading.Thread(
                target=self.courier.turn, name="holdfast-courier", daemon=True
            )
            self._thread.start()

    def end(self, wait_s: float) -> None:
        """Wait for a turn that ends, and keep how far it came; leave one that does not."""
        if self._thread is not None:
            self._thread.join(wait_s)
        if self.let_go():
            with suppress(BlobError):  # what is not kept is sent again
                self.courier.save()

    def let_go(self) -> bool:
        """Close the line, unless a turn is under way."""
        if self.is_busy:
            return False
        self._line.close()
        return True

    @property
    def is_busy(self) -> bool:
        """Whether a turn is under way."""
        return self._thread is not None and self._thread.is_alive()
