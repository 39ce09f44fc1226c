"""The part of the store suite about what a store takes, and removing what nobody needs."""

# ruff: noqa: D102 - the name of a test is its sentence

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core import limits
from holdfast.core.digest import Digest
from holdfast.core.errors import NotFoundError, UnavailableError
from holdfast.core.limits import MIB
from holdfast.core.seams import SystemClock
from holdfast.core.store import Moment, Store, Verdict
from holdfast.testing.blobs import assert_absent, make, put, read
from holdfast.testing.sealed import Sealed

MINUTE_US = 60_000_000
ROUNDS = 30


def soon_us() -> int:
    """A time before which everything was stored."""
    return SystemClock().now_us() + MINUTE_US


def nobody(digest: Digest, moment: Moment | None) -> bool:
    """Want nothing."""
    del digest, moment
    return False


class ExpirySuite(Sealed):
    """Needs the fixture `store`."""

    def test_usage_follows_what_is_stored_and_removed(self, store: Store) -> None:
        before = store.usage()
        assert min(before) >= 0
        sizes = [10, 1000, 2 * MIB, 2 * MIB + 1]
        refs = [put(store, make(size_bytes)) for size_bytes in sizes]
        with store.sink() as sink:
            sink.write(make(2 * MIB, seed=1))
            sink.write(make(2 * MIB, seed=2))
            during = store.usage()
        full = store.usage()
        assert min(full) >= 0
        assert full.files - before.files in {0, 2, 4}
        assert during.temporary_files - full.temporary_files in {0, 1}
        assert during.temporary_bytes >= full.temporary_bytes
        if store.traits.durable:
            stored = full.file_bytes + full.live_bytes - before.file_bytes - before.live_bytes
            assert sum(sizes) <= stored < sum(sizes) + 10_000
        store.remove([ref.digest for ref in refs])
        after = store.usage()
        assert (after.files, after.file_bytes) == (before.files, before.file_bytes)
        assert after.live_bytes < before.live_bytes + 1000
        assert (after.dead_bytes > before.dead_bytes) == (after.segments > 0)

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_what_is_old_and_unwanted_is_removed(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        kept, digest = put(store, b"kept").digest, put(store, data).digest
        missing = Digest.of(b"missing")
        verdicts = store.expire([digest, missing], soon_us(), nobody)
        assert verdicts == {digest: Verdict.REMOVED}
        assert_absent(store, digest)
        assert store.stat([kept]) == {kept: 4}
        assert store.expire([digest, missing], soon_us(), nobody) == {}
        put(store, data)
        assert read(store, digest) == data

    @pytest.mark.parametrize("size_bytes", [0, 10, 2 * MIB])
    def test_what_is_young_stays_and_nobody_is_asked(self, store: Store, size_bytes: int) -> None:
        asked: list[Digest] = []

        def ask(digest: Digest, _: Moment | None) -> bool:
            asked.append(digest)
            return False

        digest = put(store, make(size_bytes)).digest
        for before_us in (0, SystemClock().now_us() - MINUTE_US):
            assert store.expire([digest], before_us, ask) == {digest: Verdict.YOUNG}
        assert asked == []
        assert read(store, digest) == make(size_bytes)

    def test_what_is_wanted_stays(self, store: Store) -> None:
        blobs = [b"%d" % number for number in range(6)] + [make(2 * MIB), make(2 * MIB + 1)]
        digests = [put(store, data).digest for data in blobs]
        wanted = set(digests[::2])
        verdicts = store.expire(set(digests), soon_us(), lambda digest, _: digest in wanted)
        assert {digest for digest, verdict in verdicts.items() if verdict is Verdict.KEPT} == wanted
        assert {digest for digest, verdict in verdicts.items() if verdict is Verdict.REMOVED} == {
            *digests[1::2],
        }
        assert set(store.stat(digests)) == wanted
        assert store.expire([], soon_us(), nobody) == {}

    def test_an_error_of_who_is_asked_removes_nothing(self, store: Store) -> None:
        digests = [put(store, data).digest for data in (b"a", b"b")]

        def fail(digest: Digest, _: Moment | None) -> bool:
            raise UnavailableError(f"nobody knows about {digest}")

        with pytest.raises(UnavailableError):
            store.expire(digests, soon_us(), fail)
        assert set(store.stat(digests)) == set(digests)

    def test_expire_takes_a_full_batch_and_no_more(self, store: Store) -> None:
        digest = put(store, b"x").digest
        batch = [Digest.of(b"%d" % number) for number in range(limits.BATCH_REFS_MAX)]
        with pytest.raises(AssertionError):
            store.expire([*batch, digest], soon_us(), nobody)
        assert store.expire([*batch[1:], digest], soon_us(), nobody) == {digest: Verdict.REMOVED}

    def test_a_moment_sees_the_commits_of_the_same_log(self, store: Store) -> None:
        seen: list[Moment | None] = []

        def look(_: Digest, moment: Moment | None) -> bool:
            seen.append(moment)
            assert moment is None or moment.is_empty(b"r", b"s")
            return True

        store.expire([put(store, b"x").digest, put(store, make(2 * MIB)).digest], soon_us(), look)
        assert len(seen) == 2
        assert store.traits.log_id or seen == [None, None]

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_an_open_source_outlives_expiry(self, store: Store, size_bytes: int) -> None:
        data = make(size_bytes)
        digest = put(store, data).digest
        (source,) = store.open_many([digest])
        store.expire([digest], soon_us(), nobody)
        assert not isinstance(source, NotFoundError)
        with source:  # type: ignore[union-attr]  # no error, as asserted
            assert bytes(source.read(1)) == data[:1]  # type: ignore[union-attr]

    @pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
    def test_what_is_wanted_before_it_is_put_is_there_afterwards(
        self, store: Store, size_bytes: int
    ) -> None:
        """Whether the put found it there or not, and however often others remove it."""
        data = make(size_bytes)
        digest = Digest.of(data)
        wanted, stop = set[Digest](), threading.Event()

        def expire_on() -> None:
            while not stop.is_set():
                store.expire([digest], soon_us(), lambda digest, _: digest in wanted)

        with ThreadPoolExecutor(2) as pool:
            others = [pool.submit(expire_on) for _ in range(2)]
            try:
                for _ in range(ROUNDS):
                    wanted.add(digest)
                    put(store, data)
                    assert read(store, digest) == data
                    wanted.discard(digest)
            finally:
                stop.set()
            for each in others:
                each.result()
