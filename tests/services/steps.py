"""What the tests of services are made of: a clock, a store, and damage."""

from collections.abc import Mapping
from pathlib import Path

from holdfast.core.seams import Disk, SystemClock
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.services.scrub import Scrub
from holdfast.testing.hand_clock import StillClock

SMALL = b"small" * 100
LARGE = bytes(range(256)) * 4096 * 3  # 3 MiB: a file of its own
KEYS = 20  # small blobs, besides one large one with two names


def small(number: int) -> bytes:
    return SMALL + b"%d" % number


def fill(folder: Path) -> Path:
    """Make a store of KEYS small blobs and a large one."""
    with open_depot(folder) as depot:
        for number in range(KEYS):
            depot.put(f"small/{number}", small(number))
        depot.put("large", LARGE)
        depot.bucket("other").put("shared", LARGE)
    return folder


def age(*paths: Path) -> None:
    """Wait until what was written counts as older than what is read from now on."""
    newest_us = max(path.stat().st_ctime_ns // 1000 for path in paths)
    while SystemClock().now_us() < newest_us + 25_000:
        pass


def flip(path: Path, offset: int) -> None:
    """Damage one byte, on the disk and in the page cache."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 1,)))
        Disk().sync(file.fileno())


def segment(folder: Path) -> Path:
    return min((folder / "log").glob("*.seg"))


def blob_file(folder: Path) -> Path:
    return next((folder / "files").rglob("*.blob"))


def gauges(scrub: Scrub) -> Mapping[str, float]:
    return scrub._stamps.read().gauges()


def run_pass(scrub: Scrub, clock: StillClock | None = None) -> None:
    """Step until the pass that runs, or the next one, has ended."""
    before = gauges(scrub)["completed_s"]
    for _ in range(100_000):
        done = scrub.step()
        if gauges(scrub)["completed_s"] != before:
            return
        if clock is not None:
            clock.moved_s += done.wait_s
    raise AssertionError("the pass does not end")


def found(depot: Depot) -> list[tuple[str, str]]:
    """Kind and place of all that is known to be wrong."""
    return sorted((each.kind, each.where) for each in depot.engine.stamps.read().findings())
