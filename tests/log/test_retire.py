"""A damaged segment is set aside: whenever that ends early, nothing of it is lost."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_steps import contents, cut_power, flip, kill, put_blob, put_key, segments

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.log.log import Log
from holdfast.log.mending import retire
from holdfast.log.segment import segment_path
from holdfast.stores.segments import SegmentStore
from holdfast.testing.faults import FaultyDisk
from holdfast.testing.folders import quick_folder


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 4 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", limits.KIB)
    with quick_folder() as base:
        yield base


def test_a_kill_at_any_call_leaves_the_file_somewhere(base: Path) -> None:
    class Watching(FaultyDisk):
        def _strikes(self, name: str) -> bool:
            if armed and name not in {"pread", "open", "close"}:
                copies.append(kill(base / "store", base / f"killed {len(copies)} {name}"))
            return super()._strikes(name)

    armed, copies = False, list[Path]()
    with Log(base / "store", Watching()) as log:
        for number in range(20):
            put_key(log, b"%d" % number, b"value")
        put_blob(log, b"damaged")
        place = log.index.locate(Digest.of(b"damaged"))
        assert place is not None
        put_blob(log, b"sound")
        SegmentStore(log).remove([Digest.of(b"damaged")])
        expected = contents(log)
        path = segment_path(log.root, 1)
        flip(path, place.offset + 75)
        armed = True
        assert retire(log, 1, base / "store" / "quarantine")
        armed = False
        assert contents(log) == expected
    kept = base / "store" / "quarantine" / path.name
    assert kept.exists()
    assert path not in segments(base / "store")
    assert len(copies) > 5
    for number, copy in enumerate(copies):
        if number % 2:
            cut_power(copy)
        with Log(copy) as log:
            assert contents(log) == expected
            is_dropped = 1 not in log.stretches()
        assert not is_dropped or (copy / "quarantine" / path.name).exists()
        shutil.rmtree(copy)
