"""Every bit of a small store in turn: found out or harmless, never wrong data, a hang or a death.

What is flipped is judged by `damage_child.py`, in a process of its own. The index is the one file
with more bits than can be tried so: those are held against its checksum, each of them, and the
whole store is opened for some.

BIT_STEP=20 pytest -m slow tests/damage/test_bits.py takes every twentieth of the bits.
"""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from proofs import Prove

from holdfast.core.seams import Disk
from holdfast.log.log import Log
from holdfast.log.state import Trust, trust
from holdfast.testing.folders import quick_folder

PROGRAM = Path(__file__).with_name("damage_child.py")
SHARDS_PROGRAM = Path(__file__).with_name("damage_shards.py")
QUICK_SHARD_STEPS = {"closed/shard_*.db": 14_983, "killed/shard_*": 49_999, "closed/HOLDFAST": 97}
SLOW_SHARD_STEPS = {"closed/shard_*.db": 31, "killed/shard_*": 211, "closed/HOLDFAST": 1}
QUICK_STEPS = {
    "log/*": 999,
    "files/*/*.blob": 97,
    "HOLDFAST": 23,
    "index/state": 13,
    "index/data.mdb": 59_999,
    "index/lock.mdb": 99_991,
}
SLOW_STEPS = dict.fromkeys(QUICK_STEPS, 1) | {"index/data.mdb": 503, "index/lock.mdb": 1009}
ENCODED = ["compressed", "encrypted", "compressed and encrypted"]
QUICK_ENCODED_STEPS = {
    "log/*": 9973,
    "files/*/*.blob": 9973,
    "wrappers": 97,
    "keyring": 499,
    "HOLDFAST": 97,
}
SLOW_ENCODED_STEPS = {"log/*": 29, "files/*/*.blob": 29, "wrappers": 1, "keyring": 7, "HOLDFAST": 1}
BIT_STEP = int(os.environ.get("BIT_STEP", "1"))
WAIT_S = 3600
PLAIN = (str(PROGRAM), "plain")
SHARDED = (str(SHARDS_PROGRAM),)


def flip_bits(
    steps: dict[str, int],
    processes: int,
    figures: Counter[str],
    program: tuple[str, ...] = PLAIN,
) -> None:
    """Flip every so manieth bit of the files of each pattern, from a random one on."""
    steps = {files: step * BIT_STEP for files, step in steps.items()}
    firsts = {files: random.SystemRandom().randrange(step) for files, step in steps.items()}
    children = []
    for number in range(processes):
        orders = [
            f"{files}:{firsts[files] + number * step}:{processes * step}"
            for files, step in steps.items()
        ]
        children.append(_start(program, orders))
    for child in children:
        said, complaint = child.communicate(timeout=WAIT_S)
        assert child.returncode == 0, f"from {firsts}: {child.returncode} {complaint}"
        figures.update(json.loads(said))


def _start(program: tuple[str, ...], orders: list[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, *program, *orders]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def distrusted(step: int, figures: Counter[str]) -> None:
    """Flip bits of a closed index under the eyes that decide whether it is used."""
    with quick_folder() as folder:
        Log(folder).close()
        index = folder / "index"
        assert trust(Disk(), index) == Trust.CLOSED
        data = bytearray((index / "data.mdb").read_bytes())
        with (index / "data.mdb").open("r+b", buffering=0) as file:
            for bit in range(random.SystemRandom().randrange(step), len(data) * 8, step):
                file.seek(bit // 8)
                file.write(bytes([data[bit // 8] ^ 1 << bit % 8]))
                assert trust(Disk(), index) == Trust.NONE, bit
                file.seek(bit // 8)
                file.write(data[bit // 8 : bit // 8 + 1])
                figures["rounds"] += 1
        assert trust(Disk(), index) == Trust.CLOSED


def test_a_flipped_bit_is_found_or_harmless(prove: Prove) -> None:
    with prove("flipped bits of a store") as figures:
        flip_bits(QUICK_STEPS, 1, figures)
    with prove("flipped bits of a closed index") as figures:
        distrusted(499, figures)


def test_a_flipped_bit_of_shards_is_found_or_harmless(prove: Prove) -> None:
    with prove("flipped bits of shards") as figures:
        flip_bits(QUICK_SHARD_STEPS, 1, figures, SHARDED)


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_very_many_flipped_bits_of_shards_are_found_or_harmless(prove: Prove) -> None:
    with prove("flipped bits of shards") as figures:
        flip_bits(SLOW_SHARD_STEPS, 2, figures, SHARDED)
    assert figures["found by a check"] > 0


@pytest.mark.parametrize("wrappers", ENCODED)
def test_a_flipped_bit_of_encoded_blobs_is_found(prove: Prove, wrappers: str) -> None:
    with prove(f"flipped bits of {wrappers} blobs") as figures:
        flip_bits(QUICK_ENCODED_STEPS, 1, figures, (str(PROGRAM), wrappers))


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
@pytest.mark.parametrize("wrappers", ENCODED)
def test_very_many_flipped_bits_of_encoded_blobs_are_found(prove: Prove, wrappers: str) -> None:
    with prove(f"flipped bits of {wrappers} blobs") as figures:
        flip_bits(SLOW_ENCODED_STEPS, 2, figures, (str(PROGRAM), wrappers))


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_each_flipped_bit_is_found_or_harmless(prove: Prove) -> None:
    with prove("flipped bits of a store") as figures:
        flip_bits(SLOW_STEPS, 2, figures)


@pytest.mark.slow
@pytest.mark.timeout(WAIT_S)
def test_each_flipped_bit_of_a_closed_index_is_found(prove: Prove) -> None:
    with prove("flipped bits of a closed index") as figures:
        distrusted(1, figures)
