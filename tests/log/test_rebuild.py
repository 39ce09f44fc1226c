"""An index that is made again is the one that was there, however the log came to be."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_steps import begin_blob, dump, holding, put_blob, put_key

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.kv import Delete, Put
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log import recovery, scan
from holdfast.log.log import Log
from holdfast.stores.segments import SegmentStore
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import history

LONG = b"long " * 200
KEYS = [b"a", b"b", b"b" * 500, b"b" * 501, LONG, LONG + b"1", LONG + b"1" * 600, b"\xff"]
VALUES = [None, b"", b"value", b"v" * 900]
BLOBS = [b"%d" % number * (number * 37) for number in range(12)]

Change = tuple[str, int, int]
changes = st.tuples(
    st.sampled_from(["put", "remove", "key"]), st.integers(0, 99), st.integers(0, 3)
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as base:
        yield base / "store"


def change(log: Log, what: str, number: int, choice: int) -> None:
    """Do one thing and wait."""
    blob, key, value = BLOBS[number % len(BLOBS)], KEYS[number % len(KEYS)], VALUES[choice]
    if what == "put":
        begin_blob(log, blob).result()
    elif what == "remove":
        SegmentStore(log).remove([Digest.of(blob), Digest.of(BLOBS[choice])])
    else:
        write = Delete(key) if value is None else Put(key, value)
        EmbeddedKV(log).commit([], [write, Put(b"last", b"%d" % number)]).result()


STORIES = given(
    story=st.lists(changes, max_size=60),
    segment_bytes=st.sampled_from([2000, 5000, 1 << 28]),
    step_bytes=st.sampled_from([1, 300, 4096, 1 << 24]),
    window_bytes=st.sampled_from([72, 500, 1 << 22]),
)


def rebuild(story: list[Change], segment_bytes: int, step_bytes: int, window_bytes: int) -> None:
    """Make the index again, however large segments are, steps of the replay and its windows."""
    with pytest.MonkeyPatch.context() as patch, quick_folder() as base:
        patch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
        patch.setattr(limits, "SEGMENT_BYTES_MAX", segment_bytes)
        patch.setattr(limits, "BATCH_BYTES_MAX", 1000)
        patch.setattr(recovery, "STEP_BYTES", step_bytes)
        patch.setattr(scan, "WINDOW_BYTES", window_bytes)
        with Log(base) as log:
            for each in story:
                change(log, *each)
            before, commits = dump(log), history(EmbeddedKV(log))
        shutil.rmtree(base / "index")
        with Log(base) as log:
            assert (log.recovery.damages, log.recovery.truncated_bytes) == ((), 0)
            assert dump(log) == before
            assert history(EmbeddedKV(log)) == commits


def test_a_rebuilt_index_is_the_same() -> None:
    settings(max_examples=6, deadline=None)(STORIES(rebuild))()


@pytest.mark.slow
def test_a_rebuilt_index_is_the_same_however_the_log_came_to_be() -> None:
    settings(max_examples=200, deadline=None)(STORIES(rebuild))()


def test_of_many_blobs_in_one_batch_none_is_missed(folder: Path) -> None:
    """The loop for small blobs and the one for everything else take turns."""
    with Log(folder) as log:
        for size_bytes in (0, 1, 1000, 70_000):
            with holding(log):
                for number in range(50):
                    begin_blob(log, b"%02d" % number * size_bytes)
            put_key(log, b"between", b"%d" % size_bytes)
        put_blob(log, b"x" * 5 * limits.MIB)
        before = dump(log)
    shutil.rmtree(folder / "index")
    with Log(folder) as log:
        assert dump(log) == before
        assert log.recovery.records == 1 + 4 * 51 + 1
