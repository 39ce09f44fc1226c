"""The log: a folder of segments, the index made of it, and the writer that appends.

    DIR/HOLDFAST         format version and the log's id
    DIR/lock             held while a process has the log open
    DIR/log/*.seg        segments
    DIR/index/           LMDB environment and its `state`

Opening applies what the index lacks: after kill -9 the last moments, after a power cut everything.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, UnavailableError, UnsupportedError
from holdfast.core.seams import Clock, Disk, Entropy, SystemClock, SystemEntropy
from holdfast.log.batch import Job, Needs
from holdfast.log.hint import make_missing_hints
from holdfast.log.index import Location, Position, open_index, renew_index
from holdfast.log.reading import damaged, file_refs, payload_of, read_many
from holdfast.log.record import (
    HEADER_BYTES,
    Kind,
    Writes,
    checksum,
    decode_commits,
    unpack,
)
from holdfast.log.recovery import Replay
from holdfast.log.scan import Damage, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment, SegmentHeader, segment_ids, segment_path
from holdfast.log.state import Trust, clean_state, running_state, trust
from holdfast.log.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from holdfast.core.digest import Digest
    from holdfast.core.pending import Promise
    from holdfast.core.store import FileRef
    from holdfast.log.batch import Batch, Result
    from holdfast.log.index import Last

FORMAT = 1
CHECKSUM_BYTES = 8
NO_NEEDS = Needs()


class _Marker(msgspec.Struct):
    """The content of DIR/HOLDFAST."""

    format: int
    id: str


class Log:
    """Open log of one folder; safe from any thread. `_lock` guards changes of the open segments."""

    def __init__(
        self,
        path: Path,
        disk: Disk | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        """Open or create the log in `path`.

        Raises:
            FullError, UnavailableError: another process has it open, or the disk refuses.
            UnsupportedError: a newer holdfast wrote it.
            CorruptError: a segment's header is damaged, or there are no segments any more.
        """
        self._path = path
        self._root = path / "log"
        self.disk = disk or Disk()
        self._seams = (self.disk, clock or SystemClock(), entropy or SystemEntropy())
        self._lock = threading.Lock()
        self._segments: dict[int, Segment] = {}
        self._committed = threading.Condition()
        self._closed = False
        try:
            self.disk.make_directory(self._root)
            with ExitStack() as undo:
                self._guard = _lock_folder(path / "lock")
                undo.callback(os.close, self._guard)
                self._open(undo)
                undo.pop_all()
        except OSError as error:
            raise UnavailableError(f"cannot open {path}: {error.strerror}") from error

    def _open(self, undo: ExitStack) -> None:
        self.id = self._identify()
        if not segment_ids(self._root):
            self._check_new()
            self._create(1)
        same_boot, missing = self._open_index(undo)
        replay = Replay(self._root, self.disk, self.index, same_boot=same_boot)
        active, end, self.recovery = replay.run(segment_ids(self._root), missing)
        if self._is_sealed(active.header):
            active = self._create(active.header.id + 1)
            end = Position(active.header.id, FIRST_OFFSET, end.revision)
            self.recovery = self.recovery._replace(segments=self.recovery.segments + 1)
        self._writer = Writer(self._root, self.index, self._seams, active, end)
        self._writer.on_commit = self._announce

    @property
    def revision(self) -> int:
        """The newest durable revision."""
        return self._writer.revision

    @property
    def root(self) -> Path:
        """The folder of the segments."""
        return self._root

    @property
    def writer(self) -> Writer:
        """The writer, for its counters and its health."""
        return self._writer

    def facts(self) -> Mapping[str, int]:
        """Counters and gauges of the log, as docs/operations.md explains them."""
        stats, recovery = self._writer.stats, self.recovery
        blobs, keys = self.index.counts()
        return {
            "healthy": int(self._writer.healthy),
            "batches": stats.batches,
            "jobs": stats.jobs,
            "appended_bytes": stats.bytes,
            "segments": recovery.segments + stats.segments,
            "blobs": blobs,
            "keys": keys,
            "recovered_records": recovery.records,
            "truncated_bytes": recovery.truncated_bytes,
            "damaged_places": len(recovery.damages),
        }

    def submit(
        self, stage: Callable[[Batch], Result], size_bytes: int, needs: Needs = NO_NEEDS
    ) -> Promise[Result]:
        """Queue a request that appends about `size_bytes` (see `Job`).

        Raises:
            UnavailableError: closed, failed, or too many requests are waiting.
        """
        job = Job(stage, size_bytes, needs)
        self._writer.submit(job)
        return job.promise

    def read(self, digest: bytes, place: Location, *, wait: bool) -> memoryview | None:
        """Read and verify a blob's payload; None when `wait` is False and a disk is needed.

        Raises:
            CorruptError: the stored bytes are not those that were written.
            UnavailableError: the disk refuses.
        """
        size_bytes = HEADER_BYTES + place.payload_bytes
        try:
            segment = self._segment(place.segment_id)
            read = self.disk.pread if wait else self.disk.pread_cached
            data = read(segment.descriptor, size_bytes, place.offset)
        except OSError as error:
            raise UnavailableError(f"cannot read a segment: {error.strerror}") from error
        if data is None:
            return None
        payload = payload_of(memoryview(data), digest, place)
        if payload is not None:
            return payload
        raise damaged(digest, place)

    def read_many(self, places: Mapping[Digest, Location]) -> dict[Digest, memoryview]:
        """Read and verify payloads, neighbours together; those that fail are left out."""
        return read_many(self.disk, self._segment, places)

    def file_refs(self, places: Mapping[Digest, Location]) -> dict[Digest, FileRef | BlobError]:
        """Say in which files payloads lie, without reading them."""
        return file_refs(self.disk, self._segment, places)

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
        active = self._writer.end
        sizes = {
            number: segment_path(self._root, number).stat().st_size
            for number in segment_ids(self._root)
        }
        return {**sizes, active.segment_id: active.offset}

    def damages(self) -> Iterator[Damage | int]:
        """Read every record; yield places that hold none, and between them how much was read."""
        active = self._writer.end
        for segment_id in segment_ids(self._root):
            segment = self._segment(segment_id)
            yield from header_damage(self.disk, segment)
            for found in Scan(self.disk, segment).records(FIRST_OFFSET):
                if (segment_id, found.offset) >= active[:2]:
                    break  # being written
                yield found if isinstance(found, Damage) else len(found.payload)

    def make_hints(self) -> Iterator[int]:
        """Make the hints that finished segments lack, in steps that give the bytes they move.

        Raises:
            UnavailableError: the disk refuses; those that were made are good.
        """
        finished = list(self.stretches())[:-1]
        return make_missing_hints(self.disk, self._root, finished)

    def wait_for_commit(self, revision: int, wait_s: float) -> bool:
        """Wait until there is a revision of at least `revision`; False when time ran out."""
        with self._committed:
            return self._committed.wait_for(lambda: self.revision >= revision, wait_s)

    def close(self) -> None:
        """Finish queued writes, sync the index and say that it is whole; idempotent.

        A disk that refuses now costs the next opening a replay, and nothing else. A forked process
        lets go of nothing, for all that it has belongs to the one that opened the log.
        """
        if self._closed or not self._writer.is_own:
            return
        self._closed = True
        with suppress(OSError, BlobError):
            self._writer.close()
            if self._writer.healthy_end:
                self.index.sync()
                self.index.close()
                self._write_state(clean_state(self.disk, self._path / "index"))
        self.index.close()
        self._segments.clear()
        os.close(self._guard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _announce(self, revision: int) -> None:
        del revision
        with self._committed:
            self._committed.notify_all()

    def _commits_at(self, position: Position) -> list[Writes]:
        segment = self._segment(position.segment_id)
        data = self.disk.pread(segment.descriptor, HEADER_BYTES, position.offset)
        header = unpack(data, segment.header.salt, position.offset)
        if header is not None and header.kind == Kind.COMMIT:
            offset = position.offset + HEADER_BYTES
            payload = self.disk.pread(segment.descriptor, header.payload_bytes, offset)
            if checksum(payload) == header.payload_sum:
                return decode_commits(payload)
        raise CorruptError("a commit record is damaged", revision=position.revision)

    def _segment(self, segment_id: int) -> Segment:
        segment = self._segments.get(segment_id)
        if segment is None:
            segment = Segment.open(self.disk, self._root, segment_id)
            with self._lock:
                self._segments[segment_id] = segment
                if len(self._segments) > limits.OPEN_FILES_MAX:
                    del self._segments[next(iter(self._segments))]
        return segment

    def _identify(self) -> str:
        """Read the log's id, or give it one."""
        path = self._path / "HOLDFAST"
        if path.exists():
            try:
                marker = msgspec.json.decode(path.read_bytes(), type=_Marker)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CorruptError("the file HOLDFAST is damaged", file=str(path)) from error
            if marker.format != FORMAT:
                raise UnsupportedError(f"format {marker.format} is newer than this holdfast")
            return marker.id
        marker = _Marker(FORMAT, self._seams[2].random_bytes(16).hex())
        self._write(path, msgspec.json.encode(marker) + b"\n")
        return marker.id

    def _check_new(self) -> None:
        """Hold a folder without segments to be new.

        Raises:
            CorruptError: there is an index, so there were segments.
        """
        if (self._path / "index" / "state").exists():
            raise CorruptError("the segments are gone; remove the folder `index` to begin anew")

    def _create(self, segment_id: int) -> Segment:
        _, clock, entropy = self._seams
        salt = int.from_bytes(entropy.random_bytes(8), "little")
        header = SegmentHeader(segment_id, salt, clock.now_us())
        return Segment.create(self.disk, self._root, header)

    def _is_sealed(self, segment: SegmentHeader) -> bool:
        """Whether the log was killed between the end of this segment and the next one."""
        last = self.index.last()
        if last is None or last.segment_id != segment.id:
            return False
        header = unpack(last.header, segment.salt, last.offset)
        return header is not None and header.kind == Kind.SEAL

    def _open_index(self, undo: ExitStack) -> tuple[bool, list[Damage]]:
        """Open the index, an empty one if it cannot be trusted.

        Says whether the machine did not boot in between, and what the log is known to have lost.
        """
        folder = self._path / "index"
        known = trust(self.disk, folder)
        if known == Trust.NONE:
            shutil.rmtree(folder, ignore_errors=True)
        self.disk.make_directory(folder)
        self.index = undo.enter_context(closing(open_index(folder)))
        missing = self._missing(self.index.applied())
        if missing or not self._is_of_this_log(self.index.last()):
            self.index.close()
            self.index = undo.enter_context(closing(renew_index(folder)))
        self._write_state(running_state(folder))
        return known == Trust.KILLED, missing

    def _missing(self, applied: Position | None) -> list[Damage]:
        """What the index has applied and the log does not hold any more."""
        if applied is None:
            return []
        size_bytes = 0
        if applied.segment_id in segment_ids(self._root):
            size_bytes = Segment.open(self.disk, self._root, applied.segment_id).size_bytes
        if applied.offset <= size_bytes:
            return []
        return [Damage(applied.segment_id, size_bytes, applied.offset - size_bytes)]

    def _is_of_this_log(self, last: Last | None) -> bool:
        """Whether the last record that the index has applied stands where it stood.

        A header that differs in a few bytes only is the same one, rotten: two records differ in
        their checksums.
        """
        if last is None:
            return self.index.applied() is None
        if last.segment_id not in segment_ids(self._root):
            return False
        segment = Segment.open(self.disk, self._root, last.segment_id)
        header = self.disk.pread(segment.descriptor, len(last.header), last.offset)
        if len(header) != len(last.header):
            return False
        return sum(a != b for a, b in zip(header, last.header, strict=True)) < CHECKSUM_BYTES

    def _write_state(self, state: str) -> None:
        self._write(self._path / "index" / "state", state.encode())

    def _write(self, path: Path, content: bytes) -> None:
        """Replace a small file so that a power cut leaves the old or the new one."""
        temporary = path.with_suffix(".new")
        descriptor = self.disk.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            self.disk.pwrite_all(descriptor, (content,), 0)
            self.disk.sync(descriptor)
        finally:
            self.disk.close(descriptor)
        self.disk.rename(temporary, path)
        self.disk.sync_directory(path.parent)


def _lock_folder(path: Path) -> int:
    """Take the folder for this process; its lock goes with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        message = f"{path.parent} is in use by process {holder or 'unknown'}"
        raise UnavailableError(message) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
