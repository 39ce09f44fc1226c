"""The command line as a process: codes, pipes, signals, help, and commands without a store."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
from result import Holdfast

import holdfast as library
from holdfast.cli.exits import EXIT_CODES, exit_code
from holdfast.cli.program import COMMANDS, cli
from holdfast.config.settings import RULES
from holdfast.core import errors

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = [sys.executable, "-m", "holdfast"]
PHOTO = Path(__file__).parents[1] / "data" / "grace_hopper.jpg"


def all_commands() -> list[click.Command]:
    context = click.Context(cli)
    found = [cli.get_command(context, name) for name in COMMANDS]
    groups = [one for one in found if isinstance(one, click.Group)]
    nested = [command for group in groups for command in group.commands.values()]
    return [one for one in found if one is not None] + nested


def test_every_command_teaches_with_examples() -> None:
    for command in all_commands():
        assert command.short_help
        assert command.help
        assert isinstance(command, click.Group) or "Examples:" in (command.epilog or "")


def test_every_exit_code_is_in_the_docs() -> None:
    text = (DOCS / "cli.md").read_text()
    for kind, code in EXIT_CODES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {code} |"))
        assert kind.__name__ in row


def test_every_setting_is_in_the_docs() -> None:
    text = (DOCS / "config.md").read_text()
    for name, rule in RULES.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert rule.about in row


@pytest.mark.parametrize("error", errors.classes(), ids=lambda one: one.code)
def test_every_error_has_a_code(error: type[errors.BlobError]) -> None:
    assert 1 <= exit_code(error.__new__(error)) <= 8


@pytest.mark.parametrize("arguments", [["bogus"], ["put"], ["ls", "--bogus"], ["ls", "--limit=0"]])
def test_wrong_usage_is_two(holdfast: Holdfast, arguments: list[str]) -> None:
    assert holdfast(*arguments).code == 2


def test_help_and_version_are_no_errors(holdfast: Holdfast) -> None:
    assert b"Examples:" in holdfast("--help").out
    assert holdfast("put", "-h").code == 0
    assert b"holdfast, version" in holdfast("--version").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(holdfast: Holdfast, shell: str) -> None:
    script = holdfast("completion", shell)
    assert script.code == 0
    assert b"_HOLDFAST_COMPLETE" in script.out


def test_completion_knows_the_commands() -> None:
    environment = os.environ | {"_HOLDFAST_COMPLETE": "bash_complete"}
    environment |= {"COMP_WORDS": "holdfast con", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from holdfast.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.stdout.split() == [b"plain,config"]


def test_hashes_are_those_of_sha256(holdfast: Holdfast) -> None:
    done = holdfast("hash", PHOTO, "-", stdin=b"hello")
    assert done.lines[0].startswith(f"sha256:{hashlib.sha256(PHOTO.read_bytes()).hexdigest()}  baf")
    hello = json.loads(holdfast("hash", "-", "--json", stdin=b"hello").out)
    assert hello["cid"] == "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
    assert hello["size_bytes"] == 5
    assert holdfast("hash", "/nonexistent").code == 2


def test_settings_are_shown_with_their_origin(
    holdfast: Holdfast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "h.toml"
    file.write_text('max_body_bytes = "1 GiB"\n')
    monkeypatch.setenv("HOLDFAST_PORT", "8080")
    shown = holdfast("config", "show", "--config", file)
    assert f"max_body_bytes = 1073741824  # {file}:1" in shown.lines
    assert "port = 8080  # HOLDFAST_PORT" in shown.lines
    assert 'host = "127.0.0.1"  # default' in shown.lines
    again = tmp_path / "again.toml"
    again.write_bytes(holdfast("config", "show", "--config", file, "--about").out)
    monkeypatch.delenv("HOLDFAST_PORT")
    as_json = holdfast("config", "show", "--config", again, "--json").out
    assert json.loads(as_json)["port"] == 8080
    assert holdfast("config", "check", "--config", again).lines == ["ok"]


@pytest.mark.parametrize("line", ["num_shards = 0", "port = 'x'", "nonsense = 1", "= ="])
def test_wrong_settings_are_two_and_name_the_line(
    holdfast: Holdfast, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "h.toml"
    file.write_text("# settings\n" + line)
    for command in (("serve",), ("config", "check"), ("config", "show")):
        done = holdfast(*command, "--config", file)
        assert (done.code, done.out) == (2, b"")
        assert f"{file}:2" in done.err


def test_settings_that_do_not_fit_the_store_are_found_before_it_is_served(
    holdfast: Holdfast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "holdfast.toml"

    def check(**settings: str | Path) -> tuple[int, str]:
        file.write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        done = holdfast("config", "check", "--config", file)
        return done.code, done.err

    monkeypatch.setenv("BLOBS_KEY", "ab" * 32)
    monkeypatch.setenv("OTHER_KEY", "cd" * 32)
    secret = f"segments://{tmp_path}/secret?encrypt=env:BLOBS_KEY"
    assert holdfast("put", "-s", secret, file.parent / "absent").code != 0
    assert holdfast("put", "-s", secret, "-", "k", stdin=b"x").code == 0
    assert check(data=tmp_path / "new", encrypt="env:BLOBS_KEY") == (0, "")
    assert not (tmp_path / "new").exists()
    assert check(data=tmp_path / "new", encrypt="env:NONE")[0] == 2
    assert check(data=secret) == (0, "")
    for wrong in ("", "env:OTHER_KEY"):
        code, message = check(data=tmp_path / "secret", encrypt=wrong)
        assert code == 8
        assert str(tmp_path / "secret") in message
    assert check(data=tmp_path / "secret", encrypt="env:BLOBS_KEY", engine="sqlite")[0] == 1
    assert check(data=secret, move_to=tmp_path / "secret" / "inside")[0] == 2
    assert check(data=secret, move_to=f"file://{tmp_path}/new?encrypt=env:NONE")[0] == 2
    assert check(data=secret, move_to=file)[0] == 2
    assert check(data=secret, move_to=tmp_path / "new") == (0, "")


def test_a_server_asks_for_keys_by_a_flag(tmp_path: Path) -> None:
    command = [*PROGRAM, "serve", "--data", str(tmp_path / "s"), "--port", "0", "--auth", "keys"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("the key of who runs this store")
            url = process.stdout.readline().split()[-1]
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{url}/blob/k", timeout=10)
            assert refused.value.code == 401
            refused.value.close()
        finally:
            process.terminate()


def test_an_unknown_way_to_ask_is_refused(holdfast: Holdfast, tmp_path: Path) -> None:
    done = holdfast("serve", "--data", tmp_path, "--auth", "maybe")
    assert done.code == 2
    assert "--auth" in done.err
    assert "maybe" in done.err


def test_a_server_for_everybody_needs_force(holdfast: Holdfast, tmp_path: Path) -> None:
    done = holdfast("serve", "--data", tmp_path, "--host", "0.0.0.0")
    assert (done.code, "--insecure" in done.err) == (2, True)


def test_a_file_is_no_data_folder(holdfast: Holdfast, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = holdfast("serve", "--data", tmp_path / "file" / "data")
    assert (done.code, "--data" in done.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "stats",
        "stat k",
        "cat k",
        "rm k",
        "cp k l",
        "deleted",
        "events",
        "owner list",
        "audit",
    ],
)
def test_only_what_stores_makes_a_store(holdfast: Holdfast, tmp_path: Path, command: str) -> None:
    (tmp_path / "theirs").write_text("a folder of somebody's")
    asked = holdfast(*command.split(), "-s", tmp_path)
    assert (asked.code, asked.err) == (3, f"holdfast: there is no store at {tmp_path}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize("store", ["http://{}@h:99999", "http://{}@[", "segments://x?encrypt={}"])
@pytest.mark.parametrize(
    "command",
    [
        "ls -s",
        "gc --dry-run",
        "fsck",
        "compact",
        "tier",
        "migrate x",
        "reshard x",
        "presign get k -s",
    ],
)
def test_a_url_that_is_wrong_shows_no_key(holdfast: Holdfast, store: str, command: str) -> None:
    said = holdfast(*command.split(), store.format("hf_a_secret"))
    assert said.code != 0
    assert said.err.startswith("holdfast: ")
    assert "hf_a_secret" not in said.err


def test_what_happens_unasked_is_said_with_what_it_is_about(tmp_path: Path) -> None:
    store, disk = tmp_path / "store", tmp_path / "disk"
    disk.mkdir()
    library.open(f"segments://{store}?spread={disk}").close()
    disk.rename(tmp_path / "away")
    command = [sys.executable, "-m", "holdfast", "ls", "-s", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0
    said = f"holdfast: disk.absent path={str(disk)!r} error='it is not mounted, or empty'\n"
    assert done.stderr == said


@pytest.mark.parametrize("option", ["spread={}", "cache=1MB&cache_dir={}", "large=file://{}"])
def test_a_store_is_no_place_for_another_ones_blobs(
    holdfast: Holdfast, tmp_path: Path, option: str
) -> None:
    """Nor for its own: the message says what is there."""
    other = tmp_path / "other"
    assert holdfast("put", "-s", other, "-", "k", stdin=b"x").code == 0
    for store in (tmp_path / "store", other):
        asked = holdfast("put", "-s", f"segments://{store}?{option.format(other)}", "-", "k")
        assert asked.code in {1, 4}
        assert f"{other} is a store" in asked.err


def test_a_reader_that_goes_away_is_no_failure_to_report(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(4_000_000))
    store = str(tmp_path / "store")
    subprocess.run([*PROGRAM, "put", "-s", store, str(big)], check=True, stdout=subprocess.PIPE)
    command = [*PROGRAM, "cat", "-s", store, "big"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_is_quiet_and_leaves_nothing(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [*PROGRAM, "put", "-s", str(store), "-", "k"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(bytes(100_000))
    process.stdin.flush()
    while not store.is_dir():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err
    listed = subprocess.run([*PROGRAM, "ls", "-s", str(store)], capture_output=True, check=True)
    assert listed.stdout == b""
