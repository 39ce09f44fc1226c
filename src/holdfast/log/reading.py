"""Blobs out of segments: many at once, in the order of their places, neighbours with one read.

`file_refs` says where they lie instead, after a look at the header of each record alone.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from holdfast.core import limits
from holdfast.core.errors import BlobError, CorruptError, UnavailableError, bare
from holdfast.core.store import FileRef
from holdfast.log.record import HEADER_BYTES, Kind, checksum, unpack, unpack_trusted
from holdfast.log.segment import HEADER_BYTES as FIRST_OFFSET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from holdfast.core.digest import Digest
    from holdfast.core.seams import Disk
    from holdfast.log.index import Location
    from holdfast.log.log import Log
    from holdfast.log.record import Header
    from holdfast.log.segment import Segment

RUN_BYTES_MAX = limits.MIB  # read at once
FAR_AHEAD_US = 1 << 62
SECOND_US = 1_000_000
GAP_BYTES_MAX = 4 * limits.KIB  # read over rather than read twice

Placed = tuple["Digest", "Location"]
Run = list[Placed]


def payload_of(record: memoryview, digest: bytes, place: Location) -> memoryview | None:
    """The payload of the record of a blob; None when it is not what the index promised."""
    if len(record) != HEADER_BYTES + place.payload_bytes:
        return None
    name, payload_bytes, payload_sum = unpack_trusted(record)
    payload = record[HEADER_BYTES:]
    is_expected = name == digest and payload_bytes == place.payload_bytes
    return payload if is_expected and checksum(payload) == payload_sum else None


def read_many(log: Log, places: Mapping[Digest, Location]) -> dict[Digest, memoryview]:
    """Read and verify payloads; those that cannot be read, or are damaged, are left out."""
    sound: dict[Digest, memoryview] = {}
    for run in _runs(places):
        start = run[0][1].offset
        try:
            segment = log.segments.get(run[0][1].segment_id)
            data = log.disk.pread(segment.descriptor, _end(run[-1][1]) - start, start)
        except (OSError, BlobError):
            continue
        view = memoryview(data)
        for digest, place in run:
            record = view[place.offset - start : _end(place) - start]
            payload = payload_of(record, digest, place)
            if payload is not None:
                sound[digest] = payload
    return sound


def file_refs(log: Log, places: Mapping[Digest, Location]) -> dict[Digest, FileRef | BlobError]:
    """Say where payloads lie; each segment's name and each record's header are checked.

    Those whose segment is gone are left out: compaction has moved them.
    """
    found: dict[Digest, FileRef | BlobError] = {}
    for segment_id, group in groupby(_in_order(places), lambda placed: placed[1].segment_id):
        members = list(group)
        try:
            segment = log.segments.get(segment_id)
            segment.check_path()
            found |= {digest: _file_ref(log.disk, segment, digest, at) for digest, at in members}
        except FileNotFoundError:
            continue
        except OSError as error:
            refused = UnavailableError(f"cannot read a segment: {error.strerror}")
            found |= {digest: refused for digest, _ in members}
        except BlobError as error:
            found |= {digest: bare(error) for digest, _ in members}
    return found


def _file_ref(
    disk: Disk, segment: Segment, digest: Digest, place: Location
) -> FileRef | CorruptError:
    header = _header(disk, segment, place.offset)
    wanted = (Kind.BLOB, place.codec, place.payload_bytes, place.content_bytes)
    is_whole = _end(place) <= segment.size_bytes
    if header is None or header[:4] != wanted or header.name != digest or not is_whole:
        return damaged(digest, place)
    return FileRef(segment.path, place.offset + HEADER_BYTES, place.payload_bytes)


def stored_us(log: Log, places: Mapping[Digest, Location]) -> dict[Digest, int]:
    """When blobs were stored at the latest, in microseconds since 1970; far ahead in doubt.

    Records of format 1 have no age: they are as young as the segment behind theirs.
    """
    following = dict(pairwise(log.index.accounts.rows()))
    times = dict.fromkeys(places, FAR_AHEAD_US)
    for segment_id, group in groupby(_in_order(places), lambda placed: placed[1].segment_id):
        with suppress(OSError, BlobError):
            segment = log.segments.get(segment_id)
            made_us = segment.header.created_us if _has_ages(log.disk, segment) else 0
            if not made_us and segment_id in following:
                latest_us = log.segments.get(following[segment_id]).header.created_us
                times |= {digest: latest_us or FAR_AHEAD_US for digest, _ in group}
            for digest, place in group if made_us else ():
                header = _header(log.disk, segment, place.offset)
                if header is not None:
                    times[digest] = made_us + (header.age_s + 1) * SECOND_US
    return times


def _has_ages(disk: Disk, segment: Segment) -> bool:
    """Whether a segment is of format 2, and so begins with a manifest."""
    first = _header(disk, segment, FIRST_OFFSET)
    return first is not None and first.kind == Kind.MANIFEST


def _header(disk: Disk, segment: Segment, offset: int) -> Header | None:
    data = disk.pread(segment.descriptor, HEADER_BYTES, offset)
    return unpack(data, segment.header.salt, offset)


def damaged(digest: bytes, place: Location) -> CorruptError:
    """Say that a record is not what the index promised."""
    return CorruptError(
        "a stored blob is damaged",
        digest=digest.hex(),
        segment=place.segment_id,
        offset=place.offset,
    )


def _in_order(places: Mapping[Digest, Location]) -> list[Placed]:
    """Sort as the log has them."""
    return sorted(places.items(), key=lambda placed: placed[1][:2])


def _runs(places: Mapping[Digest, Location]) -> Iterator[Run]:
    """Put neighbours together, in the order of the log."""
    run: Run = []
    for digest, place in _in_order(places):
        if run and not _is_near(run, place):
            yield run
            run = []
        run.append((digest, place))
    if run:
        yield run


def _is_near(run: Run, place: Location) -> bool:
    first, last = run[0][1], run[-1][1]
    is_same = place.segment_id == last.segment_id
    gap_bytes = place.offset - _end(last)
    return is_same and gap_bytes <= GAP_BYTES_MAX and _end(place) - first.offset <= RUN_BYTES_MAX


def _end(place: Location) -> int:
    return place.offset + HEADER_BYTES + place.payload_bytes
