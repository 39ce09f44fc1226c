"""Depots that are opened by a URL with a cache, or held to SHA-256: what is around their codecs."""

import json
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

import holdfast
from holdfast.config.stack import locate
from holdfast.config.target import bounds_of
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.errors import (
    BlobError,
    ConflictError,
    CorruptError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot
from holdfast.depot.local import open_depot as open_local
from holdfast.depot.stack import Stack
from holdfast.stores.cached import CachedStore
from holdfast.stores.compressed import train
from holdfast.stores.verified import VerifiedStore
from holdfast.testing.blobs import make, read
from holdfast.testing.faults import Fault, FaultyDisk

SMALL, LARGE = make(2 * KIB), make(2 * MIB)
TEXT = b"a line that is said again\n" * (64 * KIB)
BLOBS = {
    "words": b"what all have in common, and more",
    "small": SMALL,
    "large": LARGE,
    "text": TEXT,
    "empty": b"",
}
KEY = "5f" * 32
WORDS = train([b"what all have in common, and %d" % number for number in range(900)], 1024, 3)
SPREAD = "spread={base}/one*2,{base}/other"
ALL = "compress=zstd&dictionary={base}/words&encrypt=env:BLOBS_KEY&verify=digest&cache=32MiB"
STACKS = [
    SPREAD,
    f"{SPREAD}&{ALL}",
    f"{SPREAD}&{ALL}&cache_dir={{base}}/cache",
    f"large=file://{{base}}/objects&{ALL}&cache_dir={{base}}/cache",
    "compress=zstd&dictionary={base}/words",
    ALL,
    "cache=32MiB",
    "cache=32MiB&cache_dir={base}/cache",
    "verify=digest",
    "verify=digest&cache=32MiB",
    "compress=zstd&cache=32MiB&cache_dir={base}/cache",
    "compress=zstd&encrypt=env:BLOBS_KEY&verify=digest&cache=32MiB&cache_dir={base}/cache",
    "large=file://{base}/objects&cache=32MiB&cache_dir={base}/cache",
    "large=file://{base}/objects&compress=zstd&encrypt=env:BLOBS_KEY&cache=32MiB&verify=digest",
]


def url_of(base: Path, options: str, engine: str = "segments") -> str:
    return f"{engine}://{base}/store?{options.format(base=base)}"


def open_depot(base: Path, options: str, engine: str = "segments") -> Depot:
    for name in ("one", "other", "objects"):
        (base / name).mkdir(exist_ok=True)
    depot = holdfast.open(url_of(base, options, engine))
    assert isinstance(depot, Depot)
    return depot


def cached(depot: Depot) -> CachedStore:
    store = depot.engine.store
    assert isinstance(store, CachedStore)
    return store


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOBS_KEY", KEY)


@pytest.mark.parametrize("options", STACKS)
@pytest.mark.parametrize("engine", ["segments", "sqlite"])
def test_a_depot_behind_it_gives_back_what_it_was_given(
    tmp_path: Path, options: str, engine: str
) -> None:
    (tmp_path / "words").write_bytes(WORDS)
    if engine == "sqlite":
        local = [each for each in options.split("&") if not each.startswith(("large", "spread"))]
        options = "&".join(local)
    with open_depot(tmp_path, options, engine) as depot:
        for key, data in BLOBS.items():
            depot.put(key, data)
        for _ in range(2):
            assert {key: depot.get(key) for key in BLOBS} == BLOBS
    with open_depot(tmp_path, options, engine) as depot:
        assert {key: depot.get(key) for key in BLOBS} == BLOBS
        assert list(depot.get_many(BLOBS)) == list(BLOBS.values())
        part = holdfast.Span(100_000, 1000)
        assert depot.get("text", span=part) == TEXT[100_000:][:1000]
        depot.delete("text")
        with pytest.raises(NotFoundError):
            depot.get("text")


def test_a_cache_has_large_blobs_alone_and_outlives_the_program(tmp_path: Path) -> None:
    options = "large=file://{base}/objects&cache=32MiB&cache_dir={base}/cache"
    with open_depot(tmp_path, options) as depot:
        depot.put("small", SMALL)
        depot.put("large", LARGE)
        depot.get("small")
        assert cached(depot).cached_bytes == 0
        assert depot.engine.spot(Digest.of(SMALL)) is not None
        depot.get("large")
        size_bytes = cached(depot).cached_bytes
        assert size_bytes > len(LARGE)
    for file in (tmp_path / "objects" / "blobs").rglob("*.blob"):
        file.write_bytes(b"")
    with open_depot(tmp_path, options) as depot:
        assert cached(depot).cached_bytes == size_bytes
        assert depot.get("large") == LARGE
    with open_depot(tmp_path, "large=file://{base}/objects") as depot, pytest.raises(CorruptError):
        depot.get("large")


def test_a_cache_of_an_encrypted_store_says_nothing(tmp_path: Path) -> None:
    options = "encrypt=env:BLOBS_KEY&cache=32MiB&cache_dir={base}/cache"
    for _ in range(2):
        with open_depot(tmp_path, options) as depot:
            depot.put("text", TEXT)
            assert depot.get("text") == TEXT
            assert cached(depot).cached_bytes > len(TEXT)
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) > len(TEXT)
    assert not any(TEXT[:26] in file.read_bytes() for file in files)
    assert not any(Digest.of(TEXT).hex() in file.name for file in files)


def test_damage_of_the_cache_is_nobodys_error(tmp_path: Path) -> None:
    options = "cache=32MiB&cache_dir={base}/cache"
    with open_depot(tmp_path, options) as depot:
        depot.put("large", LARGE)
        assert depot.get("large") == LARGE
    (file,) = (tmp_path / "cache" / "blobs").rglob("*.blob")
    sound = file.read_bytes()
    for at in (0, MIB, len(sound) - 1):
        file.write_bytes(sound[:at] + bytes((sound[at] ^ 1,)) + sound[at + 1 :])
        with open_depot(tmp_path, options) as depot:
            assert depot.get("large") == LARGE


def test_a_folder_is_the_cache_of_one_store(tmp_path: Path) -> None:
    options = "cache=32MiB&cache_dir={base}/cache"
    with open_depot(tmp_path, options), pytest.raises(UnavailableError, match="in use"):
        open_depot(tmp_path / "other", f"cache=1MiB&cache_dir={tmp_path}/cache")
    with pytest.raises(ConflictError, match="belongs to another store"):
        open_depot(tmp_path / "other", f"cache=1MiB&cache_dir={tmp_path}/cache")
    with pytest.raises(ConflictError, match="is a store"):
        open_depot(tmp_path / "other", f"cache=1MiB&cache_dir={tmp_path}/store")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("to somebody")
    with pytest.raises(ConflictError, match="not empty"):
        open_depot(tmp_path / "other", f"cache=1MiB&cache_dir={tmp_path}/full")
    with pytest.raises(UnsupportedError, match="another engine"):
        holdfast.open(tmp_path / "cache")
    (tmp_path / "cache" / "HOLDFAST").write_text("{")
    with pytest.raises(CorruptError, match="damaged"):
        open_depot(tmp_path, options)
    with open_depot(tmp_path / "other", "cache=1MiB") as depot:  # every try has let go
        depot.put("k", b"value")
    assert json.loads((tmp_path / "other" / "store" / "HOLDFAST").read_text())["format"] == 2


def test_a_newer_cache_is_left_alone(tmp_path: Path) -> None:
    with open_depot(tmp_path, "cache=1MiB&cache_dir={base}/cache"):
        pass
    marker = tmp_path / "cache" / "HOLDFAST"
    marker.write_text(marker.read_text().replace('"format":1', '"format":9'))
    with pytest.raises(UnsupportedError, match="newer"):
        open_depot(tmp_path, "cache=1MiB&cache_dir={base}/cache")


def test_a_cache_serves_one_process(tmp_path: Path) -> None:
    bounds = Limits(stack=Stack(cache_bytes=MIB))
    with pytest.raises(UnsupportedError, match="--workers 1"), hold_depot(tmp_path, bounds):
        pass
    with pytest.raises(InvalidError, match="only with `cache`"):
        open_depot(tmp_path, "cache_dir=/ssd")


@pytest.mark.parametrize("engine", ["segments", "sqlite"])
def test_wrong_bytes_with_right_checksums_are_not_given_out(tmp_path: Path, engine: str) -> None:
    """As of a disk that says something else later: only SHA-256 can know."""
    with open_depot(tmp_path, "verify=checksums", engine) as depot:
        depot.put("right", SMALL)
        with depot.engine.store.sink() as sink:
            sink.write(make(2 * KIB, seed=1))
            sink.commit(BlobRef(Digest.of(b"wrong"), 2 * KIB)).result()
        assert read(depot.engine.store, Digest.of(b"wrong")) == make(2 * KIB, seed=1)
    with open_depot(tmp_path, "verify=digest", engine) as depot:
        assert isinstance(depot.engine.store, VerifiedStore)
        assert depot.engine.spot(Digest.of(SMALL)) is None
        assert depot.get("right") == SMALL
        with pytest.raises(CorruptError):
            depot.engine.store.open(Digest.of(b"wrong"))


def test_a_disk_that_fails_at_the_opening_leaves_no_lock(tmp_path: Path) -> None:
    """The same process opens the store again; what of the cache cannot be read is none."""
    options = "cache=32MiB&cache_dir={base}/cache"
    with open_depot(tmp_path, options) as depot:
        depot.put("large", LARGE)
        assert depot.get("large") == LARGE
    located = locate(url_of(tmp_path, options))
    for number in count(1):
        disk = FaultyDisk(Fault(number, only=frozenset({"open", "pread"})))
        with suppress(BlobError), open_local(located.folder, bounds_of(located), disk) as depot:
            is_clean = not disk.struck
            disk.arm(None)
            assert depot.get("large") == LARGE
            if is_clean:
                break
        with open_depot(tmp_path, options) as depot:
            assert depot.get("large") == LARGE
