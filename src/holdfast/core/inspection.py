"""What looks after a store sees of the places where its bytes lie.

A medium is a folder of files, taken in regions: parts that are read in order, and that a scrub
remembers as one. Reading goes past the page cache (core/fresh.py), so that what it finds is what
the disk has.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from holdfast.core.digest import Digest
from holdfast.core.seams import Buffer

QUARANTINE = "quarantine"
"""The folder for what is left of damaged blobs; for people, never read."""


class Region(NamedTuple):
    """A part of a medium, named by its path in the folder of the store."""

    name: str
    size_bytes: int | None
    """How much there is to read; None where that is known only behind it."""


class Place(NamedTuple):
    """Where in a region a blob lies."""

    region: str
    position: int
    since_us: int
    """It may have changed until then; 0 where what is written stays as it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """`record` (bytes of the log that are no record), `blob` (damaged bytes of one), `entry`."""
    where: str
    """Path and place, digest, or bucket and key."""
    why: str
    digest: str = ""
    """Of the blob, where it is about one."""
    place: Place | None = None
    """Where the damaged blob or record lay; once a blob lies elsewhere, this is over."""


class Seen(NamedTuple):
    """What reading a little more of a region showed."""

    position: int
    """All before needs no second look: here, reading may go on another time."""
    size_bytes: int
    """Read since the last one."""
    blobs: int = 0
    """Sound ones since the last one."""
    references: int = 0
    """To blobs that are there, since the last one."""
    findings: tuple[Finding, ...] = ()
    copies: tuple[tuple[Digest, bytes], ...] = ()
    """Sound bytes of blobs that were wanted."""


class Medium(Protocol):
    """A place for bytes, for one thread at a time; but for `discard` it changes nothing."""

    def regions(self) -> list[Region]:
        """What there is to read now, in the order in which it was written where there is one."""

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Read a region from a position on, about `limits.STEP_BYTES_MAX` at a time.

        Raises:
            NotFoundError: the region is gone.
            UnavailableError: the disk refuses.
        """

    def place(self, digest: Digest) -> Place | None:
        """Where a blob lies; None when it is not here."""

    def is_sound(self, digest: Digest) -> bool:
        """Whether a blob is here and the disk gives all of it as it should be."""

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """Yield what may be the bytes of a blob, as chunks; compare their digest.

        `size_bytes` is that of the blob, where it is known.
        """

    def forget(self, digest: Digest) -> None:
        """Let the next reader of a blob ask the disk for it."""

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Give a damaged blob up; what is left of its bytes goes to the folder `quarantine`.

        When it returns, the blob is not here any more, also after a power cut; a blob that is not
        here is no error.

        Raises:
            FullError, UnavailableError: the disk refuses; the blob may still be here.
        """
