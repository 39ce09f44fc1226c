"""Hints: what a finished segment does to the index, sorted (docs/format.md, "Hints").

A rebuild merges the hints of all finished segments and appends the result to the index: it reads
far less than the log, decodes no record and looks nothing up. A hint is a copy of what its segment
says and never more than that: one that is missing, damaged or not this segment's is made again
from the segment, and the bytes of blobs are verified against their records on every read.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from holdfast.core import limits
from holdfast.core.digest import DIGEST_BYTES
from holdfast.log.blocks import BlockFile, DamagedError, Span
from holdfast.log.changes import TABLES, Changes, columns
from holdfast.log.index import LOCATION, POSITION, REVISION_BYTES, STAMP_BYTES, Position
from holdfast.log.live import worth
from holdfast.log.merge import merge
from holdfast.log.record import NUMBER_MAX
from holdfast.log.scan import Damage, Scan
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import Segment, map_disk_error, segment_path
from holdfast.log.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from holdfast.core.seams import Disk
    from holdfast.log.changes import Columns
    from holdfast.log.segment import SegmentHeader

MAGIC = b"\x89HFHNT\r\n"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQ5QQ")
HEADER_BYTES = HEADER.size
NAME = re.compile(r"([0-9]{20})\.hint(\.new|\.run)?")
RUN_BYTES = 2 * limits.MIB  # of places and commits, sorted at once; more runs are merged
PAUSE_BYTES = 64 * limits.KIB  # of places and commits between two pauses of the maker
WINDOW_BYTES = 256 * limits.KIB

assert HEADER_BYTES == 88


class Shape(NamedTuple):
    """What lengths keys and values of a table have, from and to."""

    keys: tuple[int, int]
    values: tuple[int, int]

    def fits(self, keys: list[bytes], values: list[bytes | None]) -> bool:
        """Whether all have."""
        present = [value for value in values if value is not None] if None in values else values
        return _are_within(keys, self.keys) and _are_within(present, self.values)


def _are_within(texts: Sequence[bytes | None], bounds: tuple[int, int]) -> bool:
    sizes = set(map(len, texts)) or {bounds[0]}  # type: ignore[arg-type]  # no None is left
    return bounds[0] <= min(sizes) and max(sizes) <= bounds[1]


SHAPES = (
    Shape((DIGEST_BYTES, DIGEST_BYTES), (LOCATION.size, LOCATION.size)),
    Shape((1, limits.KV_KEY_BYTES_MAX), (STAMP_BYTES, STAMP_BYTES + limits.KV_VALUE_BYTES_MAX)),
    Shape((REVISION_BYTES, REVISION_BYTES), (POSITION.size, POSITION.size)),
)


class Facts(msgspec.Struct, array_like=True, frozen=True):
    """What a segment holds beside its tables; members are only ever added at the end."""

    records: int
    commits: int
    revision: int
    """The newest one; 0 when there is no commit."""
    last: int | None
    """Where the last record begins."""
    damages: list[tuple[int, int]]
    """Offsets and sizes."""
    others: list[int]
    """Offsets of records that change no table: manifests, drops."""
    first: int
    """The first revision; 0 when there is no commit."""
    gap: int
    """The revision behind the last one that is missing between others; 0 when none is."""
    deletion_bytes: int
    live_bytes: int
    """Of all pairs in the tables, as in the accounts."""

    def are_possible(self) -> bool:
        """Whether all numbers are such that the index can hold them."""
        sums = (self.deletion_bytes, self.live_bytes)
        numbers = (self.revision, self.first, self.gap, *sums, *self.others)
        return all(0 <= number < NUMBER_MAX for number in numbers)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Facts).decode


def hint_path(root: Path, segment_id: int) -> Path:
    """Where the hint of a segment lies."""
    return segment_path(root, segment_id).with_suffix(".hint")


class Hint:
    """The hint of one segment, open; its blocks are checked when they are read."""

    def __init__(self, disk: Disk, path: Path, segment: SegmentHeader, end: int) -> None:
        """Open the hint of a segment of which all before `end` is part of the log.

        Raises:
            DamagedError: it is no hint, or that of another segment, or of other bytes.
            OSError: it cannot be read, or is not there.
        """
        self._disk = disk
        self._descriptor = disk.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._file = BlockFile(disk, self._descriptor, segment.salt)
        self.path = path
        self.segment_id = segment.id
        self.end = end
        header = disk.pread(self._descriptor, HEADER_BYTES, 0)
        self.size_bytes = os.fstat(self._descriptor).st_size
        starts = unpack_header(header, segment, end, self.size_bytes)
        self._spans = [Span(*pair) for pair in pairwise(starts)]
        try:
            self.facts = _decode(self._file.read(*self._spans[-1]))
        except msgspec.DecodeError as error:
            raise DamagedError from error
        if not self.facts.are_possible():
            raise DamagedError

    def table(self, number: int) -> Iterator[Columns]:
        """One of the tables of `Changes`, as blocks.

        Raises:
            DamagedError: it is not what was written.
            OSError: it cannot be read.
        """
        for keys, values in self._file.read_table(self._spans[number]):
            if not SHAPES[number].fits(keys, values):
                raise DamagedError
            yield keys, values

    @property
    def read_bytes(self) -> int:
        """How much of it was read so far."""
        return self._file.read_bytes

    @property
    def damages(self) -> list[Damage]:
        """What the segment had when the hint was made."""
        return [Damage(self.segment_id, *extent) for extent in self.facts.damages]

    def __del__(self) -> None:
        """Close the descriptor."""
        if hasattr(self, "_descriptor"):
            self._disk.close(self._descriptor)


def sweep_hints(disk: Disk, root: Path, segment_ids: Sequence[int]) -> None:
    """Remove hints of segments that are gone, and what a killed process left of others.

    Nobody else may have the log open. What cannot be removed stays: it is in nobody's way.
    """
    for path in root.iterdir():
        name = NAME.fullmatch(path.name)
        if name and (name[2] or int(name[1]) not in segment_ids):
            with suppress(OSError):
                disk.unlink(path)


def pack_header(segment: SegmentHeader, end: int, starts: Sequence[int]) -> bytes:
    """Encode the header: `starts` are the offsets of all sections, and the size of the file."""
    packed = HEADER.pack(MAGIC, VERSION, HEADER_BYTES, segment.id, segment.salt, end, *starts, 0)
    return packed[:-8] + xxh3_64_intdigest(packed[:-8]).to_bytes(8, "little")


def unpack_header(data: bytes, segment: SegmentHeader, end: int, size_bytes: int) -> list[int]:
    """Check a header, and give where the sections begin and where the last one ends.

    Raises:
        DamagedError: it is not the one that a hint of this segment has.
    """
    if len(data) != HEADER_BYTES:
        raise DamagedError
    starts = list(HEADER.unpack(data)[6:-1])
    is_whole = data == pack_header(segment, end, starts) and starts[-1] == size_bytes
    if not is_whole or [HEADER_BYTES, *starts[1:]] != sorted(starts):
        raise DamagedError
    return starts


def hinted_salt(disk: Disk, root: Path, segment_id: int) -> int | None:
    """The salt of a segment as its hint has it, for when its own header is damaged."""
    try:
        descriptor = disk.open(hint_path(root, segment_id), os.O_RDONLY | os.O_NONBLOCK)
        try:
            data = disk.pread(descriptor, HEADER_BYTES, 0)
        finally:
            disk.close(descriptor)
    except OSError:
        return None
    if len(data) != HEADER_BYTES or data[-8:] != xxh3_64_intdigest(data[:-8]).to_bytes(8, "little"):
        return None
    magic, version, _, hinted_id, salt, *_ = HEADER.unpack(data)
    return salt if (magic, version, hinted_id) == (MAGIC, VERSION, segment_id) else None


def make_hint(
    disk: Disk, root: Path, segment: Segment, end: int, run_bytes: int = RUN_BYTES
) -> Iterator[int]:
    """Read a finished segment and write its hint, in small steps.

    Each step gives how many bytes it read or wrote. A hint that is there is replaced once the new
    one is whole and synced. A step that is not taken leaves nothing behind, nor does an error.

    Raises:
        DamagedError: the segment is damaged in so many places that it is not worth it.
        OSError: the disk refuses.
    """
    with ExitStack() as undo:
        making = _Making(disk, root, segment, end, undo)
        yield from making.gather(run_bytes)
        yield from making.write()
        making.publish()


def make_missing_hints(disk: Disk, root: Path, ends: Mapping[int, int]) -> Iterator[int]:
    """Make the hints of finished segments that have none, good or bad, in small steps.

    `ends` says of each where it ends.

    Raises:
        FullError, UnavailableError: the disk refuses; those that were made are good.
    """
    for segment_id, end in ends.items():
        try:
            if not hint_path(root, segment_id).exists():
                segment = Segment.open(disk, root, segment_id)
                yield from make_hint(disk, root, segment, end)
        except (DamagedError, FileExistsError, FileNotFoundError):
            continue  # it is not worth it, or being made, or compaction dropped the segment
        except OSError as error:
            raise map_disk_error(error, "cannot make a hint") from error


class _Making:
    """A hint on its way; `undo` closes and removes its temporary files."""

    def __init__(self, disk: Disk, root: Path, segment: Segment, end: int, undo: ExitStack) -> None:
        self._disk = disk
        self._segment = segment
        self._end = end
        self._undo = undo
        self._path = hint_path(root, segment.header.id)
        self._temporary = self._path.with_suffix(".hint.new")
        self._descriptor = self._open(self._temporary)
        self._file = BlockFile(disk, self._descriptor, segment.header.salt)
        self._runs: list[list[Span]] = []
        self._scratch: BlockFile | None = None
        self._scratch_end = 0
        self._live_bytes = 0
        self._step = Step(Position(segment.header.id, FIRST_OFFSET, 0))

    def _open(self, path: Path) -> int:
        descriptor = self._disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._undo.callback(self._remove, path)
        self._undo.callback(self._disk.close, descriptor)
        return descriptor

    def _remove(self, path: Path) -> None:
        with suppress(OSError):
            self._disk.unlink(path)

    def gather(self, run_bytes: int) -> Iterator[int]:
        """Read the segment; put what was gathered into a run whenever that is large enough."""
        step, more = self._step, True
        scan = Scan(self._disk, self._segment, self._end, WINDOW_BYTES)
        while more:
            start = step.offset
            size_bytes = min(step.size_bytes + PAUSE_BYTES, run_bytes)
            more = step.fill(scan, size_bytes, span_bytes=WINDOW_BYTES)
            if len(step.damages) + len(step.others) > limits.DAMAGES_MAX:
                raise DamagedError
            if more and step.size_bytes >= run_bytes:
                self._spill(step)
            yield step.offset - start

    def _spill(self, step: Step) -> None:
        """Write what was gathered to a file that has no name any more."""
        if self._scratch is None:
            path = self._path.with_suffix(".hint.run")
            self._scratch = BlockFile(self._disk, self._open(path), self._segment.header.salt)
        run: list[Span] = []
        for table in step.changes.tables:
            start = self._scratch_end
            for end in self._scratch.write_table(start, [columns(table)]):
                self._scratch_end = end
            run.append(Span(start, self._scratch_end))
        self._runs.append(run)
        step.changes, step.size_bytes = Changes(), 0

    def write(self) -> Iterator[int]:
        """Merge the runs into tables, and write these and the facts."""
        offset = HEADER_BYTES
        starts: list[int] = []
        for number in TABLES:
            starts.append(offset)
            for end in self._file.write_table(offset, self._merged(number)):
                yield end - offset
                offset = end
        starts.append(offset)
        offset = self._file.write(offset, _encode(self._facts()))
        header = pack_header(self._segment.header, self._end, [*starts, offset])
        self._disk.pwrite_all(self._descriptor, (header,), 0)

    def _merged(self, number: int) -> Iterator[Columns]:
        for keys, values in merge(self._sources(number)):
            self._live_bytes += worth(number, keys, values)
            yield keys, values

    def _sources(self, number: int) -> Iterator[Iterator[Columns]]:
        for run in self._runs:
            assert self._scratch is not None
            yield self._scratch.read_table(run[number])
        rest = columns(self._step.changes.tables[number])
        yield iter([rest] if rest[0] else [])

    def _facts(self) -> Facts:
        step = self._step
        damages = [(each.offset, each.size_bytes) for each in step.damages]
        revision = step.position.revision
        return Facts(
            step.records,
            step.commits,
            revision,
            step.last,
            damages,
            step.others,
            step.first,
            step.gap,
            step.deletion_bytes,
            self._live_bytes,
        )

    def publish(self) -> None:
        """Make the hint survive a power cut under its name.

        Raises:
            OSError: the disk refuses; FileNotFoundError when the segment is gone by now.
        """
        self._disk.sync(self._descriptor)
        self._disk.rename(self._temporary, self._path)
        if not self._segment.path.exists():  # whoever removed it has looked for the hint before
            self._disk.unlink(self._path)
            raise FileNotFoundError(errno.ENOENT, "the segment is gone")
        self._disk.sync_directory(self._path.parent)
