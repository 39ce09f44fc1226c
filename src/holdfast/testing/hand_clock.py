"""Clocks that stand still until they are moved."""

from holdfast.core.seams import SystemClock


class HandClock(SystemClock):
    """Tells the time of day by hand; who waits still waits."""

    def __init__(self) -> None:
        self.moved_s = 0.0
        self._began_us = super().now_us()

    def now_us(self) -> int:
        """When it began, and what it was moved since."""
        return self._began_us + int(self.moved_s * 1_000_000)


class StillClock(HandClock):
    """Counts no seconds either: who waits for them does so until it is moved."""

    def monotonic_s(self) -> float:
        """What it was moved, behind a thousand seconds."""
        return 1000 + self.moved_s
