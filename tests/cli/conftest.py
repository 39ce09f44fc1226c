"""A command line in this process, on a folder and on a server."""

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from result import Holdfast, Result

from holdfast.cli.program import run
from holdfast.core.marker import SQLITE
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot


@pytest.fixture
def holdfast(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Holdfast:
    """Run one command."""

    def command(*arguments: str | Path, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = run([str(one) for one in arguments])
        out, err = capsysbinary.readouterr()
        return Result(code, out, err.decode())

    return command


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, on a free port."""
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "holdfast", "serve", "--data", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    ready = re.search(r"http://\S+", server.stdout.readline())
    assert ready is not None
    yield ready[0]
    server.terminate()
    assert server.wait(30) in {0, -signal.SIGTERM}
    server.stdout.close()


@pytest.fixture(params=["folder", "shards", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that commands find by themselves, with a bucket of its own for each test."""
    where = str(tmp_path / "store")
    if request.param == "shards":
        open_depot(tmp_path / "store", Limits(engine=SQLITE)).close()
    if request.param == "server":
        where = request.getfixturevalue("url")
    monkeypatch.setenv("HOLDFAST_STORE", where)
    monkeypatch.setenv("HOLDFAST_BUCKET", f"b{os.urandom(6).hex()}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return where
