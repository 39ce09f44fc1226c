"""Tokens for prepared blobs: kept until the name is known, or its deadline is over."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import UnavailableError
from holdfast.core.protection import Protections
from holdfast.core.store import Keep
from holdfast.stores.memory import MemoryStore
from holdfast.testing.hand_clock import StillClock

A, B = Digest.of(b"a"), Digest.of(b"b")


def wanted(keep: Keep) -> set[Digest]:
    return {digest for digest in (A, B) if keep(digest, None)}


def test_what_is_prepared_is_kept_until_it_is_released() -> None:
    protections = Protections()
    with protections.watch() as keep:
        assert wanted(keep) == set()
        token = protections.prepare()
        assert wanted(keep) == set()
        token.protect([A])
        assert wanted(keep) == {A}
    token.release()
    token.release()
    with protections.watch() as keep:
        assert wanted(keep) == set()


def test_a_sweep_keeps_what_was_released_since_it_began() -> None:
    """For the name may be newer than the list of what is live."""
    protections = Protections()
    with protections.watch() as keep, protections.watch() as other:
        with protections.prepare() as token:
            token.protect([A])
        assert wanted(keep) == wanted(other) == {A}
    with protections.watch() as keep:
        assert wanted(keep) == set()


def test_a_blob_is_kept_while_any_token_protects_it() -> None:
    protections = Protections()
    one, other = protections.prepare(), protections.prepare()
    one.protect([A, A, B])
    one.protect([A])
    other.protect([A])
    one.release()
    with protections.watch() as keep:
        assert wanted(keep) == {A}
    other.release()
    with protections.watch() as keep:
        assert wanted(keep) == set()


def test_what_nobody_lets_go_of_is_kept_until_its_deadline() -> None:
    clock = StillClock()
    protections = Protections(clock)
    protections.prepare(60).protect([A])
    clock.moved_s += 59
    with protections.watch() as keep:
        assert wanted(keep) == {A}
    clock.moved_s += 1
    with protections.watch() as keep:
        assert wanted(keep) == set()


def test_an_unknown_outcome_is_kept_until_somebody_knows() -> None:
    clock = StillClock()
    protections = Protections(clock)
    with pytest.raises(KeyError), protections.prepare(60) as token:  # noqa: PT012 - the error leaves the block
        token.protect([A])
        raise KeyError
    clock.moved_s += 10_000
    assert protections.unresolved() == [token]
    with protections.watch() as keep:
        assert wanted(keep) == {A}
    token.release()
    assert protections.unresolved() == []
    with protections.watch() as keep:
        assert wanted(keep) == set()


def test_a_token_that_was_over_before_the_error_is_not_in_doubt() -> None:
    protections = Protections()
    with pytest.raises(KeyError), protections.prepare() as token:  # noqa: PT012 - the error leaves the block
        token.protect([A])
        token.release()
        raise KeyError
    assert protections.unresolved() == []


def test_who_takes_longer_than_the_deadline_is_told() -> None:
    clock = StillClock()
    token = Protections(clock).prepare(60)
    token.protect([A])
    clock.moved_s += 60
    with pytest.raises(UnavailableError, match="prepare again"):
        token.protect([B])


def test_a_released_token_protects_nothing_more() -> None:
    token = Protections().prepare()
    token.release()
    with pytest.raises(UnavailableError):
        token.protect([A])


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROTECTED_REFS_MAX", 2)
    protections = Protections()
    digests = [Digest.of(b"%d" % number) for number in range(3)]
    token = protections.prepare()
    with pytest.raises(UnavailableError, match="too many"):
        token.protect(digests)
    token.protect(digests[:2])
    with pytest.raises(UnavailableError, match="too many"):
        protections.prepare().protect(digests[2:])
    token.release()
    protections.prepare().protect(digests[2:])


def test_blobs_are_protected_before_they_are_stored() -> None:
    protections = Protections()
    seen: list[bool] = []

    class Watching(MemoryStore):
        def _put(self, digest: Digest, data: bytes) -> None:
            with protections.watch() as keep:
                seen.append(keep(digest, None))
            super()._put(digest, data)

    store = Watching()
    with protections.prepare() as token:
        assert [ref.size_bytes for ref in token.put_many(store, [b"a", b"bc"])] == [1, 2]  # type: ignore[union-attr]  # no errors here
    assert seen == [True, True]


def test_threads_lose_no_protection() -> None:
    protections = Protections()
    digests = [Digest.of(b"%d" % number) for number in range(20)]
    start = threading.Barrier(8)

    def work(thread: int) -> bool:
        start.wait()
        for number in range(200):
            digest = digests[(thread + number) % 20]
            with protections.prepare() as token:
                token.protect([digest])
                with protections.watch() as keep:
                    if not keep(digest, None):
                        return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    with protections.watch() as keep:
        assert not any(keep(digest, None) for digest in digests)
