"""The ledger in docs/testing.md, which proofs write themselves."""

from pathlib import Path

import pytest
from proofs import BEGIN, COLUMNS, END, PAGE, enter, proving


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "testing.md"
    path.write_text(f"before\n{BEGIN}{END}after\n")
    return path


def rows(page: Path) -> list[list[str]]:
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}| proof | ")
    assert text.endswith(f"|\n{END}after\n")
    return [line.strip("| ").split(" | ") for line in text.splitlines()[4:-2]]


def test_a_proof_says_its_figures_and_replaces_its_row(page: Path) -> None:
    said: list[str] = []
    for count in (1000, 2000):
        for proof in ("b", "a"):
            with proving(proof, said.append, page) as figures:
                figures["rounds"] += count
                figures["acknowledged"] += 7
                figures["seed"] = 12
    assert said[-1] == "a: acknowledged 7, rounds 2,000, seconds 0, seed 12; lost or wrong 0"
    found = rows(page)
    assert [row[0] for row in found] == ["a", "b"]
    assert [row[3:] for row in found] == [["2,000", "7", "0", "seconds 0, seed 12"]] * 2


def test_a_proof_that_fails_says_so(page: Path) -> None:
    said: list[str] = []
    with pytest.raises(ZeroDivisionError), proving("a", said.append, page) as figures:
        figures["rounds"] = 3 // 0
    assert said[0].endswith("; lost or wrong failed")
    assert rows(page)[0][5] == "failed"


def test_a_quick_proof_writes_no_page() -> None:
    said: list[str] = []
    before = PAGE.read_text()
    with proving("a", said.append, None):
        pass
    assert said
    assert PAGE.read_text() == before


def test_the_page_has_a_place_for_the_ledger(tmp_path: Path) -> None:
    copy = tmp_path / "testing.md"
    copy.write_text(PAGE.read_text())
    enter(copy, ["zz", *[""] * (len(COLUMNS) - 1)])
    assert copy.read_text().count("\n| zz | ") == 1
