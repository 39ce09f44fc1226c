"""Scrub: read what is stored and compare it with what it should be.

A pass has four parts: the records of the log (whatever is neither a valid record nor unused space
is damage), every blob against its SHA-256, every entry against the blob that it names, and every
digest that the content face holds against what is stored. Each `step` does a bounded amount of work
and remembers where it was, so a pass can be spread over time.
It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import CorruptError, NotFoundError
from holdfast.core.verify import verify_steps

if TYPE_CHECKING:
    from holdfast.core.entry import Entry
    from holdfast.depot.depot import Depot

ENTRIES_STEP = 500
FINDINGS_MAX = 10_000  # kept by one report; all are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """`record` (damage in the log), `blob` (damaged bytes) or `entry` (its blob is gone)."""
    where: str
    why: str


@dataclass(slots=True)
class Report:
    """What a pass has seen so far."""

    blobs: int = 0
    blob_bytes: int = 0
    entries: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, where: str, why: str) -> None:
        """Count a finding, and keep it while there is room."""
        self.found += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, where, why))


class Scrub:
    """One pass over a depot; one thread at a time."""

    def __init__(self, depot: Depot) -> None:
        self._depot = depot
        self.report = Report()
        self._work = self._pass()

    def step(self, size_bytes: int = 64 * limits.MIB) -> bool:
        """Read about `size_bytes` more; False when the pass has ended.

        Raises:
            UnavailableError: the disk refuses; a new pass begins at the beginning.
        """
        done_bytes = 0
        for read_bytes in self._work:
            done_bytes += read_bytes
            if done_bytes >= size_bytes:
                return True
        return False

    def _pass(self) -> Iterator[int]:
        yield from self._records()
        yield from self._blobs()
        yield from self._entries()
        yield from self._held()

    def _records(self) -> Iterator[int]:
        """Read the log itself; what its index has lost shows here."""
        for damage in self._depot.engine.damages():
            if isinstance(damage, int):
                yield damage
                continue
            where = f"segment {damage.segment_id} offset {damage.offset}"
            self.report.add("record", where, f"{damage.size_bytes} bytes are no valid record")

    def _blobs(self) -> Iterator[int]:
        store = self._depot.engine.store
        for ref in store.scan():
            self.report.blobs += 1
            self.report.blob_bytes += ref.size_bytes
            try:
                yield from verify_steps(store, ref.digest)
            except CorruptError as error:
                self.report.add("blob", str(ref.digest), error.message)
            except NotFoundError:
                continue  # removed since the scan saw it

    def _entries(self) -> Iterator[int]:
        entries = self._depot.engine.names.all_entries()
        while page := list(islice(entries, ENTRIES_STEP)):
            self.report.entries += len(page)
            self._check_page(page)
            yield len(page) * limits.KIB

    def _held(self) -> Iterator[int]:
        """Look for blobs that no entry may name, and no scan shows: those without a footer."""
        content, cursor = self._depot.content, None
        while True:
            page = content.list(cursor=cursor, limit=limits.LIST_LIMIT_MAX)
            there = self._depot.engine.store.stat(page.digests)
            for digest in page.digests:
                if digest not in there and content.holds(digest):
                    self.report.add("blob", str(digest), "it is held and missing")
            yield len(page.digests) * limits.KIB
            cursor = page.next
            if cursor is None:
                return

    def _check_page(self, page: list[Entry]) -> None:
        store = self._depot.engine.store
        sizes = store.stat({entry.digest for entry in page})
        for entry in page:
            where = f"{entry.bucket}/{entry.key}"
            if entry.digest not in sizes:
                self.report.add("entry", where, f"{entry.digest} is missing")
            elif sizes[entry.digest] != entry.size_bytes:
                why = f"{sizes[entry.digest]} bytes are stored, not {entry.size_bytes}"
                self.report.add("entry", where, why)
