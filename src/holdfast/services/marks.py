"""Marks: since when sweeps have found blobs without a name.

A sweep marks what nothing names and removes only what it finds marked for as long as the grace; so
whatever loses its name stays for that long, and can be named again. The file `dead` keeps the marks
beside the index. It is a hint: replaced without a sync, believed only in the folder that it was
made in, and without it every grace begins again.

    xxh3_64 of all behind it (8), of which folder (16), then for each blob, in order:
    its digest (32), when it was first found so (8)
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_digest

from holdfast.core.digest import DIGEST_BYTES, Digest
from holdfast.core.kv import prefix_end
from holdfast.core.marker import replace_file
from holdfast.depot import catalog
from holdfast.depot.stamps import identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.depot.engine import Engine

NAME = "dead"
CHECKSUM_BYTES = 8
NUMBER_BYTES = 8
HEAD_BYTES = CHECKSUM_BYTES + 2 * NUMBER_BYTES
LOOK_REFS = 250  # looked up together

Mark = tuple[Digest, int]


class Pile:
    """Many digests with a number each, in 40 bytes each and in order."""

    def __init__(self) -> None:
        self.numbers = array("Q")
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, digest: Digest, number: int) -> None:
        """Put one behind the others."""
        self.numbers.append(number)
        self._digests += digest

    def pairs(self, start: int = 0, end: int | None = None) -> Iterator[Mark]:
        """Yield those from one place to another."""
        for at in range(start, len(self) if end is None else min(end, len(self))):
            found = bytes(self._digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES])
            yield Digest(found), self.numbers[at]


class Marks:
    """The marks of the store in one folder: written by one sweeper, read by anybody."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._path = folder / NAME
        self._marker = folder / "HOLDFAST"
        self._disk = disk
        self._known: Pile | None = None

    def read(self) -> Pile:
        """What this process has saved, else what the file says."""
        return self._load() if self._known is None else self._known

    def save(self, marks: Iterable[Mark]) -> None:
        """Replace all; what the disk refuses is known to this process alone."""
        pile = Pile()
        data = bytearray()
        for number in identity(self._marker):
            data += number.to_bytes(NUMBER_BYTES, "big")
        for digest, since_us in marks:
            pile.add(digest, since_us)
            data += digest + since_us.to_bytes(NUMBER_BYTES, "big")
        self._known = pile
        with suppress(OSError):
            content = xxh3_64_digest(data) + data
            replace_file(self._path, content, self._disk, is_hint=True)

    def _load(self) -> Pile:
        """Read the file; what is damaged, or about another folder, is as good as none."""
        pile = Pile()
        with suppress(OSError):
            data = self._path.read_bytes()
            head = b"".join(n.to_bytes(NUMBER_BYTES, "big") for n in identity(self._marker))
            is_sound = data[:CHECKSUM_BYTES] == xxh3_64_digest(data[CHECKSUM_BYTES:])
            if is_sound and data[CHECKSUM_BYTES:HEAD_BYTES] == head:
                for at in range(HEAD_BYTES, len(data), DIGEST_BYTES + NUMBER_BYTES):
                    end = at + DIGEST_BYTES
                    since_us = int.from_bytes(data[end : end + NUMBER_BYTES], "big")
                    pile.add(Digest(data[at:end]), since_us)
        return pile


class Nameless(NamedTuple):
    """A blob without a name, and since when sweeps have found it so."""

    digest: Digest
    size_bytes: int
    since_us: int


def marks_of(engine: Engine) -> Marks:
    """The marks of a store."""
    return Marks(engine.stamps.folder, engine.disk)


def nameless(engine: Engine, after: str, limit: int) -> list[Nameless]:
    """Blobs that a sweep has found without a name, and that have none now, behind a digest.

    Raises:
        InvalidError: `after` is no digest.
    """
    start = Digest.parse(after) if after else b""
    found: list[Nameless] = []
    marks = (mark for mark in marks_of(engine).read().pairs() if mark[0] > start)
    while len(found) < limit and (some := dict(islice(marks, LOOK_REFS))):
        sizes = engine.store.stat(some.keys())
        found += [
            Nameless(digest, sizes[digest], since_us)
            for digest, since_us in some.items()
            if digest in sizes and not has_name(engine, digest)
        ]
    return found[:limit]


def has_name(engine: Engine, digest: Digest) -> bool:
    """Whether anything holds a blob, seen or not."""
    start = catalog.holds(digest)
    return bool(engine.kv.scan(start, prefix_end(start), limit=1))
