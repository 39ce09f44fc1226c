"""Policies: quotas, types, sizes, times of life; graves and versions, and how they end."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.core.bucket import CREATE_ONLY, Description
from holdfast.core.errors import (
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    QuotaError,
    TooLargeError,
    UnsupportedTypeError,
)
from holdfast.core.policy import Mismatch, Owner, Policy, bucket_of
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.kept import Expired
from holdfast.depot.local import open_depot
from holdfast.services.janitor import Janitor
from holdfast.services.sweep import Manner
from holdfast.services.sweeper import sweep_of
from holdfast.testing.hand_clock import HandClock
from holdfast.testing.recount import check_catalog

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
EXE = b"MZ" + bytes(100)
DAY_S = 86_400


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def depot(tmp_path: Path, clock: HandClock, engine: str) -> Iterator[Depot]:
    bounds = Limits(undelete_s=DAY_S, engine=engine)
    with open_depot(tmp_path / "store", bounds, clock=clock) as opened:
        yield opened
        check_catalog(opened.engine.kv)


def expire(depot: Depot) -> Expired:
    """Do what the janitor does, and count."""
    steps = list(depot.engine.expiry.steps())
    return Expired(*(sum(each) for each in zip(*steps, strict=True))) if steps else Expired()


def collect(depot: Depot, clock: HandClock) -> int:
    """Remove what nobody holds; how many blobs that were."""
    clock.moved_s += 2 * 3600
    work = sweep_of(depot, Manner(grace_s=3600, clock=clock))
    while work.step():
        pass
    return work.report.removed


# Deleted names


def test_a_deleted_name_is_gone_at_once_and_can_be_brought_back(depot: Depot) -> None:
    entry = depot.put("k", b"precious", about=Description(metadata={"a": "b"}))
    depot.delete("k")
    for verb in (depot.get, depot.head):
        with pytest.raises(NotFoundError):
            verb("k")
    with pytest.raises(NotFoundError):
        depot.content.stat(entry.digest)
    assert depot.list().entries == []
    assert depot.content.list().digests == []
    assert depot.stats().entries == 0
    assert [grave.entry for grave in depot.deleted().graves] == [entry]
    assert depot.undelete("k") == entry
    assert (depot.get("k"), depot.head("k")) == (b"precious", entry)
    assert depot.deleted().graves == []
    assert depot.stats().entry_bytes == len(b"precious")


def test_a_deleted_name_is_gone_for_good_when_its_time_is_over(
    depot: Depot, clock: HandClock
) -> None:
    depot.put("k", b"precious")
    depot.delete("k")
    clock.moved_s += DAY_S - 1
    assert expire(depot) == Expired()
    assert collect(depot, clock) == 0
    assert depot.deleted().graves == []
    with pytest.raises(NotFoundError):
        depot.undelete("k")
    assert expire(depot) == Expired(graves=1)
    assert collect(depot, clock) == 1


def test_a_name_in_use_is_not_brought_back_over(depot: Depot) -> None:
    depot.put("k", b"old")
    depot.delete("k")
    depot.put("k", b"new")
    with pytest.raises(ConflictError):
        depot.undelete("k")
    depot.set_policy(Policy(undelete_s=0))
    depot.put("j", b"old")
    depot.set_policy(Policy())
    depot.delete("j")
    depot.set_policy(Policy(undelete_s=0))
    depot.put("j", b"new")
    with pytest.raises(ConflictError):
        depot.undelete("j")
    assert depot.get("j") == b"new"


def test_delete_then_upload_is_right_at_once(depot: Depot, clock: HandClock) -> None:
    for number in range(5):
        entry = depot.put("k", b"%d" % number)
        assert (entry.version, depot.get("k")) == (0, b"%d" % number)
        depot.delete("k")
    depot.put("k", b"last")
    clock.moved_s += 2 * DAY_S
    assert expire(depot) == Expired()
    assert depot.get("k") == b"last"


def test_a_janitor_with_the_old_time_leaves_what_was_deleted_again(
    depot: Depot, clock: HandClock
) -> None:
    depot.put("k", b"x")
    depot.delete("k")
    clock.moved_s += 10
    depot.undelete("k")
    depot.delete("k")
    clock.moved_s += DAY_S - 5
    assert expire(depot) == Expired()
    assert depot.undelete("k").key == "k"


def test_without_a_time_to_undelete_a_deleted_name_leaves_nothing(depot: Depot) -> None:
    depot.set_policy(Policy(undelete_s=0))
    depot.put("k", b"x")
    depot.delete("k")
    assert depot.deleted().graves == []
    with pytest.raises(NotFoundError):
        depot.undelete("k")


def test_deleted_names_come_in_pages(depot: Depot) -> None:
    for number in range(7):
        depot.put(f"a/{number}", b"x")
        depot.put(f"b/{number}", b"x")
    depot.delete_many([f"{folder}/{number}" for folder in "ab" for number in range(7)])
    found, cursor = [], None
    while True:
        page = depot.deleted(prefix="b/", cursor=cursor, limit=3)
        found += [grave.entry.key for grave in page.graves]
        cursor = page.next
        if cursor is None:
            break
        assert len(page.graves) == 3
    assert found == [f"b/{number}" for number in range(7)]


def test_a_moved_name_leaves_no_grave(depot: Depot) -> None:
    depot.put("a", b"x")
    depot.move("a", "b")
    assert depot.deleted().graves == []


# Versions


def test_replaced_entries_are_kept_and_can_be_read(depot: Depot) -> None:
    depot.set_policy(Policy(versions=10))
    entries = [depot.put("k", b"%d" % number) for number in range(4)]
    assert depot.versions("k").entries == entries[::-1]
    assert [depot.get("k", version=number) for number in range(4)] == [b"0", b"1", b"2", b"3"]
    with pytest.raises(NotFoundError):
        depot.get("k", version=4)
    with depot.open("k", version=1) as file:
        assert file.read() == b"1"
    for number in (-1, 1 << 64):
        for verb in (depot.open, depot.head, depot.get):
            with pytest.raises(InvalidError):
                verb("k", version=number)
        with pytest.raises(InvalidError):
            depot.restore("k", number)
    restored = depot.restore("k", 1)
    assert (restored.version, restored.digest, depot.get("k")) == (4, entries[1].digest, b"1")
    assert depot.get("k", version=3) == b"3"


def test_nothing_is_restored_of_a_name_that_is_not_there(depot: Depot, clock: HandClock) -> None:
    depot.set_policy(Policy(versions=5))
    depot.put("k", b"0")
    depot.put("k", b"1", about=Description(expire_s=1))
    clock.moved_s += 2
    for _ in range(2):
        with pytest.raises(NotFoundError):
            depot.restore("k", 0)
        depot.put("k", b"2")
        assert depot.restore("k", 0).size_bytes == 1
        depot.delete("k")


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_versions_come_in_pages(depot: Depot, limit: int) -> None:
    depot.set_policy(Policy(versions=10))
    for number in range(6):
        depot.put("k", b"%d" % number)
    found: list[int] = []
    cursor = None
    while True:
        page = depot.versions("k", cursor=cursor, limit=limit)
        found += [entry.version for entry in page.entries]
        cursor = page.next
        if cursor is None:
            break
        assert len(page.entries) == limit
    assert found == [5, 4, 3, 2, 1, 0]


def test_only_the_newest_versions_are_kept(depot: Depot, clock: HandClock) -> None:
    depot.set_policy(Policy(versions=2))
    for number in range(40):
        depot.put("k", b"%d" % number)
        depot.put("l", b"%d" % number)
    assert expire(depot) == Expired(versions=74)
    assert [entry.version for entry in depot.versions("k").entries] == [39, 38, 37]
    for verb in (lambda: depot.get("k", version=36), lambda: depot.restore("k", 0)):
        with pytest.raises(GoneError):
            verb()
    assert collect(depot, clock) == 37
    depot.set_policy(Policy(versions=1))
    assert expire(depot) == Expired()
    clock.moved_s += 61
    assert expire(depot) == Expired(versions=2)
    depot.set_policy(Policy())
    clock.moved_s += 61
    assert expire(depot) == Expired(versions=2)
    assert [entry.version for entry in depot.versions("l").entries] == [39]


def test_a_deleted_name_comes_back_with_its_versions(depot: Depot) -> None:
    depot.set_policy(Policy(versions=5))
    entries = [depot.put("k", b"%d" % number) for number in range(3)]
    depot.delete("k")
    with pytest.raises(NotFoundError):
        depot.versions("k")
    with pytest.raises(NotFoundError):
        depot.get("k", version=0)
    depot.undelete("k")
    assert depot.versions("k").entries == entries[::-1]


def test_what_was_deleted_and_stored_again_is_a_version(depot: Depot) -> None:
    depot.set_policy(Policy(versions=5))
    depot.put("k", b"0")
    depot.delete("k")
    depot.put("k", b"1")
    assert [entry.version for entry in depot.versions("k").entries] == [1, 0]
    assert depot.get("k", version=0) == b"0"


def test_versions_go_with_their_name(depot: Depot, clock: HandClock) -> None:
    depot.set_policy(Policy(versions=100))
    for number in range(50):
        depot.put("k", b"%d" % number)
    depot.delete("k")
    clock.moved_s += DAY_S
    assert expire(depot) == Expired(graves=1, versions=49)
    assert collect(depot, clock) == 50


# Times of life


def test_an_expired_name_is_gone_from_its_time_on(depot: Depot, clock: HandClock) -> None:
    entry = depot.put("k", b"x", about=Description(expire_s=60))
    assert entry.expires_at is not None
    depot.put("stays", b"y")
    clock.moved_s += 59.9
    assert depot.get("k") == b"x"
    clock.moved_s += 0.1
    with pytest.raises(NotFoundError):
        depot.get("k")
    assert [entry.key for entry in depot.list().entries] == ["stays"]
    assert [entry.key for entry in depot.entries()] == ["stays"]
    assert not depot.delete("nothing")
    assert expire(depot) == Expired(entries=1)
    assert depot.stats().entries == 1
    assert collect(depot, clock) == 1


def test_a_name_stored_again_lives_as_long_as_it_says_now(depot: Depot, clock: HandClock) -> None:
    depot.put("k", b"x", about=Description(expire_s=60))
    depot.put("k", b"y")
    depot.put("l", b"x", about=Description(expire_s=60))
    clock.moved_s += 61
    assert depot.get("k") == b"y"
    again = depot.put("l", b"z")
    assert (again.version, again.created_us) == (1, clock.now_us())
    assert expire(depot) == Expired()
    assert depot.get("l") == b"z"


def test_a_policy_says_how_long_names_live(depot: Depot, clock: HandClock) -> None:
    depot.set_policy(Policy(expire_s=10))
    depot.put("k", b"x")
    depot.put("l", b"x", about=Description(expire_s=20))
    clock.moved_s += 10
    assert [entry.key for entry in depot.list().entries] == ["l"]


def test_a_delete_of_an_expired_name_leaves_no_versions_behind(
    depot: Depot, clock: HandClock
) -> None:
    depot.set_policy(Policy(versions=5))
    depot.put("k", b"one")
    depot.put("k", b"two", about=Description(expire_s=1))
    clock.moved_s += 2
    assert not depot.delete("k")
    assert expire(depot) == Expired(entries=1, versions=1)
    assert collect(depot, clock) == 2


def test_undelete_over_an_expired_name_counts_right(depot: Depot, clock: HandClock) -> None:
    depot.put("k", b"precious")
    depot.delete("k")
    depot.set_policy(Policy(undelete_s=0))
    depot.put("k", b"brief", about=Description(expire_s=1))
    clock.moved_s += 2
    assert depot.undelete("k").size_bytes == 8
    assert depot.stats().entry_bytes == 8


def test_an_expired_name_may_be_created_again(depot: Depot, clock: HandClock) -> None:
    depot.put("k", b"x", about=Description(expire_s=1))
    clock.moved_s += 2
    assert not depot.delete("k")
    assert depot.put("k", b"y", when=CREATE_ONLY).version == 1
    assert depot.stats().entries == 1


@pytest.mark.parametrize("expire_s", [0, -1, 10**12])
def test_a_time_of_life_has_bounds(depot: Depot, expire_s: int) -> None:
    with pytest.raises(InvalidError):
        depot.put("k", b"x", about=Description(expire_s=expire_s))


# Quotas


def test_a_bucket_holds_no_more_than_its_quota(depot: Depot) -> None:
    depot.set_policy(Policy(quota_bytes=100, quota_entries=3))
    depot.put("a", bytes(60))
    with pytest.raises(QuotaError) as refused:
        depot.put("b", bytes(41))
    assert (refused.value.used, refused.value.limit, refused.value.unit) == (60, 100, "bytes")
    depot.put("b", bytes(40))
    depot.put("a", bytes(50))  # by the difference
    depot.put("c", bytes(10))
    with pytest.raises(QuotaError) as refused:
        depot.put("d", b"")
    assert (refused.value.used, refused.value.limit, refused.value.unit) == (3, 3, "entries")
    depot.delete("b")
    depot.delete("b")
    depot.put("d", bytes(40))
    with pytest.raises(QuotaError):
        depot.copy("a", "e")
    depot.move("d", "e")
    assert depot.engine.names.policies.used("default").entry_bytes == 100


def test_a_refused_upload_leaves_what_was_there(depot: Depot) -> None:
    depot.put("a", b"old")
    depot.set_policy(Policy(quota_bytes=5))
    with pytest.raises(QuotaError):
        depot.put("a", b"longer than that")
    assert depot.get("a") == b"old"


def test_what_is_over_a_lowered_quota_can_still_shrink(depot: Depot) -> None:
    depot.put("a", bytes(100))
    depot.set_policy(Policy(quota_bytes=10))
    depot.put("a", bytes(50))
    with pytest.raises(QuotaError):
        depot.put("a", bytes(51))
    depot.delete("a")


def test_kept_versions_count(depot: Depot) -> None:
    depot.set_policy(Policy(quota_bytes=100, versions=5))
    depot.put("a", bytes(40))
    depot.put("a", bytes(41))
    with pytest.raises(QuotaError):
        depot.put("a", bytes(20))
    depot.delete("a")
    used = depot.engine.names.policies.used("default")
    assert (used.entry_bytes, used.version_bytes) == (0, 40)


def test_undelete_needs_room(depot: Depot) -> None:
    depot.set_policy(Policy(quota_bytes=100))
    depot.put("a", bytes(60))
    depot.delete("a")
    depot.put("b", bytes(60))
    with pytest.raises(QuotaError):
        depot.undelete("a")
    depot.delete("b")
    depot.undelete("a")


def test_an_owner_has_one_quota_for_all_buckets(depot: Depot) -> None:
    policies = depot.engine.names.policies
    policies.set_owner(Owner(name="alice", quota_bytes=100))
    photos, notes = (depot.bucket(bucket_of("alice", name)) for name in ("photos", "notes"))
    photos.put("a", bytes(60))
    with pytest.raises(QuotaError):
        notes.put("a", bytes(41))
    notes.put("a", bytes(40))
    depot.bucket("bob~notes").put("a", bytes(1000))
    assert policies.owner_used("alice").entry_bytes == 100
    photos.move("a", "b", to_bucket="alice~notes")
    assert policies.owner_used("alice").entries == 2


def test_room_is_taken_before_the_first_byte(depot: Depot) -> None:
    depot.set_policy(Policy(quota_bytes=100))
    with depot.upload("a", size_bytes=80) as first:
        with pytest.raises(QuotaError):
            depot.upload("b", size_bytes=30)
        with depot.upload("c") as second:
            second.write(bytes(20))
            with pytest.raises(QuotaError):
                second.write(bytes(1))
        first.write(bytes(80))
    depot.put("b", bytes(100))
    with depot.upload("b", size_bytes=90):  # replaces 100
        pass


@pytest.mark.parametrize("size_bytes", [1000, 300_000])
def test_sixty_four_writers_never_get_over_a_quota(depot: Depot, size_bytes: int) -> None:
    depot.set_policy(Policy(quota_bytes=20 * size_bytes))
    start = threading.Barrier(64)

    def put(number: int) -> int:
        start.wait()
        with suppress(QuotaError):
            depot.put(f"k{number}", number.to_bytes(2, "big") * (size_bytes // 2))
            return 1
        return 0

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(put, range(64))) == 20
    assert depot.stats().entry_bytes == 20 * size_bytes


# Types and sizes


@pytest.mark.parametrize(
    ("mismatch", "declared", "data", "stored"),
    [
        (Mismatch.ACCEPT, "image/png", EXE, "image/png"),
        (Mismatch.REJECT, "image/png", EXE, None),
        (Mismatch.REJECT, "image/png", b"text", None),
        (Mismatch.REJECT, "Image/PNG; x=y", PNG, "Image/PNG; x=y"),
        (Mismatch.REJECT, "text/plain", b"text", "text/plain"),
        (Mismatch.REJECT, None, PNG, "image/png"),
        (Mismatch.REJECT, "application/octet-stream", PNG, "image/png"),
        (Mismatch.REJECT, "image/jpg", b"\xff\xd8\xff\xe0", "image/jpg"),
        (Mismatch.CORRECT, "image/png", EXE, "application/vnd.microsoft.portable-executable"),
        (Mismatch.CORRECT, "image/png", b"text", "application/octet-stream"),
        (Mismatch.CORRECT, "image/gif", PNG, "image/png"),
    ],
)
def test_a_declared_type_is_held_against_the_bytes(
    depot: Depot, mismatch: Mismatch, declared: str | None, data: bytes, stored: str | None
) -> None:
    depot.set_policy(Policy(mismatch=mismatch))
    about = Description(content_type=declared)
    if stored is None:
        with pytest.raises(UnsupportedTypeError):
            depot.put("k", data, about=about)
        assert depot.stats().entries == 0
    else:
        assert depot.put("k", data, about=about).content_type == stored


def test_a_bucket_takes_only_the_types_of_its_policy(depot: Depot) -> None:
    depot.set_policy(Policy(types=("image/*", "video/mp4")))
    depot.put("a", PNG)
    depot.put("b", b"x", about=Description(content_type="VIDEO/MP4; codecs=x"))
    for declared in ("text/plain", "video/webm", "imagex/png", "image"):
        with pytest.raises((UnsupportedTypeError, InvalidError)):
            depot.upload("c", Description(content_type=declared))
    with pytest.raises(UnsupportedTypeError):
        depot.put("c.txt", b"text")


def test_a_bucket_has_its_own_largest_size(depot: Depot) -> None:
    depot.set_policy(Policy(blob_bytes_max=10))
    depot.put("a", bytes(10))
    with pytest.raises(TooLargeError):
        depot.put("a", bytes(11))
    with pytest.raises(TooLargeError):
        depot.upload("a", size_bytes=11)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Policy(quota_bytes=-1),
        lambda: Policy(versions=-1),
        lambda: Policy(versions=10**6),
        lambda: Policy(undelete_s=-1),
        lambda: Policy(expire_s=0),
        lambda: Policy(types=("png",)),
        lambda: Policy(types=("*/png",)),
        lambda: Policy(types=("image/png; x=y",)),
        lambda: Policy(types=("a/b",) * 101),
        lambda: Owner(name="a", quota_bytes=-1),
    ],
)
def test_a_policy_out_of_bounds_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidError):
        make()


def test_a_policy_is_kept(tmp_path: Path) -> None:
    policy = Policy(
        public=True, quota_bytes=1, types=("image/*",), mismatch=Mismatch.REJECT, versions=3
    )
    with open_depot(tmp_path) as depot:
        depot.set_policy(policy)
    with open_depot(tmp_path) as depot:
        assert depot.policy == policy
        depot.set_policy(Policy())
        assert depot.policy == Policy()


def test_a_janitor_works_in_the_background(depot: Depot, clock: HandClock) -> None:
    depot.put("k", b"x", about=Description(expire_s=1))
    clock.moved_s += 2
    janitor = Janitor(depot.engine)
    janitor.step()
    assert janitor.step().wait_s > 0
    assert depot.stats().entries == 0
    janitor.close()
