"""What becomes of names, in any order: stored, deleted, brought back, restored, expired, collected.

The oracle is a dict of what each name was. Whatever it says is there must be there with its bytes,
after any collection; and once all is deleted and every time is over, no blob is left. KEPT_EXAMPLES
sets how many orders are tried.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.core.bucket import Description
from holdfast.core.errors import ConflictError, GoneError, NotFoundError
from holdfast.core.policy import Policy
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.testing import folders
from holdfast.testing.hand_clock import HandClock
from holdfast.testing.recount import check_catalog

KEYS = st.sampled_from(["a", "a/b", "b"])
BLOBS = st.sampled_from([b"", b"one", b"two", b"three" * 300])
GRACE_S = 3600
EXAMPLES = int(os.environ.get("KEPT_EXAMPLES", "40"))


@dataclass
class Known:
    """What a name is, or was when it was deleted."""

    data: bytes
    version: int
    ends_s: float | None = None
    """When it expires, or its grave goes."""
    older: list[tuple[int, bytes]] = field(default_factory=list)


class Kept(RuleBasedStateMachine):
    """One bucket with one policy."""

    bounds = Limits()

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="kept-", dir=folders.BASE)
        self._clock = HandClock()
        self._there: dict[str, Known] = {}
        self._gone: dict[str, Known] = {}
        self._open()

    @initialize(undelete_s=st.sampled_from([0, 1000]), versions=st.sampled_from([0, 2]))
    def set_policy(self, undelete_s: int, versions: int) -> None:
        self._policy = Policy(undelete_s=undelete_s, versions=versions)
        self._depot.set_policy(self._policy)

    @rule(key=KEYS, data=BLOBS, expire_s=st.sampled_from([None, None, 50]))
    def put(self, key: str, data: bytes, expire_s: int | None) -> None:
        entry = self._depot.put(key, data, about=Description(expire_s=expire_s))
        self._replace(key, data, entry.version)
        self._there[key].ends_s = None if expire_s is None else self._clock.moved_s + expire_s

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        known = self._there.pop(key, None)
        assert self._depot.delete(key) == (known is not None)
        if known is not None and (self._policy.undelete_s or self._policy.versions):
            known.ends_s = self._clock.moved_s + (self._policy.undelete_s or 0)
            self._gone[key] = known

    @rule(key=KEYS)
    def undelete(self, key: str) -> None:
        grave = self._gone.get(key)
        try:
            entry = self._depot.undelete(key)
        except ConflictError:
            assert key in self._there
        except NotFoundError:
            assert key not in self._there
            assert grave is None or self._is_over(grave)
        else:
            assert grave is not None
            assert not self._is_over(grave)
            del self._gone[key]
            ends_s = (entry.expires_us - self._clock.now_us()) // 1_000_000
            grave.ends_s = self._clock.moved_s + ends_s if entry.expires_us else None
            self._there[key] = grave

    @rule(key=KEYS, version=st.integers(0, 5))
    def restore(self, key: str, version: int) -> None:
        known = self._there.get(key)
        options = [] if known is None else [*known.older, (known.version, known.data)]
        try:
            entry = self._depot.restore(key, version)
        except (NotFoundError, GoneError):
            kept = [number for number, _ in options[-1 - self._policy.versions :]]
            assert version not in kept
        else:
            found = self._depot.get(key)
            assert dict(options).get(version, found) == found  # else of a time before it expired
            self._replace(key, found, entry.version)

    @rule(seconds=st.sampled_from([1, 60, 1001]))
    def wait(self, seconds: int) -> None:
        self._clock.moved_s += seconds
        self._there = {k: known for k, known in self._there.items() if not self._is_over(known)}

    @rule()
    def expire(self) -> None:
        for _ in self._depot.engine.expiry.steps():
            pass
        self._gone = {k: known for k, known in self._gone.items() if not self._is_over(known)}
        for known in self._there.values():
            known.older = known.older[len(known.older) - self._policy.versions :]
            known.older = known.older if self._policy.versions else []

    @rule()
    def collect(self) -> None:
        self._clock.moved_s += GRACE_S
        self.wait(0)
        self._collect()

    @precondition(lambda self: len(self._there) > 1)
    @rule()
    def reopen(self) -> None:
        self._depot.close()
        self._open()

    @invariant()
    def all_is_there(self) -> None:
        assert {entry.key for entry in self._depot.entries()} == set(self._there)
        for key, known in self._there.items():
            assert self._depot.get(key) == known.data
            newest = known.older[len(known.older) - self._policy.versions :]
            for version, data in newest if self._policy.versions else ():
                assert self._depot.get(key, version=version) == data
        graves = {grave.entry.key for grave in self._depot.deleted().graves}
        assert graves == {k for k, known in self._gone.items() if not self._is_over(known)}
        check_catalog(self._depot.engine.kv)

    def teardown(self) -> None:
        for entry in list(self._depot.entries()):
            self._depot.delete(entry.key)
        self._clock.moved_s += 10 * GRACE_S
        self.expire()
        self._collect()
        assert list(self._depot.engine.store.scan()) == []
        self._depot.close()
        self._folder.cleanup()

    def _open(self) -> None:
        path = Path(self._folder.name) / "store"
        self._depot = open_depot(path, self.bounds, clock=self._clock)

    def _replace(self, key: str, data: bytes, version: int) -> None:
        before = self._there.pop(key, None) or self._gone.get(key)
        self._gone.pop(key, None)
        older = [] if before is None else [*before.older, (before.version, before.data)]
        self._there[key] = Known(data, version, older=older)

    def _is_over(self, known: Known) -> bool:
        return known.ends_s is not None and known.ends_s <= self._clock.moved_s

    def _collect(self) -> None:
        work = sweep_of(self._depot, Manner(grace_s=GRACE_S, clock=self._clock))
        while work.step():
            pass


class KeptInShards(Kept):
    """The same over files of SQLite."""

    bounds = Limits(shards=2)


def some(examples: int) -> settings:
    """So many orders."""
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


TestKept, TestKeptInShards = Kept.TestCase, KeptInShards.TestCase
TestKept.settings = some(EXAMPLES)
TestKeptInShards.settings = some(EXAMPLES // 4)
