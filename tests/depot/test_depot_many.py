"""Many things in one call to a depot: few syncs, and every outcome its own."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.core import limits
from holdfast.core.bucket import CREATE_ONLY, Description, Item
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    TooLargeError,
    UnavailableError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.testing.blobs import make
from holdfast.testing.faults import Fault, FaultyDisk
from holdfast.testing.recount import check_catalog

SMALL = [(f"k{number}", b"%d" % number) for number in range(500)]


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def logged(tmp_path: Path, disk: FaultyDisk) -> Iterator[Depot]:
    """A depot over a log, whose syncs go through the disk that counts them."""
    with open_depot(tmp_path / "store", disk=disk) as depot:
        yield depot
        check_catalog(depot.engine.kv)


@pytest.fixture
def depot(tmp_path: Path, engine: str) -> Iterator[Depot]:
    with open_depot(tmp_path / "store", Limits(engine=engine)) as depot:
        yield depot
        check_catalog(depot.engine.kv)


def syncs(disk: FaultyDisk) -> int:
    return sum(call in {"sync", "sync_data"} for call in disk.calls)


def test_blobs_and_names_of_many_share_one_sync(logged: Depot, disk: FaultyDisk) -> None:
    logged.put("first", b"makes room")
    disk.arm(None)
    entries = logged.put_many(SMALL)
    assert syncs(disk) == 1
    assert [each.key for each in entries if isinstance(each, Entry)] == [key for key, _ in SMALL]
    assert list(logged.get_many(key for key, _ in SMALL)) == [data for _, data in SMALL]
    disk.arm(None)
    assert logged.delete_many(key for key, _ in SMALL) == [True] * len(SMALL)
    assert syncs(disk) == 1
    disk.arm(None)
    digests = logged.content.put_many(data for _, data in SMALL)
    assert digests == [Digest.of(data) for _, data in SMALL]
    assert syncs(disk) == 1
    disk.arm(None)
    assert logged.content.delete_many(digests) == [True] * len(SMALL)
    assert syncs(disk) == 1


def test_more_than_a_batch_takes_is_several(
    logged: Depot, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_REFS_MAX", 100)
    disk.arm(None)
    logged.put_many(SMALL)
    assert 5 <= syncs(disk) <= 7
    monkeypatch.setattr(limits, "BATCH_BYTES_MAX", MIB)
    disk.arm(None)
    logged.put_many((f"m{number}", make(200 * KIB, seed=number)) for number in range(10))
    assert 2 <= syncs(disk) <= 4
    assert len(list(logged.entries())) == len(SMALL) + 10


def test_errors_are_said_in_their_places(depot: Depot, tmp_path: Path) -> None:
    depot.put("taken", b"x")
    missing = tmp_path / "absent"
    items: list[Any] = [
        ("good", b"1"),
        ("", b"2"),
        ("bad\n", b"3"),
        Item("taken", b"4", when=CREATE_ONLY),
        Item("promised", b"5", Description(digest=Digest.of(b"other"))),
        Item("typed", b"6", Description("text/odd", {"by": "me"})),
        Item("typed", b"7", Description("no type")),
        Item("odd", b"8", Description(metadata={"not ok": ""})),
        ("absent", missing),
        ("also good", make(2 * MIB)),
    ]
    outcomes = depot.put_many(items)
    assert [type(each).__name__ for each in outcomes] == [
        *("Entry", "InvalidError", "InvalidError", "PreconditionError", "DigestMismatchError"),
        *("Entry", "InvalidError", "InvalidError", "InvalidError", "Entry"),
    ]
    assert depot.get("taken") == b"x"
    assert depot.head("typed") == outcomes[5]
    assert sorted(each.key for each in depot.entries()) == ["also good", "good", "taken", "typed"]
    keys = ["good", "nope", "", "also good", "good"]
    assert [type(each) for each in depot.head_many(keys)] == [
        *(Entry, NotFoundError, InvalidError, Entry, Entry),
    ]
    found = list(depot.get_many(keys))
    assert found[::4] == [b"1", b"1"]
    assert found[3] == make(2 * MIB)
    assert [type(each) for each in found[1:3]] == [NotFoundError, InvalidError]
    assert [each if isinstance(each, bool) else type(each) for each in depot.delete_many(keys)] == [
        *(True, False, InvalidError, True, False),
    ]


def test_a_key_that_comes_again_is_replaced_in_order(depot: Depot) -> None:
    items = [("k", b"1"), ("k", make(2 * MIB)), ("k", b"3"), ("k", b"1"), ("k", b"4")]
    outcomes = depot.put_many(items)
    versions = [each.version for each in outcomes if isinstance(each, Entry)]
    assert versions == [0, 1, 2, 3, 4]
    assert depot.get("k") == b"4"
    assert depot.delete_many(["k", "k"]) == [True, False]


def test_create_only_lets_the_first_of_equal_keys_win(depot: Depot) -> None:
    first, second = depot.put_many(Item("k", data, when=CREATE_ONLY) for data in (b"1", b"2"))
    assert isinstance(first, Entry)
    assert isinstance(second, PreconditionError)
    assert depot.get("k") == b"1"


def test_limits_hold_for_each(tmp_path: Path) -> None:
    with open_depot(tmp_path, Limits(1000, 500)) as depot:
        outcomes = depot.put_many([("a", bytes(1000)), ("b", bytes(1001)), ("c", b"")])
        assert [type(each) for each in outcomes] == [Entry, TooLargeError, Entry]
        kept = depot.content.put_many([bytes(501), bytes(500)])
        assert [type(each) for each in kept] == [TooLargeError, Digest]


def test_a_source_that_fails_ends_the_call_and_stores_no_half(depot: Depot) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        depot.put_many([("before", b"1"), ("broken", broken()), ("after", b"2")])
    assert {each.key for each in depot.entries()} <= {"before"}


def test_a_large_blob_does_not_wait_for_its_name(logged: Depot) -> None:
    """Else what removes blobs without a name might take it while the next item is awaited.

    In shards nothing can: chunks on their way in are pinned (shards/staged).
    """

    digest = Digest.of(make(2 * MIB))

    def items() -> Iterator[tuple[str, bytes]]:
        yield "large", make(2 * MIB)
        while logged.content.missing([digest]):
            time.sleep(0.01)
        yield "next", b""

    assert all(isinstance(each, Entry) for each in logged.put_many(items()))


def test_a_closed_depot_says_so_for_each(tmp_path: Path) -> None:
    depot = open_depot(tmp_path)
    depot.close()
    for outcomes in (
        depot.put_many([("a", b"1"), ("b", b"2")]),
        depot.delete_many(["a", "b"]),
        depot.content.put_many([b"1", b"2"]),
        depot.content.delete_many([Digest.of(b"1")] * 2),
    ):
        assert [type(each) for each in outcomes] == [UnavailableError] * 2


def test_many_digests_are_held_read_and_let_go(depot: Depot) -> None:
    blobs = [b"a", make(2 * MIB), b"", b"a"]
    digests = depot.content.put_many(blobs)
    assert digests == [Digest.of(data) for data in blobs]
    other = Digest.of(b"other")
    wanted = [digest for digest in digests if isinstance(digest, Digest)]
    assert list(depot.content.get_many(wanted)) == blobs
    sizes = list(depot.content.stat_many([*wanted, other]))
    assert sizes[:-1] == [len(data) for data in blobs]
    assert isinstance(sizes[-1], NotFoundError)
    assert depot.content.missing([other, *wanted, other]) == [other]
    assert depot.content.delete_many([*wanted, other]) == [True, True, True, False, False]
    assert [type(each) for each in depot.content.get_many(wanted)] == [NotFoundError] * 4
    assert depot.content.missing(wanted) == wanted[:3]


def test_a_name_without_its_bytes_is_corrupt_and_not_unknown(depot: Depot) -> None:
    entries = depot.put_many([("a", b"a"), ("b", b"b"), ("c", b"c")])
    digests = [each.digest for each in entries if isinstance(each, Entry)]
    depot.engine.store.remove(digests[1:2])
    assert [type(each) for each in depot.get_many("abc")] == [bytes, CorruptError, bytes]
    assert [type(each) for each in depot.content.get_many(digests)] == [
        *(bytes, CorruptError, bytes),
    ]
    depot.put("b", b"b")


@pytest.mark.parametrize("kind", [{}, {"after": True}, {"short": True}], ids=str)
def test_a_disk_that_fails_once_refuses_whole_batches(
    tmp_path: Path, kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has an entry is there after a restart, and nothing else is."""
    monkeypatch.setattr(limits, "BATCH_REFS_MAX", 10)
    monkeypatch.setattr(limits, "SEGMENT_ALLOCATE_BYTES", 16 * KIB)
    items = [*SMALL[:25], ("large", make(300 * KIB)), *SMALL[25:40]]
    for number in itertools.count(1):
        disk = FaultyDisk()
        with open_depot(tmp_path / str(number), disk=disk) as depot:
            disk.arm(Fault(number, after=kind.get("after", False), short=kind.get("short", False)))
            outcomes = depot.put_many(items)
            struck = disk.struck
            disk.arm(None)
        with open_depot(tmp_path / str(number)) as depot:
            found = list(depot.get_many(key for key, _ in items))
            check_catalog(depot.engine.kv)
        for (_, data), outcome, read in zip(items, outcomes, found, strict=True):
            if isinstance(outcome, BlobError):
                assert isinstance(read, NotFoundError)
            else:
                assert read == data
        if not struck:
            assert all(isinstance(each, Entry) for each in outcomes)
            return
