"""Parsers of what lies on the disk, under bytes that nobody wrote: an answer, an error, no more.

Segments are edited at random: cut, grown, spliced from themselves and from others. And records are
forged whose checksums are right and whose payloads are not, as a defect of ours would leave them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from proofs import Prove

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, UnsupportedError
from holdfast.core.kv import Delete, Put
from holdfast.core.seams import Disk
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log import record, segment
from holdfast.log.batch import Batch
from holdfast.log.compaction import compact
from holdfast.log.log import Log
from holdfast.log.record import Header, Kind
from holdfast.log.scan import Damage, Record, Scan
from holdfast.stores import footer
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.folders import quick_folder

QUICK_EXAMPLES = 60
SLOW_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5000"))
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "zero", "insert", "repeat", "foreign", "end", "swap"]),
        st.integers(0, 1 << 16),
        st.integers(0, 1 << 12),
        st.binary(max_size=100),
    ),
    min_size=1,
    max_size=6,
)


def some(examples: int) -> settings:
    """So many examples, however slow."""
    checks = list(HealthCheck)
    return settings(max_examples=examples, deadline=None, suppress_health_check=checks)


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """A closed log with every kind of record."""
    with quick_folder() as folder:
        yield fill(folder / "store")


def fill(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch, Log(folder) as log:
        patch.setattr(limits, "SEGMENT_BYTES_MAX", 4000)
        patch.setattr(limits, "BATCH_BYTES_MAX", 2000)
        patch.setattr(limits, "RESERVE_BYTES", 300)
        patch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4096)
        for number in range(12):
            data = b"%d" % number * (number * 10)
            digest = Digest.of(data)
            log.submit(partial(store, digest, data), 0).result()
            EmbeddedKV(log).commit([], [Put(b"k%d" % (number % 5), data)]).result()
        EmbeddedKV(log).commit([], [Delete(b"k1")]).result()
        SegmentStore(log).remove([Digest.of(b"1" * 10)])
        patch.setattr(limits, "COMPACT_DEAD_BYTES_MIN", 100)
        for _ in compact(log, 0.1):
            pass
    shutil.rmtree(folder / "index")
    return folder


def store(digest: Digest, data: bytes, batch: Batch) -> None:
    batch.add_blob(digest, data, len(data), 0)


def edit(data: bytes, edits: list[tuple[str, int, int, bytes]], other: bytes) -> bytes:
    """Change bytes as no disk would, and as some do."""
    for what, place, size, extra in edits:
        at = place % (len(data) + 1)
        end = min(len(data), at + size)
        source = place * 7 % (len(data) + 1)
        middle = {
            "flip": bytes(byte ^ 1 << place % 8 for byte in data[at : at + 1]) + data[at + 1 : end],
            "cut": b"",
            "zero": bytes(end - at),
            "insert": extra + data[at:end],
            "repeat": data[source : source + size] + data[at:end],
            "foreign": other[source : source + end - at],
            "end": extra,
            "swap": data[source : source + end - at],
        }[what]
        data = data[:at] + middle + (b"" if what == "end" else data[end:])
    return data


def scanned(folder: Path, data: bytes, segment_id: int) -> list[Record | Damage] | None:
    """What a segment of these bytes holds; None if its header is beyond help."""
    path = segment.segment_path(folder / "log", segment_id)
    path.write_bytes(data)
    try:
        opened = segment.Segment.open(Disk(), folder / "log", segment_id)
    except CorruptError:
        return None
    return list(Scan(Disk(), opened).records(segment.HEADER_BYTES))


@contextmanager
def copy_of(original: Path) -> Iterator[Path]:
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def fuzz_segment(original: Path, examples: int) -> None:
    """A segment of any bytes is records and damage without gaps.

    Whatever is taken for a record is one that was written, in its place.
    """
    paths = sorted((original / "log").glob("*.seg"))
    first, second = (path.read_bytes() for path in paths[-2:])
    number = int(paths[-2].stem)
    with copy_of(original) as folder:
        written = set()
        for each in scanned(folder, first, number) or []:
            assert isinstance(each, Record)
            written.add((each.offset, each.header, bytes(each.payload)))
        assert len(written) > 5

        @some(examples)
        @given(EDITS)
        def fuzz(edits: list[tuple[str, int, int, bytes]]) -> None:
            data = edit(first, edits, second)
            found = scanned(folder, data, number)
            if not found:
                return
            assert found[0].offset == segment.HEADER_BYTES
            assert all(a.end == b.offset for a, b in pairwise(found))
            assert not data[found[-1].end :].strip(b"\x00")
            for each in found:
                if isinstance(each, Record):
                    assert (each.offset, each.header, bytes(each.payload)) in written
                else:
                    assert 0 < each.size_bytes <= len(data)

        fuzz()


def fuzz_log(original: Path, examples: int) -> None:
    """A log of any bytes opens or says why not, and nothing is read that was not written."""
    paths = sorted(path.name for path in (original / "log").glob("*.seg"))

    @some(examples)
    @given(st.sampled_from(paths), st.sampled_from(paths), EDITS)
    def fuzz(name: str, other: str, edits: list[tuple[str, int, int, bytes]]) -> None:
        with copy_of(original) as folder:
            foreign = (folder / "log" / other).read_bytes()
            path = folder / "log" / name
            path.write_bytes(edit(path.read_bytes(), edits, foreign))
            live(folder)

    fuzz()


def live(folder: Path) -> None:
    """Open what may be damaged, read everything, write something, open it again."""
    try:
        log = Log(folder)
    except BlobError:
        return
    with log:
        blobs, kv = SegmentStore(log), EmbeddedKV(log)
        for ref in blobs.scan():
            try:
                data = read(blobs, ref.digest)
            except BlobError:
                continue
            assert data is not None
            assert Digest.of(data) == ref.digest
        kv.scan(b"", b"\xff", limit=1000)
        kv.commit([], [Put(b"new", b"value")]).result()
    with Log(folder) as log:
        new = EmbeddedKV(log).get(b"new")
        assert new is not None
        assert new.value == b"value"


PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    ).map(msgspec.msgpack.encode),
)


FORGED = [
    [],
    [[]],
    [[[b"k" * 5000, b"v"]]],
    [[[b"", b"v"]]],
    [2**64 - 1, [[1, 2**64 - 1]]],
    [[2**64 - 1, b"k", b"v"]],
    [1, 2, 3, 2**63],
]
KINDS = [*(set(Kind) - {Kind.BLOB}), 0, 8, 255]


def fuzz_records(original: Path, examples: int) -> None:
    """A record of any payload opens or says why not; only that is wrong, not its checksums."""

    @some(examples)
    @given(st.sampled_from(KINDS), PAYLOADS, st.binary(min_size=32, max_size=32))
    def fuzz(kind: int, payload: bytes, name: bytes) -> None:
        with copy_of(original) as folder:
            append(folder, kind, payload, name)
            live(folder)

    for kind in KINDS:
        for payload in map(msgspec.msgpack.encode, FORGED):
            fuzz = example(kind, payload, bytes(32))(fuzz)
    fuzz()


def append(folder: Path, kind: int, payload: bytes, name: bytes) -> None:
    """Forge a record at the end of the newest segment."""
    path = max((folder / "log").glob("*.seg"))
    opened = segment.Segment.open(Disk(), folder / "log", int(path.stem))
    end = list(Scan(Disk(), opened).records(segment.HEADER_BYTES))[-1].end
    fields: dict[str, Any] = {
        "kind": kind,
        "codec": 0,
        "payload_bytes": len(payload),
        "content_bytes": 0,
        "durable_bytes": end,
        "name": name,
        "age_s": 0,
        "payload_sum": record.checksum(payload),
    }
    packed = record.pack(Header(**fields), opened.header.salt, end)
    data = path.read_bytes()[:end]
    path.write_bytes(data + packed + payload)


def fuzz_footer(original: Path, examples: int) -> None:
    """A footer of any bytes is that of its blob or none."""
    del original

    @some(examples)
    @given(st.binary(max_size=200), st.integers(0, 300), EDITS)
    def fuzz(content: bytes, size: int, edits: list[tuple[str, int, int, bytes]]) -> None:
        ref = BlobRef(Digest.of(content), size)
        tail = footer.pack(ref, bytes(footer.chunk_count(size) * footer.CHECKSUM_BYTES))
        try:
            found = footer.unpack(edit(tail, edits, content), ref)
        except (CorruptError, UnsupportedError):
            return
        assert found.ref == ref

    fuzz()


def fuzz_header(original: Path, examples: int) -> None:
    """The header of a segment of any bytes is its own or none."""
    del original

    @some(examples)
    @given(st.binary(max_size=100), st.integers(0, 2**64 - 1), EDITS)
    def fuzz(data: bytes, number: int, edits: list[tuple[str, int, int, bytes]]) -> None:
        header = segment.SegmentHeader(number, 7, 8)
        packed = segment.pack_header(header)
        assert segment.unpack_header(packed, number) == header
        assert segment.unpack_header(data, number) is None
        found = segment.unpack_header(edit(packed, edits, data), number)
        assert found is None or found[:2] == header[:2]

    fuzz()


FUZZERS = [fuzz_segment, fuzz_log, fuzz_records, fuzz_footer, fuzz_header]


@pytest.mark.parametrize("fuzz", FUZZERS)
def test_a_parser_takes_any_bytes(original: Path, fuzz: Callable[[Path, int], None]) -> None:
    fuzz(original, QUICK_EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fuzz", FUZZERS)
def test_a_parser_takes_very_many_bytes(
    original: Path, fuzz: Callable[[Path, int], None], prove: Prove
) -> None:
    with prove(f"random bytes for a parser: {fuzz.__name__.removeprefix('fuzz_')}") as figures:
        fuzz(original, SLOW_EXAMPLES)
        figures["rounds"] = SLOW_EXAMPLES
