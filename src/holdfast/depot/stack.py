"""Which wrappers are around a store, as whoever opens it asks for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.core.seams import Clock, Entropy
    from holdfast.stores.remote import Remote

    Connect = Callable[[str, Clock, Entropy], Remote]


class Place(NamedTuple):
    """A folder on a disk for large blobs."""

    path: Path
    weight: float | None = 1
    """How much of all it takes, compared with the others; None: it is lost for good."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What is wanted; what a folder was written with, it says itself (depot/wrapped.py)."""

    compress: bool = False
    """Compress new blobs, and say in the folder that it has such blobs."""
    level: int = limits.COMPRESS_LEVEL
    master: bytes | None = field(default=None, repr=False)
    """The master key; with it, a new store is encrypted, and no other one is opened."""
    large: str = ""
    """The URL of the object store for large blobs, which the folder remembers (depot/large.py)."""
    cold: str = ""
    """That of the object store for old blobs."""
    cold_after_s: float = limits.COLD_AFTER_S
    """How old they are."""
    connect: Connect | None = field(default=None, repr=False)
    """Makes what sends requests there; without it, a folder that needs it is not opened."""
    dictionary: bytes | None = field(default=None, repr=False)
    """For small blobs that are compressed from now on; None: what the folder remembers."""
    verify: bool = False
    """Hold each blob to its SHA-256 before a byte of it is given out."""
    cache_bytes: int = 0
    """Of large blobs that are read, kept nearer; 0: none."""
    cache_dir: Path | None = None
    """Where they are kept; None: in memory."""
    disks: tuple[Place, ...] = ()
    """Over which large blobs are spread; none: those that the folder remembers."""
    as_it_is: bool = False
    """Take a folder with the wrappers and places that it has: it remembers no new one, and claims
    none."""


BARE = Stack()
