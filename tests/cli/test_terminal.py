"""What a terminal shows that a pipe does not: bars, and keys made safe."""

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import holdfast

PROGRAM = [sys.executable, "-m", "holdfast"]


def on_terminal(*arguments: str | Path) -> tuple[int, bytes, bytes]:
    """Run a command whose stderr is a terminal; return its code, stdout and what was shown."""
    terminal, shown = pty.openpty()
    command = [*PROGRAM, *map(str, arguments)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    seen = b""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=shown, env=environment)
        os.close(shown)
        while part := _read(terminal):
            seen += part
        os.close(terminal)
        code = process.wait(30)
        out.seek(0)
        return code, out.read(), seen


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # EIO: the other end is closed
        return b""


def test_long_work_shows_a_bar_on_stderr_and_results_on_stdout(tmp_path: Path) -> None:
    store, big = tmp_path / "store", tmp_path / "tree" / "big"
    big.parent.mkdir()
    big.write_bytes(bytes(20_000_000))
    for put in ([big], ["-r", big.parent, "k/"]):
        code, out, seen = on_terminal("put", "-s", store, *put)
        assert (code, out.count(b"\n"), b"MiB" in seen) == (0, 1, True)
    code, out, seen = on_terminal("get", "-s", store, "big", tmp_path / "copy")
    assert (code, out, b"20,000,000 bytes" in seen) == (0, b"", True)
    code, out, seen = on_terminal("cat", "-s", store, "big")
    assert (code, len(out), seen) == (0, 20_000_000, b"")


def test_opening_a_folder_whose_index_is_lost_shows_a_bar(tmp_path: Path) -> None:
    store, tree = tmp_path / "store", tmp_path / "tree"
    tree.mkdir()
    for number in range(100):
        (tree / str(number)).write_bytes(b"%03d" % number * 80_000)
    assert on_terminal("put", "-s", store, "-r", tree, "k/")[0] == 0
    commands: list[list[str | Path]] = [["ls", "-s", store], ["compact", store]]
    for command in commands:
        shutil.rmtree(store / "index")
        code, out, seen = on_terminal(*command)
        assert (code, b"reading the log" in seen) == (0, True)
        assert out
        assert b"reading the log" not in on_terminal(*command)[2]


def test_moving_all_of_a_store_says_how_much_of_how_much(tmp_path: Path) -> None:
    """What a bar shows in the end is always shown."""
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    with holdfast.open(f"sqlite://{one}?shards=2") as bucket:
        bucket.put("large", bytes(3_000_000))
    for verb, new in (("migrate", two), ("reshard", three)):
        code, out, seen = on_terminal(verb, one, new, "--verify")
        assert (code, b"1 blobs (2.9 MiB)" in out) == (0, True)
        assert b"verifying" in seen
        assert b"2.9 MiB of 2.9 MiB" in seen


def test_a_key_cannot_talk_to_the_terminal(tmp_path: Path) -> None:
    store = tmp_path / "store"
    name = "a\x9b31mb"  # a C1 control that begins a command for terminals
    put = [*PROGRAM, "put", "-s", str(store), "-", name]
    subprocess.run(put, input=b"", check=True, stdout=subprocess.PIPE)
    terminal, shown = pty.openpty()
    listed = subprocess.Popen([*PROGRAM, "ls", "-s", str(store)], stdout=shown)
    os.close(shown)
    assert listed.wait(30) == 0
    assert _read(terminal).strip() == rb"a\x9b31mb"
    os.close(terminal)
