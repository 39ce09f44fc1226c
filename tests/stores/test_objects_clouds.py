"""Stores in Azure and in Google Cloud Storage, opened by URLs and variables as everybody's are.

Azurite is Azure here. Google is a real S3 server behind what changes the names of a few headers
(google_face.py).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import azurite
import google_face
import pytest
from fault_proxy import Fault, FaultProxy
from object_steps import names

import holdfast
from holdfast.config.objects import connect
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import InvalidError, UnavailableError
from holdfast.core.limits import KIB, MIB
from holdfast.core.seams import SystemClock, SystemEntropy
from holdfast.core.store import Span, Store
from holdfast.stores.objects import ObjectStore
from holdfast.stores.remote import Remote
from holdfast.testing.blobs import make, put, read, read_all, whole
from holdfast.testing.store_suite import StoreSuite

pytestmark = pytest.mark.xdist_group("seaweed")
SMALL, LARGE = make(300_000), make(3 * MIB + 17)
ALWAYS = [Fault.ERROR, Fault.BUSY, Fault.THROTTLED, Fault.LOST, Fault.DROPPED]


@dataclass(frozen=True)
class Cloud:
    """One of them, behind a proxy that can fail."""

    name: str
    url: str
    proxy: FaultProxy
    address: str
    """The variable that says where it is."""

    def connect(self, prefix: str = "") -> Remote:
        """What the program makes of the URL; a pause between two tries takes no time."""
        remote = connect(f"{self.url}/{prefix}", SystemClock(), SystemEntropy())
        remote._pause = lambda _: None
        return remote

    def open(self, prefix: str = "") -> ObjectStore:
        return ObjectStore(self.connect(prefix), SystemEntropy(), SystemClock(), MIB)


@contextmanager
def azure(port: int) -> Iterator[Cloud]:
    with FaultProxy(port).running() as proxy, pytest.MonkeyPatch.context() as patch:
        address = "AZURE_STORAGE_ENDPOINT"
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azurite.ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", azurite.KEY)
        patch.setenv(address, f"http://127.0.0.1:{proxy.port}/{azurite.ACCOUNT}")
        yield Cloud("azure", f"az://{azurite.CONTAINER}", proxy, address)


@contextmanager
def google(port: int) -> Iterator[Cloud]:
    behind = FaultProxy(port, google_face.as_s3)
    with behind.running() as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_BEARER_TOKEN", google_face.TOKEN)
        patch.setenv("GOOGLE_BASE_URL", f"http://127.0.0.1:{proxy.port}")
        yield Cloud("google", "gs://bench", proxy, "GOOGLE_BASE_URL")


CLOUDS = {"azure": ("azure_port", azure), "google": ("s3_port", google)}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    port, opened = CLOUDS[request.param]
    with opened(request.getfixturevalue(port)) as cloud:
        yield cloud


@pytest.fixture
def store(cloud: Cloud, tmp_path: Path) -> Iterator[ObjectStore]:
    with closing(cloud.open(tmp_path.name)) as store:
        yield store


class CloudSuite(StoreSuite):
    """The whole suite, each store behind a prefix of its own."""

    cloud: Cloud

    def open_store(self, folder: Path) -> Store:
        return self.cloud.open(Digest.of(str(folder).encode()).hex()[:16])


@pytest.mark.slow
class TestObjectsInAzurite(CloudSuite):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, azure_port: int) -> Iterator[None]:
        with azure(azure_port) as cls.cloud:
            yield


@pytest.mark.slow
class TestObjectsInGoogle(CloudSuite):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, s3_port: int) -> Iterator[None]:
        with google(s3_port) as cls.cloud:
            yield


def test_blobs_are_stored_read_in_parts_listed_and_removed(
    store: ObjectStore, cloud: Cloud, tmp_path: Path
) -> None:
    """As objects under the names that they have everywhere."""
    refs = sorted(put(store, data) for data in (SMALL, LARGE))
    assert list(store.scan()) == refs
    assert store.stat([digest for digest, _ in refs]) == dict(refs)
    small, large = Digest.of(SMALL), Digest.of(LARGE)
    assert read(store, small) == SMALL
    with whole(store, large) as source:
        source.seek(MIB - 3)
        assert bytes(source.read(3)) == LARGE[MIB - 3 : MIB]
    part = store.open(large, Span(2 * MIB - 5, 10))
    assert part is not None
    with part:
        assert read_all(part) == LARGE[2 * MIB - 5 : 2 * MIB + 5]
    found = names(cloud.connect(tmp_path.name)._client)
    assert f"blobs/{small.hex()[:2]}/{small.hex()}.blob" in found
    assert [each.split("/")[0] for each in found] == ["blobs", "large", *["parts"] * 4]
    store.remove([small, large])
    assert names(cloud.connect(tmp_path.name)._client) == []
    assert read(store, small) is None


def test_a_name_is_given_once(cloud: Cloud, tmp_path: Path) -> None:
    """The object store itself refuses the second."""
    remote = cloud.connect(tmp_path.name)
    assert remote.create("a/b", b"first")
    cloud.proxy.requests.clear()
    assert not remote.create("a/b", b"second")
    assert [each.method for each in cloud.proxy.requests] == ["PUT"]
    assert remote.whole("a/b", 100) == b"first"
    assert remote.copy("a/b", "c/d")
    assert remote.whole("c/d", 100) == b"first"
    assert not remote.copy("a/missing", "c/e")


def test_what_is_missing_or_empty_is_told_from_what_failed(cloud: Cloud, tmp_path: Path) -> None:
    remote = cloud.connect(tmp_path.name)
    assert remote.look("missing") is None
    assert remote.tail("missing", 5) is None
    assert remote.whole("missing", 5) is None
    assert remote.names("missing") == []
    assert remote.folders("missing") == []
    remote.delete("missing")
    remote.write("empty", b"")
    assert remote.whole("empty", 5) == b""
    assert remote.tail("empty", 5) == (0, b"")
    remote.write("seven", b"1234567")
    assert remote.tail("seven", 3) == (7, b"567")
    assert remote.tail("seven", 30) == (7, b"1234567")
    assert bytes(remote.read("seven", 2, 3)) == b"345"
    for offset in (5, 7, 9):
        with pytest.raises(FileNotFoundError):
            remote.read("seven", offset, 3)


@pytest.mark.slow
def test_listings_of_many_pages_are_whole(cloud: Cloud, tmp_path: Path) -> None:
    """A page of Azure has 5,000 names, one of S3 and Google 1,000."""
    remote = cloud.connect(tmp_path.name)
    wanted = [f"many/{number:05d}" for number in range(5100 if cloud.name == "azure" else 1100)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: remote.create(name, b"x"), wanted))
    cloud.proxy.requests.clear()
    assert [each.name for each in remote.names("many")] == wanted
    assert len(cloud.proxy.requests) >= 2


@pytest.mark.parametrize("fault", ALWAYS)
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.slow
def test_what_fails_now_and_then_is_done_all_the_same(
    store: ObjectStore, cloud: Cloud, fault: Fault, data: bytes
) -> None:
    """Twice each kind of request, with and without its effect."""
    ref = BlobRef(Digest.of(data), len(data))
    for method in ("PUT", "GET", "HEAD"):
        cloud.proxy.fail(method, fault, fault)
    assert put(store, data) == ref
    assert read(store, ref.digest) == data
    assert store.stat([ref.digest]) == dict([ref])
    assert list(store.scan()) == [ref]
    cloud.proxy.fail("DELETE", fault, fault)
    store.remove([ref.digest])
    assert read(store, ref.digest) is None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Fault.BUSY, "HTTP 503"), (Fault.ERROR, "HTTP 500"), (Fault.DROPPED, "the connection failed")],
)
def test_what_fails_for_good_is_said_with_its_place(
    store: ObjectStore, cloud: Cloud, fault: Fault, reason: str
) -> None:
    cloud.proxy.fail_always("PUT", fault)
    with pytest.raises(UnavailableError) as caught:
        put(store, SMALL)
    assert caught.value.message.startswith(f"{cloud.url}/")
    assert reason in caught.value.message
    assert caught.value.__cause__ is None
    cloud.proxy.heal()
    assert list(store.scan()) == []


def test_a_lost_answer_does_not_make_a_blob_twice_or_half(store: ObjectStore, cloud: Cloud) -> None:
    cloud.proxy.fail("PUT", Fault.LOST)
    digest = put(store, SMALL).digest
    assert [each.method for each in cloud.proxy.requests] == ["PUT", "PUT", "GET"]
    assert read(store, digest) == SMALL


def test_wrong_credentials_are_refused_and_not_told(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = base64.b64encode(b"another secret").decode()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", wrong)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", wrong)
    with closing(cloud.open(tmp_path.name)) as store:
        with pytest.raises(UnavailableError) as caught:
            put(store, SMALL)
        assert caught.value.message.endswith("it refuses the credentials")
        assert wrong not in repr(caught.value)
        assert len(cloud.proxy.requests) == 1


def test_an_address_without_tls_is_used_only_if_it_is_said(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the variables say goes there in the open, and nothing else does."""
    monkeypatch.setenv(cloud.address, os.environ[cloud.address].replace("http:", "https:"))
    with pytest.raises((UnavailableError, InvalidError)):
        cloud.connect().look("x")
    assert cloud.proxy.requests == []


def test_a_depot_has_its_large_blobs_there(cloud: Cloud, tmp_path: Path) -> None:
    data = make(300 * KIB, seed=7)
    target = f"segments://{tmp_path / 'data'}?large={cloud.url}/{tmp_path.name}"
    with holdfast.open(target) as depot:
        depot.put("photo", data)
    with holdfast.open(tmp_path / "data") as depot:
        assert depot.get("photo") == data
    found = names(cloud.connect(tmp_path.name)._client)
    assert [each.split("/")[0] for each in found] == ["HOLDFAST", "blobs"]
