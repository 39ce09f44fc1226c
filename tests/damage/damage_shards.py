"""Flips one bit after the other of a small store in SQLite, as `damage_child.py` does of others.

    python damage_shards.py FILES:FIRST:STEP ...

FILES is a pattern in a folder with `closed/`, a store that was closed, and `killed/`, the same one
as its process was killed, with write-ahead logs. What SQLite takes there for the torn end of a log
is gone without a word; what is left must be the store as it once was.
"""

import json
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from damage_child import LIFE_S, Names, bits, flip, held, names, wrong_reads

from holdfast.core.bucket import Description
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import BlobError
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.check import Check
from holdfast.testing.folders import quick_folder

LIMITS = Limits(shards=2, small_blob_bytes_max=20)


class Original:
    """The store as it should be, as it ever was, and all that its names ever held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: dict[str, list[Entry]] = {}
        self.names: Names = {}
        self.states: list[tuple[Names, list[Digest]]] = []
        with open_depot(folder / "closed", LIMITS) as depot:
            self._note(depot)
            for number in range(4):
                self._put(depot, f"k{number}", b"%d" % number)
            self._put(depot, "k1", b"replaced", {"name": "value"})
            self._put(depot, "large", b"l" * 30)
            self._put(depot, "l" * 501, b"a long key")
            depot.delete("k3")
            self._note(depot)
            for data in (b"held", b"held" * 8):
                depot.content.put(data)
                self._note(depot)
            shutil.copytree(folder / "closed", folder / "killed")

    def _put(
        self, depot: Depot, key: str, data: bytes, metadata: dict[str, str] | None = None
    ) -> None:
        entry = depot.put(key, data, about=Description("text/x-test", metadata or {}))
        self.history.setdefault(key, []).append(entry)
        self._note(depot)

    def _note(self, depot: Depot) -> None:
        self.states.append((names(depot), held(depot)))


def judge(original: Original, folder: Path, *, may_be_older: bool) -> str:
    """What a damaged copy of the store comes to; wrong answers end the program."""
    try:
        depot = open_depot(folder, LIMITS)
    except BlobError:
        return "refused"
    with depot:
        try:
            found, here = names(depot), held(depot)
        except BlobError:
            found, here, is_listed = {}, [], False
        else:
            is_listed = True
        errors = wrong_reads(depot, original, found, here)
        check = Check(depot.engine)
        for _ in check.run():
            pass
    if check.report.found:
        return "found by a check"
    assert is_listed, "a check does not find what listing does"
    assert errors == 0, "a check does not find what reading does"
    if (found, here) == original.states[-1]:
        return "harmless"
    assert may_be_older, "lost without a word"
    assert (found, here) in original.states, "what it never was"
    return "older"


def main(orders: list[str]) -> None:
    counts: Counter[str] = Counter()
    with quick_folder() as folder:
        original, copy = Original(folder / "original"), folder / "copy"
        for order in orders:
            for path, bit in bits(original.folder, order):
                shutil.copytree(original.folder / path.parts[0], copy)
                flip(copy / path.relative_to(path.parts[0]), bit)
                signal.alarm(LIFE_S)
                try:
                    verdict = judge(original, copy, may_be_older=path.suffix == ".db-wal")
                except BaseException as error:
                    error.add_note(f"bit {bit} of {path}")
                    raise
                signal.alarm(0)
                shutil.rmtree(copy)
                counts["rounds"] += 1
                counts[verdict] += 1
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
