"""The few steps that tests of the log are made of."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.kv import Put
from holdfast.core.pending import Promise
from holdfast.core.seams import Disk
from holdfast.core.store import Store
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.batch import Batch, Needs
from holdfast.log.log import Log
from holdfast.log.staged import StagedBlob
from holdfast.log.state import running_state
from holdfast.stores.segments import SegmentStore
from holdfast.testing.blobs import read
from holdfast.testing.kv_steps import everything

BEFORE_THE_POWER_CUT = "another boot"

Contents = tuple[dict[bytes, bytes], dict[bytes, bytes]]
"""Blobs by digest, and the values of all keys."""


def put_blob(log: Log, data: bytes) -> Digest:
    """Store a blob and wait."""
    digest = Digest.of(data)
    begin_blob(log, data).result()
    return digest


def begin_blob(log: Log, data: bytes) -> Promise[None]:
    """Queue a blob, whether it is there or not."""
    digest = Digest.of(data)
    needs = Needs(digests=(digest,))
    return log.submit(lambda batch: batch.add_blob(digest, data, len(data), 0), len(data), needs)


def stage_blob(log: Log, data: bytes) -> StagedBlob:
    """Ready a blob for a commit."""
    with SegmentStore(log).sink() as sink:
        sink.write(data)
        return sink.stage(BlobRef(Digest.of(data), len(data)))


def put_key(log: Log, key: bytes, value: bytes) -> None:
    """Set a key and wait."""
    EmbeddedKV(log).commit([], [Put(key, value)]).result()


def live_bytes(log: Log) -> dict[int, int]:
    """What the accounts should say, added up blob by blob and key by key."""
    live = dict.fromkeys(log.index.accounts.rows(), 0)
    start = b""
    while page := log.index.blobs(start, 1000):
        for _, place in page:
            live[place.segment_id] += 72 + place.payload_bytes
        start = page[-1][0]
    for key, stored in log.index.scan(b"", b"\xff" * 5000, 1_000_000):
        live[int.from_bytes(stored[8:12], "big")] += len(key) + len(stored) - 12 + 8
    return live


def contents(log: Log) -> Contents:
    """Everything that can be read."""
    store: Store = SegmentStore(log)
    blobs = {bytes(ref.digest): read(store, ref.digest) for ref in store.scan()}
    assert None not in blobs.values()
    accounts = log.index.accounts.rows()
    assert live_bytes(log) == {number: row.live_bytes for number, row in accounts.items()}
    keys = {item.key: item.value for item in everything(EmbeddedKV(log))}
    return blobs, keys  # type: ignore[return-value]  # no None, as asserted


def reopened(folder: Path, disk: Disk | None = None) -> Contents:
    """What a new opening of a folder reads."""
    with Log(folder, disk) as log:
        return contents(log)


def dump(log: Log) -> list[Any]:
    """All that the index holds, but for the numbers of nodes, which only order tells."""
    index = log.index
    keys = index.scan(b"", b"\xff" * 4097, 1_000_000)
    assert keys[::-1] == index.scan(b"", b"\xff" * 4097, 1_000_000, reverse=True)
    blobs = index.blobs(b"", 1_000_000)
    history = [index.batches(0, 1_000_000), index.history()]
    return [keys, blobs, *history, index.applied(), index.last(), index.accounts.rows()]


def kill(folder: Path, target: Path) -> Path:
    """What lies on the disk if the process dies now, as if it were no copy."""
    shutil.copytree(folder, target)
    if (target / "index" / "state").exists():
        survive(target)
    return target


def survive(folder: Path) -> None:
    """Let a folder look as a killed process left it, in this same boot."""
    (folder / "index" / "state").write_text(running_state(folder / "index"))


def cut_power(folder: Path) -> None:
    """Make a killed folder one of a machine that has booted since."""
    (folder / "index" / "state").write_text(BEFORE_THE_POWER_CUT)


def segments(folder: Path) -> list[Path]:
    """The segments of a folder, oldest first."""
    return sorted((folder / "log").glob("*.seg"))


def newest(folder: Path) -> Path:
    """The segment that is written to."""
    return segments(folder)[-1]


FIRST = 139
"""Where the records behind the manifest of the first segment begin."""


def flip(path: Path, offset: int, mask: int = 0xFF) -> None:
    """Damage one byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ mask,)))


@contextmanager
def holding(log: Log) -> Iterator[None]:
    """Hold the writer back: what is queued meanwhile becomes one batch, which ends before this."""
    begun, go = threading.Event(), threading.Event()

    def wait(_: Batch) -> None:
        begun.set()
        go.wait()

    log.submit(wait, 0)
    begun.wait()
    try:
        yield
    finally:
        go.set()
        log.submit(lambda _: None, 0).exception()
