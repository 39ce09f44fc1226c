"""Sending a call until it is answered: what may be tried again, how often and when.

`exchange` is a generator without I/O. It yields `Send` and `Pause`, and is sent what came of
each: an `Answer`, or `Lost` when the connection failed. The two clients drive it.

A request is repeated only where that is safe:

- the server was never reached: always;
- it answered 503, 429 or 408, so it did nothing: when the body can be read again;
- the connection failed afterwards, or a proxy answered 500 to 504, so nobody knows: when the call
  is `repeatable` and the body can be read again.
"""

from collections.abc import Generator
from typing import NamedTuple, TypeVar

from holdfast.client.calls import Answer, Call
from holdfast.client.options import ClientOptions
from holdfast.core.errors import BlobError, UnavailableError
from holdfast.core.seams import SystemEntropy
from holdfast.wire import parse_error, retry_after_s

T = TypeVar("T")

REFUSED_UNDONE = frozenset({408, 429, 503})


class Send(NamedTuple):
    """Send the request, for the n-th time counted from 0."""

    attempt: int


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Lost(NamedTuple):
    """The connection failed before an answer was complete."""

    error: UnavailableError
    reached: bool
    """The server may have acted."""


Exchange = Generator[Send | Pause, Answer | Lost | None, T]


def exchange(call: Call[T], options: ClientOptions, *, replayable: bool = True) -> Exchange[T]:
    """Send `call` until it is answered or must not be tried again, and read the answer.

    Raises:
        BlobError: what the server answered; UnavailableError when it did not.
    """
    reached = False
    for attempt in range(options.retries + 1):
        outcome = yield Send(attempt)
        assert outcome is not None
        failure = _failure(call, outcome)
        if failure is None:
            assert isinstance(outcome, Answer)
            return call.read(outcome._replace(repeated=reached))
        if attempt == options.retries or not failure.retryable:
            raise failure
        asked_s = retry_after_s(outcome.headers) if isinstance(outcome, Answer) else 0
        if asked_s > options.retry_wait_max_s or not _may_repeat(call, outcome, replayable):
            raise failure
        reached = reached or not isinstance(outcome, Lost) or outcome.reached
        yield Pause(max(asked_s, back_off_s(attempt, options)))
    raise AssertionError("the loop ends by return or raise")


def back_off_s(attempt: int, options: ClientOptions) -> float:
    """Seconds before the next attempt: half to the whole of a doubling time, to spread clients."""
    chance = 0.5 + SystemEntropy().random_bytes(1)[0] / 512
    return min(options.retry_wait_s * 2.0**attempt, options.retry_wait_max_s) * chance


def _failure(call: Call[T], outcome: Answer | Lost) -> BlobError | None:
    if isinstance(outcome, Lost):
        return outcome.error
    if outcome.status < 300 or outcome.status in call.expected:
        return None
    return parse_error(outcome.status, outcome.headers, outcome.body)


def _may_repeat(call: Call[T], outcome: Answer | Lost, replayable: bool) -> bool:  # noqa: FBT001
    if isinstance(outcome, Lost) and not outcome.reached:
        return True
    undone = isinstance(outcome, Answer) and outcome.status in REFUSED_UNDONE
    return replayable and (undone or call.repeatable)
