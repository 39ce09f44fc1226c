"""Events: exactly the acknowledged changes of names, in order, from any place on."""

import math
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest

from holdfast.core.bucket import Description
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    CompactedError,
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from holdfast.core.kv import Put
from holdfast.core.policy import Policy
from holdfast.core.stream import Cursor, Event, Kind, parse_cursor
from holdfast.depot import catalog
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.testing.hand_clock import HandClock

UPLOADED, DELETED, PURGED = Kind.UPLOADED, Kind.DELETED, Kind.PURGED
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")

WRITER = """
import sys
from pathlib import Path
from holdfast.depot.local import open_depot

with open_depot(Path(sys.argv[1]), attached=sys.argv[2] == "attached") as depot:
    for number in range(10_000):
        depot.put(f"k{number % 7}", b"%d" % number)
        print(number, flush=True)
        if number % 3 == 2:
            depot.delete(f"k{number % 5}")
"""


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def depot(tmp_path: Path, clock: HandClock, engine: str) -> Iterator[Depot]:
    bounds = Limits(undelete_s=100, engine=engine)
    with open_depot(tmp_path / "store", bounds, clock=clock) as opened:
        yield opened


def told(depot: Depot) -> list[tuple[Kind, str, Digest | None]]:
    return [(event.kind, event.key, event.digest) for event in depot.events()]


def names(events: list[Event]) -> dict[tuple[str, str], Digest | None]:
    """What a reader has that applies events in their order."""
    found: dict[tuple[str, str], Digest | None] = {}
    for event in events:
        if event.kind is UPLOADED:
            found[event.bucket, event.key] = event.digest
        elif event.kind is DELETED:
            del found[event.bucket, event.key]
    return found


def work(depot: Depot, steps: int, seed: int = 1) -> None:
    """Change names at random, in two buckets of which one keeps versions."""
    dice = random.Random(seed)
    depot.bucket("kept").set_policy(Policy(versions=2))
    for number in range(steps):
        bucket = depot.bucket(dice.choice(("default", "kept")))
        key, other = dice.choice("abcd"), dice.choice("abcd")
        verb = dice.choice(("put", "put", "delete", "copy", "move", "undelete"))
        try:
            if verb == "put":
                bucket.put(key, b"%d" % (number % 9))
            elif verb in {"copy", "move"}:
                getattr(bucket, verb)(key, other, to_bucket=dice.choice(("default", "kept")))
            else:
                getattr(bucket, verb)(key)
        except (NotFoundError, ConflictError):
            assert verb != "put"


def test_each_change_of_a_name_is_an_event(depot: Depot) -> None:
    first, second = depot.put("a", b"one"), depot.put("a", b"two")
    depot.copy("a", "b")
    depot.move("b", "c")
    depot.delete("c")
    depot.delete("c")
    depot.undelete("c")
    assert told(depot) == [
        (UPLOADED, "a", ONE),
        (UPLOADED, "a", TWO),
        (UPLOADED, "b", TWO),
        (DELETED, "b", TWO),
        (UPLOADED, "c", TWO),
        (DELETED, "c", TWO),
        (UPLOADED, "c", TWO),
    ]
    events = list(depot.events())
    assert [event.entry for event in events[:2]] == [first, second]
    assert events[0].at_us == first.modified_us
    assert events[3].revision == events[4].revision
    assert events[5].entry is not None
    assert (events[5].entry.key, events[5].entry.digest) == ("c", TWO)
    assert events[5].at_us > 0


def test_a_deletion_that_nothing_is_kept_of_still_names_the_blob(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        depot.put("a", b"one")
        depot.delete("a")
        *_, last = depot.events()
        assert (last.kind, last.digest, last.entry, last.at_us) == (DELETED, ONE, None, 0)


def test_what_expires_and_what_cannot_be_restored_any_more_is_told(
    depot: Depot, clock: HandClock
) -> None:
    depot.put("short", b"one", about=Description(expire_s=10))
    depot.put("long", b"two")
    depot.put("again", b"two")
    depot.delete("long")
    depot.delete("again")
    depot.put("again", b"one")
    clock.moved_s = 1000.0
    before = len(told(depot))
    for _ in depot.engine.expiry.steps():
        pass
    assert told(depot)[before:] == [(DELETED, "short", ONE), (PURGED, "long", TWO)]


def test_a_change_that_was_refused_or_changed_nothing_is_no_event(depot: Depot) -> None:
    depot.put("a", b"one")
    depot.content.put(b"held by its digest")
    depot.delete("missing")
    depot.set_policy(Policy(quota_entries=1))
    with pytest.raises(Exception, match="entries are used"):
        depot.put("b", b"two")
    assert told(depot) == [(UPLOADED, "a", ONE)]


def test_a_reader_may_go_on_behind_any_event(depot: Depot) -> None:
    work(depot, 100)
    events = list(depot.events(all_buckets=True))
    assert len(events) > 50
    assert any(one.revision == two.revision for one, two in pairwise(events))
    assert sorted({event.cursor for event in events}) == [event.cursor for event in events]
    for number, event in enumerate(events, 1):
        cursor = parse_cursor(str(event.cursor))
        assert list(depot.events(cursor, all_buckets=True)) == events[number:]
    for revision in range(events[-1].revision + 1):
        later = [event for event in events if event.revision >= revision]
        assert list(depot.events(Cursor(revision), all_buckets=True)) == later


@pytest.mark.parametrize("seed", range(5))
def test_whoever_applies_the_events_has_the_names(depot: Depot, seed: int) -> None:
    work(depot, 150, seed)
    there = {
        (bucket, entry.key): entry.digest
        for bucket in ("default", "kept")
        for entry in depot.bucket(bucket).entries()
    }
    events = list(depot.events(all_buckets=True))
    assert names(events) == there
    for event in events:
        assert event.entry is None or (event.entry.bucket, event.entry.key, event.entry.digest) == (
            event.bucket,
            event.key,
            event.digest,
        )


def test_events_are_the_same_after_the_store_was_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_depot(path, Limits(undelete_s=100)) as depot:
        work(depot, 60)
        reader = depot.events(all_buckets=True)
        events = list(reader)
    with open_depot(path) as depot:
        assert list(depot.events(all_buckets=True)) == events
        assert list(depot.events(reader.cursor, all_buckets=True)) == []
        depot.put("later", b"one")
        (later,) = depot.events(reader.cursor, all_buckets=True)
        assert later.key == "later"


def test_a_reader_sees_only_the_names_that_it_asked_for(depot: Depot) -> None:
    for bucket in ("default", "default2", "alice~default"):
        for key in ("a", "a/1", "a/2", "b"):
            depot.bucket(bucket).put(key, b"one")
            depot.bucket(bucket).delete(key)
    keys = [event.key for event in depot.events(prefix="a/")]
    assert keys == ["a/1", "a/1", "a/2", "a/2"]
    assert {event.bucket for event in depot.events()} == {"default"}
    everywhere = list(depot.events(all_buckets=True, prefix="b"))
    assert [event.bucket for event in everywhere[::2]] == ["default", "default2", "alice~default"]
    with pytest.raises(InvalidError, match="surrogates"):
        depot.events(prefix="\ud800")


def test_the_cursor_of_a_reader_passes_what_it_was_not_asked_for(depot: Depot) -> None:
    reader = depot.events(prefix="x")
    for number in range(10):
        depot.put(f"{number}", b"one")
    assert list(reader) == []
    assert reader.cursor == Cursor(11)
    depot.put("x", b"one")
    assert [event.key for event in depot.events(reader.cursor, prefix="x")] == ["x"]


def test_a_cursor_that_is_none_of_this_store_is_refused(depot: Depot) -> None:
    depot.put("a", b"one")
    assert list(depot.events(Cursor(2))) == []
    for ahead in (Cursor(2, 1), Cursor(3), Cursor(10**18)):
        with pytest.raises(InvalidError, match="at most 2"):
            depot.events(ahead)
    for text in ("", "-", "1-", "-1", "1.5", "x", "1-1-1", "\u0661", "1" * 20, " 1", "1\n"):
        with pytest.raises(InvalidError, match="cursor"):
            parse_cursor(text)


def test_a_reader_follows_what_others_change_and_ends_when_nothing_comes(depot: Depot) -> None:
    def change(number: int) -> None:
        for step in range(30):
            depot.put(f"{number}/{step}", b"one")

    writers = [threading.Thread(target=change, args=(number,)) for number in range(3)]
    reader = depot.events(Cursor(1), wait_s=20.0)
    for writer in writers:
        writer.start()
    found = [event.key for event in islice(reader, 90)]
    for writer in writers:
        writer.join()
    for number in range(3):
        assert [key for key in found if key.startswith(f"{number}/")] == [
            f"{number}/{step}" for step in range(30)
        ]
    assert list(depot.events(reader.cursor, wait_s=0.05)) == []


def test_closing_the_store_ends_a_reader_that_waits(tmp_path: Path) -> None:
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(UnavailableError):
            list(reader)
        ended.set()

    with open_depot(tmp_path / "store") as depot:
        depot.put("a", b"one")
        reader = depot.events(wait_s=math.inf)
        assert next(reader).key == "a"
        thread = threading.Thread(target=read)
        thread.start()
    assert ended.wait(10)
    thread.join()


def test_what_compaction_has_dropped_is_said_to_be_gone(tmp_path: Path) -> None:
    with open_depot(tmp_path / "store") as depot:
        about = Description(metadata={"replaced": "soon" * 1000})
        for number in range(50):
            depot.put(f"{number % 5}", b"%d" % number, about=about)
        *_, newest = depot.events()
        for _ in depot.engine.compact(0.0, with_newest=True):
            pass
        with pytest.raises(CompactedError) as caught:
            depot.events(Cursor(1))
        oldest = Cursor(caught.value.oldest)
        depot.put("later", b"one")
        assert [event.key for event in depot.events(newest.cursor)] == ["later"]
        assert depot.events().cursor == oldest
        assert list(depot.events()) == list(depot.events(oldest))


@pytest.mark.parametrize("manner", ["alone", "attached"])
def test_a_killed_writer_leaves_exactly_what_it_acknowledged(tmp_path: Path, manner: str) -> None:
    """The last change may be there without having been acknowledged."""
    path = tmp_path / "store"
    command = [sys.executable, "-c", WRITER, str(path), manner]

    def run(after: Cursor, depot: Depot | None) -> list[Event]:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            followed = [] if depot is None else list(islice(depot.events(after, wait_s=20.0), 20))
            acknowledged = [int(line) for line in islice(writer.stdout, 50)]
            writer.kill()
            acknowledged += [int(line) for line in writer.stdout]
        if depot is not None:
            events = list(depot.events(after))
        else:
            with open_depot(path) as opened:
                events = list(opened.events(after))
        assert events[: len(followed)] == followed
        puts = [event for event in events if event.kind is UPLOADED]
        expected = [Digest.of(b"%d" % number) for number in acknowledged]
        assert [event.digest for event in puts][: len(expected)] == expected
        assert len(puts) - len(expected) in {0, 1}
        return events

    if manner == "alone":
        first = run(Cursor(1), None)
        run(first[-1].cursor, None)
        return
    with hold_depot(path), open_depot(path, attached=True) as depot:
        first = run(Cursor(1), depot)
        second = run(first[-1].cursor, depot)
        assert list(depot.events()) == first + second


def test_a_damaged_row_is_told_and_not_passed_over(depot: Depot) -> None:
    depot.put("a", b"one")
    row = catalog.entry_key("default", b"bad")
    depot.engine.kv.commit((), (Put(row, b"\xc1"),)).result()
    reader = depot.events()
    assert next(reader).key == "a"
    with pytest.raises(Exception, match="an entry is damaged"):
        next(reader)
