"""The contract of metadata as tests: every sentence of holdfast.core.kv, on any implementation.

    class TestMine(KVSuite):
        def open_kv(self, folder: Path) -> KV:
            return MyKV(folder)

`open_kv` is called with a new folder for an empty space and with the same folder again to reopen
it; override `close_kv` where more has to be closed, and set `durable = False` where nothing
survives closing. The tests themselves cannot be overridden.
"""

# ruff: noqa: D102 - the name of a test is its sentence

import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from holdfast.core import limits
from holdfast.core.kv import KV, Add, Delete, Empty, Item, Put, Unchanged, Versioned, counters
from holdfast.testing.kv_commits import CommitSuite
from holdfast.testing.kv_machine import check_against_a_dict
from holdfast.testing.kv_steps import FIRST, LAST, commit, conflict, everything, history
from holdfast.testing.kv_transactions import TransactionSuite
from holdfast.testing.kv_watches import WatchSuite

LENGTHS = [1, 2, 255, 256, 479, 480, 481, 495, 496, 497, 505, 506, 507, 508, 509, 510, 511, 512]
LENGTHS += [513, 514, 519, 520, 1024, 1025, 4095, 4096]
TAILS = [b"", b"\x00", b"\x00\x00", b"\x00\xff", b"\x01", b"a", b"\xfe", b"\xff", b"\xff\x00"]
TAILS += [b"\xff\xff"]
CONFLICT_TRIES_MAX = 100
THREADS = 16


class KVSuite(CommitSuite, TransactionSuite, WatchSuite):
    """What every key-value space must pass; `open_kv` is all that a subclass writes."""

    durable: ClassVar[bool] = True

    def open_kv(self, folder: Path) -> KV:
        """Open the space that keeps its keys in `folder`, if it keeps them at all."""
        raise NotImplementedError

    def close_kv(self, kv: KV) -> None:
        """Close what `open_kv` opened."""
        kv.close()

    @pytest.fixture
    def kv(self, tmp_path: Path) -> Iterator[KV]:
        """Open an empty space."""
        kv = self.open_kv(tmp_path / "kv")
        yield kv
        self.close_kv(kv)

    # Scan.

    def test_scan_reads_from_start_up_to_but_not_with_end(self, kv: KV) -> None:
        keys = [b"a", b"a\x00", b"aa", b"ab", b"b", b"b\xff", b"c"]
        revisions = {key: commit(kv, Put(key, b"=" + key)) for key in reversed(keys)}
        items = [Item(key, b"=" + key, revisions[key]) for key in keys]
        bounds = [b"", *keys, b"a\x00\x00", b"bb", b"d", LAST]
        for start, end in itertools.product(bounds, bounds):
            expected = [item for item in items if start <= item.key < end]
            assert kv.scan(start, end, limit=100) == expected
            assert kv.scan(start, end, limit=100, reverse=True) == expected[::-1]

    def test_scan_stops_at_its_limit_from_either_end(self, kv: KV) -> None:
        keys = [b"%03d" % number for number in range(100)]
        for start in range(0, 100, 50):
            commit(kv, *(Put(key, b"") for key in keys[start : start + 50]))
        for limit in (1, 2, 99, 100, 101):
            assert [each.key for each in kv.scan(FIRST, LAST, limit=limit)] == keys[:limit]
            backwards = kv.scan(FIRST, LAST, limit=limit, reverse=True)
            assert [each.key for each in backwards] == keys[::-1][:limit]
        assert [each.key for each in kv.scan(b"010", b"020", limit=3)] == keys[10:13]
        ends = kv.scan(b"010", b"020", limit=3, reverse=True)
        assert [each.key for each in ends] == keys[19:16:-1]

    def test_scan_sees_one_revision_while_others_write(self, kv: KV) -> None:
        keys = [b"%02d" % number for number in range(20)]
        commit(kv, *(Put(key, b"0") for key in keys))

        def write() -> None:
            for number in range(1, 30):
                commit(kv, *(Put(key, b"%d" % number) for key in keys))

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not writing.done():
                found = kv.scan(FIRST, LAST, limit=100)
                assert len({(item.value, item.revision) for item in found}) == 1
            writing.result()

    def test_a_deleted_key_is_gone_from_get_and_scan(self, kv: KV) -> None:
        commit(kv, Put(b"a", b"1"), Put(b"b", b"2"))
        commit(kv, Delete(b"a"))
        assert kv.get(b"a") is None
        assert [item.key for item in everything(kv)] == [b"b"]
        revision = commit(kv, Put(b"a", b"3"))
        assert kv.get(b"a") == Versioned(b"3", revision)

    # Keys and values of every size.

    def test_keys_that_share_long_beginnings_keep_their_order(self, kv: KV) -> None:
        """Lengths lie around the bound of 511 bytes that some engines have for a key."""
        keys = _long_keys()
        shuffled = random.Random(1).sample(keys, len(keys))
        for start in range(0, len(keys), limits.WRITES_MAX):
            part = shuffled[start : start + limits.WRITES_MAX]
            commit(kv, *(Put(key, b"%d" % len(key)) for key in part))
        assert [item.key for item in everything(kv)] == keys
        assert [item.key for item in reversed(everything(kv, reverse=True))] == keys
        for key in keys:
            found = kv.get(key)
            assert found is not None
            assert found.value == b"%d" % len(key)
        for at in range(0, len(keys) - 1, 3):
            expected = keys[at : at + 4]
            end = keys[at + 4] if at + 4 < len(keys) else LAST
            assert [item.key for item in kv.scan(keys[at], end, limit=100)] == expected
            backwards = kv.scan(keys[at], end, limit=100, reverse=True)
            assert [item.key for item in backwards] == expected[::-1]
        self.check_neighbours(kv, keys)

    def check_neighbours(self, kv: KV, keys: list[bytes]) -> None:
        """Compare and delete every second long key; its neighbours stay."""
        for at in range(0, len(keys), 2):
            end = keys[at + 1] if at + 1 < len(keys) else LAST
            assert conflict(kv, [Empty(keys[at], end)], Put(b"x", b"")) == 0
            commit(kv, Delete(keys[at]), compares=[Unchanged(b"x", 0)])
            commit(kv, Add(b"n", (1,)), compares=[Empty(keys[at], end)])
            assert kv.get(keys[at]) is None
        assert [item.key for item in everything(kv) if item.key != b"n"] == keys[1::2]

    def test_bounds_of_a_scan_may_be_long_too(self, kv: KV) -> None:
        stem = b"k" * 507
        keys = [stem, stem + b"a", stem + b"b" * 9, stem + b"b" * 2000, stem + b"c"]
        commit(kv, *(Put(key, b"") for key in keys))
        for start, end in itertools.combinations([b"", *keys, stem + b"b" * 2000 + b"\x00"], 2):
            expected = [key for key in keys if start <= key < end]
            assert [item.key for item in kv.scan(start, end, limit=9)] == expected

    @pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4096, 65535, 65536, 262143, 262144])
    def test_a_value_comes_back_whole(self, kv: KV, size_bytes: int) -> None:
        value = random.Random(size_bytes).randbytes(size_bytes)
        revision = commit(kv, Put(b"k", value), Put(b"other", b"x"))
        assert kv.get(b"k") == Versioned(value, revision)
        assert everything(kv)[0] == Item(b"k", value, revision)

    def test_breaking_a_bound_is_a_wrong_program(self, kv: KV) -> None:
        long = b"k" * (limits.KV_KEY_BYTES_MAX + 1)
        for write in (Put(b"", b""), Put(long, b""), Delete(b""), Add(long, (1,))):
            with pytest.raises(AssertionError):
                kv.commit([], [write])
        with pytest.raises(AssertionError):
            kv.commit([], [Put(b"k", bytes(limits.KV_VALUE_BYTES_MAX + 1))])
        with pytest.raises(AssertionError):
            kv.commit([], [Put(b"%d" % number, b"") for number in range(limits.WRITES_MAX + 1)])
        with pytest.raises(AssertionError):
            kv.commit([Unchanged(b"k", 0)] * (limits.COMPARES_MAX + 1), [Put(b"k", b"")])
        with pytest.raises(AssertionError):
            kv.get(long)
        assert kv.revision() == 0
        assert everything(kv) == []

    # Threads.

    def test_counters_lose_nothing_under_threads(self, kv: KV) -> None:
        def add(thread: int) -> None:
            for step in range(25):
                commit(kv, Add(b"sum", (1, -thread)), Put(b"%d/%d" % (thread, step), b""))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(add, range(THREADS)))
        found = kv.get(b"sum")
        assert found is not None
        assert counters(found.value) == (THREADS * 25, -25 * sum(range(THREADS)))
        assert kv.revision() == THREADS * 25
        assert len(everything(kv)) == THREADS * 25 + 1

    def test_one_of_many_wins_each_round_of_compare_and_commit(self, kv: KV) -> None:
        def increment(_: int) -> None:
            for _try in range(CONFLICT_TRIES_MAX):
                old = kv.get(b"k")
                value, revision = old or (b"0", 0)
                more = Put(b"k", b"%d" % (int(value) + 1))
                if conflict(kv, [Unchanged(b"k", revision)], more) is None:
                    return
            raise AssertionError

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(increment, range(40)))
        assert kv.get(b"k") == Versioned(b"40", 40)

    def test_only_one_creates_where_all_saw_an_empty_range(self, kv: KV) -> None:
        def create(number: int) -> bool:
            return conflict(kv, [Empty(b"r/", b"r0")], Put(b"r/%d" % number, b"")) is None

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(create, range(THREADS))) == 1
        assert len(everything(kv)) == 1

    def test_commits_may_be_waited_for_later(self, kv: KV) -> None:
        """A thousand futures are open at once, as under a thousand connections."""
        futures = [kv.commit([], [Put(b"%d" % number, b"")]) for number in range(1000)]
        revisions = {future.result().revision for future in futures}  # type: ignore[union-attr]  # none compares
        assert revisions == set(range(1, 1001))
        assert len(everything(kv)) == 1000

    # Closing.

    def test_a_durable_space_reopens_with_everything_committed(self, tmp_path: Path) -> None:
        kv = self.open_kv(tmp_path / "kv")
        for number in range(100):
            commit(kv, Put(b"%d" % number, b"v" * number), Add(b"sum", (number,)))
        commit(kv, Delete(b"7"), Put(b"k" * 4096, b"long"))
        conflict(kv, [Unchanged(b"8", 99)], Put(b"lost", b""))
        expected, revision = everything(kv), kv.revision()
        changes = history(kv)
        self.close_kv(kv)
        kv = self.open_kv(tmp_path / "kv")
        assert everything(kv) == (expected if self.durable else [])
        assert kv.revision() == (revision if self.durable else 0)
        if self.durable:
            assert history(kv) == changes
            assert commit(kv, Put(b"more", b"")) == revision + 1
        self.close_kv(kv)

    def test_closing_finishes_what_was_committed(self, tmp_path: Path) -> None:
        kv = self.open_kv(tmp_path / "kv")
        for number in range(20):
            kv.commit([], [Put(b"%d" % number, b"")])
        self.close_kv(kv)
        self.close_kv(kv)
        kv = self.open_kv(tmp_path / "kv")
        assert len(everything(kv)) == (20 if self.durable else 0)
        self.close_kv(kv)

    def test_the_log_id_stays(self, tmp_path: Path) -> None:
        kv = self.open_kv(tmp_path / "kv")
        log_id = kv.log_id
        commit(kv, Put(b"k", b""))
        assert kv.log_id == log_id
        self.close_kv(kv)
        kv = self.open_kv(tmp_path / "kv")
        assert kv.log_id == log_id
        self.close_kv(kv)

    def test_it_behaves_as_a_dict(self) -> None:
        """Hypothesis plays random commits against a dict, reopening on the way."""
        check_against_a_dict(self.open_kv, self.close_kv, durable=self.durable)


def _long_keys() -> list[bytes]:
    keys = set()
    for length in LENGTHS:
        for tail in TAILS:
            for stem in (b"k", b"\x00", b"\xff"):
                keys.add((stem * length + tail)[: limits.KV_KEY_BYTES_MAX])
    return sorted(keys)
