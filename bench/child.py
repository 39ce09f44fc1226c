"""The library's measurements, each in a process of its own: `python -m bench.child NAME DIR ...`.

A fresh process has no other row's memory, threads or caches. It prints one JSON object of numbers.
"""

import gc
import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.process import memory_bytes
from bench.together import BLOB_BYTES, THREADS, Figures, blob, together
from holdfast.config import open_bucket
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry
from holdfast.core.seams import Disk
from holdfast.log.log import Log
from holdfast.stores.segments import SegmentStore

SMALL_BYTES = 100
KEY = "k{:08d}"
LIST_PAGE = 1000
IN_FLIGHT = 1000
TOGETHER = 1000  # puts in one call


def main() -> None:
    """Run one measurement; its arguments are a directory and numbers."""
    name, directory, *numbers = sys.argv[1:]
    figures = MEASUREMENTS[name](Path(directory), *map(float, numbers))
    print(json.dumps(figures))


def fill(directory: Path, count: float) -> Figures:
    """Put `count` keys."""
    with open_bucket(directory) as bucket:
        return together(
            lambda number: bool(bucket.put(KEY.format(number), blob(number))),
            lambda done: done >= count,
        )


def grow(directory: Path, first: float, count: float) -> Figures:
    """Put `count` small blobs under the keys from `first` on, many in one call."""
    numbers = range(int(first), int(first + count))
    with open_bucket(directory) as bucket:
        for at in range(0, len(numbers), TOGETHER):
            chosen = numbers[at : at + TOGETHER]
            outcomes = bucket.put_many((KEY.format(n), blob(n)[:SMALL_BYTES]) for n in chosen)
            assert all(isinstance(each, Entry) for each in outcomes)
    return {}


def cost(directory: Path, keys: float, reads: float, writes: float) -> Figures:
    """Say what a get and a put cost in processor time, and what the process and the disk hold."""
    first = int(keys) + random.randrange(1 << 40)
    used = {name: _used_bytes(directory / name) for name in ("log", "index")}
    with open_bucket(directory) as bucket:
        chosen = [KEY.format(random.randrange(int(keys))) for _ in range(int(reads))]
        for key in chosen[:TOGETHER]:
            bucket.get(key)
        began = time.process_time()
        for key in chosen:
            bucket.get(key)
        middle = time.process_time()
        together(
            lambda number: bool(bucket.put(f"x{number}", blob(number)[:SMALL_BYTES])),
            lambda done: done >= writes,
            first,
        )
        ended = time.process_time()
        gc.collect()
        return {
            "get_us": (middle - began) * 1e6 / reads,
            "put_us": (ended - middle) * 1e6 / writes,
            "RssAnon": memory_bytes(os.getpid(), "RssAnon"),
            "size_bytes": SMALL_BYTES,
            "threads": THREADS,
            **used,
        }


def _used_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def put(directory: Path, seconds: float, first: float) -> Figures:
    """Put new keys durably for a while."""
    with open_bucket(directory) as bucket:
        end = time.monotonic() + seconds
        return together(
            lambda number: bool(bucket.put(f"p{number}", blob(number))),
            lambda done: time.monotonic() >= end,
            int(first),
        )


def files(directory: Path, seconds: float, first: float) -> Figures:
    """Write one file per blob durably for a while: file, fsync, rename, fsync of the directory."""
    disk = Disk()
    disk.make_directory(directory)
    end = time.monotonic() + seconds

    def write(number: int) -> bool:
        temporary = directory / f"{number}.tmp"
        descriptor = disk.open(temporary, os.O_WRONLY | os.O_CREAT)
        disk.pwrite_all(descriptor, [blob(number)], 0)
        disk.sync(descriptor)
        disk.close(descriptor)
        disk.rename(temporary, directory / str(number))
        disk.sync_directory(directory)
        return True

    return together(write, lambda done: time.monotonic() >= end, int(first))


def get(directory: Path, seconds: float, keys: float) -> Figures:
    """Read keys at random on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    chosen = [KEY.format(random.randrange(int(keys))) for _ in range(20_000)]
    with open_bucket(directory) as bucket:
        done = 0
        began = time.perf_counter()
        while time.perf_counter() < began + seconds:
            for key in chosen:
                bucket.get(key)
            done += len(chosen)
        return {"rate": done / (time.perf_counter() - began)}


def listing(directory: Path, keys: float) -> Figures:
    """List all keys, page by page."""
    with open_bucket(directory) as bucket:
        began = time.perf_counter()
        seen = 0
        cursor = None
        while True:
            page = bucket.list(prefix="k", cursor=cursor, limit=LIST_PAGE)
            seen += len(page.entries)
            cursor = page.next
            if cursor is None:
                break
        rate = seen / (time.perf_counter() - began)
    assert seen == keys
    return {"rate": rate}


def memory(directory: Path, keys: float, reads: float) -> Figures:
    """Read `keys` keys `reads` times in all and say what the process holds then."""
    with open_bucket(directory) as bucket:
        for number in range(int(reads)):
            bucket.get(KEY.format(number % int(keys)))
        gc.collect()
        return {name: memory_bytes(os.getpid(), name) for name in ("RssAnon", "VmRSS")}


def overhead(directory: Path, count: float) -> Figures:
    """Store unnamed blobs in the log and say how large it is."""
    with Log(directory) as log:
        store = SegmentStore(log)
        pending = []
        for number in range(int(count)):
            data = blob(number)
            with store.sink() as sink:
                sink.write(data)
                ref = BlobRef(Digest(hashlib.sha256(data).digest()), len(data))
                pending.append(sink.commit(ref))
            if len(pending) == IN_FLIGHT:
                pending.pop(0).result()
        for future in pending:
            future.result()
        size_bytes = sum(log.stretches().values())
    return {"bytes": size_bytes / count - BLOB_BYTES}


def rebuild(directory: Path) -> Figures:
    """Throw the index away and open the log, without and with the hints that a server makes."""
    for hint in (directory / "log").glob("*.hint"):
        hint.unlink()
    bare = _rebuilt(directory)
    with Log(directory) as log:
        for _ in log.make_hints():
            pass
    return {f"bare_{name}": value for name, value in bare.items()} | _rebuilt(directory)


def _rebuilt(directory: Path) -> Figures:
    shutil.rmtree(directory / "index")
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with Log(directory) as log:
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        records = log.recovery.records
    return {"records": records, "rate": records / took_s, "cpu_rate": records / cpu_s}


MEASUREMENTS: Mapping[str, Callable[..., Figures]] = {
    "fill": fill,
    "grow": grow,
    "cost": cost,
    "put": put,
    "files": files,
    "get": get,
    "list": listing,
    "memory": memory,
    "overhead": overhead,
    "rebuild": rebuild,
}


if __name__ == "__main__":
    main()
