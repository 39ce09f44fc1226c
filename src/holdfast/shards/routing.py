"""Which shard keeps what: a hash of the routing key, over the number of shards.

Bytes are routed by their digest as 64 hex digits. A key of the KV is routed by what the layout of
its composition says, which is the user's key where it belongs to one. What a store began with is
recorded in it, because everything would be looked for elsewhere with anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from holdfast.core import limits
from holdfast.core.errors import InvalidError

FNV_BASIS = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
MASK = (1 << 64) - 1

Hash = Callable[[bytes, int], int]
"""From a routing key and the number of shards to the number of one."""


class Layout(NamedTuple):
    """How a composition routes the keys of its KV; `name` is recorded in every shard."""

    name: str
    route: Callable[[bytes], bytes]


def whole(key: bytes) -> bytes:
    """Route a key by all of it."""
    return key


WHOLE = Layout("whole-1", whole)


def fnv1a_64(data: bytes) -> int:
    """Hash by FNV-1a with 64 bits (RFC 9923), as Blobnom does.

    >>> [hex(fnv1a_64(each)) for each in (b"a", b"hello", b"user:1000")]
    ['0xaf63dc4c8601ec8c', '0xa430d84680aabd0b', '0x49b8f3bfae7b4289']
    """
    value = FNV_BASIS
    for byte in data:
        value = (value ^ byte) * FNV_PRIME & MASK
    return value


def _fnv(data: bytes, count: int) -> int:
    return fnv1a_64(data) % count


def _xxh3(data: bytes, count: int) -> int:
    return xxh3_64_intdigest(data) % count


def _rendezvous(data: bytes, count: int) -> int:
    """The shard whose own hash of the key is the highest: another shard takes keys from all."""
    return max(range(count), key=partial(xxh3_64_intdigest, data))


HASHES: dict[str, Hash] = {"fnv1a": _fnv, "xxh3": _xxh3, "rendezvous": _rendezvous}
"""By the name that is recorded."""
FNV = "fnv1a"


class Routing:
    """From keys and digests to the numbers of shards."""

    def __init__(self, count: int, hash_name: str = FNV, layout: Layout = WHOLE) -> None:
        """Route over `count` shards.

        Raises:
            InvalidError: there is no such hash.
        """
        if hash_name not in HASHES:
            raise InvalidError("hash", hash_name, f"one of {', '.join(HASHES)}")
        self.count = count
        self.hash_name = hash_name
        self.layout = layout
        self._hash = lru_cache(limits.ROUTED_KEYS_MAX)(lambda key: HASHES[hash_name](key, count))
        """A request asks for the same few keys again and again."""

    def key(self, key: bytes) -> int:
        """The shard of a key of the KV."""
        return self._hash(self.layout.route(key)) if self.count > 1 else 0

    def digest(self, digest: bytes) -> int:
        """The shard that says where a blob is."""
        return self._hash(digest.hex().encode()) if self.count > 1 else 0
