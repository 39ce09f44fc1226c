"""Flips one bit after the other of a small store, and judges what opening it makes of each.

    python damage_child.py WRAPPERS FILES:FIRST:STEP ...

makes a store with the wrappers that one of STACKS has, and takes bit number FIRST and every STEP-th
behind it, over all bits of the files that the pattern FILES matches, once as the store was closed
and once as after a power cut. A process of its own, because damage may kill or hang it; each bit
has LIFE_S seconds. Prints how often it came to what, as JSON, or ends with the first bit that is
neither found out nor harmless.
"""

import json
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from holdfast.core import limits
from holdfast.core.bucket import Description
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import BlobError
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.services.check import Check
from holdfast.testing.folders import quick_folder

LIFE_S = 20
SMALL_MAX = 20
ENCODED_SMALL_MAX = 500
STACKS = {
    "plain": Stack(),
    "compressed": Stack(compress=True),
    "encrypted": Stack(master=bytes(32)),
    "compressed and encrypted": Stack(compress=True, master=bytes(32)),
}
MUST_BE_FOUND = {".seg", ".blob"}
"""Whatever flips in such a file must be told to somebody who asks, even if it harms nobody."""

Names = dict[str, Entry]


class Known(Protocol):
    """What may be read, besides what is there now."""

    history: dict[str, list[Entry]]
    names: Names


class Original:
    """The store as it should be, and everything that its names ever held."""

    def __init__(self, folder: Path, stack: Stack) -> None:
        self.folder = folder
        self.history: dict[str, list[Entry]] = {}
        self._is_encoded = stack != Stack()
        small_max = ENCODED_SMALL_MAX if self._is_encoded else SMALL_MAX
        self._bounds = Limits(small_blob_bytes_max=small_max, stack=Stack(master=stack.master))
        with open_depot(folder, self._bounds._replace(stack=stack)) as depot:
            for number in range(4):
                self._put(depot, f"k{number}", b"%d" % number)
            self._put(depot, "k1", b"replaced", {"name": "value"})
            self._put(depot, "large", b"l" * 30)
            self._put(depot, "l" * 501, b"a long key")
            depot.delete("k3")
            depot.copy("k0", "copy")
            depot.content.put(self._content(b"held"))
            depot.content.put(self._content(b"held" * 8))
            self.names = names(depot)
            self.held = held(depot)

    def open(self, folder: Path) -> Depot:
        """Open a copy of it as anybody does who has its key: the folder says the rest."""
        return open_depot(folder, self._bounds)

    def _content(self, data: bytes) -> bytes:
        """So much of it that there is something to encode, and large blobs are large."""
        if not self._is_encoded:
            return data
        return b" ".join(b"%b %d" % (data, number) for number in range(10 * len(data)))

    def _put(
        self, depot: Depot, key: str, data: bytes, metadata: dict[str, str] | None = None
    ) -> None:
        about = Description("text/x-test", metadata or {})
        entry = depot.put(key, self._content(data), about=about)
        self.history.setdefault(key, []).append(entry)


def names(depot: Depot) -> Names:
    """Every entry."""
    return {entry.key: entry for entry in depot.entries()}


def held(depot: Depot) -> list[Digest]:
    """Every digest of the content face."""
    return list(depot.content.list(limit=1000).digests)


def judge(original: Original, folder: Path) -> str:
    """What a damaged copy of the store comes to; wrong answers end the program."""
    try:
        depot = original.open(folder)
    except BlobError:
        return "refused"
    with depot:
        facts = depot.engine.facts()
        told = facts["damaged_places"] + facts["truncated_bytes"]
        try:
            found, here = names(depot), held(depot)
        except BlobError:
            return "found when listed"
        errors = wrong_reads(depot, original, found, here)
        check = Check(depot.engine)
        for _ in check.read():
            pass
    if told:
        return "found when opened"
    assert (found, here) == (original.names, original.held), "lost without a word"
    if check.report.found:
        return "found by a check"
    assert errors == 0, "a check does not find what reading does"
    return "harmless"


def wrong_reads(depot: Depot, original: Known, found: Names, here: list[Digest]) -> int:
    """Read everything; count errors, for there must be no wrong answers."""
    errors = 0
    for key, entry in found.items():
        known = original.history.get(key, [original.names.get(key)])
        assert entry in known, f"an entry that nobody wrote: {entry}"
    reads = [(entry.digest, partial(depot.get, key)) for key, entry in found.items()]
    reads += [(digest, partial(depot.content.get, digest)) for digest in here]
    for digest, read in reads:
        try:
            data = read()
        except BlobError:
            errors += 1
        else:
            assert Digest.of(data) == digest, f"wrong bytes of {digest}"
    return errors


def bits(folder: Path, order: str) -> Iterator[tuple[Path, int]]:
    """The bits that one order names, over the files of its pattern as if they were one."""
    files, first, step = order.split(":")
    at = int(first)
    for path in sorted(folder.glob(files)):
        size_bits = path.stat().st_size * 8 if path.is_file() else 0
        for bit in range(at, size_bits, int(step)):
            yield path.relative_to(folder), bit
            at = bit + int(step)
        at -= size_bits


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def flip_and_judge(original: Original, copy: Path, place: tuple[Path, int], *, cut: bool) -> str:
    """Flip one bit of a fresh copy; it is part of what an error says."""
    shutil.copytree(original.folder, copy)
    flip(copy / place[0], place[1])
    if cut:
        (copy / "index" / "state").write_text("another boot")
    signal.alarm(LIFE_S)
    try:
        verdict = judge(original, copy)
        if place[0].suffix in MUST_BE_FOUND:
            assert verdict != "harmless", "seen by nobody"
    except BaseException as error:
        error.add_note(f"bit {place[1]} of {place[0]}, {'after a power cut' if cut else 'closed'}")
        raise
    signal.alarm(0)
    shutil.rmtree(copy)
    return verdict


def main(wrappers: str, orders: list[str]) -> None:
    limits.SEGMENT_ALLOCATE_BYTES, limits.RESERVE_BYTES = 4096, 200
    limits.SEGMENT_BYTES_MAX, limits.BATCH_BYTES_MAX = 1500, 750
    if wrappers != "plain":
        limits.SEGMENT_BYTES_MAX, limits.BATCH_BYTES_MAX = 3000, 1500
    counts: Counter[str] = Counter()
    with quick_folder() as folder:
        original = Original(folder / "store", STACKS[wrappers])
        for order in orders:
            for place in bits(original.folder, order):
                counts["rounds"] += 1
                for cut in (False, True):
                    counts[flip_and_judge(original, folder / "copy", place, cut=cut)] += 1
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
