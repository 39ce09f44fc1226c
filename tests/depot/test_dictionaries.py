"""Depots that compress small blobs by dictionaries: where these are kept, and what if not."""

import json
from pathlib import Path

import pytest
import zstandard

import holdfast
from holdfast.core.digest import Digest
from holdfast.core.errors import CorruptError, InvalidError, UnsupportedError
from holdfast.core.limits import MIB
from holdfast.core.seams import SystemEntropy
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import hold_depot, open_depot
from holdfast.depot.stack import Stack
from holdfast.log import folder as log_folder
from holdfast.services.fsck import Fsck, Options
from holdfast.services.reshard import Reshard
from holdfast.services.training import train_dictionary
from holdfast.shards.folder import Shape
from holdfast.stores.compressed import train

KEY = "5f" * 32
TERMS = (
    "Whoever has received a copy of this description may use, copy, change and publish it, as long"
    " as this notice stays with all of it; it comes without any warranty of whatever kind, so that"
    " nobody who has made it can be held to account for what becomes of that."
)
COLOURS = ("red", "green", "blue", "yellow", "black")


def page(number: int) -> bytes:
    """A little JSON, of which each has the same members."""
    colour = COLOURS[number % len(COLOURS)]
    about = {"identifier": number * 7919, "colour": colour, "is_published": number % 2 == 0}
    more = {
        "description": f"A thing that is {colour} and has the number {number}",
        "terms": TERMS,
    }
    return json.dumps(about | more).encode()


PAGES = {f"page {number}": page(number) for number in range(300)}
FIRST = train([page(number) for number in range(1000, 2000)], 4096, 3)
SECOND = train([page(number)[::-1] for number in range(1000, 2000)], 4096, 3)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOBS_KEY", KEY)


@pytest.fixture(params=["segments", "sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def url_of(base: Path, options: str, engine: str = "segments") -> str:
    return f"{engine}://{base}/store?compress=zstd{options.format(base=base)}"


def fill(base: Path, options: str, engine: str = "segments") -> int:
    """Store all pages; say what they take."""
    with holdfast.open(url_of(base, options, engine)) as bucket:
        assert isinstance(bucket, Depot)
        for key, data in PAGES.items():
            bucket.put(key, data)
        assert {key: bucket.get(key) for key in PAGES} == PAGES
        return sum(ref.size_bytes for ref in bucket.engine.store.scan())


def check(base: Path, options: str = "", engine: str = "segments") -> None:
    with holdfast.open(url_of(base, options, engine)) as bucket:
        assert {key: bucket.get(key) for key in PAGES} == PAGES


def write(base: Path, name: str, data: bytes) -> None:
    (base / name).write_bytes(data)


@pytest.mark.parametrize("options", ["", "&encrypt=env:BLOBS_KEY"])
def test_small_blobs_are_smaller_by_it_and_need_no_file_to_be_read(
    tmp_path: Path, options: str, engine: str
) -> None:
    write(tmp_path, "first", FIRST)
    with_it = fill(tmp_path, options + "&dictionary={base}/first", engine)
    (tmp_path / "first").unlink()
    check(tmp_path, options, engine)
    (tmp_path / "plain").mkdir()
    assert with_it < fill(tmp_path / "plain", options, engine) * 0.8
    check(tmp_path, options, engine)


def test_a_newer_one_is_for_new_blobs_and_older_ones_stay(tmp_path: Path) -> None:
    write(tmp_path, "first", FIRST)
    write(tmp_path, "second", SECOND)
    fill(tmp_path, "&dictionary={base}/first")
    more = {f"more {number}": page(number)[::-1] for number in range(400, 440)}
    with holdfast.open(url_of(tmp_path, "&dictionary={base}/second")) as bucket:
        for key, data in more.items():
            bucket.put(key, data)
    about = json.loads((tmp_path / "store" / "wrappers").read_text())
    assert about["dictionaries"] == [Digest.of(SECOND).hex(), Digest.of(FIRST).hex()]
    assert about["format"] == 2
    check(tmp_path)
    with holdfast.open(url_of(tmp_path, "&dictionary={base}/first")) as bucket:
        assert {key: bucket.get(key) for key in more} == more
    about = json.loads((tmp_path / "store" / "wrappers").read_text())
    assert about["dictionaries"] == [Digest.of(FIRST).hex(), Digest.of(SECOND).hex()]
    fsck = Fsck(
        tmp_path / "store",
        lambda: open_depot(tmp_path / "store"),
        Options(repair=False, forget=False),
    )
    assert [action for action in fsck.run() if action is not None] == []
    assert (fsck.report.found, fsck.report.blobs) == (0, len(PAGES) + len(more))


def test_in_an_encrypted_store_it_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, "first", FIRST)
    fill(tmp_path, "&encrypt=env:BLOBS_KEY&dictionary={base}/first")
    files = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert b"description" in FIRST
    assert not any(b"description" in file.read_bytes() for file in files)
    assert not any(Digest.of(FIRST).hex() in file.name for file in files)
    check(tmp_path, "&encrypt=env:BLOBS_KEY&dictionary={base}/first")
    assert len(list((tmp_path / "store" / "dictionaries").iterdir())) == 1


@pytest.mark.parametrize("options", ["", "&encrypt=env:BLOBS_KEY"])
def test_a_store_that_lacks_one_is_not_opened(tmp_path: Path, options: str) -> None:
    write(tmp_path, "first", FIRST)
    fill(tmp_path, options + "&dictionary={base}/first")
    (kept,) = (tmp_path / "store" / "dictionaries").iterdir()
    sound = kept.read_bytes()
    for at in (0, len(sound) // 2, len(sound) - 1):
        kept.write_bytes(sound[:at] + bytes((sound[at] ^ 1,)) + sound[at + 1 :])
        with pytest.raises(CorruptError, match="a dictionary is damaged"):
            check(tmp_path, options)
    kept.unlink()
    with pytest.raises(CorruptError, match="a dictionary is gone"):
        check(tmp_path, options)
    kept.write_bytes(sound)
    check(tmp_path, options)


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "none", b"a dictionary")
    write(tmp_path, "raw", b"37a430ec" + bytes(MIB))
    same_id = FIRST[:-1] + bytes((FIRST[-1] ^ 1,))
    write(tmp_path, "first", FIRST)
    write(tmp_path, "same", same_id)
    fill(tmp_path, "&dictionary={base}/first")
    for name in ("none", "raw", "same", "missing", "store"):
        with pytest.raises(InvalidError, match="dictionary"):
            holdfast.open(url_of(tmp_path, "&dictionary={base}/" + name))
    with pytest.raises(InvalidError, match="that is compressed"):
        holdfast.open(f"segments://{tmp_path}/other?dictionary={tmp_path}/first")
    assert len(list((tmp_path / "store" / "dictionaries").iterdir())) == 1
    check(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no dictionary", FIRST[:4] + bytes(100)])
def test_a_file_that_is_no_dictionary_makes_no_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "words").write_bytes(content)
    with pytest.raises(InvalidError, match="dictionary"):
        holdfast.open(url_of(tmp_path, "&dictionary={base}/words"))
    assert [each.name for each in tmp_path.iterdir()] == ["words"]


def test_older_versions_do_not_open_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "first", FIRST)
    fill(tmp_path, "&dictionary={base}/first")
    monkeypatch.setattr(log_folder, "FORMATS", (1, 2))
    with pytest.raises(UnsupportedError, match="newer"):
        check(tmp_path)


def test_processes_find_it_prepared(tmp_path: Path) -> None:
    bounds = Limits(stack=Stack(compress=True, dictionary=FIRST))
    with hold_depot(tmp_path, bounds), open_depot(tmp_path, bounds, attached=True) as one:
        one.put("page", page(1))
        assert one.get("page") == page(1)


def test_a_copy_with_other_shards_has_them(tmp_path: Path) -> None:
    write(tmp_path, "first", FIRST)
    fill(tmp_path, "&encrypt=env:BLOBS_KEY&dictionary={base}/first", "sqlite")
    for _ in Reshard(tmp_path / "store", tmp_path / "new", Shape(3), verify=True).run():
        pass
    (tmp_path / "store").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "store")
    check(tmp_path, "&encrypt=env:BLOBS_KEY", "sqlite")


def test_a_copy_that_was_begun_has_what_its_blobs_need(tmp_path: Path) -> None:
    """As after a crash behind the first of its files."""
    write(tmp_path, "first", FIRST)
    fill(tmp_path, "&dictionary={base}/first", "sqlite")
    work = Reshard(tmp_path / "store", tmp_path / "new", Shape(3))
    next(work.run())
    for path in (tmp_path / "new").glob("*"):
        if path.name in {"wrappers", "dictionaries"}:
            path.rename(tmp_path / f"{path.name} of before")
    for _ in Reshard(tmp_path / "store", tmp_path / "new", Shape(3)).run():
        pass
    with holdfast.open(f"sqlite://{tmp_path}/new") as bucket:
        assert {key: bucket.get(key) for key in PAGES} == PAGES


# Training


def test_one_is_trained_on_what_a_store_has(tmp_path: Path, engine: str) -> None:
    fill(tmp_path, "&encrypt=env:BLOBS_KEY", engine)
    with holdfast.open(url_of(tmp_path, "&encrypt=env:BLOBS_KEY", engine)) as bucket:
        assert isinstance(bucket, Depot)
        bucket.put("noise", SystemEntropy().random_bytes(1000))
        bucket.put("large", bytes(MIB))
        trained = train_dictionary(bucket.engine.store, 3)
    assert zstandard.ZstdCompressionDict(trained.dictionary).dict_id()
    assert trained.samples + trained.blobs == len(PAGES) + 1
    assert trained.trained_bytes < trained.plain_bytes * 0.7


def test_too_few_blobs_train_none(tmp_path: Path) -> None:
    with holdfast.open(url_of(tmp_path, "")) as bucket:
        assert isinstance(bucket, Depot)
        for number in range(20):
            bucket.put(f"{number}", page(number))
        with pytest.raises(InvalidError, match="at least 100"):
            train_dictionary(bucket.engine.store, 3)
