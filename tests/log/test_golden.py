"""Stores that were written by each version of the format stay readable for ever."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.digest import Digest
from holdfast.core.seams import Disk
from holdfast.depot.local import open_depot
from holdfast.log.scan import Record, Scan
from holdfast.log.segment import Segment, segment_ids

GOLDEN = sorted(Path(__file__).parents[1].glob("data/golden-*"))


@pytest.fixture(params=GOLDEN, ids=[each.name for each in GOLDEN])
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


def expected_of(folder: Path) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((folder / "expected.json").read_bytes())
    assert len(expected["entries"]) > 10
    return expected


def test_an_old_store_reads_back_whole(golden: Path) -> None:
    expected = expected_of(golden)
    for _ in range(2):  # the first makes the index
        with open_depot(golden) as depot:
            facts = depot.engine.facts()
            assert (facts["damaged_places"], facts["truncated_bytes"]) == (0, 0)
            for each in expected["entries"]:
                bucket = depot.bucket(each["bucket"])
                entry = bucket.head(each["key"])
                found = {name: getattr(entry, name) for name in each if name != "metadata"}
                assert {
                    **found,
                    "digest": str(entry.digest),
                    "metadata": dict(entry.metadata),
                } == each
                data = bucket.get(each["key"])
                assert (str(Digest.of(data)), len(data)) == (each["digest"], each["size_bytes"])
            held = depot.content.list(limit=1000).digests
            assert [str(each) for each in held] == expected["content"]
            assert all(Digest.of(depot.content.get(each)) == each for each in held)
            stats = depot.stats()
            assert [stats.entries, stats.entry_bytes, stats.revision] == expected["stats"]


def test_an_old_store_takes_new_writes(golden: Path) -> None:
    expected = expected_of(golden)
    with open_depot(golden) as depot:
        depot.put("new", b"new")
        for each in expected["entries"]:
            depot.bucket(each["bucket"]).put(each["key"], b"replaced")
    with open_depot(golden) as depot:
        for each in expected["entries"]:
            entry = depot.bucket(each["bucket"]).head(each["key"])
            assert (entry.version, entry.created_us) == (each["version"] + 1, each["created_us"])
        assert depot.stats().entries == expected["stats"][0] + 1


def test_every_kind_of_record_of_the_format_is_there(golden: Path) -> None:
    seen = set()
    for segment_id in segment_ids(golden / "log"):
        segment = Segment.open(Disk(), golden / "log", segment_id)
        for each in Scan(Disk(), segment).records(64):
            assert isinstance(each, Record)
            seen.add(each.header.kind)
    assert seen == {"golden-1": {1, 2, 3, 4}, "golden-2": {1, 2, 4, 5, 6, 7}}[golden.name]


def test_hints_of_an_old_store_are_of_use(golden: Path) -> None:
    before = {path: path.read_bytes() for path in (golden / "log").glob("*.hint")}
    assert bool(before) == (golden.name != "golden-1")
    with open_depot(golden):
        assert {path: path.read_bytes() for path in before} == before
