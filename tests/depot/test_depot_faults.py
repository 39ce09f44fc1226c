"""A depot on a disk that fails: no name without its bytes, ever.

As with the log below it, one case is in doubt by nature: a change whose batch could neither be
written nor erased, on a disk that fails for good. It was not acknowledged, and is there whole or
not at all.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from depot_machine import NarrowDisk
from depot_script import SMALL, Script, read_all, shrink_segments, start

from holdfast.core.access import ApiKey
from holdfast.core.errors import FullError, UnavailableError
from holdfast.core.webhook import Webhook
from holdfast.depot.trail import Deed
from holdfast.log.state import STATE_BYTES, running_state
from holdfast.services.check import Check
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.folders import quick_folder

CHANGES = frozenset({"pwrite_all", "sync_data", "sync", "allocate", "truncate", "rename", "unlink"})
CHANGES |= {"make_directory"}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    shrink_segments(monkeypatch)
    with quick_folder() as quick:
        yield quick


def faults(number: int, error: int) -> list[Fault]:
    return [
        Fault(number, error, only=CHANGES),
        Fault(number, error, after=True, only=CHANGES),
        Fault(number, error, short=True, only=CHANGES),
    ]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_with_any_call_failing_a_refused_change_stays_away(folder: Path, error: int) -> None:
    for number in range(1, 300):
        struck = False
        for fault in faults(number, error):
            disk, script = FaultyDisk(), Script()
            with start(folder / "store", disk) as depot:
                disk.arm(fault)
                script.play(depot)
                struck = struck or disk.struck
                expected = FullError if error == errno.ENOSPC else UnavailableError
                assert all(isinstance(each, expected | LookupError) for each in script.refused)
                assert read_all(depot) == script.names
                disk.arm(None)
            with start(folder / "store") as depot:
                assert read_all(depot) == script.names
                assert list((folder / "store" / "files" / "tmp").iterdir()) == []
                script.play(depot)
                assert read_all(depot) == script.names
            shutil.rmtree(folder / "store")
        if not struck:
            assert number > 40
            return
    raise AssertionError


def test_a_disk_that_fails_for_good_loses_no_acknowledged_change(folder: Path) -> None:
    for number in range(1, 300):
        disk, script = FaultyDisk(), Script()
        with start(folder / f"{number}", disk) as depot:
            disk.arm(Fault(number, after=number % 2 == 0, lasting=True, only=CHANGES))
            script.play(depot)
            struck = disk.struck
            assert read_all(depot) == script.names
        with start(folder / f"{number}") as depot:
            assert read_all(depot) in [script.names, *script.in_doubt]
        if not struck:
            return
    raise AssertionError


def test_a_full_disk_still_reads_and_takes_writes_again(folder: Path) -> None:
    disk, script = FaultyDisk(), Script()
    with start(folder / "store", disk) as depot:
        script.play(depot)
        disk.arm(Fault(1, errno.ENOSPC, lasting=True, only=frozenset({"pwrite_all", "allocate"})))
        for data in (SMALL, make(2999), make(100)):
            with pytest.raises(FullError):
                depot.put("new", data)
        assert read_all(depot) == script.names
        disk.arm(None)
        script.play(depot)
        assert read_all(depot) == script.names


@pytest.mark.parametrize("killed", [False, True])
def test_a_store_opens_on_a_full_disk(folder: Path, killed: bool) -> None:  # noqa: FBT001
    """So that what is in it can be read, and some of it deleted."""
    disk, script = NarrowDisk(), Script()
    disk.index_has_room = False
    with start(folder / "store", disk) as depot:
        script.play(depot)
        shutil.copytree(folder / "store", folder / "copy")
    disk.is_full = True
    if killed:
        index = folder / "copy" / "index"
        (index / "state").write_text(running_state(index).ljust(STATE_BYTES))
    with start(folder / ("copy" if killed else "store"), disk) as depot:
        assert read_all(depot) == script.names
        with pytest.raises(FullError):
            depot.put("new", make(2999))
        if killed:  # it still has the space that was reserved
            assert depot.delete(next(iter(script.names)))
        else:
            disk.is_full = False
            depot.put("new", make(2999))


def fill(write: Callable[[], object]) -> None:
    for _ in range(100_000):
        write()


def test_rights_are_taken_away_on_a_full_disk(folder: Path) -> None:
    """Then the deed is not kept, which is less than a key that cannot be revoked."""
    disk = NarrowDisk()
    with start(folder / "store", disk) as depot:
        keys, hooks, trail = depot.engine.keys, depot.engine.webhooks, depot.engine.trail
        _, key = keys.create(ApiKey(id=""))
        hooks.put(Webhook(name="w", url="https://example.org"))
        disk.is_full = True
        with pytest.raises(FullError):
            fill(lambda: depot.put("new", make(2999)))
        with pytest.raises(FullError):
            fill(lambda: trail.keep(Deed(action="x")))
        assert keys.revoke(key.id, also=trail.writes(Deed(action="key.revoke")))
        assert hooks.remove("w", also=trail.writes(Deed(action="webhook.remove")))
        assert keys.list() == []
        assert hooks.everyone() == []


def test_a_folder_that_finds_no_room_is_refused_as_full(folder: Path) -> None:
    disk = NarrowDisk()
    disk.is_full = True
    with pytest.raises(FullError):
        start(folder / "store", disk)
    disk.is_full = False
    with start(folder / "store", disk) as depot:
        depot.put("new", make(2999))


def test_who_looks_after_a_store_hears_that_the_disk_is_full(folder: Path) -> None:
    disk, script = NarrowDisk(), Script()
    with start(folder / "store", disk) as depot:
        script.play(depot)
        disk.is_full = True
        with pytest.raises(FullError):
            list(depot.engine.make_hints())
        assert not any(Check(depot.engine).read())  # where it is cannot be written down
        disk.is_full = False
        assert sum(depot.engine.make_hints()) > 0
