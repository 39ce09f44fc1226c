"""Shards of any bytes: what is read of them was written once, anything else is an error.

Files are edited at random, as the segments of a log are in test_fuzz: pages cut, moved, taken from
another shard. SQLite has no checksums of its own, so much of it goes unseen until rows are read.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proofs import Prove
from test_fuzz import EDITS, edit, some

from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError
from holdfast.core.kv import Delete, Put
from holdfast.kv.sqlite import SqliteKV
from holdfast.shards.checking import check
from holdfast.shards.folder import Shape
from holdfast.shards.shards import Options, Shards
from holdfast.shards.unnamed import unnamed
from holdfast.stores.sqlite import SqliteStore
from holdfast.testing.blobs import put, read
from holdfast.testing.folders import quick_folder

QUICK_EXAMPLES = 60
SLOW_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5000"))
NAMES = [f"shard_{number}.db{end}" for number in range(2) for end in ("", "-wal")]
LARGE = b"large" * 120_000


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """Shards as a process left them that was killed."""
    with quick_folder() as folder:
        with Shards(folder / "store", options=Options(Shape(2))) as shards:
            fill(shards)
            shutil.copytree(folder / "store", folder / "killed")
        yield folder


def fill(shards: Shards) -> None:
    kv, store = SqliteKV(shards), SqliteStore(shards)
    for number in range(40):
        kv.commit([], [Put(b"k%d" % (number % 15), value(number))]).result()
        put(store, value(number) * 3)
    for shard in shards.shards:
        shard.settle()  # so that there is something in the file as well as in the log
    put(store, LARGE)
    kv.commit([], [Delete(b"k3")]).result()
    store.remove([Digest.of(value(5) * 3)])


def value(number: int) -> bytes:
    return b"%d," % number * (number * 9)


def fuzz_shards(original: Path, examples: int) -> None:
    @some(examples)
    @given(st.sampled_from(["store", "killed"]), st.sampled_from(NAMES), EDITS, st.booleans())
    def fuzz(
        which: str,
        name: str,
        edits: list[tuple[str, int, int, bytes]],
        by_pages: bool,  # noqa: FBT001 - drawn
    ) -> None:
        with tempfile.TemporaryDirectory(dir=original) as folder:
            copy = Path(folder) / "copy"
            shutil.copytree(original / which, copy)
            path = copy / name
            if path.exists():
                other = (copy / NAMES[NAMES.index(name) - 2]).read_bytes()
                scale = 4096 if by_pages else 1
                scaled = [(what, at * scale, size * scale, more) for what, at, size, more in edits]
                path.write_bytes(edit(path.read_bytes(), scaled, other))
            live(copy)

    fuzz()


def live(folder: Path) -> None:
    """Open what may be damaged, read everything, check it, write something, and once more."""
    for _ in range(2):
        try:
            shards = Shards(folder)
        except BlobError:
            return
        with shards:
            read_all(shards)
            for each in (check, unnamed):
                with suppress(BlobError):
                    list(each(shards))
            with suppress(BlobError):
                SqliteKV(shards).commit([], [Put(b"new", b"value")]).result()
                new = SqliteKV(shards).get(b"new")
                assert new is not None
                assert new.value == b"value"
            with suppress(BlobError):
                put(SqliteStore(shards), b"a new blob")


def read_all(shards: Shards) -> None:
    kv, store = SqliteKV(shards), SqliteStore(shards)
    written = {value(number) for number in range(40)} | {b"value"}
    with suppress(BlobError):
        assert {item.value for item in kv.scan(b"", b"\xff", limit=1000)} <= written
    with suppress(BlobError):
        found = {change.value for change in kv.watch(b"", 1, wait_s=0)}
        assert found <= written | {None}
    for number in range(15):
        with suppress(BlobError):
            there = kv.get(b"k%d" % number)
            assert there is None or there.value in written
    with suppress(BlobError):
        for ref in store.scan():
            with suppress(BlobError):
                data = read(store, ref.digest)
                assert data is None or Digest.of(data) == ref.digest


def test_shards_take_any_bytes(original: Path) -> None:
    fuzz_shards(original, QUICK_EXAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_shards_take_very_many_bytes(original: Path, prove: Prove) -> None:
    with prove("random bytes for shards") as figures:
        fuzz_shards(original, SLOW_EXAMPLES)
        figures["rounds"] = SLOW_EXAMPLES
