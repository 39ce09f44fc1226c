"""A program that works on a store until it is killed: driven by crash_library.py.

    python crash_child.py

Each line on standard input, `FOLDER BOOT SEED FIRST`, makes it fork a process (all modules are
loaded by then, so that takes milliseconds) which opens the store and lets WORKERS threads work on
it, while another compacts and sweeps it; BOOT is the file that names its boot, or `-`. Lines on
standard output, each written at once: `pid N`, then `begin WORKER NUMBER` before and `end WORKER
NUMBER` after every request, `fail WORKER NUMBER` when the store refuses one, and `over STATUS` when
the process is gone.
"""

import os
import random
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from crash_boot import NO_BOOT, SWEEP_EVERY_S, SWEPT, die_with_parent, enter_boot, hurry
from crash_ledger import WORKERS, Op, choose, content

from holdfast.config.objects import connect
from holdfast.core.bucket import Bucket
from holdfast.core.digest import Digest
from holdfast.core.errors import BlobError, NotFoundError, UnavailableError
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.stack import Stack
from holdfast.services.caretaker import Caretaker, Task
from holdfast.services.compaction import Compaction
from holdfast.services.hints import Hints
from holdfast.services.janitor import Janitor
from holdfast.services.sweeper import Sweeper
from holdfast.services.tiering import Tiering

SHARING = Limits(batch_size=WORKERS, batch_wait_s=0.001, stack=Stack(connect=connect))
"""What the workers of a store in SQLite ask for at once is one epoch; a cold store is found."""

NOT_BORN_S = -5
"""The age from which blobs are moved: whatever is there is older."""


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


def work(store: Bucket, worker: int, seed: int, first: int) -> NoReturn:
    """Ask for one thing after the other; a store that refuses is asked no more."""
    number = first
    try:
        while True:
            number += 1
            op = choose(random.Random(f"{seed}/{worker}/{number}"), worker, number)
            say(f"begin {worker} {number}")
            try:
                insist(store, op)
            except BlobError:
                say(f"fail {worker} {number}")
                wait_for_the_end()
            say(f"end {worker} {number}")
    finally:
        traceback.print_exc()
        os._exit(1)


def insist(store: Bucket, op: Op) -> None:
    """Act, again if the bytes were swept before their name came."""
    while True:
        try:
            return act(store, op)
        except UnavailableError as error:
            if SWEPT not in error.message:
                raise


def wait_for_the_end() -> NoReturn:
    while True:
        signal.pause()


def live(folder: Path, boot: str, seed: int, first: int) -> NoReturn:
    die_with_parent()
    say(f"pid {os.getpid()}")
    if boot != NO_BOOT:
        enter_boot(Path(boot))
    hurry()
    try:
        store = open_depot(folder, SHARING)
    except BlobError:
        say(f"fail 0 {first}")
        wait_for_the_end()
    tasks: list[Task] = [
        Janitor(store.engine),
        Hints(store.engine),
        Compaction(store.engine),
        Sweeper(store, float(SWEEP_EVERY_S), 0),
    ]
    Caretaker(tasks).start()
    if store.engine.tier is not None:
        Caretaker([Tiering(store.engine.tier, NOT_BORN_S)]).start()
    for worker in range(1, WORKERS):
        threading.Thread(target=work, args=(store, worker, seed, first)).start()
    work(store, 0, seed, first)


def main() -> None:
    die_with_parent()
    for line in sys.stdin:
        folder, boot, seed, first = line.rsplit(maxsplit=3)
        if (pid := os.fork()) == 0:
            live(Path(folder), boot, int(seed), int(first))
        _, status = os.waitpid(pid, 0)
        say(f"over {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
