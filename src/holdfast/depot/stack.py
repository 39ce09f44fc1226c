"""Which wrappers are around a store, as whoever opens it asks for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.core import limits


@dataclass(frozen=True, slots=True)
class Stack:
    """What is wanted; what a folder was written with, it says itself (depot/wrapped.py)."""

    compress: bool = False
    """Compress new blobs, and say in the folder that it has such blobs."""
    level: int = limits.COMPRESS_LEVEL
    master: bytes | None = field(default=None, repr=False)
    """The master key; with it, a new store is encrypted, and no other one is opened."""


BARE = Stack()
