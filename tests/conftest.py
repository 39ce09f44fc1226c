"""What all tests share: readable failures of the suites, examples that repeat in CI, the ledger."""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from proofs import PAGE, Prove, proving

collect_ignore = ["data"]  # stores of old formats, and the scripts that made them
pytest.register_assert_rewrite("holdfast.testing")
SHARED_MEMORY = Path("/dev/shm")
IS_REPEATED = bool(os.environ.get("CI"))  # elsewhere every run looks for new examples
settings.register_profile("whole", derandomize=IS_REPEATED)
settings.register_profile("quick", derandomize=IS_REPEATED, max_examples=50)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Take half the examples where the long proofs are left out."""
    is_quick = config.option.markexpr == "not slow"
    settings.load_profile("quick" if is_quick else "whole")


def pytest_collection_finish() -> None:
    """Let no collection of garbage look at thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def prove(request: pytest.FixtureRequest) -> Prove:
    """Give a proof its figures; a slow one's go to the ledger."""
    page = None if request.node.get_closest_marker("slow") is None else PAGE
    return lambda proof: proving(proof, lambda line: _remember(request.node, line), page)


def _remember(node: pytest.Item, line: str) -> None:
    """Keep a line for the end of the run; it also travels from a worker process of a run."""
    node.user_properties.append(("proof", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of all proofs."""
    lines = {
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "proof"
    }
    if lines:
        terminalreporter.section("proofs")
        terminalreporter.write_line("\n".join(sorted(lines)))


@pytest.fixture
def memory_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in memory, if there is such a thing, for all that a test writes.

    A sync costs nothing there. What the disk makes of it is asked by tests of their own: those of
    the engines' files, of the server, and of power cuts.
    """
    base = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)
