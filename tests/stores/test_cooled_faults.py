"""Moves to a real object store that fails, or whose blob somebody takes away meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from cooled_steps import Memory, move
from fault_proxy import Fault, FaultProxy
from object_steps import names, open_objects, s3
from obstore.store import MemoryStore as Objects

from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import NotFoundError, UnavailableError
from holdfast.core.limits import MIB, PASS_OVER_S
from holdfast.core.seams import SystemClock
from holdfast.core.store import Verdict
from holdfast.core.verify import check_content
from holdfast.stores.cooled import CooledStore
from holdfast.stores.memory import MemoryStore
from holdfast.stores.moving import Mover
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.hand_clock import StillClock
from holdfast.testing.store_expiry import nobody, soon_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("seaweed")
SMALL, LARGE = make(1000), make(3 * MIB + 17)
EVERY = [Fault.ERROR, Fault.DROPPED, Fault.LOST, Fault.WRONG]


def cooled(client: object, clock: StillClock | None = None) -> CooledStore:
    cold = open_objects(client, MIB)  # type: ignore[arg-type]  # a client of either kind
    return CooledStore(MemoryStore(), cold, Memory(), clock or SystemClock())


@pytest.fixture
def proxy(s3_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(s3_port).running() as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("fault", "step"),
    [(Fault.LOST, 9), *(pytest.param(fault, 1, marks=pytest.mark.slow) for fault in EVERY)],
)
def test_a_move_that_is_broken_off_at_any_request_loses_nothing(
    proxy: FaultProxy, tmp_path: Path, fault: Fault, step: int
) -> None:
    """From request 1, 2, 3 ... on everything fails, then the object store is back."""
    number = 1
    while True:
        proxy.heal()
        with closing(cooled(s3(proxy.port, f"{tmp_path.name}-{fault.name}-{number}"))) as store:
            refs = [put(store, data) for data in (SMALL, LARGE)]
            proxy.requests.clear()
            proxy.fail_from(number, fault)
            with suppress(UnavailableError):
                move(store, refs)
            is_over = len(proxy.requests) < number
            proxy.heal()
            for ref, data in zip(refs, (SMALL, LARGE), strict=True):
                assert read(store, ref.digest) == data
            assert list(store.scan()) == sorted(refs)
            move(store, refs)
            for ref, data in zip(refs, (SMALL, LARGE), strict=True):
                assert store.here.stat([ref.digest]) == {}
                assert read(store, ref.digest) == data
        if is_over:
            break
        number += step
    assert number > 9


def test_while_it_is_down_cold_blobs_are_not_available_and_are_not_missing(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    clock = StillClock()
    store = cooled(s3(proxy.port, tmp_path.name), clock)
    ref, young = put(store, SMALL), put(store, b"young")
    assert move(store, [ref]) == 1
    for method in ("GET", "PUT", "HEAD", "POST"):
        proxy.fail(method, *[Fault.BUSY] * 100)
    with pytest.raises(UnavailableError, match="HTTP 503"):
        read(store, ref.digest)
    assert read(store, young.digest) == b"young"
    assert sorted(store.scan()) == sorted([ref, young])
    with pytest.raises(NotFoundError):
        store.open(Digest.of(b"nowhere"))
    with pytest.raises(UnavailableError):
        move(store, [young])
    asked = len(proxy.requests)
    assert put(store, SMALL) == ref  # it is stored here
    assert len(proxy.requests) > asked
    assert read(store, ref.digest) == SMALL
    store.here.remove([ref.digest])
    asked = len(proxy.requests)
    put(store, SMALL)  # for a while without asking
    assert len(proxy.requests) == asked
    proxy.heal()
    store.here.remove([ref.digest])
    clock.moved_s += PASS_OVER_S + 1
    put(store, SMALL)
    assert store.here.stat([ref.digest]) == {}
    assert read(store, ref.digest) == SMALL
    store.close()


def test_while_it_is_down_what_is_here_is_collected_all_the_same(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    clock = StillClock()
    store = cooled(s3(proxy.port, tmp_path.name), clock)
    away, here = put(store, SMALL).digest, put(store, b"here").digest
    assert move(store, [BlobRef(away, len(SMALL))]) == 1
    proxy.fail_from(1, Fault.BUSY)
    expected = {away: Verdict.YOUNG, here: Verdict.REMOVED}
    assert store.expire([away, here], soon_us(), nobody) == expected
    asked = len(proxy.requests)
    assert store.expire([away, here], soon_us(), nobody) == {away: Verdict.YOUNG}
    assert len(proxy.requests) == asked
    proxy.heal()
    clock.moved_s += PASS_OVER_S + 1
    assert store.expire([away], soon_us(), nobody) == {away: Verdict.REMOVED}
    assert list(store.scan()) == []
    store.close()


# Who else wants the blob.


def steps(store: CooledStore, refs: list[BlobRef]) -> Iterator[object]:
    return Mover(store, check_content).move(refs, soon_us())


def remove(store: CooledStore, digest: Digest) -> None:
    store.remove([digest])


def expire(store: CooledStore, digest: Digest) -> None:
    store.expire([digest], soon_us(), nobody)


@pytest.mark.parametrize("take", [remove, expire], ids=["remove", "expire"])
@pytest.mark.parametrize("number", range(9))
def test_what_is_taken_away_in_the_middle_of_a_move_does_not_come_back(
    take: Callable[[CooledStore, Digest], None], number: int
) -> None:
    client = Objects()
    with closing(cooled(client)) as store:
        ref = put(store, LARGE)
        moving = steps(store, [ref])
        for _ in range(number):
            next(moving, None)
        take(store, ref.digest)
        assert read(store, ref.digest) is None
        for _ in moving:
            pass
        assert read(store, ref.digest) is None
        assert list(store.scan()) == []
        assert list(store.register.between(None, None)) == []
    assert names(client) == []  # once the last reader's leftovers are gone


@pytest.mark.parametrize("number", range(9))
def test_what_is_taken_away_and_stored_again_stays(number: int) -> None:
    with closing(cooled(Objects())) as store:
        ref = put(store, LARGE)
        moving = steps(store, [ref])
        for _ in range(number):
            next(moving, None)
        store.remove([ref.digest])
        put(store, LARGE)
        other = list(steps(store, [ref]))  # another move, which has its own claim
        assert other
        for _ in moving:
            pass
        assert read(store, ref.digest) == LARGE


@pytest.mark.parametrize("number", range(9))
def test_a_copy_that_is_given_up_is_not_counted_on(number: int) -> None:
    """A scrub that finds damage there in the middle of a move."""
    with closing(cooled(Objects())) as store:
        ref = put(store, LARGE)
        moving = steps(store, [ref])
        for _ in range(number):
            next(moving, None)
        store.withdraw([ref.digest])
        for _ in moving:
            pass
        assert read(store, ref.digest) == LARGE


def test_a_move_is_done_by_one_at_a_time() -> None:
    with closing(cooled(Objects())) as store:
        ref = put(store, LARGE)
        first = steps(store, [ref])
        next(first)
        assert list(steps(store, [ref])) == []
        first.close()  # type: ignore[attr-defined]  # it is a generator
        assert store.here.stat([ref.digest])
        assert move(store, [ref]) == 1


def test_who_reads_goes_on_while_the_blob_moves() -> None:
    with closing(cooled(Objects())) as store:
        ref = put(store, LARGE)
        with whole(store, ref.digest) as before:
            assert before.read(10) == LARGE[:10]
            assert move(store, [ref]) == 1
            with whole(store, ref.digest) as after:
                assert read_all(before) == LARGE[10:]
                assert read_all(after) == LARGE


def test_what_is_damaged_here_is_not_moved_and_what_differs_there_neither() -> None:
    with closing(cooled(Objects())) as store:
        ref = put(store, SMALL)
        assert isinstance(store.here, MemoryStore)
        store.here._blobs[ref.digest] = make(1000, seed=1)
        (moved,) = Mover(store, check_content).move([ref], soon_us())
        assert moved.damaged == (ref.digest,)
        assert store.here.stat([ref.digest])
        store.here._blobs[ref.digest] = SMALL
        assert move(store, [ref]) == 1
        assert read(store, ref.digest) == SMALL


class Crowd:
    """Blobs come, go, move and are collected without a pause; `_lock` guards what is wanted."""

    def __init__(self) -> None:
        self.store = cooled(Objects())
        self.blobs = [make(size, seed=seed) for seed in range(4) for size in (500, 2 * MIB + 5)]
        self.stop = threading.Event()
        self._wanted = dict.fromkeys(map(Digest.of, self.blobs), 0)
        self._lock = threading.Lock()

    def move_on(self) -> int:
        moved = 0
        while not self.stop.is_set():
            moved += move(self.store, list(self.store.here.scan()))
        return moved

    def sweep_on(self) -> int:
        for digest in cycle(self._wanted):
            self.store.expire([digest], soon_us(), lambda digest, _: self._wanted[digest] > 0)
            if self.stop.wait(0.002):
                break
        return 0

    def write_on(self, thread: int) -> None:
        for number in range(60):
            data = self.blobs[(thread + number) % len(self.blobs)]
            digest = Digest.of(data)
            self._want(digest, 1)
            put(self.store, data)
            assert read(self.store, digest) == data
            assert self.store.stat([digest]) == {digest: len(data)}
            assert digest in {each.digest for each in self.store.scan()}
            self._want(digest, -1)

    def _want(self, digest: Digest, more: int) -> None:
        with self._lock:
            self._wanted[digest] += more


def test_readers_and_writers_and_sweeps_never_notice_moves() -> None:
    crowd = Crowd()
    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(each) for each in (crowd.move_on, crowd.move_on, crowd.sweep_on)]
        writing = [pool.submit(crowd.write_on, thread) for thread in range(3)]
        try:
            for each in writing:
                each.result()
        finally:
            crowd.stop.set()
        assert sum(each.result() for each in others) > 0
    crowd.store.close()
