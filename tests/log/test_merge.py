"""Merging sorted tables, against a dict; blocks of tables in a file."""

import os
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.seams import Disk
from holdfast.log import blocks
from holdfast.log.blocks import HEAD, BlockFile, DamagedError, Span
from holdfast.log.changes import Columns, columns
from holdfast.log.merge import merge

Table = dict[bytes, bytes | None]
tables = st.dictionaries(
    st.binary(min_size=1, max_size=3), st.none() | st.binary(max_size=40), max_size=30
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[BlockFile]:
    descriptor = os.open(tmp_path / "blocks", os.O_RDWR | os.O_CREAT)
    yield BlockFile(Disk(), descriptor, salt=2**64 - 5)
    os.close(descriptor)


def cut(table: Table, count: int) -> Iterator[Columns]:
    """A table in blocks of `count` pairs."""
    keys, values = columns(table)
    for at in range(0, len(keys), count):
        yield keys[at : at + count], values[at : at + count]


def joined(parts: Iterator[Columns]) -> list[tuple[bytes, bytes | None]]:
    """All pairs, in the order in which they came."""
    return list(chain.from_iterable(zip(*each, strict=True) for each in parts))


@given(st.lists(st.tuples(tables, st.integers(1, 9)), max_size=6))
def test_merged_tables_are_one_dict_after_the_other(sources: list[tuple[Table, int]]) -> None:
    expected: Table = {}
    for table, _ in sources:
        expected.update(table)
    merged = joined(merge([cut(table, count) for table, count in sources]))
    assert merged == sorted(expected.items(), key=lambda pair: pair[0])


@settings(max_examples=50)
@given(tables, st.integers(1, 50), st.integers(1, 200))
def test_a_table_is_read_as_it_was_written(table: Table, count: int, block_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", block_bytes)
        descriptor = os.memfd_create("blocks")
        try:
            file = BlockFile(Disk(), descriptor, 7)
            ends = [100, *file.write_table(100, cut(table, count))]
            assert joined(file.read_table(Span(100, ends[-1]))) == joined(cut(table, 100))
            for start, end in pairwise(ends):  # of about one size
                pairs = joined(file.read_table(Span(start, end)))
                weights = [len(key) + len(value or b"") for key, value in pairs]
                assert len(pairs) == 1 or sum(weights) <= 4 * block_bytes + max(weights)
        finally:
            os.close(descriptor)


def test_a_block_is_good_in_its_own_place_and_file_only(file: BlockFile) -> None:
    end = file.write(0, b"payload")
    assert file.read(0, end) == b"payload"
    data = file._disk.pread(file._descriptor, end, 0)
    file._disk.pwrite_all(file._descriptor, (data,), 1000)
    with pytest.raises(DamagedError):
        file.read(1000, 1000 + end)
    with pytest.raises(DamagedError):
        BlockFile(file._disk, file._descriptor, 1).read(0, end)
    for bound in range(end):
        with pytest.raises(DamagedError):
            file.read(0, bound)


BAD = [
    [],
    [[], []],
    [[b"a"], []],
    [[b"b", b"a"], [b"", b""]],
    [[b"a", b"a"], [b"", b""]],
    [["text"], [b""]],
    [[b"a"], [1]],
    {"a": 1},
    [[b""], [b""]],
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_block_that_is_no_table_is_damage_even_with_its_checksum(
    file: BlockFile, bad: object
) -> None:
    end = file.write(0, msgspec.msgpack.encode(bad))
    with pytest.raises(DamagedError):
        list(file.read_table(Span(0, end)))


def test_blocks_out_of_order_are_damage(file: BlockFile) -> None:
    end = file.write(0, msgspec.msgpack.encode([[b"b"], [b""]]))
    for key in (b"a", b"b"):
        last = file.write(end, msgspec.msgpack.encode([[key], [b""]]))
        with pytest.raises(DamagedError):
            list(file.read_table(Span(0, last)))
    assert len(list(file.read_table(Span(0, end)))) == 1


def test_a_size_that_lies_reads_nothing_behind_its_end(file: BlockFile) -> None:
    file.write(0, b"x" * 100)
    file._disk.pwrite_all(file._descriptor, (HEAD.pack(2**63, 0),), 0)
    with pytest.raises(DamagedError):
        file.read(0, 116)
