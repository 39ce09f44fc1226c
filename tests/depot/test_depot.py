"""The verbs of a bucket in this process, one sentence at a time."""

import array
import contextlib
import io
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from descriptors import descriptors

import holdfast
from holdfast.core.bucket import CREATE_ONLY, Data, Description, matches
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    BlobError,
    CorruptError,
    DigestMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    TooLargeError,
    UnavailableError,
    UnsatisfiableError,
)
from holdfast.core.limits import KIB, MIB
from holdfast.core.preconditions import Conditions
from holdfast.core.store import Span
from holdfast.depot.depot import Depot
from holdfast.depot.engine import Limits
from holdfast.depot.local import open_depot
from holdfast.testing.blobs import make
from holdfast.testing.recount import check_catalog

SIZES = [0, 1, 256 * KIB, 256 * KIB + 1, 3 * MIB + 17]


@pytest.fixture
def depot(tmp_path: Path, engine: str) -> Iterator[Depot]:
    with open_depot(tmp_path / "store", Limits(engine=engine)) as opened:
        yield opened
        check_catalog(opened.engine.kv)


def stored_bytes(depot: Depot) -> int:
    """Bytes of all blobs that the store has, named or not."""
    return sum(ref.size_bytes for ref in depot.engine.store.scan())


# Ways in.


def ways(data: bytes, folder: Path) -> dict[str, Callable[[], Data]]:
    path = folder / "input"
    path.write_bytes(data)
    cut = sorted(random.Random(1).choices(range(len(data) + 1), k=5))
    parts = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
    return {
        "bytes": lambda: data,
        "bytearray": lambda: bytearray(data),
        "memoryview": lambda: memoryview(data),
        "path": lambda: path,
        "file": lambda: path.open("rb"),
        "memory file": lambda: io.BytesIO(data),
        "iterator": lambda: iter(parts),
        "list": lambda: parts,
        "generator": lambda: (bytearray(part) for part in parts),
    }


@pytest.mark.parametrize("size_bytes", SIZES)
def test_every_way_in_stores_the_same_bytes(depot: Depot, tmp_path: Path, size_bytes: int) -> None:
    data = make(size_bytes)
    for name, way in ways(data, tmp_path).items():
        given = way()
        entry = depot.put(name, given)
        if isinstance(given, io.BufferedReader):
            given.close()
        assert (entry.digest, entry.size_bytes) == (Digest.of(data), size_bytes)
        assert (entry.version, entry.key, entry.bucket) == (0, name, "default")
        assert depot.get(name) == data
        assert depot.head(name) == entry
    assert stored_bytes(depot) == size_bytes, "one copy"
    assert depot.stats().entry_bytes == size_bytes * len(ways(data, tmp_path))


def test_a_view_of_wide_items_is_stored_as_its_bytes(depot: Depot) -> None:
    view = memoryview(array.array("I", range(1000)))
    assert depot.put("view", view).size_bytes == 4000
    assert depot.put("chunks", iter([view[:10], view[10:]])).size_bytes == 4000
    assert depot.get("view") == depot.get("chunks") == view.tobytes()


@pytest.mark.parametrize("wrong", ["text", "", None, 5, ["text"], [1, 2], {"a": 1}, object()])
def test_what_is_no_bytes_is_a_wrong_program(depot: Depot, wrong: object) -> None:
    with pytest.raises(TypeError):
        depot.put("k", wrong)  # type: ignore[arg-type]  # that is the point
    assert depot.list().entries == []
    depot.put("k", b"still works")


@pytest.mark.parametrize("size_bytes", [10, 2 * MIB])
def test_an_input_that_fails_half_way_leaves_nothing(depot: Depot, size_bytes: int) -> None:
    def broken() -> Iterator[bytes]:
        yield make(size_bytes)
        raise ZeroDivisionError

    depot.put("old", b"old")
    for key in ("old", "new"):
        with pytest.raises(ZeroDivisionError):
            depot.put(key, broken())
    assert depot.get("old") == b"old"
    assert [entry.key for entry in depot.list().entries] == ["old"]
    assert stored_bytes(depot) == 3


def test_a_missing_path_is_the_callers_error(depot: Depot, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="readable file"):
        depot.put("k", tmp_path / "missing")
    assert depot.list().entries == []


def test_descriptors_are_given_back(depot: Depot, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(make(MIB))
    depot.put("k", tmp_path / "input")
    depot.get("k")
    depot.list()
    before = descriptors(tmp_path)
    for number in range(20):
        depot.put(f"{number}", tmp_path / "input")
        depot.get("k")
        depot.open("k").close()
        with contextlib.suppress(BlobError):
            depot.put("k", tmp_path / "input", about=Description(digest=Digest.of(b"")))
    assert descriptors(tmp_path) == before


# Ways out.


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_part_is_what_a_slice_is(depot: Depot, size_bytes: int) -> None:
    data = make(size_bytes)
    depot.put("k", data)
    for offset in {0, 1, size_bytes // 2, size_bytes - 1, size_bytes} & set(range(size_bytes + 1)):
        for length in (0, 1, 1000, size_bytes, 10 * size_bytes + 1):
            assert depot.get("k", Span(offset, length)) == data[offset : offset + length]
    with pytest.raises(UnsatisfiableError):
        depot.get("k", Span(size_bytes + 1, 1))


@pytest.mark.parametrize("size_bytes", SIZES)
def test_an_open_blob_is_a_file(depot: Depot, size_bytes: int) -> None:
    data = make(size_bytes)
    depot.put("k", data)
    with depot.open("k") as file, io.BytesIO(data) as model:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        dice = random.Random(size_bytes)
        for _ in range(60):
            if dice.random() < 0.5:
                whence = dice.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
                base = [0, model.tell(), size_bytes][whence]
                offset = dice.randrange(size_bytes + 1) - base
                assert file.seek(offset, whence) == model.seek(offset + base)
            count = dice.choice([0, 1, 100, 200 * KIB, -1])
            assert file.read(count) == model.read(count)
            assert file.tell() == model.tell()
        with pytest.raises(InvalidError):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


@pytest.mark.parametrize("size_bytes", [10, MIB])
def test_an_open_blob_outlives_its_name(depot: Depot, size_bytes: int) -> None:
    depot.put("k", make(size_bytes))
    with depot.open("k") as file:
        assert file.read(5) == make(size_bytes)[:5]
        depot.put("k", b"replaced")
        depot.delete("k")
        assert file.read() == make(size_bytes)[5:]


def test_lines_can_be_read(depot: Depot) -> None:
    depot.put("k", b"one\ntwo\nthree")
    with depot.open("k") as file:
        assert list(file) == [b"one\n", b"two\n", b"three"]


@pytest.mark.parametrize("verb", ["get", "open", "head", "delete", "copy", "move", "put"])
@pytest.mark.parametrize(
    "key", ["", "k" * 1025, "ä" * 513, "\ud800", "a\x00b", "a\nb", "\x7f", "\x1f"]
)
def test_a_malformed_key_is_refused_by_every_verb(depot: Depot, verb: str, key: str) -> None:
    depot.put("good", b"")
    more: dict[str, tuple[object, ...]] = {"put": (b"",), "copy": ("x",), "move": ("x",)}
    with pytest.raises(InvalidError):
        getattr(depot, verb)(key, *more.get(verb, ()))
    if verb in {"copy", "move"}:
        with pytest.raises(InvalidError):
            getattr(depot, verb)("good", key)
    assert [entry.key for entry in depot.list().entries] == ["good"]


@pytest.mark.parametrize("key", ["k" * 1024, "ä" * 512, "..", "/", "a//b", "\U0010ffff", "e\u0301"])
def test_any_other_key_is_legal(depot: Depot, key: str) -> None:
    depot.put(key, b"data")
    assert depot.get(key) == b"data"
    assert [entry.key for entry in depot.list().entries] == [key]
    assert depot.delete(key)


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a/b", "a" * 64, "ä", "a b", "a\x00", "a\n"])
def test_a_malformed_bucket_is_refused(depot: Depot, name: str) -> None:
    with pytest.raises(InvalidError):
        depot.bucket(name)
    depot.put("k", b"")
    with pytest.raises(InvalidError):
        depot.copy("k", "k", to_bucket=name or "/")


def test_buckets_are_strangers(depot: Depot) -> None:
    names = ["a", "a0", "a-b", "a" * 63, "0", "b"]
    for name in names:
        depot.bucket(name).put("k", name.encode())
        depot.bucket(name).put("k\U0010ffff", b"")
    for name in names:
        assert depot.bucket(name).get("k") == name.encode()
        assert len(depot.bucket(name).list().entries) == 2
    assert depot.list().entries == []
    assert depot.stats().entries == 2 * len(names)


# What is written with the bytes.


@pytest.mark.parametrize(
    ("declared", "data", "key", "expected"),
    [
        ("text/html; charset=utf-8", b"\x89PNG\r\n\x1a\n", "a.jpg", "text/html; charset=utf-8"),
        (None, b"\x89PNG\r\n\x1a\n...", "a.jpg", "image/png"),
        (None, b"\xff\xd8\xff\xe0", "a", "image/jpeg"),
        (None, b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a.txt", "image/webp"),
        (None, b"\x00\x00\x00\x18ftypmp42", "", "video/mp4"),
        (None, b"\x00\x00\x00\x14ftypqt  ", "", "video/quicktime"),
        (None, b"plain words", "notes/today.txt", "text/plain"),
        (None, b"plain words", "a.tar/b", "application/octet-stream"),
        (None, b"", "empty.json", "application/json"),
        (None, b"", "", "application/octet-stream"),
    ],
)
def test_the_content_type_is_declared_or_seen_or_guessed(
    depot: Depot, declared: str | None, data: bytes, key: str, expected: str
) -> None:
    key = key or "name"
    for given in (data, [data[:3], data[3:]], io.BytesIO(data)):
        assert depot.put(key, given, about=Description(declared)).content_type == expected
        assert depot.head(key).content_type == expected


@pytest.mark.parametrize(
    "content_type", ["text", "text/", "/x", "a b/c", "text/x;", "a/b\r\nX: y", "a/" + "b" * 254]
)
def test_a_malformed_content_type_is_refused(depot: Depot, content_type: str) -> None:
    if content_type == "text/x;":  # RFC 9110 section 5.6.6 allows it
        depot.put("k", b"", about=Description(content_type))
        return
    with pytest.raises(InvalidError):
        depot.put("k", b"", about=Description(content_type))


def test_metadata_is_kept_and_replaced_whole(depot: Depot) -> None:
    given = {"Colour": "grün %41", "a.b_c-d": "", "0": "x" * 1000}
    entry = depot.put("k", b"", about=Description(metadata=given))
    given["Colour"] = "changed later"
    assert dict(entry.metadata) == {"colour": "grün %41", "a.b_c-d": "", "0": "x" * 1000}
    assert depot.head("k").metadata == entry.metadata
    assert depot.copy("k", "copy").metadata == entry.metadata
    assert dict(depot.put("k", b"").metadata) == {}


@pytest.mark.parametrize(
    "metadata",
    [
        {"": "x"},
        {"a b": "x"},
        {"ä": "x"},
        {"-a": "x"},
        {"a" * 65: "x"},
        {"a": "new\nline"},
        {"a": "\ud800"},
        {"a": "x" * 8192},
        {f"{number}": "" for number in range(65)},
    ],
)
def test_malformed_metadata_is_refused(depot: Depot, metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        depot.put("k", b"", about=Description(metadata=metadata))


def test_metadata_is_taken_up_to_its_bounds(depot: Depot) -> None:
    full = {f"{number}": "" for number in range(64)}
    assert dict(depot.put("k", b"", about=Description(metadata=full)).metadata) == full
    large = {"a": "ä" * 4095 + "x"}
    assert dict(depot.put("k", b"", about=Description(metadata=large)).metadata) == large
    with pytest.raises(InvalidError):
        depot.put("k", b"", about=Description(metadata={"a": "ä" * 4096}))


@pytest.mark.parametrize("size_bytes", [0, 10, MIB])
def test_bytes_that_are_not_the_promised_ones_are_refused(depot: Depot, size_bytes: int) -> None:
    data, other = make(size_bytes), Digest.of(b"other")
    with pytest.raises(DigestMismatchError) as caught:
        depot.put("k", data, about=Description(digest=other))
    assert (caught.value.expected, caught.value.actual) == (str(other), str(Digest.of(data)))
    with pytest.raises(DigestMismatchError):
        depot.content.put(data, digest=other)
    assert depot.list().entries == []
    assert stored_bytes(depot) == 0
    assert depot.put("k", data, about=Description(digest=Digest.of(data))).size_bytes == size_bytes


@pytest.mark.parametrize("limit", [10, 300 * KIB, MIB])
def test_the_exact_limit_is_accepted_and_one_more_refused(tmp_path: Path, limit: int) -> None:
    with open_depot(tmp_path / "store", Limits(limit, limit + 5)) as depot:
        assert depot.put("k", make(limit)).size_bytes == limit
        assert depot.put("k", iter([make(limit), b""])).size_bytes == limit
        assert depot.content.stat(depot.content.put(make(limit + 5))) == limit + 5
        for wrong in (make(limit + 1), iter([make(limit), b"x"]), io.BytesIO(make(limit + 1))):
            with pytest.raises(TooLargeError) as caught:
                depot.put("k", wrong)
            assert (caught.value.limit, caught.value.unit) == (limit, "bytes")
        with pytest.raises(TooLargeError):
            depot.content.put(make(limit + 6))
        assert depot.get("k") == make(limit)
        with pytest.raises(TooLargeError):
            depot.upload("k", size_bytes=limit + 1)
        assert list((tmp_path / "store" / "files" / "tmp").iterdir()) == []


# Conditions.


def test_create_only_creates_only(depot: Depot) -> None:
    depot.put("k", b"1", when=CREATE_ONLY)
    for data in (b"1", b"2", make(MIB)):
        with pytest.raises(PreconditionError) as caught:
            depot.put("k", data, when=CREATE_ONLY)
        assert caught.value.facts["etag"] == depot.head("k").etag
    assert depot.get("k") == b"1"
    depot.delete("k")
    depot.put("k", b"3", when=CREATE_ONLY)


def test_a_match_replaces_only_what_was_seen(depot: Depot) -> None:
    first = depot.put("k", b"1")
    second = depot.put("k", b"2", when=matches(first.etag))
    for stale in (matches(first.etag), matches(f"W/{second.etag}"), matches('"x"')):
        with pytest.raises(PreconditionError):
            depot.put("k", b"3", when=stale)
        with pytest.raises(PreconditionError):
            depot.delete("k", when=stale)
    depot.put("k", b"3", when=matches(f'"x", {second.etag}'))
    assert depot.delete("k", when=matches("*"))
    for verb in (
        lambda: depot.put("k", b"", when=matches("*")),
        lambda: depot.delete("k", when=matches("*")),
    ):
        with pytest.raises(PreconditionError):
            verb()
    assert depot.list().entries == []


def test_a_date_in_the_past_does_not_match(depot: Depot) -> None:
    depot.put("k", b"1")
    past = Conditions(if_unmodified_since="Mon, 01 Jan 2001 00:00:00 GMT")
    with pytest.raises(PreconditionError):
        depot.put("k", b"2", when=past)
    depot.put("new", b"2", when=past)


def test_conditions_of_a_copy_speak_of_the_target(depot: Depot) -> None:
    depot.put("a", b"1")
    depot.put("b", b"2")
    for verb in (depot.copy, depot.move):
        with pytest.raises(PreconditionError):
            verb("a", "b", when=CREATE_ONLY)
        with pytest.raises(PreconditionError):
            verb("a", "b", when=matches(depot.head("a").etag))
    assert depot.move("a", "b", when=matches(depot.head("b").etag)).version == 1
    assert depot.get("b") == b"1"


# Names that come and go.


def test_versions_count_and_creation_stays(depot: Depot) -> None:
    first = depot.put("k", b"0")
    for number in range(1, 5):
        entry = depot.put("k", b"%d" % (number // 2))
        assert entry.version == number
        assert entry.created_us == first.created_us <= entry.modified_us
    assert depot.copy("k", "k").version == 5
    depot.delete("k")
    assert depot.put("k", b"0").version == 0


def test_deleting_tells_whether_it_was_there(depot: Depot) -> None:
    depot.put("k", b"")
    assert [depot.delete("k"), depot.delete("k"), depot.delete("never")] == [True, False, False]
    with pytest.raises(NotFoundError):
        depot.head("k")


def test_a_copy_moves_no_bytes_and_lives_on_its_own(depot: Depot) -> None:
    depot.put("a", make(MIB), about=Description("x/y", {"m": "1"}))
    copy = depot.copy("a", "b", to_bucket="other")
    assert (copy.bucket, copy.key, copy.version) == ("other", "b", 0)
    assert (copy.content_type, dict(copy.metadata)) == ("x/y", {"m": "1"})
    assert stored_bytes(depot) == MIB
    depot.delete("a")
    assert depot.bucket("other").get("b") == make(MIB)


def test_a_move_onto_itself_loses_nothing(depot: Depot) -> None:
    depot.put("k", b"data")
    assert depot.move("k", "k").version == 1
    assert depot.copy("k", "k").version == 2
    assert depot.get("k") == b"data"
    assert depot.stats().entries == 1


def test_a_missing_source_is_not_found(depot: Depot) -> None:
    depot.put("target", b"")
    for verb in (depot.copy, depot.move):
        with pytest.raises(NotFoundError):
            verb("missing", "target")
        with pytest.raises(NotFoundError):
            verb("missing", "missing")
    assert depot.get("target") == b""


def test_stats_follow_every_change(depot: Depot) -> None:
    def stats() -> tuple[int, int]:
        found = depot.stats()
        return found.entries, found.entry_bytes

    assert stats() == (0, 0)
    depot.put("a", make(100))
    depot.put("b", make(100))
    assert stats() == (2, 200)
    depot.put("a", make(300))
    depot.copy("a", "c", to_bucket="other")
    assert stats() == (3, 700)
    depot.move("b", "c", to_bucket="other")
    assert stats() == (2, 400)
    depot.delete("a")
    depot.delete("a")
    depot.content.put(b"no entry")
    assert stats() == (1, 100)
    before = depot.stats().revision
    depot.put("a", b"")
    assert depot.stats().revision == before + 1


# Listing.


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_bounds_is_refused(depot: Depot, limit: int) -> None:
    with pytest.raises(InvalidError):
        depot.list(limit=limit)
    with pytest.raises(InvalidError):
        depot.content.list(limit=limit)


@pytest.mark.parametrize("cursor", ["!", "a", "\ud800", "ü", "AAAA\n", "=" * 4])
def test_a_cursor_that_is_none_of_ours_is_refused(depot: Depot, cursor: str) -> None:
    depot.put("k", b"")
    with pytest.raises(InvalidError):
        depot.list(cursor=cursor)
    with pytest.raises(InvalidError):
        depot.content.list(cursor=cursor)


def test_a_prefix_that_is_no_text_is_refused(depot: Depot) -> None:
    with pytest.raises(InvalidError):
        depot.list(prefix="\ud800")
    with pytest.raises(InvalidError):
        depot.list(delimiter="a\ud800")
    assert depot.list(prefix="p" * 5000, delimiter="d" * 5000).entries == []


def test_pages_are_full_over_deleted_names_and_crowded_prefixes(depot: Depot) -> None:
    for number in range(300):
        depot.put(f"crowd/{number:03d}", b"")
        depot.put(f"{number:03d}", b"")
    for number in range(0, 300, 3):
        depot.delete(f"{number:03d}")
    page = depot.list(limit=100)
    assert len(page.entries) == 100
    page = depot.list(limit=200, delimiter="/")
    assert (len(page.entries), page.prefixes) == (200, [])
    assert page.next is not None
    page = depot.list(limit=200, delimiter="/", cursor=page.next)
    assert (page.entries, page.prefixes, page.next) == ([], ["crowd/"], None)
    assert len(list(depot.entries())) == 500
    assert len(list(depot.entries("crowd/1"))) == 100


def test_a_page_may_be_asked_for_again_and_after_changes(depot: Depot) -> None:
    for number in range(10):
        depot.put(f"{number}", b"")
    first = depot.list(limit=4)
    again = depot.list(limit=4)
    assert first == again
    depot.delete("3")
    depot.delete("4")
    depot.put("35", b"")
    rest = depot.list(limit=100, cursor=first.next)
    assert [entry.key for entry in rest.entries] == ["35", "5", "6", "7", "8", "9"]


def test_a_thousand_and_one_names_are_two_pages(depot: Depot) -> None:
    begun = [depot.upload(f"{number:04d}") for number in range(1001)]
    for pending in [upload.finish() for upload in begun]:
        pending.result()
    page = depot.list(limit=1000)
    assert len(page.entries) == 1000
    assert [entry.key for entry in depot.list(cursor=page.next).entries] == ["1000"]


# The content face.


@pytest.mark.parametrize("size_bytes", SIZES)
def test_content_is_kept_by_its_digest(depot: Depot, size_bytes: int) -> None:
    data = make(size_bytes)
    digest = depot.content.put(data)
    assert digest == depot.content.put(iter([data])) == Digest.of(data)
    assert depot.content.get(digest) == data
    assert depot.content.stat(digest) == size_bytes
    assert depot.content.get(digest, Span(0, 5)) == data[:5]
    with depot.content.open(digest) as file:
        assert file.read() == data
    depot.content.delete(digest)
    depot.content.delete(digest)
    for verb in (depot.content.get, depot.content.stat, depot.content.open):
        with pytest.raises(NotFoundError):
            verb(digest)


def test_bytes_live_while_either_face_holds_them(depot: Depot) -> None:
    digest = depot.content.put(b"data")
    depot.put("k", b"data")
    depot.bucket("other").put("k", b"data")
    depot.content.delete(digest)
    assert depot.content.get(digest) == b"data"
    assert not depot.content.holds(digest)
    depot.delete("k")
    assert depot.content.list().digests == [digest]
    depot.content.put(b"data")
    depot.bucket("other").delete("k")
    assert depot.content.holds(digest)
    assert depot.content.get(digest) == b"data"
    depot.content.delete(digest)
    assert depot.content.list().digests == []
    with pytest.raises(NotFoundError):
        depot.content.get(digest)


def test_an_entry_whose_bytes_are_gone_is_corrupt_and_not_missing(depot: Depot) -> None:
    entry = depot.put("k", b"data")
    depot.engine.store.remove([entry.digest])
    with pytest.raises(CorruptError):
        depot.get("k")
    with pytest.raises(CorruptError):
        depot.content.get(entry.digest)
    depot.put("k2", b"data")
    assert depot.get("k") == b"data"


# Opening and closing.


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    with holdfast.open(tmp_path) as store:
        store.put("k", b"")
        with pytest.raises(UnavailableError, match="in use"):
            holdfast.open(tmp_path)
    holdfast.open(f"file://{tmp_path}").close()


def test_a_failed_opening_keeps_no_lock(tmp_path: Path) -> None:
    holdfast.open(tmp_path / "store").close()
    files = tmp_path / "store" / "files"
    files.rename(tmp_path / "elsewhere")
    files.write_bytes(b"not a folder")
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"^(?!.*in use)"):
            holdfast.open(tmp_path / "store")
    files.unlink()
    (tmp_path / "elsewhere").rename(files)
    holdfast.open(tmp_path / "store").close()


def test_a_closed_depot_says_so(depot: Depot, tmp_path: Path) -> None:
    with open_depot(tmp_path / "closed") as closed:
        closed.put("k", b"data")
        views = [closed, closed.bucket("other")]
    closed.close()
    verbs: list[Callable[[Depot], object]] = [
        lambda view: view.get("k"),
        lambda view: view.put("k", b""),
        lambda view: view.put("k", make(MIB)),
        lambda view: view.delete("k"),
        lambda view: view.list(),
        lambda view: view.stats(),
        lambda view: view.content.list(),
        lambda view: view.content.put(b""),
    ]
    for view, verb in itertools.product(views, verbs):
        with pytest.raises(UnavailableError, match="closed"):
            verb(view)
