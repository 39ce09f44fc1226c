"""The log: a folder of segments, the index made of it, and the writer that appends.

Opening applies what the index lacks: after kill -9 the last moments, after a power cut everything.
Whoever opens it takes the folder's lock. Processes forked from that one may attach to it, and then
all of them write, in turns (log/tail.py).
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast.core import limits
from holdfast.core.closing import Closing
from holdfast.core.errors import BlobError, CorruptError, UnavailableError
from holdfast.core.guard import Guard
from holdfast.core.seams import Clock, Disk, Entropy, SystemClock, SystemEntropy
from holdfast.log.accounts import State
from holdfast.log.batch import Between, Claim, LogJob, Needs
from holdfast.log.compaction import forget_commits, remove_segment
from holdfast.log.facts import facts
from holdfast.log.folder import Folder
from holdfast.log.hint import make_missing_hints
from holdfast.log.index import Location, Position
from holdfast.log.manifest import Manifest, pack_manifest, read_manifest
from holdfast.log.meter import Meter
from holdfast.log.opened import OpenSegments
from holdfast.log.reading import damaged, payload_of
from holdfast.log.record import (
    HEADER_BYTES,
    Kind,
    Writes,
    checksum,
    decode_commits,
    unpack,
)
from holdfast.log.recovery import Replay
from holdfast.log.report import Recovery
from holdfast.log.room import Room
from holdfast.log.scan import Damage, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import (
    Segment,
    SegmentHeader,
    map_disk_error,
    segment_ids,
)
from holdfast.log.tail import Tail
from holdfast.log.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from holdfast.core.groupcommit import Result
    from holdfast.core.pending import Promise
    from holdfast.core.progress import Progress
    from holdfast.log.batch import Batch

NO_NEEDS = Needs()
WATCH_S = 0.05  # how often a process looks for the commits of others


class Log(Closing):
    """Open log of one folder; safe from any thread."""

    def __init__(
        self,
        path: Path,
        disk: Disk | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        *,
        attached: bool = False,
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        """Open or create the log in `path`; `attached`, join a process that has it open.

        Who wants to `watch` is told how far the index is brought, if it lacks much of the log.

        Raises:
            FullError, UnavailableError: another process has it open, or the disk refuses.
            UnsupportedError: a newer holdfast wrote it.
            CorruptError: a segment's header is damaged, or there are no segments any more.
        """
        self.root = path / "log"
        self.disk = disk or Disk()
        self._seams = (self.disk, clock or SystemClock(), entropy or SystemEntropy())
        self._folder = Folder(path, self.disk)
        self._committed = threading.Condition()
        self._is_attached = attached
        self._closed = False
        self.recovery = Recovery()
        try:
            self._folder.check_engine()
            self.disk.make_directory(self.root)
            with ExitStack() as undo:
                if attached:
                    self._attach(undo)
                else:
                    self._guard = Guard(path / "lock")
                    undo.callback(self._guard.release)
                    self._open(undo, Meter(self._seams[1], watch))
                self.segments = OpenSegments(self.root, self.disk, self.index, self.board)
                self._room = Room(self._folder.index, self.index)
                undo.callback(self._room.close)
                if not attached:
                    self._make_room()
                self.writer = Writer(self.index, self._tail, self.board, self._room)
                self.writer.before_batch = self.segments.follow
                self.writer.on_commit = self._announce
                undo.pop_all()
        except OSError as error:
            raise map_disk_error(error, f"cannot open {path}") from error

    def _open(self, undo: ExitStack, meter: Meter) -> None:
        self.id = self._folder.identify(self._seams[2])
        if not segment_ids(self.root):
            self._folder.check_new()
            self._create_first()
        self.disk.sync_directory(self.root)  # whoever made the newest segment may not have
        self.index, same_boot, known = self._folder.open_index()
        undo.enter_context(closing(self.index))
        self.board = undo.enter_context(closing(self._folder.make_board()))
        replay = Replay(self.root, self.disk, self.index, meter, same_boot=same_boot)
        self.recovery = replay.run(segment_ids(self.root), known)
        self._tail = Tail(self.root, self.index, self.board, self._seams, is_alone=True)
        self.board.horizon = self.revision
        self._begin_segment_of_this_format()
        self._remove_dropped()
        self.recovery.tell()

    def _make_room(self) -> None:
        """Keep space for the index while there is some: others may fill the disk."""
        with suppress(OSError), self.index.writing():
            self._room.reserve()

    def _attach(self, undo: ExitStack) -> None:
        self.id = self._folder.identify(self._seams[2])
        self.index, self.board = self._folder.attach()
        undo.enter_context(closing(self.index))
        undo.enter_context(closing(self.board))
        self._tail = Tail(self.root, self.index, self.board, self._seams, is_alone=False)

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        return self._end().revision

    def horizon(self, table: bytes = b"") -> int:
        """As `KV.horizon` says."""
        try:
            return self.board.horizon_of(table[0]) if table else self.board.horizon
        except ValueError:
            raise UnavailableError("the log is closed") from None

    def facts(self) -> Mapping[str, int]:
        """Counters and gauges of the log, as docs/operations.md explains them.

        Whoever asks from time to time also lets go of files that another process has removed.
        """
        self.segments.let_go()
        self._tail.let_go(before=self._end().segment_id)
        return facts(self.index, self.writer, self.recovery)

    def submit(
        self,
        stage: Callable[[Batch], Result],
        size_bytes: int,
        needs: Needs = NO_NEEDS,
        *,
        claim: Claim = Claim.WRITE,
    ) -> Promise[Result]:
        """Queue a request that appends about `size_bytes` (see `Job`).

        Raises:
            UnavailableError: closed, failed, or too many requests are waiting.
        """
        job = LogJob(stage, size_bytes, needs, claim)
        self.writer.queue.submit(job)
        return job.promise

    def between(self, act: Callable[[Between], None]) -> None:
        """Do something in the writer's thread, where no process can commit meanwhile.

        It may be done twice, and its Moment forgets nothing that a failure would bring back.

        Raises:
            BlobError: from `act`.
            UnavailableError: as `submit` does, or the batch that it shared could not be written.
        """
        self.submit(lambda batch: act(Between(batch, self.index)), 0, claim=Claim.REMOVE).result()

    def read(self, digest: bytes, place: Location, *, wait: bool) -> memoryview | None:
        """Read and verify a blob's payload; None when `wait` is False and a disk is needed.

        Raises:
            CorruptError: the stored bytes are not those that were written.
            FileNotFoundError: the segment is gone: the blob was moved or removed since `place`.
            UnavailableError: the disk refuses.
        """
        size_bytes = HEADER_BYTES + place.payload_bytes
        try:
            segment = self.segments.get(place.segment_id)
            read = self.disk.pread if wait else self.disk.pread_cached
            data = read(segment.descriptor, size_bytes, place.offset)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnavailableError(f"cannot read a segment: {error.strerror}") from error
        if data is None:
            return None
        payload = payload_of(memoryview(data), digest, place)
        if payload is not None:
            return payload
        raise damaged(digest, place)

    def commits(self, revision: int) -> list[tuple[int, Writes]]:
        """The commits at and behind `revision`, oldest first, some of them; empty at the end.

        Raises:
            CorruptError: a commit record is damaged.
        """
        found: list[tuple[int, Writes]] = []
        for position in self.index.batches(revision, limit=limits.BATCH_REFS_MAX):
            writes = self._commits_at(position)
            found += [pair for pair in enumerate(writes, position.revision) if pair[0] >= revision]
            if found:
                break
        return found

    def stretches(self) -> dict[int, int]:
        """The segments, oldest first, and where the log ends in each."""
        end = self._end()
        return {
            segment_id: end.offset if segment_id == end.segment_id else row.size_bytes
            for segment_id, row in self.index.accounts.rows().items()
            if row.state != State.DROPPED
        }

    def damages(self) -> Iterator[Damage | int]:
        """Read every record; yield places that hold none, and between them how much was read."""
        for segment_id, stop in self.stretches().items():
            try:
                segment = self.segments.get(segment_id)
            except FileNotFoundError:
                if segment_id in self.index.accounts.rows():
                    yield Damage(segment_id, 0, stop)
                continue
            yield from header_damage(self.disk, segment)
            for found in Scan(self.disk, segment, stop).records(FIRST_OFFSET):
                yield found if isinstance(found, Damage) else len(found.payload)

    def roll(self) -> None:
        """End the newest segment, so that it can be compacted.

        Raises:
            FullError, UnavailableError: the disk refuses.
        """
        try:
            with self.index.writing() as txn:
                self._tail.roll(txn)
        except OSError as error:
            raise map_disk_error(error) from error

    def make_hints(self) -> Iterator[int]:
        """Make the hints that finished segments lack, in steps that give the bytes they move.

        Raises:
            FullError, UnavailableError: the disk refuses; those that were made are good.
        """
        newest = self._end().segment_id  # first: another one may follow at any time
        finished = {each: end for each, end in self.stretches().items() if each < newest}
        return make_missing_hints(self.disk, self.root, finished)

    def wait_for_commit(self, revision: int, wait_s: float) -> bool:
        """Wait until there is a revision of at least `revision`; False when time ran out.

        Raises:
            UnavailableError: the log is closed, or was closed meanwhile.
        """
        clock = self._seams[1]
        until_s = clock.monotonic_s() + wait_s
        while self.revision < revision:
            left_s = until_s - clock.monotonic_s()
            if left_s <= 0:
                return False
            with self._committed:
                if self.revision < revision:  # else it has come while nobody waited
                    self._committed.wait(min(left_s, WATCH_S) if self._is_attached else left_s)
        return True

    def close(self) -> None:
        """Finish queued writes, sync the index and say that it is whole; idempotent.

        A disk that refuses now costs the next opening a replay, and nothing else. What is attached
        leaves the end to the process that opened the log; a forked process lets go of nothing, for
        all that it has belongs to the one that it was forked from.
        """
        if not self.writer.queue.is_own:
            return
        if not self._closed:
            self._closed = True
            self.writer.queue.close()
            if not self._is_attached:
                with suppress(OSError, BlobError):
                    self._end_in_order()
            self._let_go_of_all()
            self._announce()
        if not self._is_attached:
            self._guard.release()

    def hand_over(self) -> None:
        """Close all but the lock, so that processes forked from this one may attach.

        The lock goes with the last of them and of this one, at `close`. The log is then closed in
        order by opening it once more.
        """
        if not self._closed:
            self._closed = True
            self.writer.queue.close()
            self._let_go_of_all()

    def _let_go_of_all(self) -> None:
        self._room.close()
        self.index.close()
        self.board.close()
        self.segments.close()
        self._tail.let_go()

    def _end_in_order(self) -> None:
        if self.writer.healthy_end:
            self._tail.close(self._end())
            self.index.sync()
            self.index.close()
            self._folder.mark_clean()

    def _announce(self) -> None:
        with self._committed:
            self._committed.notify_all()

    def _end(self) -> Position:
        """Where the log ends: all before it is durable."""
        end = self.index.applied()
        assert end is not None
        return end

    def _commits_at(self, position: Position) -> list[Writes]:
        segment = self.segments.get(position.segment_id)
        data = self.disk.pread(segment.descriptor, HEADER_BYTES, position.offset)
        header = unpack(data, segment.header.salt, position.offset)
        if header is not None and header.kind == Kind.COMMIT:
            offset = position.offset + HEADER_BYTES
            payload = self.disk.pread(segment.descriptor, header.payload_bytes, offset)
            if checksum(payload) == header.payload_sum:
                with suppress(msgspec.DecodeError):
                    return decode_commits(payload)
        raise CorruptError("a commit record is damaged", revision=position.revision)

    def _create_first(self) -> None:
        _, clock, entropy = self._seams
        salt = int.from_bytes(entropy.random_bytes(8), "little")
        header = SegmentHeader(1, salt, clock.now_us())
        Segment.create(self.disk, self.root, header, pack_manifest(Manifest(0, []), header))

    def _begin_segment_of_this_format(self) -> None:
        """Leave segments of format 1, which have no manifest, as they are."""
        newest = Segment.open(self.disk, self.root, self._end().segment_id)
        if read_manifest(self.disk, newest) is None:
            with self.index.writing() as txn:
                self._tail.roll(txn)

    def _remove_dropped(self) -> None:
        """Finish what a compaction began when the process died."""
        for segment_id, row in self.index.accounts.rows().items():
            if row.state == State.DROPPED:
                forget_commits(self, segment_id)
                remove_segment(self, segment_id)
