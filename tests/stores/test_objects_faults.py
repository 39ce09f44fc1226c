"""A store over a real S3 server that fails: what was acknowledged is there, and right."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from fault_proxy import Fault, FaultProxy
from object_steps import names, open_objects, s3

from holdfast.core import limits
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import BlobError, CorruptError, FullError, UnavailableError
from holdfast.core.limits import MIB
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.hand_clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from obstore.store import S3Config, S3Store

    from holdfast.stores.objects import ObjectStore

pytestmark = pytest.mark.xdist_group("seaweed")
SMALL, LARGE = make(300_000), make(3 * MIB + 17)
ALWAYS = [Fault.ERROR, Fault.BUSY, Fault.THROTTLED, Fault.LOST, Fault.DROPPED]


@pytest.fixture
def proxy(s3_port: int) -> Iterator[FaultProxy]:
    with FaultProxy(s3_port).running() as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy, tmp_path: Path) -> S3Store:
    return s3(proxy.port, tmp_path.name)


@pytest.fixture
def store(client: S3Store) -> Iterator[ObjectStore]:
    with closing(open_objects(client, MIB)) as store:
        yield store


@pytest.mark.parametrize("fault", ALWAYS)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_what_fails_now_and_then_is_done_all_the_same(
    store: ObjectStore, client: S3Store, proxy: FaultProxy, fault: Fault, data: bytes
) -> None:
    """Twice each kind of request, with and without its effect."""
    ref = BlobRef(Digest.of(data), len(data))
    proxy.fail("PUT", fault, fault)
    proxy.fail("GET", fault, fault)
    proxy.fail("HEAD", fault, fault)
    assert put(store, data) == ref
    assert read(store, ref.digest) == data
    assert store.stat([ref.digest]) == dict([ref])
    assert list(store.scan()) == [ref]
    proxy.fail("POST", fault, fault)
    store.remove([ref.digest])
    assert read(store, ref.digest) is None
    assert names(client) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.BUSY, "HTTP 503 SlowDown"),
        (Fault.ERROR, "HTTP 500 SlowDown"),
        (Fault.DROPPED, "the connection failed"),
    ],
)
def test_what_fails_for_good_is_said_with_its_place_and_stored_nowhere(
    client: S3Store, proxy: FaultProxy, fault: Fault, reason: str
) -> None:
    """Pauses grow up to a bound, and their number is bounded."""
    pauses: list[float] = []
    store = open_objects(client, MIB, pause=pauses.append)
    proxy.fail_always("PUT", fault)
    for data in (SMALL, LARGE):
        pauses.clear()
        with pytest.raises(UnavailableError) as caught:
            put(store, data)
        assert caught.value.message == f"objects:test: cannot store an object: {reason}"
        assert caught.value.__cause__ is None
        assert len(pauses) >= limits.OBJECT_TRIES_MAX - 1
        assert max(pauses) <= limits.OBJECT_RETRY_S_MAX
    proxy.heal()
    assert list(store.scan()) == []
    assert names(client) == []
    store.close()


def test_all_tries_together_have_an_end(client: S3Store, proxy: FaultProxy) -> None:
    clock = StillClock()

    def pause(_: float) -> None:
        clock.moved_s += limits.OBJECT_WAIT_S

    store = open_objects(client, clock=clock, pause=pause)
    proxy.fail_always("PUT", Fault.BUSY)
    with pytest.raises(UnavailableError):
        put(store, SMALL)
    assert len(proxy.requests) <= 2
    store.close()


def test_an_answer_that_comes_too_late_is_not_waited_for(proxy: FaultProxy, tmp_path: Path) -> None:
    client = s3(proxy.port, tmp_path.name, timeout="1s")
    with closing(open_objects(client, MIB)) as hasty:
        proxy.fail("PUT", Fault.SLOW)
        digest = put(hasty, SMALL).digest
        proxy.fail("GET", Fault.SLOW)
        assert read(hasty, digest) == SMALL


def test_a_lost_answer_does_not_make_a_blob_twice_or_half(
    store: ObjectStore, client: S3Store, proxy: FaultProxy
) -> None:
    """The second try finds the name taken, by the first, and looks at what is there."""
    proxy.fail("PUT", Fault.LOST)
    digest = put(store, SMALL).digest
    assert [each.method for each in proxy.requests] == ["PUT", "PUT", "GET"]
    assert names(client) == [f"blobs/{digest.hex()[:2]}/{digest.hex()}.blob"]
    assert read(store, digest) == SMALL


def test_what_a_refused_removal_has_copied_for_a_reader_is_swept(
    client: S3Store, proxy: FaultProxy
) -> None:
    clock = StillClock()
    with closing(open_objects(client, MIB, clock=clock)) as store:
        digest = put(store, SMALL).digest
        with whole(store, digest) as source:
            proxy.fail_always("PUT", Fault.LOST)
            with pytest.raises(UnavailableError):
                store.remove([digest])
            proxy.heal()
            assert len(names(client, "gone")) == 1
            assert read_all(source) == SMALL
        clock.moved_s = 2 * limits.SWEEP_GRACE_S
        assert len(list(store.sweep())) == 1
        assert names(client, "gone") == []
        assert read(store, digest) == SMALL


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.DROPPED])
def test_what_a_removal_could_still_reach_is_not_stored_again_yet(
    client: S3Store, proxy: FaultProxy, fault: Fault
) -> None:
    """Nobody knows whether a request without an answer has come to its end."""
    clock = StillClock()
    store = open_objects(client, MIB, clock=clock)
    digest = put(store, SMALL).digest
    proxy.fail("POST", fault)
    store.remove([digest])
    with pytest.raises(UnavailableError) as caught:
        put(store, SMALL)
    assert 0 < caught.value.retry_after_s <= limits.OBJECT_DOUBT_S + 1
    assert put(store, b"another").size_bytes == 7
    clock.moved_s += limits.OBJECT_DOUBT_S + 1
    put(store, SMALL)
    assert read(store, digest) == SMALL
    store.close()


def test_a_removed_large_blob_may_come_back_at_once(store: ObjectStore, proxy: FaultProxy) -> None:
    """Its new head has another name, which no request of before can reach."""
    digest = put(store, LARGE).digest
    proxy.fail("POST", Fault.LOST, path="/large/")
    store.remove([digest])
    put(store, LARGE)
    assert read(store, digest) == LARGE


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fault", [Fault.WRONG, Fault.CUT])
def test_bytes_that_are_damaged_on_their_way_are_fetched_again(
    store: ObjectStore, proxy: FaultProxy, data: bytes, fault: Fault
) -> None:
    digest = put(store, data).digest
    with whole(store, digest) as source:
        proxy.fail("GET", fault)
        assert read_all(source) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_bytes_that_stay_wrong_are_an_error_that_says_where(
    store: ObjectStore, proxy: FaultProxy, data: bytes
) -> None:
    digest = put(store, data).digest
    with whole(store, digest) as source:
        proxy.fail_always("GET", Fault.WRONG)
        with pytest.raises(CorruptError) as caught:
            read_all(source)
        assert caught.value.facts["place"] == "objects:test"
        assert caught.value.facts["digest"] == str(digest)
        proxy.heal()
        source.seek(0)
        assert read_all(source) == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_description_that_is_wrong_is_not_believed(
    store: ObjectStore, client: S3Store, proxy: FaultProxy, data: bytes
) -> None:
    digest = put(store, data).digest
    proxy.fail_always("GET", Fault.WRONG, path=f"{digest.hex()}")
    with closing(open_objects(client, MIB)) as other, pytest.raises(BlobError):
        whole(other, digest)


def test_an_upload_that_fails_half_way_leaves_nothing(
    store: ObjectStore, client: S3Store, proxy: FaultProxy
) -> None:
    with store.sink() as sink:
        sink.write(LARGE[: 2 * MIB])
        proxy.fail_always("PUT", Fault.ERROR)
        with pytest.raises(UnavailableError):
            sink.write(LARGE * 3)
    proxy.heal()
    assert names(client) == []
    assert store.usage().temporary_files == 0


def test_a_head_that_may_still_come_finds_its_parts(
    store: ObjectStore, client: S3Store, proxy: FaultProxy
) -> None:
    """Every answer to it is lost, and every one of them had its effect."""
    proxy.fail_always("PUT", Fault.LOST, path="/large/")
    with pytest.raises(UnavailableError):
        put(store, LARGE)
    proxy.heal()
    assert read(store, Digest.of(LARGE)) == LARGE


def test_refused_credentials_are_said_at_once_and_not_told(
    proxy: FaultProxy, tmp_path: Path
) -> None:
    secrets: S3Config = {"access_key_id": "AKIAFORGED", "secret_access_key": "very-secret"}
    client = s3(proxy.port, tmp_path.name, credentials=secrets)
    with closing(open_objects(client)) as store:
        with pytest.raises(UnavailableError) as caught:
            put(store, SMALL)
        assert caught.value.message.endswith("it refuses the credentials")
        assert not [each for each in secrets.values() if str(each) in repr(caught.value)]
    assert len(proxy.requests) == 1


def test_a_full_store_is_said_to_be_full(store: ObjectStore, proxy: FaultProxy) -> None:
    proxy.fail_always("PUT", Fault.FULL)
    for data in (SMALL, LARGE):
        with pytest.raises(FullError, match="objects:test"):
            put(store, data)
