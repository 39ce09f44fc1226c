"""The part of the key-value suite about transactions: read, decide, write."""

# ruff: noqa: D102 - the name of a test is its sentence

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.core import limits
from holdfast.core.errors import PreconditionError
from holdfast.core.kv import KV, Add, Delete, Plan, Put, Transaction, Versioned, Write, add_counters
from holdfast.testing.kv_steps import commit, everything, history
from holdfast.testing.sealed import Sealed

Found = Sequence[Versioned | None]


class TransactionSuite(Sealed):
    """Needs the fixture `kv`."""

    def test_a_transaction_reads_decides_and_writes_at_one_revision(self, kv: KV) -> None:
        first = commit(kv, Put(b"a", b"1"), Put(b"b", b"2"))

        def swap(found: Found) -> Plan[str]:
            a, b, missing = found
            assert a == Versioned(b"1", first)
            assert b == Versioned(b"2", first)
            assert missing is None
            return Plan([Put(b"a", b.value), Put(b"b", a.value), Add(b"n", (1,))], "swapped")

        assert kv.transact([b"a", b"b", b"c"], swap).result() == "swapped"
        assert kv.revision() == first + 1
        assert everything(kv) == [
            (b"a", b"2", first + 1),
            (b"b", b"1", first + 1),
            (b"n", add_counters(None, (1,)), first + 1),
        ]
        assert {change.revision for change in history(kv)} == {first, first + 1}

    def test_a_plan_without_writes_commits_nothing(self, kv: KV) -> None:
        commit(kv, Put(b"k", b"v"))

        def look(found: Found) -> Plan[Versioned | None]:
            return Plan([], found[0])

        assert kv.transact([b"k"], look).result() == Versioned(b"v", 1)
        assert kv.transact([b"none"], look).result() is None
        assert kv.revision() == 1

    def test_a_transaction_may_read_nothing(self, kv: KV) -> None:
        assert kv.transact([], lambda found: Plan([Put(b"k", b"")], len(found))).result() == 0
        assert kv.get(b"k") == Versioned(b"", 1)

    def test_an_error_of_the_planner_ends_the_transaction(self, kv: KV) -> None:
        commit(kv, Put(b"k", b"v"))

        def refuse(_: Found) -> Plan[None]:
            raise PreconditionError("not now")

        with pytest.raises(PreconditionError):
            kv.transact([b"k"], refuse).result()
        assert everything(kv) == [(b"k", b"v", 1)]
        assert commit(kv, Put(b"k", b"w")) == 2

    def test_a_defect_of_the_planner_costs_nobody_else_anything(self, kv: KV) -> None:
        """It comes to whoever asked for the transaction, and others go on."""

        def spoil(_: Found) -> Plan[int]:
            raise ZeroDivisionError

        queued = [kv.transact([b"n"], _increment) for _ in range(3)]
        with pytest.raises(ZeroDivisionError):
            kv.transact([b"n"], spoil).result()
        with pytest.raises(ZeroDivisionError):
            kv.transact_many([Transaction([b"n"], spoil)]).result()
        queued += [kv.transact([b"n"], _increment) for _ in range(3)]
        assert [each.result() for each in queued] == [1, 2, 3, 4, 5, 6]
        assert everything(kv) == [(b"n", b"6", 6)]

    def test_transactions_see_those_queued_before_them(self, kv: KV) -> None:
        """Nobody waits between them, so that they may share one sync."""
        queued = [kv.transact([b"n"], _increment) for _ in range(100)]
        assert [each.result() for each in queued] == list(range(1, 101))
        assert kv.get(b"n") == Versioned(b"100", 100)

    def test_transactions_of_many_threads_lose_nothing(self, kv: KV) -> None:
        def run(thread: int) -> None:
            for _ in range(20):
                kv.transact([b"n", b"%d" % thread], _increment).result()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))
        assert kv.get(b"n") == Versioned(b"160", 160)

    def test_keys_move_between_transactions_whole(self, kv: KV) -> None:
        """A token goes from key to key; every transaction that finds it takes it away."""
        commit(kv, Put(b"0", b"token"))

        def step(source: int) -> int:
            keys = [b"%d" % source, b"%d" % ((source + 1) % 5)]

            def move(found: Found) -> Plan[int]:
                writes: list[Write] = [Delete(keys[0]), Put(keys[1], b"token")]
                return Plan(writes, 1) if found[0] else Plan([], 0)

            return kv.transact(keys, move).result()

        with ThreadPoolExecutor(8) as pool:
            moves = sum(pool.map(step, list(range(5)) * 20))
        assert len(everything(kv)) == 1
        assert everything(kv)[0][:2] == (b"%d" % (moves % 5), b"token")

    def test_reading_too_many_keys_is_a_wrong_program(self, kv: KV) -> None:
        keys = [b"%d" % number for number in range(limits.COMPARES_MAX + 1)]
        with pytest.raises(AssertionError):
            kv.transact(keys, _increment)
        assert kv.transact(keys[:-1], _increment).result() == 1

    # Many.

    def test_many_transactions_happen_in_their_order(self, kv: KV) -> None:
        transactions = [Transaction([b"n"], _increment) for _ in range(100)]
        assert kv.transact_many(transactions).result() == list(range(1, 101))
        assert kv.get(b"n") == Versioned(b"100", 100)
        assert kv.transact_many(list[Transaction[int]]()).result() == []
        assert kv.revision() == 100

    def test_one_of_many_that_is_refused_leaves_the_others_alone(self, kv: KV) -> None:
        def refuse(_: Found) -> Plan[int]:
            raise PreconditionError("not now")

        transactions = [Transaction([b"n"], each) for each in (_increment, refuse) * 3]
        outcomes = kv.transact_many(transactions).result()
        assert outcomes[::2] == [1, 2, 3]
        assert [type(each) for each in outcomes[1::2]] == [PreconditionError] * 3
        assert kv.get(b"n") == Versioned(b"3", 3)

    def test_many_transactions_take_a_full_batch_and_no_more(self, kv: KV) -> None:
        full = [Transaction([b"n"], _increment)] * limits.BATCH_REFS_MAX
        with pytest.raises(AssertionError):
            kv.transact_many([*full, full[0]])
        assert kv.transact_many(full).result()[-1] == limits.BATCH_REFS_MAX

    def test_threads_do_many_transactions_at_once(self, kv: KV) -> None:
        def run(thread: int) -> None:
            keys = [b"n", b"%d" % thread]
            kv.transact_many([Transaction(keys, _increment)] * 20).result()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(run, range(8)))
        assert kv.get(b"n") == Versioned(b"160", 160)


def _increment(found: Found) -> Plan[int]:
    number = int(found[0].value if found[0] else b"0") + 1
    return Plan([Put(b"n", b"%d" % number)], number)
