"""Disks for large blobs, as settings and URLs name them: `/disk1*2,/disk2`.

A path with how much of all it takes, compared with the others. With the weight 0 it takes nothing
new; `gone` says that it is lost for good.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.config.kinds import at_home
from holdfast.core import limits
from holdfast.depot.stack import Place

ENTRY = re.compile(r"([^,*\n\0]+)(?:\*([0-9]{1,4}(?:\.[0-9]{1,3})?|gone))?")
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Disks:
    """The kind of the setting; its value is the list as it was written."""

    @property
    def allowed(self) -> str:
        """Show some, and name the bounds."""
        some = 'a list of folders with weights such as ["/disk1*2", "/disk2", "/disk3*gone"]'
        most = (
            f"at most {limits.DISKS_MAX}, each once, with weights up to {limits.DISK_WEIGHT_MAX:,}"
        )
        return f"{some}, {most}, not all 0"

    def from_text(self, text: str) -> object:
        """Split at commas."""
        return [part.strip() for part in text.split(",") if part.strip()]

    def read(self, raw: object) -> object:
        """Refuse what is no list of such, and one where nothing new could go."""
        if not isinstance(raw, list | tuple) or len(raw) > limits.DISKS_MAX:
            raise ValueError(raw)
        if not all(isinstance(each, str) for each in raw):
            raise ValueError(raw)
        places = places_of(raw)
        paths = {place.path for place in places}
        if len(paths) < len(places) or (places and not any(place.weight for place in places)):
            raise ValueError(raw)
        return tuple(raw)


def places_of(entries: Sequence[str]) -> tuple[Place, ...]:
    """Read each; ValueError when one is none.

    >>> [(place.path.as_posix(), place.weight) for place in places_of(["/a*2.5", "/b", "/c*gone"])]
    [('/a', 2.5), ('/b', 1.0), ('/c', None)]
    """
    return tuple(map(_place, entries))


def _place(entry: str) -> Place:
    match = ENTRY.fullmatch(entry)
    weight = None if match is None or match[2] == GONE else float(match[2] or 1)
    if match is None or (weight is not None and weight > limits.DISK_WEIGHT_MAX):
        raise ValueError(entry)
    return Place(at_home(match[1]).absolute(), weight)
