"""The log as a medium: every segment is a region, read record by record past the page cache.

A record is sound when its header and payload fit their checksums, and a blob's payload also its
SHA-256. Of damage, the place is told, and every blob that the index expects there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import CorruptError, NotFoundError, UnavailableError
from holdfast.core.fresh import WHOLE_FILE, FreshDisk
from holdfast.core.inspection import Finding, Place, Region, Seen
from holdfast.log.reading import payload_of
from holdfast.log.record import HEADER_BYTES, RAW, Kind, unpack, unpack_trusted
from holdfast.log.scan import Damage, Scan, header_damage
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET
from holdfast.log.segment import NAME, Segment, map_disk_error, segment_path
from holdfast.log.torn import torn_tails

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from holdfast.core.seams import Buffer
    from holdfast.log.index import Location
    from holdfast.log.log import Log
    from holdfast.log.scan import Record

    IsBlob = Callable[[Digest, Buffer], bool]

READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK
NAME_OFFSET = 20  # in the header of a record
PAGE_BYTES = 64 * limits.KIB  # what a page of the index counts for, when it is searched


class LogMedium:
    """The segments of an open log."""

    def __init__(self, log: Log, is_blob: IsBlob | None = None) -> None:
        """Look at a log; `is_blob` says whether a payload is the blob of that name."""
        self._log = log
        self._is_blob = is_blob or _has_digest

    def regions(self) -> list[Region]:
        """The segments, oldest first."""
        return [Region(_name(number), end) for number, end in self._log.stretches().items()]

    def inspect(self, region: str, start: int, wanted: Container[bytes] = ()) -> Iterator[Seen]:
        """Read a segment, up to where the log ends when it begins."""
        match = NAME.fullmatch(region.rpartition("/")[2])
        assert match is not None
        number = int(match[1])
        end = self._log.stretches().get(number)
        if end is None:
            raise NotFoundError("no such segment", region=region)
        try:
            reading = _Reading(self._log, number, end, wanted)
            reading.is_blob = self._is_blob
            yield from reading.run(start)
        except OSError as error:
            raise UnavailableError(f"cannot read {region}: {error.strerror}") from error

    def place(self, digest: Digest) -> Place | None:
        """The record that the index names."""
        found = self._log.index.locate(digest)
        return None if found is None else Place(_name(found.segment_id), found.offset, 0)

    def is_sound(self, digest: Digest) -> bool:
        """Read the record that the index names."""
        found = self._log.index.locate(digest)
        if found is None:
            return False
        disk = FreshDisk(self._log.disk)
        try:
            segment = Segment.open(disk, self._log.root, found.segment_id)
            data = disk.pread(segment.descriptor, found.record_bytes, found.offset)
        except (CorruptError, OSError):
            return False
        payload = payload_of(memoryview(data), digest, found)
        return payload is not None and self._is_blob(digest, payload)

    def copies(self, digest: Digest, size_bytes: int | None) -> Iterator[Iterator[Buffer]]:
        """What the page cache has of the record that the index names; then torn tails.

        Neither needs a header that is whole: the digest decides.
        """
        del size_bytes
        found = self._log.index.locate(digest)
        payload = None if found is None else self._payload(found)
        if payload is not None:
            yield iter((payload,))
        for path in torn_tails(self._log.root):
            payload = _torn_payload(path, digest)
            if payload is not None:
                yield iter((payload,))

    def forget(self, digest: Digest) -> None:
        """Drop the whole segment from the page cache, which drops nothing smaller for sure."""
        found = self._log.index.locate(digest)
        if found is None:
            return
        disk = self._log.disk
        with suppress(OSError):
            descriptor = disk.open(segment_path(self._log.root, found.segment_id), READ_FLAGS)
            try:
                disk.forget(descriptor, 0, WHOLE_FILE)
            finally:
                disk.close(descriptor)

    def discard(self, digest: Digest, quarantine: Path) -> None:
        """Keep the payload as a file, and append the removal of the blob."""
        found = self._log.index.locate(digest)
        if found is None:
            return
        payload = self._payload(found)
        if payload:
            self._keep(quarantine, f"{digest.hex()}.bytes", payload)
        self._log.submit(lambda batch: batch.remove_blobs([digest]), len(digest)).result()

    def _payload(self, place: Location) -> bytes | None:
        """Read what is behind the header of a record, whatever that of its segment says."""
        disk = self._log.disk
        try:
            descriptor = disk.open(segment_path(self._log.root, place.segment_id), READ_FLAGS)
            try:
                return disk.pread(descriptor, place.payload_bytes, place.offset + HEADER_BYTES)
            finally:
                disk.close(descriptor)
        except OSError:
            return None

    def _keep(self, folder: Path, name: str, data: bytes) -> None:
        disk = self._log.disk
        try:
            disk.make_directory(folder)
            descriptor = disk.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                disk.pwrite_all(descriptor, (data,), 0)
                disk.sync(descriptor)
            finally:
                disk.close(descriptor)
            disk.sync_directory(folder)
        except OSError as error:
            raise map_disk_error(error) from error


class _Reading:
    """One segment on its way through; position and counters are those of the next `Seen`."""

    def __init__(self, log: Log, number: int, end: int, wanted: Container[bytes]) -> None:
        self._log = log
        self._disk = FreshDisk(log.disk)
        self._number = number
        self._end = end
        self._wanted = wanted
        self.is_blob: IsBlob = _has_digest
        self._damages: list[Damage] = []
        self._position = 0
        self._begin()

    def _begin(self) -> None:
        self._size_bytes = 0
        self._blobs = 0
        self._findings: list[Finding] = []
        self._copies: list[tuple[Digest, bytes]] = []

    def run(self, start: int) -> Iterator[Seen]:
        try:
            segment = Segment.open(self._disk, self._log.root, self._number)
        except (CorruptError, FileNotFoundError) as error:
            if self._number not in self._log.stretches():
                return  # compaction dropped it
            self._note(Damage(self._number, 0, self._end), getattr(error, "message", "it is gone"))
        else:
            yield from self._records(segment, max(start, FIRST_OFFSET))
        yield self._seen()
        if self._damages:
            yield from self._search()
            self._position = self._end
            yield self._seen()

    def _records(self, segment: Segment, start: int) -> Iterator[Seen]:
        for damage in header_damage(self._disk, segment):
            self._note(damage, "the header of the segment is damaged")
        self._position = at = start
        for found in Scan(self._disk, segment).records(start):
            if found.offset >= self._end:
                break
            at = found.end
            if isinstance(found, Damage):
                self._note(found, self._describe(segment, found))
                self._size_bytes += found.size_bytes
            else:
                self._take(found)
            if self._size_bytes >= limits.STEP_BYTES_MAX:
                yield self._seen()
        if at < self._end:
            self._note(Damage(self._number, at, self._end - at), "the rest of the segment is gone")

    def _take(self, record: Record) -> None:
        header = record.header
        self._size_bytes += HEADER_BYTES + header.payload_bytes
        if header.kind == Kind.BLOB and header.codec == RAW:
            if not self.is_blob(Digest(header.name), record.payload):
                self._note(
                    Damage(self._number, record.offset, record.end - record.offset),
                    "the blob of this record has another digest",
                )
                return
            self._blobs += 1
            if header.name in self._wanted:
                self._copies.append((Digest(header.name), bytes(record.payload)))
        if not self._damages:
            self._position = record.end

    def _note(self, damage: Damage, why: str) -> None:
        """Remember damage; the position stays before it, should this reading break off."""
        self._damages.append(damage)
        place = Place(_name(self._number), damage.offset, 0)
        where = f"{place.region} offset {place.position}"
        self._findings.append(Finding("record", where, why, place=place))

    def _describe(self, segment: Segment, damage: Damage) -> str:
        data = self._disk.pread(segment.descriptor, HEADER_BYTES, damage.offset)
        header = unpack(data, segment.header.salt, damage.offset)
        what = "are no valid record"
        if header is not None and header.kind in set(Kind):
            what = f"are a damaged record ({Kind(header.kind).name.lower()})"
        return f"{damage.size_bytes} bytes {what}"

    def _search(self) -> Iterator[Seen]:
        """Look through the index for blobs in damaged places."""
        after = b""
        while page := self._log.index.blobs(after, limits.BATCH_REFS_MAX):
            for digest, location in page:
                if location.segment_id == self._number and self._is_damaged(location):
                    self._findings.append(_damaged_blob(digest, location))
            after = page[-1][0]
            self._size_bytes = PAGE_BYTES
            yield self._seen()

    def _is_damaged(self, location: Location) -> bool:
        end = location.offset + HEADER_BYTES + location.payload_bytes
        return any(location.offset < each.end and each.offset < end for each in self._damages)

    def _seen(self) -> Seen:
        seen = Seen(
            self._position,
            self._size_bytes,
            self._blobs,
            findings=tuple(self._findings),
            copies=tuple(self._copies),
        )
        self._begin()
        return seen


def _has_digest(digest: Digest, payload: Buffer) -> bool:
    return Digest.of(payload) == digest


def _torn_payload(path: Path, digest: Digest) -> bytes | None:
    """Find the payload of a blob in what recovery cut off a segment."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    at = data.find(digest) - NAME_OFFSET
    if at < 0 or len(data) < at + HEADER_BYTES:
        return None
    _, payload_bytes, _ = unpack_trusted(data[at : at + HEADER_BYTES])
    return data[at + HEADER_BYTES : at + HEADER_BYTES + payload_bytes]


def _damaged_blob(digest: Digest, location: Location) -> Finding:
    place = Place(_name(location.segment_id), location.offset, 0)
    why = f"its record is damaged: {place.region} offset {place.position}"
    return Finding("blob", str(digest), why, str(digest), place)


def _name(number: int) -> str:
    return segment_path(Path("log"), number).as_posix()
