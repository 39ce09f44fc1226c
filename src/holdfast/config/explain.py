"""A picture of what is around the bytes of a store, from whoever asks down to the disk."""

from collections.abc import Iterator
from typing import NamedTuple

from holdfast.config.stack import Located, Wanted
from holdfast.core.errors import InvalidError
from holdfast.core.limits import GIB, KIB, MIB
from holdfast.core.marker import SQLITE, recorded_engine
from holdfast.depot.large import COLD, LARGE, url_for
from holdfast.depot.wrapped import Written, written


class Part(NamedTuple):
    """One line of the picture, and what hangs on it."""

    line: str
    below: tuple["Part", ...] = ()


def explain(located: Located, small_bytes_max: int) -> Iterator[str]:
    """Draw the stack of a folder, as it is or as it would be made.

    Raises:
        InvalidError: it is a file.
        ConflictError: its blobs lie elsewhere than is asked for.
        CorruptError, UnsupportedError: what the folder remembers cannot be read.
    """
    folder, wanted, sharding = located
    if folder.exists() and not folder.is_dir():
        raise InvalidError("store", str(folder), "a folder, and that is a file")
    asked = sharding.engine or (SQLITE if sharding.shards else "")
    is_sharded = (recorded_engine(folder) or asked) == SQLITE
    names = (
        f"files of SQLite, {folder / 'shard_*.db'}" if is_sharded else f"the log, {folder / 'log'}"
    )
    bottom = Part(names) if is_sharded else _by_size(located, names, small_bytes_max)
    if cold := url_for(folder, COLD, wanted.cold):
        bottom = Part("by age", (bottom, Part(f"old: objects in {cold}")))
    wrapped = _surrounded(wanted, _wrapped(wanted, written(folder), bottom), small_bytes_max)
    return _drawn(Part(str(folder), (Part(f"names: {names}"), Part("bytes", (wrapped,)))))


def _by_size(located: Located, log: str, small_bytes_max: int) -> Part:
    folder, wanted, _ = located
    files = f"a file each, {folder / 'files'}"
    if disks := _disks(located):
        files = f"a file each, spread over {disks}; older ones in {folder / 'files'}"
    elsewhere = url_for(folder, LARGE, wanted.large)
    large = f"objects in {elsewhere}; older ones {files}" if elsewhere else files
    small = f"up to {_size(small_bytes_max)}: {log}"
    return Part("by size", (Part(small), Part(f"larger: {large}")))


def _disks(located: Located) -> str:
    asked = [(str(place.path), place.weight) for place in located.wanted.disks]
    known = [(disk.path, disk.weight) for disk in written(located.folder).disks]
    found = [(path, weight) for path, weight in asked or known if weight is not None]
    return ", ".join(f"{path} (weight {weight:g})" for path, weight in found)


def _surrounded(wanted: Wanted, part: Part, small_bytes_max: int) -> Part:
    if wanted.verify:
        part = Part("verified: the SHA-256 of a blob before its first byte", (part,))
    if wanted.cache_bytes:
        where = "in memory" if wanted.cache_dir is None else f"in {wanted.cache_dir}"
        what = f"blobs over {_size(small_bytes_max)}, up to {_size(wanted.cache_bytes)} of them"
        part = Part(f"cached: {what} {where}", (part,))
    return part


def _wrapped(wanted: Wanted, found: Written, bottom: Part) -> Part:
    part = bottom
    if wanted.encrypt or found.encrypt:
        where = f"master key: {wanted.encrypt}" if wanted.encrypt else "needs a master key"
        part = Part(f"encrypted: AES-256-GCM, {where}", (part,))
    if wanted.compress or found.compress:
        why = "where that gains" if wanted.compress else "as the folder says"
        small = "; small ones by a dictionary" if wanted.dictionary or found.dictionaries else ""
        part = Part(f"compressed: zstd, level {wanted.level}, {why}{small}", (part,))
    return part


def _size(size_bytes: int) -> str:
    for name, unit in {"GiB": GIB, "MiB": MIB, "KiB": KIB}.items():
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit} {name}"
    return f"{size_bytes} bytes"


def _drawn(part: Part, first: str = "", rest: str = "") -> Iterator[str]:
    yield first + part.line
    for at, each in enumerate(part.below, 1):
        is_last = at == len(part.below)
        mark, more = ("`- ", "   ") if is_last else ("|- ", "|  ")
        yield from _drawn(each, rest + mark, rest + more)
