"""Blobs that are read again and again, while their segments change, close and rot."""

from pathlib import Path

import pytest
from log_steps import flip, put_blob, segments

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.log.log import Log
from holdfast.log.record import HEADER_BYTES
from holdfast.log.spot import Spot, find
from holdfast.stores.segments import SegmentStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Not in memory: a file system there cannot say what would have to be waited for."""
    return tmp_path / "store"


@pytest.fixture
def room() -> memoryview:
    return memoryview(bytearray(100 * limits.KIB))


def spot_of(log: Log, digest: Digest) -> Spot:
    """A spot in a segment that is open."""
    SegmentStore(log).open(digest)
    spot = find(log, digest)
    assert spot is not None
    return spot


def read(spot: Spot, room: memoryview) -> bytes | None:
    found = spot.read(room)
    return None if found is None else bytes(found)


@pytest.mark.parametrize("size_bytes", [0, 1, 1000, 99 * limits.KIB])
def test_a_spot_reads_its_blob_again_and_again(
    folder: Path, room: memoryview, size_bytes: int
) -> None:
    data = bytes(range(256)) * (size_bytes // 256) + bytes(size_bytes % 256)
    with Log(folder) as log:
        spot = spot_of(log, put_blob(log, data))
        assert spot.record_bytes == HEADER_BYTES + size_bytes
        for _ in range(3):
            room[:] = bytes(len(room))
            assert read(spot, room) == data


def test_there_is_no_spot_of_a_blob_that_the_log_does_not_have(folder: Path) -> None:
    with Log(folder) as log:
        assert find(log, Digest.of(b"elsewhere")) is None


@pytest.mark.parametrize("times", [0, 1, 2])
def test_every_byte_of_the_record_is_verified_each_time(
    folder: Path, room: memoryview, times: int
) -> None:
    """Damage in what a read has no use for, such as the durable line, may pass the first read."""
    with Log(folder) as log:
        put_blob(log, b"before")
        spot = spot_of(log, put_blob(log, b"blob"))
        size_bytes = segments(folder)[0].stat().st_size
        data = segments(folder)[0].read_bytes()
        offset = data.index(b"blob") - HEADER_BYTES
        assert offset + spot.record_bytes < size_bytes
        for at in range(spot.record_bytes):
            spot = spot_of(log, Digest.of(b"blob"))
            for _ in range(times):
                assert read(spot, room) == b"blob"
            flip(segments(folder)[0], offset + at)
            assert read(spot, room) in ((None,) if times else (None, b"blob"))
            flip(segments(folder)[0], offset + at)
            assert read(spot, room) in (b"blob", None)


def test_a_spot_opens_no_segment(folder: Path, room: memoryview) -> None:
    with Log(folder) as log:
        digest = put_blob(log, b"blob")
    with Log(folder) as log:
        spot = find(log, digest)
        assert spot is not None
        assert read(spot, room) is None
        assert SegmentStore(log).open(digest) is not None
        assert read(spot, room) == b"blob"
