"""Couriers: order, retries for a day by a clock that the tests move, dead letters, restarts."""

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import receiver as programs
from receiver import Receiver

from holdfast.core import limits
from holdfast.core.bucket import Description
from holdfast.core.errors import InvalidError, NotFoundError, TooLargeError
from holdfast.core.policy import Owner
from holdfast.core.seams import SystemClock
from holdfast.core.webhook import Webhook
from holdfast.depot.depot import Depot
from holdfast.depot.local import open_depot
from holdfast.depot.webhooks import Standing
from holdfast.http.dial import WebLine
from holdfast.services import courier as couriers
from holdfast.services.dispatch import Dispatch

HOUR_S, DAY_S = 3600, 86_400


class HandClock(SystemClock):
    """A clock that is ahead by what it was moved."""

    moved_s = 0.0

    def now_us(self) -> int:
        return super().now_us() + int(self.moved_s * 1_000_000)


class Office:
    """A store, who sends its events, and hands on its clock."""

    def __init__(self, folder: Path, clock: HandClock, give_up_s: float = DAY_S) -> None:
        self.clock = clock
        self.depot: Depot = open_depot(folder, clock=clock)
        self.hooks = self.depot.engine.webhooks
        context = ssl.create_default_context()
        self.dispatch = Dispatch(
            self.depot.engine,
            lambda: WebLine(("127.0.0.0/8",), 3, context, SystemClock()),
            give_up_s,
            clock,
        )

    def hook(self, url: str, name: str = "w", **members: Any) -> str:
        """A new webhook; returns its secret."""
        return self.hooks.put(Webhook(name=name, url=url, **members))[1]

    def put(self, *keys: str) -> None:
        for key in keys:
            self.depot.put(key, key.encode())

    def settle(self) -> None:
        """Let everybody do what is to be done now."""
        for _ in range(2000):
            self.dispatch.look()
            threads = [run._thread for run in self.dispatch._runs.values()]
            busy = [one for one in threads if one is not None and one.is_alive()]
            for thread in busy:
                thread.join()
            if not busy and not any(run.courier.is_due() for run in self.dispatch._runs.values()):
                return
        raise AssertionError("it does not come to rest")

    def live(self, seconds: float) -> None:
        """Let time pass, and stop at each moment at which something is due."""
        end_s = self.clock.moved_s + seconds
        while True:
            self.settle()
            standing = self.standing()
            due_s = (standing.due_us - self.clock.now_us()) / 1e6 + 0.001
            is_due = standing.failures and due_s > 0
            if not is_due or self.clock.moved_s + due_s > end_s:
                break
            self.clock.moved_s += due_s
        self.clock.moved_s = end_s
        self.settle()

    def standing(self, name: str = "w") -> Standing:
        return self.hooks.get(name)[1]

    def close(self) -> None:
        self.dispatch.close()
        self.depot.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def office(tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """One that keeps how far it came behind every turn."""
    monkeypatch.setattr(couriers, "SAVE_S", 0.0)
    found = Office(tmp_path / "store", clock)
    yield found
    found.close()


@pytest.fixture
def there() -> Iterator[Receiver]:
    with programs.receiver() as found:
        yield found


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return dict(vars(record)["fields"])


def told(caplog: pytest.LogCaptureFixture, name: str) -> list[dict[str, Any]]:
    return [fields(one) for one in caplog.records if one.getMessage() == name]


def test_events_come_in_order_signed_and_with_all_they_say(office: Office, there: Receiver) -> None:
    office.put("before")
    secret = office.hook(there.url)
    office.put(*(f"k{number}" for number in range(200)))
    office.depot.move("k3", "moved")
    office.depot.delete("k5")
    office.settle()
    expected = [*(f"k{number}" for number in range(200)), "k3", "moved", "k5"]
    assert there.keys() == expected
    assert all(one.is_signed_by(secret) for one in there.got)
    assert len({one.id for one in there.got}) == len(expected)
    said = there.got[0].said
    assert (said["type"], said["data"]["topic"]) == ("blob.uploaded", "_:blob:uploaded")
    assert said["data"]["entry"]["digest"] == said["data"]["digest"]
    assert said["timestamp"] == said["data"]["at"] == said["data"]["entry"]["updated_at"]
    assert there.got[-1].said["type"] == "blob.deleted"
    standing = office.standing()
    assert (standing.delivered, standing.failed, standing.failures) == (len(expected), 0, 0)


def test_each_is_told_what_it_wants(office: Office, there: Receiver) -> None:
    for owner in ("alice", "bob"):
        office.depot.engine.names.policies.set_owner(Owner(name=owner))
    url = there.url
    office.hook(url + "?all", "all")
    office.hook(url + "?hers", "alice~hers")
    office.hook(url + "?photos", "alice~photos", bucket="alice~photos", prefix="x/")
    office.hook(url + "?gone", "gone", topics=("_:blob:deleted",))
    places = ("alice~photos", "alice~notes", "bob~photos", "photos")
    for place in places:
        for key in ("x/1", "y"):
            office.depot.bucket(place).put(key, b"x")
    office.depot.bucket("bob~photos").delete("y")
    office.settle()
    got: dict[str, list[tuple[str, str]]] = {}
    for one in there.got:
        data = one.said["data"]
        got.setdefault(one.path, []).append((data["bucket"], data["key"]))
    every = [(place, key) for place in places for key in ("x/1", "y")]
    assert got == {
        "/hook?all": [*every, ("bob~photos", "y")],
        "/hook?hers": every[:4],
        "/hook?photos": [("alice~photos", "x/1")],
        "/hook?gone": [("bob~photos", "y")],
    }


def test_a_receiver_that_fails_for_a_day_loses_what_is_a_day_old_and_nothing_else(
    office: Office, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holdfast")
    there.act = programs.status(500)
    secret = office.hook(there.url)
    office.put("a", "b")
    office.live(12 * HOUR_S)
    office.put("c")
    tries = len(there.got)
    assert 20 < tries < 50
    assert {one.key for one in there.got} == {"a"}
    assert len({one.id for one in there.got}) == 1
    assert office.standing().waiting_us > 0
    office.live(12 * HOUR_S + 2 * HOUR_S)
    standing = office.standing()
    assert (standing.given_up, standing.dead) == (2, 2)
    assert {one.key for one in there.got} == {"a", "c"}
    there.act = programs.taken
    office.put("d")
    office.live(2 * HOUR_S)
    assert there.keys()[-2:] == ["c", "d"]
    standing = office.standing()
    assert (standing.failures, standing.failing_us, standing.waiting_us) == (0, 0, 0)
    letters = office.hooks.dead("w")
    assert [one.letter.topic for one in letters] == ["_:blob:uploaded"] * 2
    assert letters[0].letter.id == there.got[0].id
    assert letters[0].letter.error == "answered 500"
    assert sum(one["messages"] for one in told(caplog, "webhook.gave_up")) == 2
    assert len(told(caplog, "webhook.recovered")) == 1
    _send_again(office, there, secret)


def _send_again(office: Office, there: Receiver, secret: str) -> None:
    """On demand, dead letters are as they were."""
    letters = office.hooks.dead("w")
    del there.got[:]
    assert office.hooks.redeliver("w") == 2
    office.settle()
    assert there.keys() == ["a", "b"]
    assert [one.id for one in there.got] == [one.letter.id for one in letters]
    assert all(one.is_signed_by(secret) for one in there.got)
    assert office.hooks.dead("w") == []
    assert office.standing().dead == 0


def test_waits_grow_and_a_receiver_may_ask_for_more(
    office: Office, there: Receiver, clock: HandClock
) -> None:
    there.act = programs.status(503)
    office.hook(there.url)
    office.put("a")
    waits = []
    for _ in range(5):
        office.settle()
        wait_s = (office.standing().due_us - clock.now_us()) / 1e6
        waits.append(wait_s)
        clock.moved_s += wait_s + 0.01
    assert len(there.got) == 5
    for number, wait_s in enumerate(waits):
        assert 2**number / 2 - 0.5 < wait_s <= 2**number
    there.act = programs.status(503, Retry_After="1000")
    office.settle()
    assert 990 < (office.standing().due_us - clock.now_us()) / 1e6 <= 1000
    there.act = programs.status(503, Retry_After="100000")
    clock.moved_s += 1001
    office.settle()
    assert 3590 < (office.standing().due_us - clock.now_us()) / 1e6 <= 3600


def test_a_clock_that_was_set_back_does_not_end_everything(
    office: Office, there: Receiver, clock: HandClock
) -> None:
    there.act = programs.status(500)
    clock.moved_s = 10 * DAY_S
    office.hook(there.url)
    office.put("a")
    office.settle()
    there.act = programs.taken
    clock.moved_s = 0
    office.settle()
    assert there.keys() == ["a", "a"]


def test_a_redelivery_that_fails_leaves_the_letter(office: Office, there: Receiver) -> None:
    office.dispatch._kit = office.dispatch._kit._replace(give_up_s=0)
    there.act = programs.status(500)
    office.hook(there.url)
    office.put("a", "b", "c")
    office.live(60)
    assert office.standing().dead == 3
    before = office.hooks.dead("w")
    assert office.hooks.redeliver("w", frozenset({before[1].letter.id})) == 1
    assert office.hooks.redeliver("w", frozenset({"msg_none"})) == 0
    del there.got[:]
    there.act = programs.status(404)
    office.settle()
    assert there.keys() == ["b"]
    after = office.hooks.dead("w")
    assert [one.letter.error for one in after] == ["answered 500", "answered 404", "answered 500"]
    assert not any(one.letter.is_asked for one in after)
    there.act = programs.taken
    office.hooks.redeliver("w")
    office.settle()
    assert there.keys() == ["b", "a", "b", "c"]


def test_dead_letters_have_a_bound_and_the_newest_stay(
    office: Office, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEAD_LETTERS_MAX", 20)
    office.dispatch._kit = office.dispatch._kit._replace(give_up_s=0)
    there.act = programs.status(500)
    office.hook(there.url)
    keys = [f"k{number:03}" for number in range(70)]
    office.put(*keys)
    office.live(600)
    standing = office.standing()
    assert (standing.given_up, standing.dead) == (70, 20)
    there.act = programs.taken
    del there.got[:]
    assert office.hooks.redeliver("w") == 20
    office.settle()
    assert there.keys() == keys[-20:]
    assert office.standing().dead == 0


def test_a_long_queue_is_given_up_with_few_tries(office: Office, there: Receiver) -> None:
    there.act = programs.status(500)
    office.hook(there.url)
    office.put("first")
    office.settle()
    office.put(*(f"k{number}" for number in range(200)))
    office.live(2 * DAY_S)
    tries = len(there.got)
    standing = office.standing()
    assert (standing.given_up, standing.dead) == (201, 201)
    assert tries < 80
    there.act = programs.taken
    office.put("last")
    office.live(HOUR_S)
    assert there.keys()[tries:] == ["last"]


def test_pages_of_dead_letters_join(office: Office, there: Receiver) -> None:
    office.dispatch._kit = office.dispatch._kit._replace(give_up_s=0)
    there.act = programs.status(500)
    office.hook(there.url)
    office.put(*(f"k{number}" for number in range(10)))
    office.live(600)
    every = [one.letter.id for one in office.hooks.dead("w")]
    from holdfast.depot.webhooks import position  # noqa: PLC0415

    found: list[str] = []
    after = ""
    while page := office.hooks.dead("w", after, 3):
        found += [one.letter.id for one in page]
        after = position(page[-1])
    assert found == every
    assert len(found) == 10
    with pytest.raises(InvalidError):
        office.hooks.dead("w", "xyz")
    with pytest.raises(NotFoundError):
        office.hooks.dead("other")


def test_a_receiver_that_is_gone_is_left_alone_until_somebody_says_otherwise(
    office: Office, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    there.act = programs.status(410)
    office.hook(there.url)
    office.put("a", "b")
    office.live(10 * DAY_S)
    assert there.keys() == ["a"]
    assert office.standing().gone_us
    assert len(told(caplog, "webhook.gone")) == 1
    there.act = programs.taken
    assert office.hook(there.url) == ""
    office.settle()
    assert there.keys() == ["a", "a", "b"]
    assert office.standing().gone_us == 0


def test_a_paused_webhook_waits_and_goes_on(office: Office, there: Receiver) -> None:
    office.hook(there.url)
    office.put("a")
    office.settle()
    office.hook(there.url, is_paused=True)
    office.put("b")
    office.settle()
    assert there.keys() == ["a"]
    office.hook(there.url)
    office.settle()
    assert there.keys() == ["a", "b"]


def test_an_owner_who_is_suspended_or_gone_is_told_nothing(office: Office, there: Receiver) -> None:
    policies = office.depot.engine.names.policies
    policies.set_owner(Owner(name="alice"))
    office.hook(there.url, "alice~w")
    bucket = office.depot.bucket("alice~b")
    bucket.put("a", b"x")
    office.settle()
    policies.set_owner(Owner(name="alice", is_suspended=True))
    bucket.put("b", b"x")
    office.settle()
    assert there.keys() == ["a"]
    policies.set_owner(Owner(name="alice"))
    office.settle()
    assert there.keys() == ["a", "b"]
    policies.remove_owner("alice")
    office.settle()
    for _ in office.depot.engine.expiry.steps():
        pass
    office.settle()
    assert there.keys() == ["a", "b"]
    assert office.hooks.page() == []
    with pytest.raises(InvalidError):
        office.hook(there.url, "alice~w")


def test_a_removed_webhook_leaves_nothing(office: Office, there: Receiver) -> None:
    office.dispatch._kit = office.dispatch._kit._replace(give_up_s=0)
    there.act = programs.status(500)
    office.hook(there.url)
    office.put("a", "b")
    office.live(60)
    assert office.standing().dead == 2
    assert office.hooks.remove("w")
    assert not office.hooks.remove("w")
    office.put("c")
    office.settle()
    there.act = programs.taken
    del there.got[:]
    office.hook(there.url)
    office.put("d")
    office.settle()
    assert there.keys() == ["d"]
    assert (office.standing().delivered, office.standing().dead) == (1, 0)
    assert office.hooks.dead("w") == []


def test_a_change_meanwhile_loses_nothing_and_holds_from_then_on(
    office: Office, there: Receiver
) -> None:
    with programs.receiver() as other:
        office.hook(there.url)
        office.put(*(f"a{number}" for number in range(20)))
        office.settle()
        office.hook(other.url)
        office.put(*(f"b{number}" for number in range(20)))
        office.settle()
        assert there.keys() == [f"a{number}" for number in range(20)]
        assert other.keys() == [f"b{number}" for number in range(20)]
        assert office.standing().delivered == 40


def test_two_secrets_sign_while_they_overlap(
    office: Office, there: Receiver, clock: HandClock
) -> None:
    old = office.hook(there.url)
    new = office.hooks.rotate("w", HOUR_S)
    office.put("a")
    office.settle()
    assert there.got[-1].is_signed_by(old)
    assert there.got[-1].is_signed_by(new)
    clock.moved_s += HOUR_S + 1
    office.put("b")
    office.settle()
    assert not there.got[-1].is_signed_by(old)
    assert there.got[-1].is_signed_by(new)
    newest = office.hooks.rotate("w", 0)
    office.put("c")
    office.settle()
    assert there.got[-1].headers["webhook-signature"].count("v1,") == 1
    assert there.got[-1].is_signed_by(newest)


def test_a_secret_that_is_rotated_between_two_messages_signs_the_second(
    office: Office, there: Receiver
) -> None:
    """The first message is under way meanwhile, and both go in one turn of the courier."""
    secrets = [office.hook(there.url)]

    def rotate(handler: programs.Handler) -> None:
        if len(secrets) == 1:
            secrets.append(office.hooks.rotate("w", 0))
        handler.answer(204)

    there.act = rotate
    office.put("a", "b")
    office.settle()
    assert there.keys() == ["a", "b"]
    for got, secret in zip(there.got, secrets, strict=True):
        assert got.is_signed_by(secret)


def test_what_compaction_drops_is_told_and_the_rest_follows(
    office: Office, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    there.act = programs.status(500)
    office.hook(there.url)
    about = Description(metadata={"filler": "x" * 8000})
    for number in range(50):
        office.depot.put("k", b"%d" % number, about=about)
    office.settle()
    for _ in office.depot.engine.compact(0.0, with_newest=True):
        pass
    office.dispatch._kit.pages._kept.clear()
    office.put("later")
    there.act = programs.taken
    office.live(60)
    assert there.keys()[-1] == "later"
    (lost,) = told(caplog, "webhook.lost")
    assert lost["webhook"] == "w"
    assert office.standing().lost_us > 0


def test_who_comes_next_goes_on_where_it_was(
    tmp_path: Path, clock: HandClock, there: Receiver
) -> None:
    """Without an end in order, as after a kill: some of the last second is sent again."""
    first = Office(tmp_path / "store", clock)
    first.hook(there.url)
    first.put("a", "b")
    first.settle()
    for run in first.dispatch._runs.values():
        run.let_go()
    first.depot.close()
    second = Office(tmp_path / "store", clock)
    second.put("c")
    second.settle()
    second.close()
    keys = there.keys()
    assert list(dict.fromkeys(keys)) == ["a", "b", "c"]
    ids: dict[str, set[str]] = {}
    for one in there.got:
        ids.setdefault(one.key, set()).add(one.id)
    assert all(len(some) == 1 for some in ids.values())
    third = Office(tmp_path / "store", clock)
    third.settle()
    third.close()
    assert there.keys() == keys


def test_a_failing_streak_outlives_a_restart(
    tmp_path: Path, clock: HandClock, there: Receiver
) -> None:
    there.act = programs.status(500)
    first = Office(tmp_path / "store", clock)
    first.hook(there.url)
    first.put("a")
    first.live(23 * HOUR_S)
    first.close()
    second = Office(tmp_path / "store", clock)
    assert second.standing().failures > 20
    second.live(2 * HOUR_S)
    assert second.standing().given_up == 1
    second.close()


def test_receivers_that_hang_delay_nobody(office: Office, there: Receiver) -> None:
    with ExitStack() as stack:
        for number in range(20):
            bad = stack.enter_context(programs.receiver(programs.hang))
            office.hook(bad.url, f"bad{number}")
        office.hook(there.url, "good")
        office.dispatch.start()
        office.put("first")
        time.sleep(0.3)
        for number in range(10):
            began_s = time.monotonic()
            office.put(f"k{number}")
            _wait(lambda n=number: len(there.got) == n + 2)  # type: ignore[misc]
            assert time.monotonic() - began_s < 1
        began_s = time.monotonic()
        office.dispatch.close()
        assert time.monotonic() - began_s < couriers.TURN_S + 1


def _wait(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_events_that_nobody_wants_are_passed_without_many_commits(
    office: Office, there: Receiver
) -> None:
    office.hook(there.url, prefix="never/")
    office.settle()
    (run,) = office.dispatch._runs.values()
    run._thread = None
    before = office.depot.engine.kv.revision()
    for number in range(300):
        office.depot.put(f"k{number % 7}", b"x")
        if number % 10 == 0:
            office.settle()
    assert there.got == []
    assert office.depot.engine.kv.revision() - before == 300
    assert run._thread is None
    office.clock.moved_s += DAY_S
    office.settle()
    assert office.depot.engine.kv.revision() - before <= 301


def test_there_is_a_bound_on_webhooks(office: Office, there: Receiver) -> None:
    office.depot.engine.names.policies.set_owner(Owner(name="alice"))
    office.depot.engine.names.policies.set_owner(Owner(name="bob"))
    for number in range(limits.WEBHOOKS_OWNER_MAX):
        office.hook(there.url, f"alice~w{number}")
    with pytest.raises(TooLargeError):
        office.hook(there.url, "alice~more")
    office.hook(there.url, "alice~w0", prefix="changed")
    office.hook(there.url, "bob~w")
    for number in range(limits.WEBHOOKS_MAX - limits.WEBHOOKS_OWNER_MAX - 1):
        office.hook(there.url, f"w{number}")
    with pytest.raises(TooLargeError):
        office.hook(there.url, "one-more")
    assert len(office.hooks.everyone()) == limits.WEBHOOKS_MAX
    assert [one.name for one in office.hooks.page("alice~w18", 3)] == [
        "alice~w19",
        "alice~w2",
        "alice~w3",
    ]
    assert [one.name for one in office.hooks.page(owner="bob")] == ["bob~w"]
