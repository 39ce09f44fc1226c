"""A picture of what is around the bytes of a store, from whoever asks down to the disk."""

from collections.abc import Iterator
from typing import NamedTuple

from holdfast.config.settings import SQLITE
from holdfast.config.stack import Located, Wanted
from holdfast.core.limits import KIB
from holdfast.core.marker import recorded_engine
from holdfast.depot.large import place_of
from holdfast.depot.wrapped import Written, written


class Part(NamedTuple):
    """One line of the picture, and what hangs on it."""

    line: str
    below: tuple["Part", ...] = ()


def explain(located: Located, small_bytes_max: int) -> Iterator[str]:
    """Draw the stack of a folder, as it is or as it would be made.

    Raises:
        CorruptError, UnsupportedError: what the folder remembers cannot be read.
    """
    folder, wanted, sharding = located
    asked = sharding.engine or (SQLITE if sharding.shards else "")
    if (recorded_engine(folder) or asked) == SQLITE:
        shards = f"files of SQLite, {folder / 'shard_*.db'}"
        wrapped = _wrapped(wanted, written(folder), Part(shards))
        return _drawn(Part(str(folder), (Part(f"names: {shards}"), Part("bytes", (wrapped,)))))
    size = f"{small_bytes_max // KIB} KiB" if small_bytes_max >= KIB else f"{small_bytes_max} bytes"
    log = f"the log, {folder / 'log'}"
    elsewhere = wanted.large or place_of(folder)
    files = f"a file each, {folder / 'files'}"
    large = (
        f"larger: objects in {elsewhere}; older ones {files}" if elsewhere else f"larger: {files}"
    )
    bottom = Part("by size", (Part(f"up to {size}: {log}"), Part(large)))
    wrapped = _wrapped(wanted, written(folder), bottom)
    return _drawn(Part(str(folder), (Part(f"names: {log}"), Part("bytes", (wrapped,)))))


def _wrapped(wanted: Wanted, found: Written, bottom: Part) -> Part:
    part = bottom
    if wanted.encrypt or found.encrypt:
        where = f"master key: {wanted.encrypt}" if wanted.encrypt else "needs a master key"
        part = Part(f"encrypted: AES-256-GCM, {where}", (part,))
    if wanted.compress:
        part = Part(f"compressed: zstd, level {wanted.level}, where that gains", (part,))
    elif found.compress:
        part = Part(f"compressed: zstd, level {wanted.level}, as the folder says", (part,))
    return part


def _drawn(part: Part, first: str = "", rest: str = "") -> Iterator[str]:
    yield first + part.line
    for at, each in enumerate(part.below, 1):
        is_last = at == len(part.below)
        mark, more = ("`- ", "   ") if is_last else ("|- ", "|  ")
        yield from _drawn(each, rest + mark, rest + more)
