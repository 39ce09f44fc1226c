"""The trail: pages from the newest on, bounds on age, number and refusals, and its commits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core import limits
from holdfast.core.errors import InvalidError
from holdfast.core.policy import Policy
from holdfast.depot import trail as trails
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.depot.trail import Deed, Trail
from holdfast.testing.hand_clock import StillClock

DAY_S = 86_400


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def depot(tmp_path: Path, clock: StillClock, engine: str) -> Iterator[Depot]:
    bounds = Limits(audit_days=10, engine=engine)
    with open_depot(tmp_path / "store", bounds, clock=clock) as found:
        yield found


@pytest.fixture
def trail(depot: Depot) -> Trail:
    return depot.engine.trail


def actions(trail: Trail, owner: str | None = None) -> list[str]:
    return [deed.action for deed in trail.page("", 1000, owner).deeds]


def refuse(trail: Trail, number: int, key: str = "") -> None:
    trail.refuse(Deed(action=f"GET keys/{number}", key=key, outcome="denied"))


def clean(trail: Trail) -> int:
    return sum(trail.steps())


def test_deeds_come_newest_first_in_pages_that_join(trail: Trail, clock: StillClock) -> None:
    for number in range(10):
        clock.moved_s += 1
        if number % 3:
            trail.keep(Deed(action=f"d{number}"))
        else:
            trail.refuse(Deed(action=f"d{number}", outcome="denied"))
    expected = [f"d{number}" for number in reversed(range(10))]
    assert actions(trail) == expected
    assert walk(trail, 3) == walk(trail, 1) == walk(trail, 10) == expected
    for cursor in ("xyz", "00", "ff" * 5000):
        with pytest.raises(InvalidError):
            trail.page(cursor, 3)


def walk(trail: Trail, limit: int, owner: str | None = None) -> list[str]:
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = trail.page(cursor, limit, owner)
        found += [deed.action for deed in page.deeds]
        cursor = page.next
    return found


def test_a_page_looks_at_a_bounded_number_of_deeds(
    trail: Trail, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRAIL_SCAN_MAX", 7)
    for number in range(30):
        clock.moved_s += 1
        trail.keep(Deed(action=f"d{number}", owner="alice" if number % 10 == 0 else "bob"))
    assert len(trail.page("", 100, "alice").deeds) == 0
    assert walk(trail, 100, "alice") == ["d20", "d10", "d0"]


def test_an_owner_sees_what_concerns_the_owner(trail: Trail, clock: StillClock) -> None:
    for about, owner in (
        ({"bucket": "alice~photos"}, ""),
        ({"owner": "alice"}, ""),
        ({"webhook": "alice~w"}, ""),
        ({"bucket": "bob~photos"}, "alice"),
        ({"bucket": "bob~photos"}, "bob"),
        ({"owner": "alicea"}, ""),
        ({}, ""),
    ):
        clock.moved_s += 1
        trail.keep(Deed(action=f"{about} by {owner}", about=about, owner=owner))
    assert len(actions(trail)) == 7
    assert len(actions(trail, "alice")) == 4
    assert len(actions(trail, "bob")) == 2


def test_an_owner_is_not_told_where_others_are(trail: Trail, clock: StillClock) -> None:
    about = {"owner": "alice"}
    trail.keep(Deed(action="a", about=about, key="k", address="10.0.0.1"))
    clock.moved_s += 1
    trail.keep(Deed(action="b", about=about, owner="alice", key="k", address="10.0.0.2"))
    seen = [(deed.key, deed.address) for deed in trail.page("", 9, "alice").deeds]
    assert seen == [("k", "10.0.0.2"), ("", "")]
    every = [(deed.key, deed.address) for deed in trail.page("", 9).deeds]
    assert every == [("k", "10.0.0.2"), ("k", "10.0.0.1")]


def test_a_deed_and_its_change_are_one_commit(depot: Depot, trail: Trail) -> None:
    """So a power cut leaves both or neither."""
    before = depot.engine.kv.revision()
    policies = depot.engine.names.policies
    policies.set_policy("b", Policy(versions=3), also=trail.writes(Deed(action="policy.set")))
    changes = list(depot.engine.kv.watch(b"", before + 1, wait_s=0))
    assert {change.revision for change in changes} == {before + 1}
    assert {change.key[:2] for change in changes} >= {b"bb", trails.DONE}


def test_what_is_too_old_goes(trail: Trail, clock: StillClock) -> None:
    for number in range(100):
        trail.keep(Deed(action=f"old{number}"))
    refuse(trail, 1)
    clock.moved_s += 9 * DAY_S
    trail.keep(Deed(action="young"))
    assert clean(trail) == 0
    clock.moved_s += 2 * DAY_S
    assert clean(trail) == 101
    assert actions(trail) == ["young"]
    assert clean(trail) == 0


def test_the_oldest_go_when_there_are_too_many(
    trail: Trail, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TRAIL_ROWS_MAX", 40)
    monkeypatch.setattr(limits, "TRAIL_REFUSED_MAX", 5)
    for number in range(100):
        clock.moved_s += 1
        trail.keep(Deed(action=f"d{number}"))
    for number in range(20):
        refuse(trail, number)
    assert clean(trail) == 75
    kept = actions(trail)
    assert sum(one.startswith("d") for one in kept) == 40
    assert "d60" in kept
    assert "d59" not in kept
    assert clean(trail) == 0


def test_refusals_cannot_fill_the_disk_and_are_counted(trail: Trail, clock: StillClock) -> None:
    for number in range(1000):
        refuse(trail, number)
    assert len(actions(trail)) == limits.TRAIL_REFUSALS_BURST
    refuse(trail, 0, key="abc")  # those who show a good key have room of their own
    assert len(actions(trail)) == limits.TRAIL_REFUSALS_BURST + 1
    clock.moved_s += limits.TRAIL_REFUSAL_S
    refuse(trail, 1000)
    refuse(trail, 1001)
    newest = trail.page("", 1).deeds[0]
    assert newest.action == "GET keys/1000"
    assert newest.missed == 1000 - limits.TRAIL_REFUSALS_BURST
    clock.moved_s += 1000 * limits.TRAIL_REFUSAL_S
    for number in range(1000):
        refuse(trail, number)
    assert len(actions(trail)) == 2 * limits.TRAIL_REFUSALS_BURST + 2
