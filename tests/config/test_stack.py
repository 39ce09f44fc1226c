"""From URLs and the environment to wrappers."""

from pathlib import Path
from urllib.parse import quote

import pytest

import holdfast
from holdfast.config.sharding import Sharding
from holdfast.config.stack import Wanted, locate, read_master
from holdfast.core.errors import DeniedError, InvalidError, UnsupportedError
from holdfast.core.limits import MIB
from holdfast.depot.stack import Place

KEY = "5f" * 32


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("/data", Wanted()),
        ("file:///data", Wanted()),
        ("segments:///data", Wanted()),
        ("segments:///data?compress=zstd", Wanted(compress=True)),
        ("segments:///data?compress=none&level=9", Wanted(level=9)),
        ("segments:///data?encrypt=env:KEY", Wanted(encrypt="env:KEY")),
        ("file:///data?encrypt=file:/etc/key%20file", Wanted(encrypt="file:/etc/key file")),
        (
            "holdfast:///data?compress=zstd&level=19&encrypt=env:K_1",
            Wanted(compress=True, level=19, encrypt="env:K_1"),
        ),
        ("file:///data?verify=digest&cache=2MiB", Wanted(verify=True, cache_bytes=2 * MIB)),
        ("file:///data?verify=checksums&cache=0", Wanted()),
        (
            "segments:///data?cache=10GiB&cache_dir=/ssd/my%20cache",
            Wanted(cache_bytes=10 << 30, cache_dir=Path("/ssd/my cache")),
        ),
        (
            "segments:///data?spread=/disk1*2.5,/my%20disk,/disk3*0,/disk4*gone",
            Wanted(
                disks=(
                    Place(Path("/disk1"), 2.5),
                    Place(Path("/my disk"), 1),
                    Place(Path("/disk3"), 0),
                    Place(Path("/disk4"), None),
                )
            ),
        ),
    ],
)
def test_a_url_says_which_wrappers_are_wanted(url: str, wanted: Wanted) -> None:
    assert locate(url, {})[:2] == (Path("/data"), wanted)


@pytest.mark.parametrize(
    "query",
    [
        *("compress=lz4", "compress=", "compress", "level=0", "level=20", "level=x", "shard=1"),
        *("encrypt=KEY", "encrypt=env:", "encrypt=env:A-B", "encrypt=file:", "encrypt=KEY:env"),
        *("compress=zstd&compress=none", "Compress=zstd", "encrypt=env:A&encrypt=env:B"),
        *("spread=/a*x", "spread=/a*-1", "spread=/a,/a*2", "spread=/a*0", "spread=/a*1001"),
        *("spread=/a*", "spread=/a*1*2", "spread=*2", "spread=/a*gone", "spread=/a&large=s3://b/c"),
        *("verify=yes", "verify=sha256", "cache=much", "cache=-1", "cache=1.5", "cache_dir=/ssd"),
    ],
)
def test_what_a_url_cannot_say_is_refused(query: str) -> None:
    if query in {"compress=", "compress"}:
        assert locate(f"segments:///data?{query}", {}).wanted == Wanted()
        return
    with pytest.raises(InvalidError):
        locate(f"segments:///data?{query}", {})


@pytest.mark.parametrize(
    "half",
    [
        *("sqlite:/data?shards=4", "segments:data", "file:x", "data?compress=zstd", "d?x&level=3"),
        *("data?encrypts=env:K", "data?Encrypt=env:K", "data?compression=zstd", "data?shard=8"),
    ],
)
def test_a_path_that_was_to_be_a_url_is_no_folder(half: str) -> None:
    """Its options, such as a key, would be a part of the folder's name."""
    with pytest.raises(InvalidError, match="segments:///folder"):
        locate(half, {})
    assert locate(Path(half), {}).folder == Path(half)
    for odd in ("what?", "who?me=you", "a?b&c"):
        assert locate(odd, {}).folder == Path(odd)


@pytest.mark.parametrize("nothing", ["", " "])
def test_nothing_names_no_folder(nothing: str) -> None:
    """An empty variable would make a store of the working directory."""
    with pytest.raises(InvalidError, match="segments:///folder"):
        locate(nothing, {})
    assert locate(Path(nothing), {}).folder == Path(nothing)


def test_a_plus_sign_in_a_url_is_one() -> None:
    found = locate("segments:///a+b?cache=1MiB&cache_dir=/c+d&encrypt=file:/e+f", {})
    assert found.folder == Path("/a+b")
    assert found.wanted.cache_dir == Path("/c+d")
    assert found.wanted.encrypt == "file:/e+f"


@pytest.mark.parametrize("option", ["large=s3://b/c", "spread=/a"])
def test_shards_have_no_places_for_some_blobs(option: str) -> None:
    with pytest.raises(InvalidError, match="for the engine log"):
        locate(f"sqlite:///data?{option}", {})


@pytest.mark.parametrize("url", ["file:rel", "s3://u:p@b/c", "s3://b/c?x=p", "ftp://p", "s3://[p"])
def test_a_place_for_large_blobs_is_a_whole_url_without_secrets(url: str) -> None:
    with pytest.raises(InvalidError, match="file:///folder") as caught:
        locate(f"segments:///data?large={quote(url)}", {})
    assert ":p@" not in str(caught.value)
    assert "?x=p" not in str(caught.value)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for target in (tmp_path / "taken", tmp_path / "taken" / "deep", f"sqlite://{tmp_path}/taken"):
        with pytest.raises(InvalidError, match="taken is a file"):
            holdfast.open(target)


def test_a_key_that_stands_in_the_url_is_not_told() -> None:
    with pytest.raises(InvalidError, match="env:NAME or file:PATH") as caught:
        locate(f"segments:///data?encrypt={KEY}", {})
    assert KEY not in str(caught.value)


def test_the_environment_says_what_the_url_leaves_open() -> None:
    variables = {
        "HOLDFAST_COMPRESS": "zstd",
        "HOLDFAST_COMPRESS_LEVEL": "7",
        "HOLDFAST_ENCRYPT": "env:KEY",
    }
    assert locate("/data", variables).wanted == Wanted(True, 7, "env:KEY")  # noqa: FBT003
    url = "segments:///data?compress=none&encrypt=env:OTHER"
    assert locate(url, variables).wanted == Wanted(level=7, encrypt="env:OTHER")
    assert locate("/data", {"HOLDFAST_VERIFY": "digest"}).wanted == Wanted(verify=True)
    elsewhere = {"HOLDFAST_CACHE": "1GiB", "HOLDFAST_CACHE_DIR": "/ssd"}
    assert locate("/data", elsewhere).wanted == Wanted()


def test_a_master_key_is_where_it_is_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    assert read_master("") is None
    assert read_master("env:K", {"K": KEY}) == read_master(f"file:{file}") == bytes.fromhex(KEY)
    for place, variables in [("env:K", {}), ("env:K", {"K": "short"}), ("env:K", {"K": ""})]:
        with pytest.raises(InvalidError) as caught:
            read_master(place, variables)
        assert "short" not in str(caught.value)
        assert "env:K" in str(caught.value)
    file.write_text("5f" * 3000)
    for wrong in (file, tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidError):
            read_master(f"file:{wrong}")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text(KEY)
    assert locate("~/blobs", {}).folder == tmp_path / "blobs"
    assert locate(Path("~/blobs"), {}).folder == Path("~/blobs")
    assert read_master("file:~/key") == bytes.fromhex(KEY)
    for nobody in ("~nobody-of-that-name/x", "segments:///x?encrypt=file:~nobody-of-that-name/x"):
        with pytest.raises(InvalidError, match="nobody"):
            read_master(locate(nobody, {}).wanted.encrypt)


def test_a_url_opens_a_store_with_its_wrappers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLOBS_KEY", KEY)
    url = f"segments://{tmp_path}/store?compress=zstd&encrypt=env:BLOBS_KEY"
    with holdfast.open(url) as bucket:
        bucket.put("text", b"a line\n" * 10_000)
    with holdfast.open(url) as bucket:
        assert bucket.get("text") == b"a line\n" * 10_000
    with pytest.raises(DeniedError, match="encrypt="):
        holdfast.open(tmp_path / "store")
    monkeypatch.setenv("HOLDFAST_ENCRYPT", "env:BLOBS_KEY")
    with holdfast.open(tmp_path / "store") as bucket:
        assert bucket.get("text") == b"a line\n" * 10_000


def test_a_url_says_which_engine_is_wanted_and_how_it_is(tmp_path: Path) -> None:
    url = "sqlite:///data?shards=8&hash=xxh3&batch_size=64&batch_timeout_ms=5&compress=zstd"
    found = locate(url, {})
    assert found.sharding == Sharding("sqlite", 8, "xxh3", 64, 5)
    assert found.wanted.compress
    assert locate("sqlite:///data", {}).sharding == Sharding("sqlite")
    assert locate("segments:///data", {}).sharding == Sharding("log")
    assert locate("file:///data", {}).sharding == locate("/data", {}).sharding == Sharding()
    with holdfast.open(f"sqlite://{tmp_path}/store?shards=8") as bucket:
        bucket.put("k", b"value")
    assert len(list((tmp_path / "store").glob("shard_*.db"))) == 8
    for again in (f"sqlite://{tmp_path}/store", str(tmp_path / "store")):
        with holdfast.open(again) as bucket:
            assert bucket.get("k") == b"value"
    with pytest.raises(UnsupportedError, match="engine sqlite, not log"):
        holdfast.open(f"segments://{tmp_path}/store")
    with pytest.raises(InvalidError, match="holdfast reshard"):
        holdfast.open(f"sqlite://{tmp_path}/store?shards=7")


@pytest.mark.parametrize(
    "query",
    ["shards=0", "shards=257", "shards=x", "hash=md5", "batch_size=0", "batch_timeout_ms=-1"],
)
def test_a_wrong_option_of_shards_is_refused(query: str) -> None:
    with pytest.raises(InvalidError, match=query.partition("=")[0]):
        locate(f"sqlite:///data?{query}", {})
    with pytest.raises(InvalidError, match="sqlite:///folder"):
        locate(f"segments:///data?{query}", {})
