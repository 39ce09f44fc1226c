"""The ledger: what each proof did when it last ran, told by the proof itself.

    def test_...(prove: Prove) -> None:
        with prove("power cuts on ext4") as figures:
            figures["rounds"] += 1
            figures["acknowledged"] += 17

Each run prints the line at its end. That of a slow test also takes the place of its row in
docs/testing.md, between two markers; a proof that fails says so there.
"""

import fcntl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

Prove = Callable[[str], AbstractContextManager[Counter[str]]]
"""The fixture `prove`: takes the name of a proof, gives its figures."""

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- the ledger, written by the proofs -->\n", "<!-- the end of the ledger -->\n"
COLUMNS = ["proof", "date", "commit", "rounds", "acknowledged", "lost or wrong", "figures"]
OWN_COLUMNS = ("rounds", "acknowledged")


@contextmanager
def proving(proof: str, say: Callable[[str], None], page: Path | None) -> Iterator[Counter[str]]:
    """Give figures to count in; say them at the end, and write them to a page, if there is one."""
    figures: Counter[str] = Counter()
    begin_s = time.monotonic()
    verdict = "failed"
    try:
        yield figures
        verdict = "0"
    finally:
        figures["seconds"] = round(time.monotonic() - begin_s)
        say(f"{proof}: {_line(figures, set(figures))}; lost or wrong {verdict}")
        if page is not None:
            own = [f"{figures[each]:,}" if each in figures else "" for each in OWN_COLUMNS]
            more = _line(figures, set(figures) - set(OWN_COLUMNS))
            now = f"{datetime.now(UTC):%Y-%m-%d}"
            enter(page, [proof, now, commit(), *own, verdict, more])


def enter(page: Path, row: list[str]) -> None:
    """Put a row in the place of that with the same first column; other processes do, too."""
    with page.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before, begin, rest = file.read().partition(BEGIN)
        table, end, after = rest.partition(END)
        assert begin
        assert end
        rows = {line.split(" | ")[0]: line for line in table.splitlines()[2:]}
        line = f"| {' | '.join(row)} |"
        rows[line.split(" | ", maxsplit=1)[0]] = line
        head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
        lines = "\n".join([*head, *(rows[proof] for proof in sorted(rows))])
        file.seek(0)
        file.write(f"{before}{begin}{lines}\n{end}{after}")
        file.truncate()


def commit() -> str:
    """The commit that is tested, with a plus if the code is not quite that of it."""
    head = _git("rev-parse", "--short=7", "HEAD")
    return f"{head}+" if _git("status", "--porcelain", "--", "src", "tests") else head


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _line(figures: Counter[str], names: set[str]) -> str:
    parts = {each: f"{each} {figures[each]:,}" for each in names}
    if "seed" in names:
        parts["seed"] = f"seed {figures['seed']}"
    return ", ".join(parts[each] for each in sorted(parts))
