"""A server with short segments that are looked after without a pause; also in another boot.

    python crash_boot.py BOOT_FILE serve --data FOLDER ...     in the boot that a file names
    python crash_boot.py - serve --data FOLDER ...             in that of the machine

The kernel names its boot in /proc/sys/kernel/random/boot_id. A file that is mounted there, in a
mount namespace of the process's own, names another: what it leaves behind is then of a boot that
is over for everybody else, which is all that a power cut changes outside the disk. Needs root.
"""

import ctypes
import os
import signal
import sys
import uuid
from pathlib import Path

from holdfast.core import limits
from holdfast.services import compaction, sweeper, tiering

NO_BOOT = "-"
SWEEP_EVERY_S = "0.05"
SWEPT = "send them again"
"""In the refusal of a name whose bytes were swept before it came; then one does so."""
BOOT_ID = b"/proc/sys/kernel/random/boot_id"
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1


def new_boot(path: Path) -> None:
    """Write the name of a boot that never was."""
    path.write_text(f"{uuid.uuid4()}\n")


def enter_boot(path: Path) -> None:
    """From now on this process, and those it starts, run in the boot that `path` names."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS))
    _check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    _check(libc.mount(os.fsencode(path), BOOT_ID, None, MS_BIND, None))
    assert Path(os.fsdecode(BOOT_ID)).read_text() == path.read_text()


def die_with_parent() -> None:
    """Be killed when the process dies that started this one, however that dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def hurry() -> None:
    """Let segments be so small that a short life fills some, and let nobody rest who empties them.

    SIGKILL then meets compaction, sweeps and moves as often as anything else.
    """
    compaction.LOOK_UP_S = 0.05
    sweeper.SHARE = 1
    tiering.SHARE = 1
    tiering.PAUSE_S = 0
    limits.COLD_EVERY_S = 0
    limits.COLD_BATCH_BYTES = 100 * limits.KIB
    limits.SEGMENT_ALLOCATE_BYTES = 256 * limits.KIB
    limits.RESERVE_BYTES = 64 * limits.KIB
    limits.BATCH_BYTES_MAX = 300 * limits.KIB
    limits.SEGMENT_BYTES_MAX = 500 * limits.KIB
    limits.COMPACT_DEAD_BYTES_MIN = 4 * limits.KIB
    limits.COMPACT_STEP_BYTES = 32 * limits.KIB


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    die_with_parent()
    if (boot := sys.argv.pop(1)) != NO_BOOT:
        enter_boot(Path(boot))
    hurry()
    from holdfast.__main__ import main

    main()
