"""The power fails at any call while a store moves: which one is the store is never in doubt."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

import pytest
from filled import opened
from moving_steps import Writer, check_events, finish, moving

from holdfast.core.errors import BlobError
from holdfast.core.limits import KIB
from holdfast.core.policy import Policy
from holdfast.depot.moving import find
from holdfast.testing.blobs import make
from holdfast.testing.boots import boot_again
from holdfast.testing.crash_suites import WORLDS
from holdfast.testing.power_cut import PowerCutDisk, World
from holdfast.testing.recount import check_catalog

if TYPE_CHECKING:
    from pathlib import Path

    from proofs import Prove

SIZES = (0, 100, 300 * KIB)


def cut_at_calls(base: Path, calls: count[int], world: World, figures: Counter[str]) -> None:
    for number in calls:
        folder = base / f"{number}"
        one, other = folder / "one", f"segments://{folder / 'other'}?compress=zstd"
        with opened(one) as depot:
            depot.set_policy(Policy(undelete_s=1000))
            for size_bytes in SIZES:
                depot.put(f"{size_bytes}", make(size_bytes))
        disk = PowerCutDisk(folder / "graves", number)
        there: dict[str, bytes | None] = {}
        try:
            with moving(one, other, disk=disk) as move:
                finish(move, Writer(move, there))
        except BlobError:
            assert disk.is_cut
        disk.lose(world)
        for each in ("one", "other"):
            if (folder / each / "index").exists():
                boot_again(folder / each, number)
        figures[f"found {find(one, folder / 'other')}"] += 1
        _check(one, other, there)
        figures["rounds"] += disk.is_cut
        figures["acknowledged"] += len(there)
        if not disk.is_cut:
            return


def _check(one: Path, other: str, there: dict[str, bytes | None]) -> None:
    """Go on with the move, and then look at the new store alone."""
    with moving(one, other) as move:
        writer = Writer(move, there)
        writer.check(move.depot)
        finish(move, writer)
    with opened(other) as depot:
        writer.check(depot)
        for size_bytes in SIZES:
            assert depot.get(f"{size_bytes}") == make(size_bytes)
        check_catalog(depot.engine.kv)
        check_events(depot)


def test_a_power_cut_at_some_calls_of_a_move_loses_nothing(tmp_path: Path) -> None:
    figures = Counter[str]()
    cut_at_calls(tmp_path, count(40, 130), WORLDS[-1], figures)
    assert figures["rounds"] > 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_power_cut_at_any_call_of_a_move_loses_nothing(tmp_path: Path, prove: Prove) -> None:
    with prove("power cuts of a simulated disk under a move, one at each call") as figures:
        for world in WORLDS:
            cut_at_calls(tmp_path / str(world), count(1), world, figures)
