"""A clock for tests of what is due."""

from holdfast.core.seams import SystemClock


class HandClock(SystemClock):
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moved_s = 0.0
        self._began_us = super().now_us()

    def now_us(self) -> int:
        return self._began_us + int(self.moved_s * 1_000_000)
