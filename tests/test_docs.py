"""The pages say what the code does; every name in them exists, and those of the code are there."""

import ast
import doctest
import importlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

import holdfast
from holdfast.cli import cli
from holdfast.cli.exits import exit_code
from holdfast.config.load import load
from holdfast.config.settings import Settings
from holdfast.core import errors, limits
from holdfast.depot.local import open_depot
from holdfast.http import metrics, openapi
from holdfast.http.counts import Tally
from holdfast.http.processes import Team
from holdfast.http.queue import Queue
from holdfast.log import hint, record, segment
from holdfast.stores import footer

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "holdfast"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("changes/*.md")])
MODULES = {str(path.relative_to(SOURCE))[:-3] for path in SOURCE.rglob("*.py")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
EVENT = re.compile(r'(?:LOGGER\.\w+\(|\bevent\(\s*[\w.]+,)\s*"([\w.]+)"')


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _rows(text: str, heading: str) -> list[list[str]]:
    """Find the rows of the tables whose first column has this heading."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.replace(r"\|", "/").strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|---"):
            found.append(cells)
        elif cells[0] == heading:
            inside = True
    return found


def test_the_table_of_errors_is_that_of_the_code() -> None:
    told = {row[0]: row[1:5] for row in _rows(_read("docs/errors.md"), "class")}
    expected = {
        f"`{one.__name__}`": [
            f"`{one.code}`",
            str(one.status),
            str(exit_code(one.__new__(one))),
            "yes" if one.retryable else "no",
        ]
        for one in errors.classes()
    }
    assert told == expected


def test_every_setting_is_explained() -> None:
    page = _read("docs/config.md")
    assert [one.name for one in fields(Settings) if f"`{one.name}`" not in page] == []


def test_every_configuration_on_the_pages_loads(tmp_path: Path) -> None:
    """And the profiles are all there."""
    seen = []
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).touch()
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            if language == "toml":
                file = tmp_path / "holdfast.toml"
                file.write_text(text.replace("/etc/holdfast", str(tmp_path)))
                load(file, environment={})
                seen.append(text.partition("\n")[0])
    profiles = ["small", "many small blobs", "many small blobs in SQLite", "large files"]
    assert {f"# {name}" for name in (*profiles, "public server")} <= set(seen)


def test_every_route_is_explained() -> None:
    page = _read("docs/http.md")
    assert [path for path in (*openapi.PATHS, *openapi.SERVICES) if path not in page] == []


def _commands(group: click.Group, before: str = "holdfast") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{before} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before} {name}")


def test_every_verb_and_option_of_the_command_line_is_explained() -> None:
    page = _read("docs/cli.md")
    for name, command in _commands(cli):
        assert name in page
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert max(parameter.opts, key=len) in page, name


def _unknown_options(text: str) -> list[str]:
    """The options of a command, as a page spells it, that it does not take."""
    commands, words = dict(_commands(cli)), text.split()
    names = (" ".join(words[:count]) for count in (3, 2))
    command = next((commands[name] for name in names if name in commands), None)
    if command is None or isinstance(command, click.Group):
        return []
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    given = [word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)]
    return [name for name in given if name not in {*known, "--help"}]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_are_spelled_with_options_that_they_have(page: Path) -> None:
    spelled = re.findall(r"\bholdfast [a-z][^`\n|>;)]*", page.read_text())
    assert {text: unknown for text in spelled if (unknown := _unknown_options(text))} == {}


def _spelled(value: int) -> set[str]:
    texts = {f"{value:,}", str(value)}
    for unit, name in ((limits.GIB, "GiB"), (limits.MIB, "MiB"), (limits.KIB, "KiB")):
        if value % unit == 0 and value:
            texts.add(f"{value // unit:,} {name}")
    return texts


def test_every_limit_is_in_the_table_with_its_value() -> None:
    told = {row[0].strip("`"): row[1] for row in _rows(_read("docs/operations.md"), "limit")}
    bounds = {name: value for name, value in vars(limits).items() if name.isupper()}
    for unit in ("KIB", "MIB", "GIB"):
        del bounds[unit]
    assert sorted(told) == sorted(bounds)
    for name, value in bounds.items():
        assert told[name].removesuffix(" s").removesuffix(" bytes") in _spelled(value), name


def test_every_metric_is_explained(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        text = metrics.text(Team(Tally()), depot, Queue(1)).decode()
    names = set(re.findall(r"^# TYPE (holdfast_\w+)", text, re.MULTILINE))
    told = {row[0].strip("`") for row in _rows(_read("docs/operations.md"), "metric")}
    assert {re.sub(r"\{.*", "", name) for name in told} == names


def _events() -> set[str]:
    return set(EVENT.findall("".join(path.read_text() for path in SOURCE.rglob("*.py"))))


def test_every_event_is_explained() -> None:
    told = {row[0].strip("`") for row in _rows(_read("docs/operations.md"), "event")}
    assert told == _events()


def test_architecture_names_every_module_and_dependency() -> None:
    page = _read("ARCHITECTURE.md")
    named = {cell.strip("`") for row in _rows(page, "module") for cell in row[:1]}
    assert named == {one for one in MODULES if not one.endswith("__init__")}
    project = tomllib.loads(_read("pyproject.toml"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    names = {re.split(r"[\[>=]", one)[0] for one in wanted} - {"holdfast"}
    assert names == {row[0].strip("`") for row in _rows(page, "dependency")}


def _leads_somewhere(name: str) -> bool:
    """Whether `core/seams`, `core/seams.Disk` or `http/app.py` is there; True for other words."""
    parts = re.split(r"[/.]", name.removeprefix("src/").removeprefix("holdfast").lstrip("/."))
    package = (SOURCE / parts[0]).is_dir() or parts[0] in MODULES
    if not (package and all(map(str.isidentifier, parts))) or parts[-1] in {"md", "toml"}:
        return True
    if parts[-1] == "py":
        return "/".join(parts[:-1]) in MODULES
    found: object = holdfast
    for at, part in enumerate(parts, 1):
        if "/".join(parts[:at]) in MODULES or (SOURCE.joinpath(*parts[:at])).is_dir():
            found = importlib.import_module(".".join(("holdfast", *parts[:at])))
        elif not hasattr(found, part):
            return False
        else:
            found = getattr(found, part)
    return True


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_module_that_a_page_names_exists(page: Path) -> None:
    names = set(CODE.findall(FENCE.sub("", page.read_text()))) - _events()
    assert [name for name in names if not _leads_somewhere(name)] == []


def test_a_module_that_does_not_exist_is_noticed() -> None:
    for name in ("core/utils", "holdfast.depot.helpers", "http/server.py", "core/seams.Disk.open"):
        assert _leads_somewhere(name) == (name in {"http/server.py", "core/seams.Disk.open"})


def _anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_test_that_holds_a_promise_exists() -> None:
    rows = _rows(_read("docs/promises.md"), "promise")
    assert len(rows) >= 30
    for promise, _, _, cited in rows:
        nodes = CODE.findall(cited)
        assert nodes, promise
        for node in nodes:
            assert node in _tests(node.partition("::")[0]), (promise, node)


def test_every_requirement_of_blobnom_and_of_stores_has_a_promise() -> None:
    rows = _rows(_read("docs/promises.md"), "promise")
    named = {each for row in rows for each in re.findall(r"\b[AB]\d+\b", f"{row[0]} {row[1]}")}
    wanted = [f"B{number}" for number in range(1, 36)] + ["A1", "A2", "A3", "A4", "A23"]
    assert [each for each in wanted if each not in named] == []


@cache
def _tests(file: str) -> set[str]:
    """The tests of a file, by their ids."""
    found = set()
    for one in ast.parse(_read(file)).body:
        inner = one.body if isinstance(one, ast.ClassDef) else [one]
        owner = f"{one.name}::" if isinstance(one, ast.ClassDef) else ""
        tests = [each for each in inner if isinstance(each, ast.FunctionDef)]
        found |= {f"{file}::{owner}{test.name}" for test in tests if test.name.startswith("test_")}
    return found


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        if anchor:
            assert anchor in _anchors(linked), target


def test_every_page_that_the_code_cites_exists() -> None:
    for path in SOURCE.rglob("*.py"):
        for page, heading in re.findall(r'(docs/[\w/-]+\.md)(?:, "([^"]+)")?', path.read_text()):
            assert (ROOT / page).exists(), path
            assert not heading or f"## {heading}\n" in _read(page), path


# The formats on disk


def _tiled(heading: str) -> int:
    """Check that the rows of a layout follow each other without gaps, and return their size."""
    end = 0
    for offset, size, _ in _rows(_read("docs/format.md"), heading):
        assert int(offset) == end
        end += int(size)
    return end


def test_the_layouts_of_headers_have_no_gaps_and_the_sizes_of_the_code() -> None:
    assert _tiled("segment offset") == segment.HEADER_BYTES
    assert _tiled("record offset") == record.HEADER_BYTES
    assert _tiled("hint offset") == hint.HEADER_BYTES
    assert _tiled("footer offset") == footer.FOOTER_BYTES


def test_the_kinds_of_records_are_those_of_the_code() -> None:
    told = {int(row[0]): row[1] for row in _rows(_read("docs/format.md"), "kind")}
    assert sorted(told) == sorted(record.Kind)


def test_the_reader_on_the_page_of_formats_reads_a_real_log(tmp_path: Path) -> None:
    page = _read("docs/format.md")
    names: dict[str, Any] = {}
    (program,) = [code for language, code in FENCE.findall(page) if language == "python"]
    exec(program, names)
    with open_depot(tmp_path) as depot:
        first = depot.put("key", b"hello")
        depot.put("key", b"world")
        depot.delete("key")
        depot.engine.store.remove([first.digest])
    found = list(names["records"](tmp_path / "log" / "00000000000000000001.seg"))
    blobs = [(name, bytes(payload)) for _, kind, name, payload in found if kind == 1]
    assert [payload for _, payload in blobs] == [b"hello", b"world"]
    assert blobs[0][0] == first.digest
    commits = [one for _, kind, *rest in found if kind == 2 for one in names["commits"](*rest)]
    assert [revision for revision, _ in commits] == [1, 2, 3]
    assert dict(commits[0][1])[b"udefault"] == struct.pack("<qq", 1, 5)
    assert dict(commits[2][1])[b"edefault\0key"] is None
    assert [payload for _, kind, _, payload in found if kind == 4] == [first.digest]


# The tour of the README

TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT")
MARK = "-- next command --"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "holdfast", "serve", "--data", "data", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.send_signal(signal.SIGINT)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Look like the folder of the project, without being written to."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / "README.md").symlink_to(ROOT / "README.md")
    return tmp_path


def _here(text: str, server: str, clone: Path) -> str:
    return text.replace("http://127.0.0.1:3000", server).replace("/tmp/", f"{clone}/")


def _plain(text: str) -> list[str]:
    lines = [TIMES.sub("TIME", line).rstrip() for line in text.splitlines()]
    return [line for line in lines if line]


def test_the_commands_of_the_tour_print_what_the_readme_shows(server: str, clone: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    blocks = [code for language, code in FENCE.findall(_read("README.md")) if language == "console"]
    text = _here("".join(one for one in blocks if "$ make" not in one), server, clone)
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    shown = re.split(r"^\$ .*$", text, flags=re.MULTILINE)[1:]
    bin_folder = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash"],
        input="".join(f"echo; echo {MARK}\n{one}\n" for one in commands),
        cwd=clone,
        env=os.environ | {"HOLDFAST_STORE": server, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    printed = done.stdout.split(MARK)[1:]
    for command, expected, got in zip(commands, shown, printed, strict=True):
        assert _plain(got) == _plain(expected), command


def test_the_python_of_the_tour_does_what_the_readme_shows(
    server: str, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    blocks = [code for language, code in FENCE.findall(_read("README.md")) if language == "python"]
    text = _here("\n".join(blocks), server, clone)
    examples = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(examples, out=told.append)
    assert told == []
