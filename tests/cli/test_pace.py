"""What a bar says of long work: how far it is, how fast it goes, how long it may take."""

from holdfast.cli.pace import Pace
from holdfast.core.limits import MIB
from holdfast.core.progress import Phase
from holdfast.testing.hand_clock import StillClock

GIB = 1024 * MIB


def test_a_line_says_how_much_of_how_much_how_fast_and_how_long() -> None:
    clock = StillClock()
    pace = Pace(clock)
    assert pace.line(Phase("moving", 0, 4 * GIB)) == "0 B of 4.0 GiB"
    clock.moved_s += 10
    line = pace.line(Phase("moving", 512 * MIB, 4 * GIB))
    assert line == "512.0 MiB of 4.0 GiB, 51.2 MiB/s, 0:01:10 left"
    clock.moved_s += 1
    assert pace.line(Phase("naming", 70, 5000, "rows")) == "70 of 5,000 rows"
    clock.moved_s += 2
    assert (
        pace.line(Phase("naming", 1070, 5000, "rows")) == "1,070 of 5,000 rows, 500/s, 0:00:07 left"
    )


def test_what_was_there_before_makes_nothing_faster() -> None:
    clock = StillClock()
    pace = Pace(clock)
    assert pace.line(Phase("moving", 0, 4 * GIB)) == "0 B of 4.0 GiB"
    clock.moved_s += 1
    line = pace.line(Phase("moving", 3 * GIB, 4 * GIB, spared=3 * GIB))
    assert line == "3.0 GiB of 4.0 GiB (3.0 GiB there before)"
    clock.moved_s += 1
    line = pace.line(Phase("moving", 3 * GIB + 64 * MIB, 4 * GIB, spared=3 * GIB))
    assert line == "3.1 GiB of 4.0 GiB (3.0 GiB there before), 32.0 MiB/s, 0:00:30 left"


def test_what_nobody_knows_is_not_said() -> None:
    clock = StillClock()
    pace = Pace(clock)
    assert pace.line(Phase("comparing", 0, unit="rows")) == "0 of ? rows"
    clock.moved_s += 2
    assert pace.line(Phase("comparing", 1000, unit="rows")) == "1,000 of ? rows, 500/s"
    lines = []
    for _ in range(100):
        clock.moved_s += 1
        lines.append(pace.line(Phase("comparing", 1000, unit="rows")))
    assert lines[-1] == "1,000 of ? rows"
