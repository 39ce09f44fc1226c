"""Compaction: what is live of a segment is appended again, then the segment is dropped.

A segment is read record by record. In each step some of what it holds is asked of the log in one
request, and the log's writer decides, inside a batch, what of it is still live at that moment:

- a blob, if the index points to this very record;
- a write, if it is the newest of its key and this segment holds it;
- a deletion, if what it deleted has not come back and an older segment is left, which may hold it.

So compaction never races with anybody: each step is a batch like any other, as durable and as
whole. When nothing live is left by the accounts, a record says that the segment is dropped; when
that is durable, its file goes. A crash at any point leaves records twice, which is harmless, or a
dropped file, which the next opening removes. A damaged segment is moved as far as it can be read
and kept while anything in it is live, or deletions in it cannot be read: `holdfast fsck --repair`
can still save what the index knows of them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core import limits
from holdfast.core.errors import BlobError, FullError
from holdfast.log.accounts import State, write_bytes
from holdfast.log.batch import Claim, Needs
from holdfast.log.hint import hint_path
from holdfast.log.index import Location
from holdfast.log.record import (
    HEADER_BYTES,
    Carried,
    Kind,
    decode_carried,
    decode_commits,
    decode_removed,
    name_revision,
)
from holdfast.log.scan import Damage, Scan
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment, map_disk_error, segment_path

if TYPE_CHECKING:
    from collections.abc import Container, Generator, Iterator, Mapping

    from holdfast.core.seams import Buffer
    from holdfast.log.accounts import Account
    from holdfast.log.batch import Batch
    from holdfast.log.log import Log
    from holdfast.log.scan import Record


STEPS_BYTES = 16 * limits.KIB  # for headers of what is moved, at most


class Freed(NamedTuple):
    """What a step did."""

    moved_bytes: int
    """Read, to see what is live."""
    freed_bytes: int
    """Of files that are gone now."""


class Blob(NamedTuple):
    """A blob that may have to move."""

    digest: bytes
    place: Location
    payload: Buffer


class Load:
    """Records of one step."""

    def __init__(self, segment_id: int) -> None:
        self._segment_id = segment_id
        self._blobs: list[Blob] = []
        self._writes: Carried = []
        self._removed: list[bytes] = []
        self._revisions: list[int] = []
        self._newest = 0
        self.size_bytes = 0
        self.deletion_bytes = 0
        """As the accounts count them."""

    def take(self, record: Record) -> None:
        """Take a record.

        Raises:
            msgspec.DecodeError: a defect has written it; nothing of it is in the index.
        """
        header, payload = record.header, record.payload
        self.size_bytes += HEADER_BYTES + len(payload)
        if header.kind == Kind.BLOB:
            sizes = (header.payload_bytes, header.content_bytes, header.codec)
            place = Location(self._segment_id, record.offset, *sizes)
            self._blobs.append(Blob(header.name, place, payload))
        elif header.kind == Kind.REMOVE:
            self._removed += decode_removed(payload)
            self.deletion_bytes += HEADER_BYTES + len(payload)
        elif header.kind == Kind.CARRY:
            self._add(decode_carried(payload))
        elif header.kind == Kind.COMMIT:
            first, commits = name_revision(header.name), decode_commits(payload)
            self._revisions.append(first)
            for revision, writes in enumerate(commits, first):
                self._add([(revision, key, value) for key, value in writes])
                self._newest = revision

    def _add(self, writes: Carried) -> None:
        self._writes += writes
        self.deletion_bytes += sum(
            write_bytes(key, b"") for _, key, value in writes if value is None
        )

    @property
    def needs(self) -> Needs:
        """What the decision reads."""
        digests = [blob.digest for blob in self._blobs]
        keys = dict.fromkeys(key for _, key, _ in self._writes)
        return Needs(list(keys), [*digests, *self._removed])

    def stage(self, batch: Batch) -> None:
        """Append what is live, in the log's writer."""
        for digest, place, payload in self._blobs:
            if batch.locate(digest) == place:
                batch.add_blob(digest, payload, place.content_bytes, place.codec)
        is_oldest = batch.is_oldest(self._segment_id)
        live = [write for write in self._writes if self._is_live(write, batch, is_oldest=is_oldest)]
        if live:
            batch.carry(live)
        gone = [] if is_oldest else [each for each in self._removed if batch.locate(each) is None]
        if gone:
            batch.carry_removals(gone)
        batch.forget_commits(self._revisions, self._newest)

    def _is_live(
        self, write: tuple[int, bytes, bytes | None], batch: Batch, *, is_oldest: bool
    ) -> bool:
        revision, key, value = write
        found = batch.get(key)
        if value is None:
            return found is None and not is_oldest
        is_newest = found is not None and found.revision == revision
        return is_newest and batch.place_of(key) == self._segment_id


def compact(
    log: Log, dead_share: float = limits.COMPACT_DEAD_SHARE, *, with_newest: bool = False
) -> Iterator[Freed]:
    """Free the disk of dead bytes, segment by segment, worst first, in bounded steps.

    Ends when none of the segments that were finished when it began has a share of at least
    `dead_share` of them. The newest segment is finished first `with_newest`, or if the disk is full
    and so much of it is dead. A step that is not taken leaves a log as good as before. A segment
    that fails keeps no other from being emptied; the first failure is raised at the end.

    Raises:
        CorruptError: the header of a segment is damaged.
        FullError, UnavailableError: the disk refuses; nothing is lost.
    """
    failure: BlobError | None = None
    if with_newest or _is_newest_worth_it(log, dead_share):
        try:
            log.roll()
        except BlobError as error:
            failure = error  # there may be others that free what this needs
    for segment_id, row in _worth_it(log, max(log.stretches()), dead_share):
        try:
            for freed in _empty(log, segment_id, row):
                log.writer.stats.compacted_bytes += freed.moved_bytes
                log.writer.stats.freed_bytes += freed.freed_bytes
                yield freed
        except OSError as error:
            failure = failure or map_disk_error(error, "cannot compact")
        except BlobError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def _is_newest_worth_it(log: Log, dead_share: float) -> bool:
    """Whether much of the newest segment is dead, and the disk so full that it may stay newest."""
    if log.disk.free_bytes(log.root) >= limits.SEGMENT_ALLOCATE_BYTES:
        return False
    rows = log.index.accounts.rows()
    newest, end = list(log.stretches().items())[-1]
    rows[newest] = rows[newest]._replace(size_bytes=end)
    return worst_segment(rows, newest + 1, dead_share, rows.keys() - {newest}) == newest


def _worth_it(log: Log, newest: int, dead_share: float) -> Iterator[tuple[int, Account]]:
    """Each segment that is to be removed or emptied, once: worst first, as it is then."""
    tried: set[int] = set()
    while True:
        rows = log.index.accounts.rows()
        segment_id = worst_segment(rows, newest, dead_share, tried)
        if segment_id is None:
            return
        tried.add(segment_id)
        yield segment_id, rows[segment_id]


def remove_segment(log: Log, segment_id: int) -> None:
    """Remove the file of a segment that was dropped; readers that have it open read on.

    Raises:
        OSError: the disk refuses; the next compaction or opening does it.
    """
    for path in (segment_path(log.root, segment_id), hint_path(log.root, segment_id)):
        with suppress(FileNotFoundError):
            log.disk.unlink(path)
    log.disk.sync_directory(log.root)
    with log.index.writing() as txn:
        log.index.accounts.remove(txn, segment_id)
        log.board.drops += 1


def forget_commits(log: Log, segment_id: int) -> None:
    """Forget where the commits of a segment lie that was dropped, as those did who dropped it.

    An index that was made again while its file was still there knows them all.
    """
    at, found, end = 1, list[int](), log.revision + 1
    while page := log.index.batches(at, limits.BATCH_REFS_MAX):
        found += [each.revision for each in page if each.segment_id == segment_id]
        behind = [each.revision for each in page if each.segment_id > segment_id]
        if behind or page[-1].revision == at:
            end = min(behind, default=end)
            break
        at = page[-1].revision
    if found:
        with log.index.writing() as txn:
            log.index.remove_batches(txn, found)
            log.index.set_history(txn, max(end, log.index.history(txn)))


def _empty(log: Log, segment_id: int, row: Account) -> Iterator[Freed]:
    """Move what is live out of one finished segment, and remove it if all is."""
    is_dropped = row.state == State.DROPPED
    if not is_dropped:
        claim = _claim(log, row)
        deletion_bytes = yield from move_live(log, segment_id, row.size_bytes, claim)
        is_dropped = deletion_bytes >= row.deletion_bytes and drop(log, segment_id)
    if is_dropped:
        remove_segment(log, segment_id)
        log.segments.follow()
        yield Freed(0, row.size_bytes)


def _claim(log: Log, row: Account) -> Claim:
    """The reserve, if that alone has room for what has to move: half of it would free nothing.

    Raises:
        FullError: nor has the disk.
    """
    live_bytes = row.live_bytes + row.deletion_bytes
    needed_bytes = live_bytes + live_bytes // 4 + STEPS_BYTES
    newest, end = list(log.stretches().items())[-1]
    room_bytes = segment_path(log.root, newest).stat().st_size - end
    if needed_bytes <= room_bytes:
        return Claim.COMPACT
    if needed_bytes > room_bytes + log.disk.free_bytes(log.root):
        raise FullError("the disk has no room for what is live in a segment")
    return Claim.WRITE


def drop(log: Log, segment_id: int) -> bool:
    """Say that nothing needs a finished segment any more; False when something in it is live."""
    return log.submit(lambda batch: batch.drop(segment_id), 0, claim=Claim.COMPACT).result()


def move_live(
    log: Log, segment_id: int, end: int, claim: Claim = Claim.WRITE
) -> Generator[Freed, None, int]:
    """Append again what is live of a finished segment and can be read, in bounded steps.

    Ends with the bytes of the deletions that it read, live or not: damage may have taken some.
    `claim` says what it may use of the reserve.

    Raises:
        CorruptError: its header is damaged.
        OSError, FullError, UnavailableError: the disk refuses.
    """
    segment = Segment.open(log.disk, log.root, segment_id)
    load, deletion_bytes = Load(segment_id), 0
    for found in Scan(log.disk, segment, end).records(FIRST_OFFSET):
        if isinstance(found, Damage):
            continue
        with suppress(msgspec.DecodeError):
            load.take(found)
        if load.size_bytes >= limits.COMPACT_STEP_BYTES:
            yield _move(log, load, claim)
            deletion_bytes += load.deletion_bytes
            load = Load(segment_id)
    yield _move(log, load, claim)
    return deletion_bytes + load.deletion_bytes


def _move(log: Log, load: Load, claim: Claim) -> Freed:
    log.submit(load.stage, load.size_bytes, load.needs, claim=claim).result()
    return Freed(load.size_bytes, 0)


def dead_bytes(accounts: Mapping[int, Account], segment_id: int) -> int:
    """What the compaction of a finished segment would free."""
    row = accounts[segment_id]
    kept = 0 if segment_id == min(accounts) else row.deletion_bytes
    return max(0, row.size_bytes - row.live_bytes - kept)


def worst_segment(
    accounts: Mapping[int, Account],
    newest: int,
    dead_share: float,
    tried: Container[int] = (),
) -> int | None:
    """The finished segment to compact next: a suspect one, else that with most dead bytes.

    Before all, one that was dropped and is still there: whoever did it died, or the disk refused.
    Else one is chosen when at least `dead_share` of it is dead; the oldest of all also when a tenth
    of the log is deletions, which only go when nothing older is left. What was `tried` is left out.
    """
    finished = {id_: row for id_, row in accounts.items() if id_ < newest and id_ not in tried}
    for state in (State.DROPPED, State.SUSPECT):
        for segment_id, row in finished.items():
            if row.state == state:
                return segment_id
    finished = {id_: row for id_, row in finished.items() if row.state == State.WHOLE}
    dead = {id_: dead_bytes(accounts, id_) for id_ in finished}
    worst = max(dead, key=lambda id_: dead[id_] / max(1, finished[id_].size_bytes), default=None)
    if worst is None:
        return None
    if dead[worst] >= max(limits.COMPACT_DEAD_BYTES_MIN, dead_share * finished[worst].size_bytes):
        return worst
    deletions = sum(row.deletion_bytes for row in finished.values())
    total = sum(row.size_bytes for row in finished.values())
    oldest = min(accounts)
    is_much = deletions > max(total // 10, limits.COMPACT_STEP_BYTES)
    return oldest if is_much and oldest in finished else None
