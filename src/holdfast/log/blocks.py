"""Blocks: sorted tables in a file, each block with its own checksum (docs/format.md, "Hints").

A block is 16 bytes (size of its payload, checksum) and the payload: a MessagePack array of two
arrays, keys and values. The checksum is seeded with a salt and the block's offset, so a block is
valid in its own file and place only.
"""

from __future__ import annotations

import struct
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from holdfast.core import limits
from holdfast.log.changes import size_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.core.seams import Disk
    from holdfast.log.changes import Columns

HEAD = struct.Struct("<QQ")
BLOCK_BYTES = 64 * limits.KIB  # about; a block has one pair at least
SEED_MASK = (1 << 64) - 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[bytes], list[bytes | None]]).decode


class DamagedError(Exception):
    """Bytes are not those that were written."""


class Span(NamedTuple):
    """Where a table lies in a file."""

    start: int
    end: int


class BlockFile:
    """A file of blocks; its owner opens and closes it."""

    def __init__(self, disk: Disk, descriptor: int, salt: int) -> None:
        self._disk = disk
        self._descriptor = descriptor
        self._salt = salt
        self.read_bytes = 0
        """Of blocks, so far."""

    def write(self, offset: int, payload: bytes) -> int:
        """Write one block; return where it ends."""
        head = HEAD.pack(len(payload), self._checksum(payload, offset))
        return offset + self._disk.pwrite_all(self._descriptor, (head, payload), offset)

    def read(self, offset: int, end: int) -> bytes:
        """Read one block, which must not reach behind `end`.

        Raises:
            DamagedError: it is not what was written there.
        """
        head = self._disk.pread(self._descriptor, HEAD.size, offset)
        if len(head) == HEAD.size:
            size_bytes, total = HEAD.unpack(head)
            if offset + HEAD.size + size_bytes <= end:
                payload = self._disk.pread(self._descriptor, size_bytes, offset + HEAD.size)
                if self._checksum(payload, offset) == total:
                    self.read_bytes += HEAD.size + size_bytes
                    return payload
        raise DamagedError

    def write_table(self, offset: int, tables: Iterable[Columns]) -> Iterator[int]:
        """Write a table that is given in order; yield where each of its blocks ends."""
        for block in _in_blocks(tables):
            offset = self.write(offset, _encode(block))
            yield offset

    def read_table(self, span: Span) -> Iterator[Columns]:
        """Read a table block by block.

        Raises:
            DamagedError: it is not what was written, or not in order.
        """
        offset, before = span.start, b""
        while offset < span.end:
            payload = self.read(offset, span.end)
            offset += HEAD.size + len(payload)
            try:
                keys, values = _decode(payload)
            except msgspec.DecodeError as error:
                raise DamagedError from error
            if not (len(keys) == len(values) > 0 and before < keys[0] and is_sorted(keys)):
                raise DamagedError
            before = keys[-1]
            yield keys, values

    def _checksum(self, payload: bytes, offset: int) -> int:
        return xxh3_64_intdigest(payload, (self._salt + offset) & SEED_MASK)


def is_sorted(keys: list[bytes]) -> bool:
    """Whether each key is smaller than the next."""
    return all(map(lt, keys, islice(keys, 1, None)))


def _in_blocks(tables: Iterable[Columns]) -> Iterator[Columns]:
    """Cut a table into blocks of one or two times `BLOCK_BYTES`, if its pairs are alike."""
    keys: list[bytes] = []
    values: list[bytes | None] = []
    size_bytes = 0
    for more_keys, more_values in tables:
        keys += more_keys
        values += more_values
        size_bytes += size_of(more_keys, more_values)
        if size_bytes >= BLOCK_BYTES:
            yield from _cut(keys, values, size_bytes // BLOCK_BYTES)
            keys, values, size_bytes = [], [], 0
    if keys:
        yield keys, values


def _cut(keys: list[bytes], values: list[bytes | None], parts: int) -> Iterator[Columns]:
    count = -(-len(keys) // parts)
    for at in range(0, len(keys), count):
        yield keys[at : at + count], values[at : at + count]
