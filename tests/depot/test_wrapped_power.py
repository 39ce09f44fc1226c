"""Power cuts under a compressed and encrypted depot, from its very first call on."""

from collections import Counter
from pathlib import Path

import pytest
import test_depot_power as power
from depot_script import shrink_segments

from holdfast.core.limits import KIB
from holdfast.core.seams import Disk
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.stores.compressed import train
from holdfast.testing.crash_suites import WORLDS
from holdfast.testing.power_cut import World

SAMPLES = [f"this is the line {number} of those for a dictionary".encode() for number in range(900)]
STACK = Stack(compress=True, master=bytes(range(32)), dictionary=train(SAMPLES, 1024, 3))


@pytest.fixture(autouse=True)
def _wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_segments(monkeypatch)

    def start(folder: Path, disk: Disk | None = None) -> Depot:
        return open_depot(folder, Limits(small_blob_bytes_max=2 * KIB, stack=STACK), disk)

    monkeypatch.setattr(power, "start", start)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_a_power_cut_at_any_call_leaves_whole_names_and_all_keys(world: World) -> None:
    """Among them the calls that write the keyring and what the folder remembers."""
    figures = Counter[str]()
    power.cut_at_each_call([world], figures)
    assert figures["rounds"] > 100
