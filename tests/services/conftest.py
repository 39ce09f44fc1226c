"""Stores to damage."""

from pathlib import Path

import pytest
from mending_steps import Names, contents
from steps import age, blob_file, fill, segment

from holdfast.core import limits
from holdfast.core.limits import KIB, MIB
from holdfast.depot.local import open_depot


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of several segments, with every kind of thing in it."""
    monkeypatch.setattr(limits, "SEGMENT_BYTES_MAX", 8 * MIB + 9 * KIB)
    folder = fill(tmp_path / "store")
    with open_depot(folder) as depot:
        depot.content.put(b"held by its hash")
        depot.put("long" * 200, b"a long key")
        depot.delete("small/19")
        for number in range(30):
            depot.bucket("more").put(f"{number}", b"%d" % number * 100)
        for _ in depot.engine.make_hints():
            pass
    assert len(list((folder / "log").glob("*.seg"))) > 2
    age(segment(folder), blob_file(folder))
    return folder


@pytest.fixture
def original(folder: Path) -> Names:
    with open_depot(folder) as depot:
        return contents(depot)
