"""A program that works on a store until it is killed: run by test_crash_library.py.

    python crash_child.py

Each line on standard input, `FOLDER SEED FIRST`, makes it fork a process (all modules are loaded
by then, so that takes milliseconds) which opens the store and lets WORKERS threads work on it.
Lines on standard output, each written at once: `pid N`, then `begin WORKER NUMBER` before and
`end WORKER NUMBER` after every request, and `over STATUS` when the process is gone.
"""

import os
import random
import sys
import threading
import traceback
from pathlib import Path

from crash_ledger import WORKERS, Op, choose, content

import holdfast
from holdfast.core.bucket import Bucket
from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def act(store: Bucket, op: Op) -> None:
    """Do what an Op says, by the library's own verbs."""
    bucket = store.bucket(op.name[0] or "default")
    source = store.bucket(op.other[0] or "default")
    try:
        if op.kind in {"put", "shared"}:
            bucket.put(op.name[1], content(op.value))
        elif op.kind == "delete":
            bucket.delete(op.name[1])
        elif op.kind == "copy":
            source.copy(op.other[1], op.name[1], to_bucket=op.name[0])
        elif op.kind == "move":
            source.move(op.other[1], op.name[1], to_bucket=op.name[0])
        elif op.kind == "hold":
            store.content.put(content(op.value))
        elif op.kind == "release":
            store.content.delete(Digest.parse(op.name[1]))
        else:
            bucket.get(op.name[1])
    except NotFoundError:
        assert op.kind in {"copy", "move", "get"}


def work(store: Bucket, worker: int, seed: int, first: int) -> None:
    number = first
    try:
        while True:
            number += 1
            op = choose(random.Random(f"{seed}/{worker}/{number}"), worker, number)
            say(f"begin {worker} {number}")
            act(store, op)
            say(f"end {worker} {number}")
    finally:
        traceback.print_exc()
        os._exit(1)


def live(folder: Path, seed: int, first: int) -> None:
    say(f"pid {os.getpid()}")
    store = holdfast.open(folder)
    for worker in range(1, WORKERS):
        threading.Thread(target=work, args=(store, worker, seed, first)).start()
    work(store, 0, seed, first)


def main() -> None:
    for line in sys.stdin:
        folder, seed, first = line.rsplit(maxsplit=2)
        if (pid := os.fork()) == 0:
            live(Path(folder), int(seed), int(first))
            return
        _, status = os.waitpid(pid, 0)
        say(f"over {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
