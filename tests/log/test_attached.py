"""Several processes with one log: they write in turns, and one that is killed harms nobody."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from log_steps import contents, cut_power, newest, put_key, reopened, segments

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import UnavailableError
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.testing.folders import quick_folder
from holdfast.testing.kv_steps import everything, history
from holdfast.testing.power_cut import Fate, PowerCutDisk, World

WRITER = """
import sys, time
from pathlib import Path
from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.kv import Add, Put
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.stores.segments import SegmentStore

limits.SEGMENT_BYTES_MAX, limits.BATCH_BYTES_MAX = 300_000, 100_000
limits.SEGMENT_ALLOCATE_BYTES = limits.RESERVE_BYTES = 64 * 1024
folder, name = Path(sys.argv[1]), sys.argv[2]
with Log(folder, attached=True) as log:
    kv, store = EmbeddedKV(log), SegmentStore(log)
    for number in range(100_000):
        data = f"{name} {number} ".encode() * (number % 97)
        with store.sink() as sink:
            sink.write(data)
            blob = sink.stage(BlobRef(Digest.of(data), len(data)))
        key = f"{name}/{number}".encode()
        kv.commit([], [Put(key, bytes(Digest.of(data))), Add(b"n", (1,))], blob=blob).result()
        print(number, flush=True)
        if number > 400:
            time.sleep(0.01)
"""


CHANCE = random.Random(3)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * limits.KIB)
    monkeypatch.setattr(limits, "RESERVE_BYTES", 16 * limits.KIB)
    with quick_folder() as base:
        yield base / "store"


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


READER = """
import sys
from pathlib import Path
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log

with Log(Path(sys.argv[1]), attached=True) as log:
    kv, horizon = EmbeddedKV(log), log.horizon()
    print("ready", flush=True)
    for line in sys.stdin:
        assert log.horizon() != horizon
        horizon, stored = log.horizon(), kv.get(b"key")
        assert horizon == log.revision
        print(stored.value.decode(), flush=True)
    wanted = log.revision + 1
    assert not log.wait_for_commit(wanted, 0.01)
    print("wait", flush=True)
    print(log.wait_for_commit(wanted, 10), flush=True)
"""


def test_what_one_process_wrote_the_other_reads_at_once(folder: Path) -> None:
    Log(folder).hand_over()
    command = [sys.executable, "-c", READER, str(folder)]
    pipe = subprocess.PIPE
    with (
        Log(folder, attached=True) as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader,
    ):
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(200):
            put_key(log, b"key", b"%d" % number)
            reader.stdin.write("look\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{number}\n"
        reader.stdin.close()
        assert reader.stdout.readline() == "wait\n"
        put_key(log, b"key", b"")
        assert reader.stdout.readline() == "True\n"


def test_all_write_while_some_are_killed_and_nothing_acknowledged_is_lost(folder: Path) -> None:
    first = Log(folder)
    first.hand_over()
    with pytest.raises(UnavailableError, match="in use"):
        Log(folder)
    running = {name: start(folder, name) for name in ("a", "b", "c")}
    acknowledged: dict[str, int] = {}
    for round_ in range(5):
        name = CHANCE.choice([*running])
        acknowledged[name] = end(running.pop(name))
        name = f"{name}{round_}"
        running[name] = start(folder, name)
    for name, process in running.items():
        acknowledged[name] = end(process)
    first.close()
    with Log(folder) as log:
        assert log.recovery.damages == ()
        blobs, keys = contents(log)
        revisions = [each.revision for each in history(EmbeddedKV(log))]
        assert sorted({*revisions}) == list(range(1, log.revision + 1))
        total = 0
        for name, count in acknowledged.items():
            found = [key for key in keys if key.startswith(f"{name}/".encode())]
            assert count <= len(found) <= count + 1
            total += len(found)
            for key in found:
                assert bytes(Digest.of(blobs[keys[key]])) == keys[key]
        assert int.from_bytes(keys[b"n"], "little") == total > 50
    assert len(segments(folder)) > 1
    assert reopened(folder) == (blobs, keys)


def end(process: subprocess.Popen[str]) -> int:
    """Kill once it writes, and tell how many writes were acknowledged."""
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(CHANCE.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    return len((first + output).splitlines())


def test_the_torn_tail_of_a_killed_process_is_cut_by_whoever_writes_next(folder: Path) -> None:
    first = Log(folder)
    first.hand_over()
    with Log(folder, attached=True) as log:
        put_key(log, b"k", b"1")
        place = log.index.applied()
        assert place is not None
        torn = newest(folder).read_bytes()[64 : place.offset] * 3
        with newest(folder).open("r+b") as file:
            os.pwrite(file.fileno(), torn, place.offset)
        put_key(log, b"k", b"2")
        after = log.index.applied()
        assert after is not None
        rest = newest(folder).read_bytes()[after.offset :]
        assert rest.strip(b"\0") == b""
        assert len(everything(EmbeddedKV(log))) == 1
    first.close()
    assert reopened(folder)[1] == {b"k": b"2"}


class Killed(BaseException):
    """What kill -9 is to a process."""


class DyingDisk(PowerCutDisk):
    """Kills who syncs a folder, once armed."""

    armed = False

    def sync_directory(self, path: Path) -> None:
        if self.armed:
            self.armed = False
            raise Killed
        super().sync_directory(path)


def test_a_segment_that_a_killed_process_made_is_synced_by_whoever_goes_on_there(
    folder: Path,
) -> None:
    """Its name may not be on the disk yet, and with it would go all that is written there."""
    disk = DyingDisk(folder.with_name("graves"))
    with Log(folder, disk) as log:
        put_key(log, b"before", b"")
        disk.armed = True
        with pytest.raises(Killed):
            log.roll()
        put_key(log, b"after", b"")
        assert len(segments(folder)) == 2
    disk.lose(World(Fate.LOST, Fate.LOST))
    cut_power(folder)
    assert reopened(folder)[1] == {b"before": b"", b"after": b""}
