"""The kinds of values that a setting can have: how each is read and what it allows.

A kind reads two spellings: the typed value of a TOML file, and the text of an environment variable
or a flag, which `from_text` turns into what TOML would have held. `read` raises ValueError; the
caller knows where the value came from and writes the message.
"""

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from holdfast.core import limits

UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
AGE_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
AGE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([smhd]?)")
SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,9})?")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+|\*")


class Kind(Protocol):
    """What a setting allows."""

    @property
    def allowed(self) -> str:
        """The sentence part that follows the setting's name in an error."""

    def from_text(self, text: str) -> object:
        """Turn text into what TOML would hold; text that does not fit stays text."""

    def read(self, raw: object) -> object:
        """Check a typed value and give the setting's own; ValueError unless it is allowed."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds."""

    low: int
    high: int

    @property
    def allowed(self) -> str:
        """Name the bounds."""
        return f"a whole number from {self.low:,} to {self.high:,}"

    def from_text(self, text: str) -> object:
        """Read decimal digits."""
        return int(text) if WHOLE.fullmatch(text) else text

    def read(self, raw: object) -> object:
        """Refuse what is not an integer; true and false are none."""
        return _between(raw, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes: a number, or one for each core that this one may use."""

    high: int

    @property
    def allowed(self) -> str:
        """Name the bounds and the word."""
        return f"a whole number from 1 to {self.high:,}, or auto for one for each core"

    def from_text(self, text: str) -> object:
        """Read decimal digits, and the word in any case."""
        return int(text) if WHOLE.fullmatch(text) else text.lower()

    def read(self, raw: object) -> object:
        """Count the cores for the word."""
        if raw == "auto":
            return min(len(os.sched_getaffinity(0)), self.high)
        return _between(raw, 1, self.high)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time, with a fraction if need be."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        """Name the bounds."""
        return f"a number of seconds from {self.low:g} to {self.high:g}"

    def from_text(self, text: str) -> object:
        """Read a decimal number."""
        return float(text) if NUMBER.fullmatch(text) else text

    def read(self, raw: object) -> object:
        """Refuse what is not a number."""
        value = float(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
        if not isinstance(value, float) or not self.low <= value <= self.high:
            raise ValueError(raw)
        return value


@dataclass(frozen=True, slots=True)
class Age:
    """A time that may be long: seconds, or a number with a unit."""

    high_s: float

    @property
    def allowed(self) -> str:
        """Name the units and the bound."""
        days = self.high_s / AGE_UNITS["d"]
        return f'an age such as "30d", "12h", "15m" or 90 (seconds), up to {days:,.0f} days'

    def from_text(self, text: str) -> object:
        """Leave text alone: `read` takes it."""
        return text

    def read(self, raw: object) -> object:
        """Refuse unknown units and what is not a number."""
        if not isinstance(raw, str):
            return Seconds(0, self.high_s).read(raw)
        match = AGE.fullmatch(raw.strip())
        if match is None:
            raise ValueError(raw)
        return Seconds(0, self.high_s).read(float(match[1]) * AGE_UNITS[match[2]])


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often in a second, with a fraction if need be."""

    low: float
    high: float

    @property
    def allowed(self) -> str:
        """Name the bounds."""
        return f"a number from {self.low:g} to {self.high:g} (0: no limit)"

    def from_text(self, text: str) -> object:
        """Read a decimal number."""
        return float(text) if NUMBER.fullmatch(text) else text

    def read(self, raw: object) -> object:
        """Refuse what is not a number."""
        is_zero = raw == 0 and not isinstance(raw, bool)
        return 0.0 if is_zero else Seconds(self.low, self.high).read(raw)


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, as an integer or with a unit."""

    high: int
    zero: str = ""
    """What 0 means, where it is special."""

    @property
    def allowed(self) -> str:
        """Name the spellings and the bounds."""
        special = f" (0: {self.zero})" if self.zero else ""
        return f'a size such as 1048576, "30 MiB" or "10 MB", up to {self.high:,} bytes{special}'

    def from_text(self, text: str) -> object:
        """Leave text alone: `read` takes it."""
        return text

    def read(self, raw: object) -> object:
        """Refuse unknown units and sizes that are not whole bytes."""
        return _between(parse_size(raw) if isinstance(raw, str) else raw, 0, self.high)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    note: str = ""

    @property
    def allowed(self) -> str:
        """List the words."""
        return " or ".join(self.words) + (f" ({self.note})" if self.note else "")

    def from_text(self, text: str) -> object:
        """Take the word in any case."""
        return text.lower()

    def read(self, raw: object) -> object:
        """Refuse every other word."""
        if raw not in self.words:
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    @property
    def allowed(self) -> str:
        """Name the two."""
        return "true or false"

    def from_text(self, text: str) -> object:
        """Take the words that people use for the two."""
        words = {"true": True, "1": True, "yes": True, "on": True}
        words |= {"false": False, "0": False, "no": False, "off": False}
        return words.get(text.lower(), text)

    def read(self, raw: object) -> object:
        """Refuse numbers and words."""
        if not isinstance(raw, bool):
            raise ValueError(raw)  # noqa: TRY004 - a wrong value of a user, not a wrong program
        return raw


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text."""

    allowed: str
    pattern: re.Pattern[str]

    def from_text(self, text: str) -> object:
        """Leave it alone."""
        return text

    def read(self, raw: object) -> object:
        """Refuse what the pattern does not match in full."""
        if not isinstance(raw, str) or not self.pattern.fullmatch(raw):
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Location:
    """A path; `~` is the home folder, and relative paths start at the working directory."""

    allowed: str

    def from_text(self, text: str) -> object:
        """Leave it alone."""
        return text

    def read(self, raw: object) -> object:
        """Refuse the empty path and NUL."""
        if not isinstance(raw, str | Path) or not str(raw) or "\0" in str(raw):
            raise ValueError(raw)
        return at_home(raw)


@dataclass(frozen=True, slots=True)
class Origins:
    """Web origins, for CORS."""

    @property
    def allowed(self) -> str:
        """Show one."""
        return 'a list of origins such as ["https://example.org"], or ["*"]'

    def from_text(self, text: str) -> object:
        """Split at commas."""
        return [part.strip() for part in text.split(",") if part.strip()]

    def read(self, raw: object) -> object:
        """Refuse paths and other schemes."""
        if not isinstance(raw, list | tuple):
            raise ValueError(raw)  # noqa: TRY004 - a wrong value of a user, not a wrong program
        if not all(isinstance(one, str) and ORIGIN.fullmatch(one) for one in raw):
            raise ValueError(raw)
        return tuple(raw)


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks of addresses."""

    @property
    def allowed(self) -> str:
        """Show some, and name the bound."""
        some = 'a list of networks such as ["10.0.0.0/8", "::1"]'
        return f"{some}, at most {limits.NETWORKS_MAX:,}"

    def from_text(self, text: str) -> object:
        """Split at commas."""
        return [part.strip() for part in text.split(",") if part.strip()]

    def read(self, raw: object) -> object:
        """Refuse names, and addresses with bits behind their network."""
        if not isinstance(raw, list | tuple) or len(raw) > limits.NETWORKS_MAX:
            raise ValueError(raw)
        if not all(isinstance(one, str) for one in raw):
            raise ValueError(raw)
        return tuple(str(ip_network(one)) for one in raw)


def at_home(path: str | Path) -> Path:
    """A path of which `~` at the beginning is the home folder; ValueError when there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(path) from None


def parse_size(text: str) -> int:
    """Read a number of bytes with an optional unit; ValueError when it is none.

    >>> parse_size("30 MiB"), parse_size("1.5kB"), parse_size("512")
    (31457280, 1500, 512)
    """
    match = SIZE.fullmatch(text.strip())
    factor = UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(text)
    size = Decimal(match[1]) * factor
    if size != int(size):
        raise ValueError(text)
    return int(size)


def _between(raw: object, low: int, high: int) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not low <= raw <= high:
        raise ValueError(raw)
    return raw
