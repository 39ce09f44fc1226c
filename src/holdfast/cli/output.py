"""What commands print, and bars for those who watch."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from holdfast import wire
from holdfast.core.events import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn

    from holdfast.core.entry import Entry
    from holdfast.core.progress import Progress

LONG_BYTES = 16 << 20  # what is shorter is read before a bar is seen
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def examples(*lines: str) -> str:
    """Lay out examples for the end of a help text."""
    return "\b\nExamples:\n" + "\n".join("  " + line for line in lines)


def emit(data: bytes) -> None:
    """Print one line of JSON."""
    click.echo(data)


def print_entry(entry: "Entry", *, as_json: bool) -> None:
    """Print one entry: as JSON, or as digest, size and key."""
    if as_json:
        emit(wire.entry_json(entry))
    else:
        click.echo(f"{entry.digest}  {human_size(entry.size_bytes):>9}  {shown(entry.key)}")


def print_members(found: Mapping[str, object]) -> None:
    """Print what a server says of one thing, a row for each member."""
    width = max(map(len, found))
    for name, value in found.items():
        text = ", ".join(value) if isinstance(value, list) else str("" if value is None else value)
        click.echo(f"{name:{width}}  {shown(text)}".rstrip())


def print_used(found: dict[str, Any], *, as_json: bool) -> None:
    """Print what a server says of one thing, and how much is stored of it."""
    if as_json:
        emit(msgspec.json.encode(found))
        return
    used = {f"used {part}": f"{count:,}" for part, count in found.pop("used").items()}
    print_members({**found, **used})


def time_text(moment: datetime) -> str:
    """Write a time for people."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def human_size(size_bytes: int) -> str:
    """Write a size for people.

    >>> human_size(512), human_size(30 * 1024 * 1024)
    ('512 B', '30.0 MiB')
    """
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{size_bytes / 1024**power:.{min(power, 1)}f} {UNITS[power]}"


def shown(text: str) -> str:
    """Make text safe for a terminal; as it is in a file or pipe."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode-escape").decode() for c in text)


def note(text: str) -> None:
    """Say something beside the output."""
    click.echo(text, err=True)


class EventNotes(logging.Handler):
    """Says what happens unasked while a command works, with what it is about."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line beside the output."""
        fields = getattr(record, FIELDS, {})
        said = (f"{name}={value!r}" for name, value in fields.items())
        note(" ".join(("holdfast:", record.getMessage(), *said)))


@contextmanager
def bar(label: str, total: int | None) -> Iterator["Callable[[int], None]"]:
    """Show a bar on a terminal, if it has a label; the yielded function takes the bytes done."""
    if not label or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress  # noqa: PLC0415 - slow to import, and only for terminals

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with display(*columns) as bars:
        task = bars.add_task(shown(label), total=total)
        yield lambda done: bars.update(task, completed=done)


def display(*columns: "ProgressColumn") -> "Bars":
    """Show bars on stderr, of these columns, until they are done."""
    from rich import progress  # noqa: PLC0415 - slow to import, and only for terminals
    from rich.console import Console  # noqa: PLC0415

    return progress.Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # it would move the results to stderr
        redirect_stderr=False,
    )


@contextmanager
def opening_bar() -> Iterator["Callable[[Progress], None]"]:
    """Show a bar on a terminal while a folder is opened whose index lacks much of its log."""
    with ExitStack() as stack:
        moves: list[Callable[[int], None]] = []

        def watch(progress: "Progress") -> None:
            if not moves and progress.total_bytes >= LONG_BYTES:
                moves.append(stack.enter_context(bar("reading the log", progress.total_bytes)))
            for move in moves:
                move(progress.done_bytes)

        yield watch


class Watched:
    """A file whose reading moves a bar; enough of a BinaryIO to be stored."""

    def __init__(self, file: BinaryIO, move: "Callable[[int], None]") -> None:
        self._file = file
        self._move = move
        self._done = 0

    def read(self, size_bytes: int = -1) -> bytes:
        """Read on."""
        data = self._file.read(size_bytes)
        self._done += len(data)
        self._move(self._done)
        return data

    def seekable(self) -> bool:
        """As the file."""
        return self._file.seekable()

    def tell(self) -> int:
        """As the file."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file; the bar starts again."""
        self._done = 0
        return self._file.seek(offset, whence)
