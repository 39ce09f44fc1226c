"""One process holds a depot, others attach to it."""

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.core.errors import UnavailableError
from holdfast.core.limits import KIB
from holdfast.depot import catalog
from holdfast.depot.local import hold_depot, open_depot, sweep_uploads

WATCHER = """
import sys
from pathlib import Path
from holdfast.depot.local import open_depot

with open_depot(Path(sys.argv[1]), attached=True) as depot:
    print("ready", flush=True)
    for change in depot.engine.kv.watch(b"edefault", 1, wait_s=20):
        print(change.revision, change.key.decode(), change.value is not None, flush=True)
        if change.key.endswith(b"last"):
            break
"""


def state(folder: Path) -> str:
    return (folder / "index" / "state").read_text().split()[0]


def test_a_watch_in_one_process_sees_the_commits_of_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHER, str(tmp_path)]
    with (
        hold_depot(tmp_path),
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher,
        open_depot(tmp_path, attached=True) as depot,
    ):
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
        for number in range(20):
            depot.put(f"k{number}", b"x")
            key = catalog.entry_key("default", f"k{number}".encode()).decode()
            assert watcher.stdout.readline() == f"{number + 1} {key} True\n"
        depot.delete("k3")
        depot.put("last", b"x")
        assert watcher.stdout.readline().endswith("k3 False\n")
        assert watcher.stdout.readline().endswith("last True\n")


def test_all_that_attached_wrote_is_there_and_the_depot_is_closed_in_order(tmp_path: Path) -> None:
    small, large = b"x", bytes(300 * KIB)
    with hold_depot(tmp_path) as facts:
        assert facts["damaged_places"] == 0
        with pytest.raises(UnavailableError, match="in use"):
            open_depot(tmp_path)
        with open_depot(tmp_path, attached=True) as depot:
            depot.put("small", small)
            depot.put("large", large)
        with open_depot(tmp_path, attached=True) as depot:
            assert depot.get("large") == large
        assert state(tmp_path) != "clean"
    assert state(tmp_path) == "clean"
    with open_depot(tmp_path) as depot:
        assert (depot.get("small"), depot.get("large")) == (small, large)


def test_a_depot_whose_holder_met_an_error_is_left_as_a_crash_leaves_it(tmp_path: Path) -> None:
    holding = hold_depot(tmp_path)
    holding.__enter__()
    with open_depot(tmp_path, attached=True) as depot:
        depot.put("k", b"x")
    assert not holding.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert state(tmp_path) != "clean"
    with open_depot(tmp_path) as depot:
        assert depot.get("k") == b"x"


def test_the_uploads_of_the_dead_are_swept(tmp_path: Path) -> None:
    with hold_depot(tmp_path):
        uploads = tmp_path / "files" / "tmp"
        for name in ("17-x.tmp", "171-x.tmp"):
            (uploads / name).write_bytes(b"x")
        sweep_uploads(tmp_path, 17)
        assert [path.name for path in uploads.iterdir()] == ["171-x.tmp"]
