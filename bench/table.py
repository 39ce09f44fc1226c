"""What was measured, what it had to be, and the table that says both."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

T = TypeVar("T")

UNSTEADY = 1.5
"""Turns whose best is this many times their worst are shown one by one."""

HEADINGS = ("row", "holdfast", "peer", "figure", "bar", "verdict")


class NotRunError(Exception):
    """A row or a server cannot run here; the text says why."""


class Bar(NamedTuple):
    """What a figure must reach."""

    limit: float
    unit: str
    at_least: bool = True

    @property
    def text(self) -> str:
        """The bar as people write it."""
        return f"{'>=' if self.at_least else '<='} {self.unit_text(self.limit)}"

    def unit_text(self, value: float) -> str:
        """Spell a figure with the unit of the bar; "x" is a ratio."""
        return spell(value) + ("" if self.unit.startswith("/") else " ") + self.unit

    def met(self, value: float) -> bool:
        """Say whether `value` reaches the bar."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table; `value` is None when nothing could be measured."""

    row: str
    value: float | None
    bar: Bar | None
    ours: str = ""
    peer: str = ""
    note: str = ""

    @property
    def verdict(self) -> str:
        """Met, MISSED, info (no bar) or not run."""
        if self.value is None:
            return "not run"
        if self.bar is None:
            return "info"
        return "met" if self.bar.met(self.value) else "MISSED"

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts under HEADINGS."""
        figure = "-" if self.value is None else spell(self.value)
        if self.value is not None and self.bar is not None:
            figure = self.bar.unit_text(self.value)
        bar = "-" if self.bar is None else self.bar.text
        return (self.row, self.ours or "-", self.peer or "-", figure, bar, self.verdict)

    def noted(self, *notes: str) -> "Line":
        """The same with more to say of it, before what it says already."""
        return replace(self, note="; ".join(filter(None, [*notes, self.note])))


def median(values: Sequence[float]) -> float:
    """Return the middle of `values`, or the mean of the middle two."""
    assert values
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of neighbours, which had the same minute of an unsteady disk."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)])


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Divide the medians."""
    return median(ours) / median(theirs)


def each_second(rate: float) -> str:
    """Write how many a second."""
    return f"{spell(rate)}/s"


def faced(
    row: str,
    turns: Mapping[str, Sequence[float]],
    bar: Bar | None,
    peer: str = "",
    *,
    figure: Callable[[Sequence[float], Sequence[float]], float] = ratio,
    text: Callable[[float], str] = each_second,
) -> Line:
    """Make the line of two that were measured in turn, ours first; `text` spells either."""
    ours, theirs = turns.values()
    return Line(
        row,
        figure(ours, theirs),
        bar,
        ours=text(median(ours)),
        peer=f"{text(median(theirs))} {peer}".rstrip(),
        note=spread(turns, " us" if text is spell_us else ""),
    )


def spread(turns: Mapping[str, Sequence[float]], unit: str = "") -> str:
    """Say what the single turns came to, if they differ much; empty when they do not."""
    shaky = [name for name, values in turns.items() if max(values) > UNSTEADY * min(values)]
    texts = (f"{name} {' '.join(map(spell, turns[name]))}{unit}" for name in shaky)
    return "unsteady turns: " + "; ".join(texts) if shaky else ""


def in_turn(runs: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call `runs` in the order A B B A, `rounds` times, so that a slow minute hits all alike."""
    results: dict[str, list[T]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name in [*runs, *reversed(list(runs))]:
            results[name].append(runs[name]())
    return results


def spell(value: float) -> str:
    """Write a number with three digits and k or M."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g} M"
    if size >= 9_995:
        return f"{value / 1e3:.3g} k"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def spell_us(value_us: float) -> str:
    """Write a time given in microseconds."""
    if value_us < 10:
        return f"{value_us:.2g} us"
    if value_us >= 1e6:
        return f"{value_us / 1e6:.3g} s"
    if value_us >= 1e3:
        return f"{value_us / 1e3:.3g} ms"
    return f"{value_us:.0f} us"


def draw(lines: Sequence[Line]) -> str:
    """Draw the table, notes below their lines."""
    rows = [HEADINGS, *(line.cells for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]

    def align(cells: Sequence[str]) -> str:
        pairs = zip(cells, widths, strict=True)
        return "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()

    text = [align(HEADINGS), "  ".join("-" * width for width in widths)]
    for line in lines:
        text.append(align(line.cells))
        if line.note:
            text.append(f"    {line.note}")
    return "\n".join(text) + "\n"


def summary(lines: Sequence[Line]) -> str:
    """Count the verdicts."""
    counts = dict.fromkeys(("met", "MISSED", "not run", "info"), 0)
    for line in lines:
        counts[line.verdict] += 1
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
