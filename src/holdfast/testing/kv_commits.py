"""The part of the key-value suite about compare-and-commit."""

# ruff: noqa: D102 - the name of a test is its sentence

import pytest

from holdfast.core.kv import (
    KV,
    Add,
    Committed,
    Compare,
    Delete,
    Empty,
    Put,
    Unchanged,
    Versioned,
    Write,
    add_counters,
    counters,
)
from holdfast.testing.kv_steps import FIRST, LAST, commit, conflict, everything, history
from holdfast.testing.sealed import Sealed


class CommitSuite(Sealed):
    """Needs the fixture `kv`."""

    def test_an_empty_space_is_at_revision_zero(self, kv: KV) -> None:
        assert kv.revision() == 0
        assert kv.get(b"k") is None
        assert everything(kv) == []

    def test_every_commit_is_one_revision_above_the_last(self, kv: KV) -> None:
        for expected in range(1, 20):
            assert commit(kv, Put(b"k", b"%d" % expected), Put(b"k%d" % expected, b"")) == expected
            assert kv.revision() == expected
            assert kv.get(b"k") == Versioned(b"%d" % expected, expected)
        assert kv.get(b"k3") == Versioned(b"", 3)

    def test_a_put_of_the_same_value_is_a_change(self, kv: KV) -> None:
        assert commit(kv, Put(b"k", b"v")) == 1
        assert commit(kv, Put(b"k", b"v")) == 2
        assert kv.get(b"k") == Versioned(b"v", 2)

    def test_get_sees_a_commit_whose_future_has_ended(self, kv: KV) -> None:
        for number in range(200):
            future = kv.commit([], [Put(b"k", b"%d" % number)])
            assert future.result() == Committed(number + 1)
            found = kv.get(b"k")
            assert found is not None
            assert found.value == b"%d" % number

    def test_deleting_what_is_not_there_is_no_error(self, kv: KV) -> None:
        commit(kv, Delete(b"k"), Put(b"other", b""))
        commit(kv, Delete(b"k"))
        assert [item.key for item in everything(kv)] == [b"other"]

    def test_one_commit_writes_a_key_once(self, kv: KV) -> None:
        for again in (Put(b"k", b"2"), Delete(b"k"), Add(b"k", (1,))):
            with pytest.raises(AssertionError):
                kv.commit([], [Put(b"k", b"1"), Put(b"j", b""), again])
        assert everything(kv) == []

    # Compares.

    def test_unchanged_holds_at_the_revision_that_wrote_the_key(self, kv: KV) -> None:
        first = commit(kv, Put(b"k", b"1"))
        commit(kv, Put(b"other", b""))
        assert conflict(kv, [Unchanged(b"k", first - 1)], Put(b"k", b"2")) == 0
        assert conflict(kv, [Unchanged(b"k", first + 1)], Put(b"k", b"2")) == 0
        second = commit(kv, Put(b"k", b"2"), compares=[Unchanged(b"k", first)])
        assert conflict(kv, [Unchanged(b"k", first)], Put(b"k", b"3")) == 0
        assert kv.get(b"k") == Versioned(b"2", second)

    def test_unchanged_at_zero_holds_while_the_key_does_not_exist(self, kv: KV) -> None:
        commit(kv, Put(b"k", b"1"), compares=[Unchanged(b"k", 0)])
        assert conflict(kv, [Unchanged(b"k", 0)], Put(b"k", b"2")) == 0
        deleted = commit(kv, Delete(b"k"))
        assert conflict(kv, [Unchanged(b"k", deleted)], Put(b"k", b"2")) == 0
        commit(kv, Put(b"k", b"3"), compares=[Unchanged(b"k", 0)])

    def test_a_counter_that_was_added_to_has_changed(self, kv: KV) -> None:
        first = commit(kv, Add(b"n", (1,)))
        second = commit(kv, Add(b"n", (1,)), compares=[Unchanged(b"n", first)])
        assert conflict(kv, [Unchanged(b"n", first)], Put(b"k", b"")) == 0
        commit(kv, Put(b"k", b""), compares=[Unchanged(b"n", second)])

    @pytest.mark.parametrize(
        ("start", "end", "found"),
        [
            (b"b", b"c", 0),
            (b"b\x00", b"c", None),
            (b"a", b"b", None),
            (b"a", b"b\x00", 0),
            (b"b\x00", b"d", None),
            (b"b\x00", b"d\x00", 0),
            (b"d", b"e", 0),
            (b"e", b"z", None),
            (FIRST, LAST, 0),
            (FIRST, b"b", None),
            (b"d\x00", LAST, None),
            (b"b", b"b", None),
            (b"d", b"b", None),
        ],
    )
    def test_empty_holds_while_no_key_lies_in_its_range(
        self, kv: KV, start: bytes, end: bytes, found: int | None
    ) -> None:
        commit(kv, Put(b"b", b""), Put(b"d", b""))
        assert conflict(kv, [Empty(start, end)], Put(b"x", b"")) == found
        commit(kv, Delete(b"b"), Delete(b"d"), Delete(b"x"))
        commit(kv, Put(b"y", b""), compares=[Empty(start, end)])

    def test_a_conflict_names_the_first_compare_and_writes_nothing(self, kv: KV) -> None:
        held = commit(kv, Put(b"k", b"1"), Add(b"n", (5,)))
        before, changes = everything(kv), history(kv)
        good: list[Compare] = [Unchanged(b"k", held), Empty(b"x", b"y"), Unchanged(b"none", 0)]
        bad: list[Compare] = [Unchanged(b"k", 0), Empty(b"k", b"l")]
        writes: list[Write] = [Put(b"k", b"2"), Delete(b"n"), Put(b"new", b""), Add(b"m", (1,))]
        for at in range(4):
            for position, each in enumerate([*good[:at], *bad]):
                if position >= at:
                    assert conflict(kv, [*good[:at], each, bad[0]], *writes) == at
        assert everything(kv) == before
        assert history(kv) == changes
        assert kv.revision() == held
        assert commit(kv, *writes, compares=good) == held + 1

    def test_compares_look_at_the_space_before_the_writes(self, kv: KV) -> None:
        commit(kv, Put(b"k", b""), compares=[Unchanged(b"k", 0), Empty(b"a", b"z")])
        commit(kv, Delete(b"k"), compares=[Unchanged(b"k", 1)])
        assert everything(kv) == []

    def test_a_later_commit_is_compared_with_the_ones_before_it(self, kv: KV) -> None:
        """Nobody waits between the two, so that both may share one sync."""
        one = kv.commit([Unchanged(b"k", 0)], [Put(b"k", b"1")])
        other = kv.commit([Unchanged(b"k", 0)], [Put(b"k", b"2")])
        assert one.result() == Committed(1)
        assert not isinstance(other.result(), Committed)
        assert kv.get(b"k") == Versioned(b"1", 1)

    # Counters.

    def test_counters_begin_at_zero_and_take_signed_deltas(self, kv: KV) -> None:
        for deltas, expected in [
            ((1, -2), (1, -2)),
            ((5,), (6, -2)),
            ((0, 0, 7), (6, -2, 7)),
            ((-(2**62), 2**62), (6 - 2**62, 2**62 - 2, 7)),
        ]:
            revision = commit(kv, Add(b"n", deltas))
            found = kv.get(b"n")
            assert found is not None
            assert counters(found.value) == expected
            assert found.revision == revision

    def test_counters_may_be_put_and_deleted(self, kv: KV) -> None:
        commit(kv, Put(b"n", add_counters(None, (10, 20))))
        revision = commit(kv, Add(b"n", (1, 1)))
        assert kv.get(b"n") == Versioned(add_counters(None, (11, 21)), revision)
        commit(kv, Delete(b"n"))
        revision = commit(kv, Add(b"n", (3,)))
        assert kv.get(b"n") == Versioned(add_counters(None, (3,)), revision)
