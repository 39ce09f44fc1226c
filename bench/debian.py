"""Programs from Debian, installed when they are absent and this process may."""

import os
import shutil
import subprocess

from bench.table import NotRunError

INSTALL_WAIT_S = 300


def find(program: str, *packages: str) -> str:
    """Return the path of `program`, installing `packages` when there is none.

    Raises:
        NotRunError: it is absent and cannot be installed; the text says how to.
    """
    found = shutil.which(program)
    if found is None:
        _install(program, packages)
        found = shutil.which(program)
    if found is None:
        raise NotRunError(f"{' '.join(packages)} did not bring {program}")
    return found


def _install(program: str, packages: tuple[str, ...]) -> None:
    apt = shutil.which("apt-get")
    names = " ".join(packages)
    if apt is None or os.geteuid() != 0:
        raise NotRunError(f"no {program} (as root: apt-get install {names})")
    install = [apt, "install", "--yes", "--no-install-recommends", *packages]
    try:
        for command in ([apt, "update"], install):
            subprocess.run(
                command,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                timeout=INSTALL_WAIT_S,
                check=True,
            )
    except subprocess.SubprocessError as error:
        raise NotRunError(f"apt-get install {names} failed") from error
