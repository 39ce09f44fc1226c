"""House style that no linter says: sizes, docstrings, who syncs and who reads the environment."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "holdfast"
MODULES = sorted(SOURCE.rglob("*.py"))
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400
SYNCS = ("os.fsync", "os.fdatasync", "os.rename", "os.replace", "time.time(")


def _name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_short_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES_MAX
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_are_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX, node.name


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_seams_sync_rename_and_tell_the_time(path: Path) -> None:
    if _name(path) != "core/seams.py":
        assert not [call for call in SYNCS if call in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    if not _name(path).startswith(("cli/", "config/")):
        assert "environ" not in path.read_text().replace("environment", "")


def test_every_module_is_imported_by_another() -> None:
    """A module that nothing imports is dead, but for the ends of the house."""
    ends = {"__init__", "__main__", "aio", "caretaker", "memory"}
    text = "\n".join(path.read_text() for path in MODULES)
    stems = {path.stem for path in MODULES if path.parent.name != "testing"} - ends
    used = r"\.{0} import|import [^\n]*\b{0}\b|^    {0},$|\"{0}\""
    assert not [stem for stem in stems if not re.search(used.format(stem), text, re.MULTILINE)]
