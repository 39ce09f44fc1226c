"""How a client waits, retries and reports; times are seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int | None], None]
"""Called with the bytes moved so far and the total, where it is known, from the thread that moves
them; a retry begins again at 0."""


def no_progress(done: int, total: int | None) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Options of a client; every bound is per request."""

    connect_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0
    """Longest wait for the next bytes in either direction."""
    retries: int = 3
    """How often a request is sent again after a failure that allows it."""
    retry_wait_s: float = 0.1
    """Wait before the first retry; it doubles each time, with chance, up to `retry_wait_max_s`."""
    retry_wait_max_s: float = 5.0
    """A server that asks for a longer wait (Retry-After) is not asked again."""
    connections_max: int = 32
    """Calls under way at once; more wait. Each open file may have one more connection."""
    key: str = field(default="", repr=False)
    """The API key to show; the URL may have it, too: `http://KEY@host`."""
    progress: Progress = no_progress
