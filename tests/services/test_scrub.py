"""A pass over a real depot finds every damage that was put there, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core.digest import Digest
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.scrub import Report, Scrub

SMALL = b"small" * 100
LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB: a file of its own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with open_depot(tmp_path / "store") as depot:
        for n in range(20):
            depot.put(f"small/{n}", SMALL + b"%d" % n)
        depot.put("large", LARGE)
        depot.bucket("other").put("shared", LARGE)
        depot.delete("small/19")
    return tmp_path / "store"


@pytest.fixture
def depot(folder: Path) -> Iterator[Depot]:
    with open_depot(folder) as opened:
        yield opened


def _scrub(depot: Depot) -> Report:
    scrub = Scrub(depot)
    while scrub.step(size_bytes=1):
        pass
    return scrub.report


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def _segment(folder: Path) -> Path:
    return next((folder / "log").glob("*.seg"))


def test_a_sound_store_has_no_findings_and_everything_was_read(depot: Depot) -> None:
    report = _scrub(depot)
    assert (report.blobs, report.entries, report.found) == (21, 21, 0)
    assert report.blob_bytes == len(LARGE) + sum(len(SMALL) + len(str(n)) for n in range(20))


def test_a_step_is_bounded(depot: Depot) -> None:
    """Every step of 1 MiB reads the one large blob a chunk at a time."""
    scrub, steps = Scrub(depot), 0
    while scrub.step(size_bytes=1 << 20):
        steps += 1
    assert steps >= 3


def test_a_flipped_bit_in_the_log_is_found_as_record_and_as_blob(folder: Path) -> None:
    at = _segment(folder).read_bytes().index(SMALL + b"7")
    _flip(_segment(folder), at + 3)
    with open_depot(folder) as depot:
        findings = _scrub(depot).findings
    assert [one.kind for one in findings] == ["record", "blob"]
    assert str(Digest.of(SMALL + b"7")) == findings[1].where


def test_a_flipped_bit_in_a_file_is_found(folder: Path) -> None:
    path = next((folder / "files").rglob("*.blob"))
    _flip(path, 2_000_000)
    with open_depot(folder) as depot:
        findings = _scrub(depot).findings
    assert [(one.kind, one.where) for one in findings] == [("blob", str(Digest.of(LARGE)))]


def test_a_lost_file_is_found_by_every_entry_that_names_it(folder: Path) -> None:
    next((folder / "files").rglob("*.blob")).unlink()
    with open_depot(folder) as depot:
        findings = _scrub(depot).findings
    assert sorted((one.kind, one.where) for one in findings) == [
        ("entry", "default/large"),
        ("entry", "other/shared"),
    ]


def test_a_held_blob_without_its_file_or_footer_is_found(depot: Depot, folder: Path) -> None:
    """No scan shows it, and no entry names it."""
    held = [depot.content.put(bytes([n]) * (1 << 20)) for n in range(2)]
    paths = [folder / "files" / each.hex()[:2] / f"{each.hex()}.blob" for each in held]
    _flip(paths[0], paths[0].stat().st_size - 1)
    paths[1].unlink()
    report = _scrub(depot)
    assert {each.where for each in report.findings} == {str(each) for each in held}
    assert report.found == 2
