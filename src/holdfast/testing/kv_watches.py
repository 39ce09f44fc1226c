"""The part of the key-value suite about the ordered stream of changes."""

# ruff: noqa: D102 - the name of a test is its sentence

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core.errors import CompactedError
from holdfast.core.kv import KV, Add, Change, Delete, Put, add_counters
from holdfast.testing.kv_steps import commit, everything, history
from holdfast.testing.sealed import Sealed

SOON_S = 20.0
"""Far more than a change needs to arrive."""


class WatchSuite(Sealed):
    """Needs the fixture `kv`."""

    def test_watch_replays_every_change_in_order(self, kv: KV) -> None:
        commit(kv, Put(b"a", b"1"), Put(b"b", b"2"))
        commit(kv, Delete(b"a"), Put(b"c", b"3"))
        commit(kv, Put(b"b", b"4"))
        found = history(kv)
        assert [each.revision for each in found] == [1, 1, 2, 2, 3]
        assert sorted(found) == sorted(
            [
                Change(1, b"a", b"1"),
                Change(1, b"b", b"2"),
                Change(2, b"a", None),
                Change(2, b"c", b"3"),
                Change(3, b"b", b"4"),
            ]
        )

    def test_watch_begins_at_the_revision_asked(self, kv: KV) -> None:
        for number in range(1, 11):
            commit(kv, Put(b"k", b"%d" % number))
        for first in range(1, 12):
            values = [each.value for each in history(kv, from_revision=first)]
            assert values == [b"%d" % number for number in range(first, 11)]
        assert history(kv, from_revision=99) == []

    def test_the_horizon_of_a_table_moves_with_its_keys_alone(self, kv: KV) -> None:
        for write in (Put(b"ab", b"1"), Add(b"a", (1,)), Delete(b"ab")):
            before = kv.horizon(b"a"), kv.horizon(b"b")
            revision = commit(kv, Put(b"c", b""), write)
            assert before[0] < kv.horizon(b"a") >= revision
            assert kv.horizon(b"b") == before[1]
            assert kv.horizon() >= kv.horizon(b"a")

    def test_no_change_is_seen_before_its_horizon(self, kv: KV) -> None:
        seen: set[int] = set()

        def write() -> None:
            while len(seen) < 20:
                commit(kv, Put(b"k", b""))

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                found = kv.get(b"k")
                seen.add(0 if found is None else found.revision)
                assert kv.horizon(b"k") >= max(seen)

    def test_watch_shows_only_keys_under_its_prefix(self, kv: KV) -> None:
        keys = [b"a", b"a/", b"a/1", b"a/1/2", b"a0", b"b", b"\xff", b"\xff\xff"]
        commit(kv, *(Put(key, key) for key in keys))
        for prefix in (b"", b"a", b"a/", b"a/1", b"b", b"c", b"\xff", b"\xff\xff", b"a" * 600):
            found = history(kv, prefix)
            assert sorted(each.key for each in found) == sorted(
                key for key in keys if key.startswith(prefix)
            )

    def test_watch_shows_what_a_counter_came_to(self, kv: KV) -> None:
        commit(kv, Add(b"n", (1,)))
        commit(kv, Add(b"n", (2, 5)))
        assert [each.value for each in history(kv)] == [
            add_counters(None, (1,)),
            add_counters(None, (3, 5)),
        ]

    def test_replaying_the_history_rebuilds_the_space(self, kv: KV) -> None:
        for number in range(60):
            key = b"%d" % (number % 7)
            commit(kv, Put(key, b"%d" % number), Add(b"sum", (number,)))
            commit(kv, Delete(b"%d" % (number % 5)), Put(b"x", key))
        rebuilt: dict[bytes, tuple[bytes, int]] = {}
        for revision, key, value in history(kv):
            if value is None:
                rebuilt.pop(key, None)
            else:
                rebuilt[key] = (value, revision)
        assert sorted((key, *item) for key, item in rebuilt.items()) == everything(kv)

    def test_watch_follows_commits_made_while_it_waits(self, kv: KV) -> None:
        def follow() -> list[Change]:
            found = []
            for change in kv.watch(b"k", 1, wait_s=SOON_S):
                found.append(change)
                if change.value == b"49":
                    break
            return found

        with ThreadPoolExecutor(2) as pool:
            watching = [pool.submit(follow) for _ in range(2)]
            for number in range(50):
                commit(kv, Put(b"k", b"%d" % number), Put(b"other", b""))
            expected = [Change(number + 1, b"k", b"%d" % number) for number in range(50)]
            assert watching[0].result() == watching[1].result() == expected

    def test_watch_ends_when_nothing_comes(self, kv: KV) -> None:
        commit(kv, Put(b"k", b""))
        begin = time.monotonic()
        assert len(list(kv.watch(b"k", 1, wait_s=0.2))) == 1
        assert list(kv.watch(b"other", 1, wait_s=0.2)) == []
        assert 0.3 < time.monotonic() - begin < SOON_S

    def test_a_watch_may_go_on_behind_its_last_revision(self, kv: KV) -> None:
        commit(kv, Put(b"a", b""), Put(b"b", b""))
        first = history(kv)
        assert history(kv, from_revision=first[-1].revision + 1) == []
        commit(kv, Put(b"c", b""))
        more = history(kv, from_revision=first[-1].revision + 1)
        assert more == [Change(2, b"c", b"")]

    def test_an_abandoned_watch_holds_nothing_up(self, kv: KV) -> None:
        commit(kv, Put(b"a", b""), Put(b"b", b""))
        watch = kv.watch(b"", 1, wait_s=SOON_S)
        next(watch)
        commit(kv, Put(b"c", b""))
        del watch
        assert len(history(kv)) == 3

    def test_history_that_is_not_kept_says_where_it_begins(self, kv: KV) -> None:
        """A space that keeps everything passes by replaying everything."""
        for number in range(300):
            commit(kv, Put(b"k", b"%d" % number))
        try:
            assert len(history(kv)) == 300
        except CompactedError as error:
            oldest = error.oldest
            assert 1 < oldest <= 300
            assert [each.revision for each in history(kv, from_revision=oldest)] == list(
                range(oldest, 301)
            )
            with pytest.raises(CompactedError):
                history(kv, from_revision=oldest - 1)
