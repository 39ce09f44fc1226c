"""Names that say nothing of digests to who has not the key, and that the key turns back into them.

A permutation of 32 bytes: four rounds of a Feistel network whose round functions are AES-256 with
keys of their own, which nobody can tell from a random one in either direction (Luby and Rackoff,
1988), up to some 2^60 names. A keyed hash would hide as well, but to list a store one would have to
open every blob of it. Many names are turned at once.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.stores.sealing import KEY_BYTES as ROUND_KEY_BYTES
from holdfast.stores.sealing import BlockFunctions

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS = 4
KEY_BYTES = ROUNDS * ROUND_KEY_BYTES
HALF_BYTES = DIGEST_BYTES // 2
HALVES = struct.Struct(f"{HALF_BYTES}s{HALF_BYTES}s")


class HiddenNames:
    """The permutation of one key; safe from any thread."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        starts = range(0, KEY_BYTES, ROUND_KEY_BYTES)
        self._rounds = BlockFunctions([key[at : at + ROUND_KEY_BYTES] for at in starts])

    def hide(self, digests: Sequence[Digest]) -> list[Digest]:
        """The names of blobs."""
        left, right = _halves(digests)
        for apply in self._rounds.each:
            left, right = right, _xor(left, apply(right))
        return _whole(left, right)

    def show(self, names: Sequence[Digest]) -> list[Digest]:
        """The blobs of names."""
        left, right = _halves(names)
        for apply in reversed(self._rounds.each):
            left, right = _xor(right, apply(left)), left
        return _whole(left, right)


def _halves(wholes: Sequence[Digest]) -> tuple[bytes, bytes]:
    if len(wholes) == 1:
        return HALVES.unpack(wholes[0])
    halves = [HALVES.unpack(each) for each in wholes]
    return b"".join([left for left, _ in halves]), b"".join([right for _, right in halves])


def _whole(left: bytes, right: bytes) -> list[Digest]:
    if len(left) == HALF_BYTES:
        return [Digest(left + right)]
    starts = range(0, len(left), HALF_BYTES)
    return [Digest(left[at : at + HALF_BYTES] + right[at : at + HALF_BYTES]) for at in starts]


def _xor(one: bytes, other: bytes) -> bytes:
    mixed = int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
    return mixed.to_bytes(len(one), "big")
