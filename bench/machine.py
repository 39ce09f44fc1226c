"""Where and on what a run happened, for the head of its results."""

import os
import platform
import subprocess
import time
from pathlib import Path

from bench.peers import ROOT, nginx_version


def describe(work_directory: Path, seaweed: str, command: str) -> str:
    """Return the head of a result file."""
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": commit(),
        "command": command,
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": _file_system(work_directory),
        "python": platform.python_version(),
        "peers": f"{nginx_version()}; {seaweed}",
        "load at start": " ".join(f"{each:.2f}" for each in os.getloadavg()),
    }
    return "".join(f"{name + ':':<15}{value}\n" for name, value in facts.items())


def commit() -> str:
    """Name the commit, with + when the work tree differs from it."""
    name = _git("rev-parse", "--short", "HEAD") or "unknown"
    return name + ("+" if _git("status", "--porcelain", "--", "src") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _file_system(directory: Path) -> str:
    """Name the file system type of the longest mount point that holds `directory`."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        device, mount, this_kind = line.split()[:3]
        inside = str(directory).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, f"{this_kind} on {device}"
    return kind
