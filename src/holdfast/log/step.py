"""Steps: what consecutive records of one segment come to, kind by kind."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec

from holdfast.log.accounts import Account, State, write_bytes
from holdfast.log.changes import Changes, columns
from holdfast.log.index import LOCATION, POSITION, REVISION, STAMP, Position
from holdfast.log.live import Live, worth
from holdfast.log.manifest import Manifest, decode_manifest
from holdfast.log.record import (
    Kind,
    decode_carried,
    decode_commits,
    decode_drop,
    decode_removed,
    name_revision,
)
from holdfast.log.scan import Damage

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.log.accounts import Accounts
    from holdfast.log.index import Index, Txn
    from holdfast.log.scan import Record, Scan

PLACE_BYTES = 128  # what the place of a blob is counted as


def never(found: Record | Damage) -> bool:
    """End at nothing."""
    del found
    return False


class Step:
    """Consecutive records, gathered until they are worth writing down."""

    def __init__(self, position: Position) -> None:
        self._segment_id = position.segment_id
        self._before = self._revision = position.revision
        self._manifest: Manifest | None = None
        self._dropped: list[int] = []
        self.offset = position.offset
        """Where the next record begins."""
        self.changes = Changes()
        self.damages: list[Damage] = []
        self.last: int | None = None
        """Where the newest record begins."""
        self.others: list[int] = []
        """Where the records begin that change no table."""
        self.first = 0
        """The first revision; 0 before the first commit."""
        self.gap = 0
        """The revision behind the last one that is missing between others; 0 when none is."""
        self.deletion_bytes = 0
        self.records = 0
        self.commits = 0
        self.size_bytes = 0

    @property
    def position(self) -> Position:
        """How far the log is applied when this step is."""
        return Position(self._segment_id, self.offset, self._revision)

    def fill(
        self,
        scan: Scan,
        size_bytes: int,
        ends: Callable[[Record | Damage], bool] = never,
        span_bytes: int = sys.maxsize,
    ) -> bool:
        """Take records, up to about `size_bytes` in all and `span_bytes` of the segment now.

        False when no more follow, or it `ends` at one.
        """
        stop = self.offset + span_bytes
        while self.size_bytes < size_bytes and self.offset < stop:
            self._take_blobs(scan)
            found = scan.next(self.offset)
            if found is None or ends(found):
                return False
            self.take(found)
        return True

    def _take_blobs(self, scan: Scan) -> None:
        """Take the blobs that come next and are at hand."""
        count, last, self.offset = scan.take_blobs(self.offset, self.changes.blobs)
        if count:
            self.last = last
            self.records += count
            self.size_bytes += count * PLACE_BYTES

    def take(self, found: Record | Damage) -> None:
        """Take the next record, in the order of the log."""
        self.offset = found.end
        if isinstance(found, Damage):
            self.damages.append(found)
            self.size_bytes += PLACE_BYTES
            return
        self.last = found.offset
        self.records += 1
        self.size_bytes += PLACE_BYTES + len(found.payload)
        try:
            self._read(found)
        except msgspec.DecodeError:  # of a record that is whole: a defect has written it
            self.damages.append(Damage(self._segment_id, found.offset, found.end - found.offset))

    def _read(self, found: Record) -> None:
        """Take what a record says; one that cannot be decoded changes nothing."""
        match found.header.kind:
            case Kind.BLOB:
                self._blob(found)
            case Kind.REMOVE:
                self._remove(found)
            case Kind.COMMIT:
                self._commit(found)
            case Kind.CARRY:
                self._carry(found)
            case _:
                self._compose(found)

    def _blob(self, found: Record) -> None:
        header = found.header
        self.size_bytes -= len(found.payload)  # which stays where it is
        sizes = (header.payload_bytes, header.content_bytes, header.codec)
        place = LOCATION.pack(self._segment_id, found.offset, *sizes)
        self.changes.blobs[header.name] = place

    def _remove(self, found: Record) -> None:
        digests = decode_removed(found.payload)
        self.deletion_bytes += found.end - found.offset
        for digest in digests:
            self.changes.blobs[digest] = None

    def _commit(self, found: Record) -> None:
        first = name_revision(found.header.name)
        commits, segment_id = decode_commits(found.payload), self._segment_id
        if self.first == 0:
            self.first = first
        elif first > self._revision + 1:
            self.gap = first
        keys, pack = self.changes.keys, STAMP.pack
        for revision, writes in enumerate(commits, first):
            stamp = pack(revision, segment_id)
            for key, value in writes:
                if value is None:
                    self._delete(key)
                else:
                    keys[key] = stamp + value
        self._revision = first + len(commits) - 1
        self.commits += len(commits)
        place = POSITION.pack(segment_id, found.offset, first)
        self.changes.batches[REVISION.pack(first)] = place

    def _carry(self, found: Record) -> None:
        for revision, key, value in decode_carried(found.payload):
            if value is None:
                self._delete(key)
            else:
                self.changes.keys[key] = STAMP.pack(revision, self._segment_id) + value

    def _delete(self, key: bytes) -> None:
        self.deletion_bytes += write_bytes(key, b"")
        self.changes.keys[key] = None

    def _compose(self, found: Record) -> None:
        """What the log consists of; of a seal, which format 1 has, nothing comes."""
        if found.header.kind == Kind.MANIFEST:
            self._manifest = decode_manifest(found.payload)
            self._revision = max(self._revision, self._manifest.revision)
        elif found.header.kind == Kind.DROP:
            self._dropped += decode_drop(found.payload)
        self.others.append(found.offset)

    # Into the index

    def apply(self, index: Index, txn: Txn) -> None:
        """Write what was taken to the index."""
        live = Live()
        for number, table in enumerate(self.changes.tables):
            keys, values = columns(table)
            live.lose(number, index.load(txn, number, keys, values))
            live.add(self._segment_id, worth(number, keys, values))
        index.accounts.add(txn, live.by_segment)
        self.compose(index, txn)

    def compose(self, index: Index, txn: Txn) -> None:
        """Write all but the changes of tables: what the log consists of, how far history goes."""
        if self.deletion_bytes:
            index.accounts.add(txn, {}, (self._segment_id, self.deletion_bytes))
        if (history := self._history()) > 0:
            index.set_history(txn, history)
        if self._manifest is not None:
            self._believe(self._manifest, index.accounts, txn)
        for segment_id in self._dropped:
            row = index.accounts.get(txn, segment_id)
            if row is not None:
                index.accounts.put(txn, segment_id, row._replace(state=State.DROPPED))

    def _history(self) -> int:
        """From where on no commit is missing, if any is; else 0."""
        if self.gap:
            return self.gap
        if self.first:
            return self.first if self.first > self._before + 1 else 0
        return self._revision + 1 if self._revision > self._before else 0

    def _believe(self, manifest: Manifest, accounts: Accounts, txn: Txn) -> None:
        """Take over from a manifest what the log consists of."""
        listed = dict(manifest.segments)
        for segment_id, row in accounts.rows(txn).items():
            if segment_id < self._segment_id and segment_id not in listed:
                accounts.put(txn, segment_id, row._replace(state=State.DROPPED))
        for segment_id, size_bytes in listed.items():
            row = accounts.get(txn, segment_id) or Account()
            accounts.put(txn, segment_id, row._replace(size_bytes=size_bytes))
