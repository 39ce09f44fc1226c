"""Another boot of the machine, as one process sees it; and the server in such a boot.

    python crash_boot.py BOOT_FILE serve --data FOLDER ...

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


def shrink_segments() -> None:
    """Let segments be so small that a short life fills some."""
    limits.SEGMENT_ALLOCATE_BYTES = 256 * limits.KIB
    limits.RESERVE_BYTES = 64 * limits.KIB
    limits.BATCH_BYTES_MAX = limits.MIB
    limits.SEGMENT_BYTES_MAX = 3 * limits.MIB


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    die_with_parent()
    enter_boot(Path(sys.argv.pop(1)))
    shrink_segments()
    from holdfast.__main__ import main

    main()
