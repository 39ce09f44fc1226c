"""How a webhook stands behind each try to send it a message: pure, and so is its plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.webhook import back_off_s

if TYPE_CHECKING:
    from holdfast.core.stream import Event
    from holdfast.core.webhook import Outcome
    from holdfast.depot.webhooks import Standing

GONE = 410
REASON_CHARS_MAX = 200
MICROSECONDS = 1_000_000


def succeeded(before: Standing, now_us: int) -> Standing:
    """How it stands when the receiver has taken a message."""
    return replace(
        before,
        delivered=before.delivered + 1,
        delivered_us=now_us,
        failures=0,
        failing_us=0,
        due_us=0,
        waiting_us=0,
    )


def failed(before: Standing, event: Event, outcome: Outcome, chance: int, now_us: int) -> Standing:
    """How it stands when the receiver did not take an event, and when that is tried again.

    A byte of `chance` spreads those who wait.
    """
    failures = before.failures + 1
    asked_s = min(outcome.retry_after_s, limits.WEBHOOK_RETRY_S_MAX)
    wait_s = max(back_off_s(failures, chance), asked_s)
    failing_us = before.failing_us or now_us
    return replace(
        before,
        failed=before.failed + 1,
        failures=failures,
        failing_us=failing_us,
        error=outcome.reason[:REASON_CHARS_MAX],
        due_us=now_us + int(wait_s * MICROSECONDS),
        waiting_us=event.at_us or failing_us,
        gone_us=now_us if outcome.status == GONE else 0,
    )
