"""What goes with an owner goes whole, also while some of it changes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.core.access import ApiKey
from holdfast.core.errors import DeniedError, UnavailableError
from holdfast.core.kv import Committed, Compare, Conflict, Transaction, Write
from holdfast.core.pending import Pending
from holdfast.core.policy import Owner, Policy
from holdfast.core.preconditions import NO_CONDITIONS
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.core.store import Staged
from holdfast.depot.change import Place, Wish
from holdfast.depot.depot import Depot
from holdfast.depot.keys import Keys
from holdfast.depot.leaving import leave
from holdfast.depot.local import open_depot
from holdfast.depot.policies import Policies
from holdfast.kv.embedded import EmbeddedKV
from holdfast.log.log import Log
from holdfast.testing.recount import check_catalog

HOLDS = 25


class Overtaken(EmbeddedKV):
    """Before its first commit with a condition, somebody else changes something."""

    def __init__(self, log: Log, act: Callable[[], object]) -> None:
        super().__init__(log)
        self._acts = [act]

    def commit(
        self,
        compares: Sequence[Compare],
        writes: Sequence[Write],
        *,
        blob: Staged | None = None,
    ) -> Pending[Committed | Conflict]:
        if compares and self._acts:
            self._acts.pop()()
        return super().commit(compares, writes, blob=blob)


def test_a_hold_that_changes_at_that_moment_keeps_no_other(tmp_path: Path) -> None:
    with open_depot(tmp_path) as depot:
        depot.engine.names.policies.set_owner(Owner(name="alice"))
        content = depot.content_of("alice")
        digests = sorted(content.put(b"%d" % number) for number in range(HOLDS))
        kv = depot.engine.kv
        assert isinstance(kv, EmbeddedKV)
        overtaken = Overtaken(kv._log, lambda: content.delete(digests[3]))
        assert sum(leave(overtaken, "alice")) >= HOLDS - 1
        assert content.list().digests == []
        assert depot.engine.names.policies.owner_used("alice").entries == 0
        check_catalog(kv)


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[Depot]:
    """A store with an owner, alice."""
    with open_depot(tmp_path) as opened:
        opened.engine.names.policies.set_owner(Owner(name="alice"))
        opened.bucket("alice~photos").put("old", b"old")
        yield opened
        check_catalog(opened.engine.kv)


def remove(depot: Depot) -> None:
    assert depot.engine.names.policies.remove_owner("alice")


def leave_now(depot: Depot) -> None:
    """Do what the janitor does."""
    for _ in depot.engine.expiry.steps():
        pass


def come_again(depot: Depot) -> None:
    leave_now(depot)
    depot.engine.names.policies.set_owner(Owner(name="alice"))


@pytest.mark.parametrize("then", [lambda _: None, leave_now, come_again])
@pytest.mark.parametrize("size_bytes", [5, 300_000])
def test_an_upload_on_its_way_is_not_named_behind_its_owner(
    depot: Depot, size_bytes: int, then: Callable[[Depot], None]
) -> None:
    data = bytes(size_bytes)
    named, held = depot.bucket("alice~photos").upload("k"), depot.content_of("alice").upload(None)
    with named, held:
        named.write(data)
        held.write(data)
        remove(depot)
        then(depot)
        for upload in (named, held):
            with pytest.raises(DeniedError):
                upload.finish().result()
    leave_now(depot)
    assert list(depot.bucket("alice~photos").entries()) == []
    assert depot.content_of("alice").list().digests == []
    assert depot.engine.names.policies.owner_used("alice").entries == 0


def test_a_commit_that_waits_is_not_done_behind_its_owner(depot: Depot) -> None:
    """Whatever names something looks at the owner in the very commit that does it."""
    names, photos, kv = depot.engine.names, depot.bucket("alice~photos"), depot.engine.kv
    photos.set_policy(Policy(versions=5, undelete_s=1000))
    entry = photos.put("old", b"new")
    photos.put("gone", b"x")
    photos.delete("gone")
    place = Place("alice~photos", "old")
    wish = Wish(entry.ref, "text/plain", {})
    waiting: list[Transaction[Any]] = [
        names.assigning(place, wish, NO_CONDITIONS),
        names.copying(place, Place("alice~photos", "copy"), NO_CONDITIONS, move=False),
        names.restoring(place, 0, NO_CONDITIONS),
        names.undeleting(Place("alice~photos", "gone")),
        depot.content_of("alice")._keeping(entry.ref, "text/plain", None),
    ]
    remove(depot)
    for transaction in waiting:
        with pytest.raises(DeniedError):
            kv.transact(transaction.reads, transaction.planner).result()
    with pytest.raises(UnavailableError):
        photos.put("late", b"x")
    with pytest.raises(UnavailableError):
        depot.content_of("alice").put(b"late")
    leave_now(depot)
    assert list(photos.entries()) == []
    assert photos.deleted().graves == []
    assert photos.put("nobody's", b"who has the store may still write here").version == 0


def test_a_key_and_a_policy_are_not_left_behind(depot: Depot) -> None:
    kv, clock = depot.engine.kv, SystemClock()
    assert isinstance(kv, EmbeddedKV)

    def remove_whole() -> None:
        remove(depot)
        leave_now(depot)

    def overtaken() -> tuple[Policies, Keys]:
        slow = Overtaken(kv._log, remove_whole)
        policies = Policies(slow, clock, 0)
        return policies, Keys(slow, clock, SystemEntropy(), policies)

    calls: list[Callable[[Policies, Keys], object]] = [
        lambda policies, _: policies.set_policy("alice~photos", Policy(public=True)),
        lambda policies, _: policies.set_owner(Owner(name="alice", quota_bytes=5)),
        lambda _, keys: keys.create(ApiKey(id="", owner="alice")),
    ]
    for call in calls:
        with pytest.raises(UnavailableError):
            call(*overtaken())
        assert depot.engine.names.policies.owner("alice") is None
        depot.engine.names.policies.set_owner(Owner(name="alice"))
    assert depot.engine.keys.list() == []
    assert depot.bucket("alice~photos").policy == Policy()
