"""Rates: how much may happen in a second, and how much of that at once."""

from typing import NamedTuple

from holdfast.core import limits
from holdfast.core.errors import InvalidError

REQUESTS = "requests"
BYTES = "bytes"


class Rates(NamedTuple):
    """What one address, key or owner may do; None leaves a member to others, 0 is no limit."""

    requests_s: float | None = None
    bytes_s: float | None = None
    """Bytes of bodies, in either direction."""
    burst_s: float | None = None
    """For how many seconds of a rate that was not used it may come at once."""

    def check(self) -> None:
        """Accept every member.

        Raises:
            InvalidError: one is out of its bounds.
        """
        low, high = limits.RATE_S_MIN, limits.RATE_S_MAX
        for name in ("requests_s", "bytes_s"):
            value = getattr(self, name)
            if value and not low <= value <= high:
                raise InvalidError(name, value, f"{low} to {high} a second, or 0 for no limit")
        high = limits.RATE_BURST_S_MAX
        if self.burst_s is not None and not low <= self.burst_s <= high:
            raise InvalidError("burst_s", self.burst_s, f"{low} to {high} seconds")

    def over(self, others: "Rates") -> "Rates":
        """These, and of `others` what these leave to them.

        >>> Rates(5.0).over(Rates(1.0, 2.0, 3.0))
        Rates(requests_s=5.0, bytes_s=2.0, burst_s=3.0)
        """
        pairs = zip(self, others, strict=True)
        return Rates(*(other if own is None else own for own, other in pairs))

    def covers(self, others: "Rates") -> bool:
        """Whether others are no faster; what is left to the server is so only by the same.

        >>> Rates(5.0).covers(Rates(4.0)), Rates(5.0).covers(Rates()), Rates().covers(Rates(4.0))
        (True, False, False)
        """
        return all(
            own == other or (own is not None and other is not None and _covers(own, other))
            for own, other in zip(self, others, strict=True)
        )


def _covers(own: float, other: float) -> bool:
    return own == 0 or 0 < other <= own


NO_RATES = Rates()


def doubled(first_s: float, times: int, most_s: float) -> float:
    """A wait that doubles from one time to the next, up to a bound.

    >>> [doubled(1, times, 5) for times in range(5)]
    [1.0, 2.0, 4.0, 5, 5]
    """
    return min(first_s * 2.0 ** min(times, 32), most_s)
