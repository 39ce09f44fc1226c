"""The verbs of the command line, on a folder and on a server."""

import json
import shutil
from pathlib import Path

import pytest
from result import Holdfast

from holdfast.core.digest import Digest

DATA = Path(__file__).parents[1] / "data"
PHOTO = DATA / "grace_hopper.jpg"
PHOTO_BYTES = PHOTO.read_bytes()
PHOTO_DIGEST = Digest.of(PHOTO_BYTES)


def names(folder: str | Path = ".") -> list[str]:
    return sorted(one.name for one in Path(folder).iterdir())


def test_a_photograph_makes_the_round(store: str, holdfast: Holdfast) -> None:
    put = holdfast("put", PHOTO)
    assert put.lines == [f"{PHOTO_DIGEST}   59.9 KiB  grace_hopper.jpg"]
    assert holdfast("ls").lines == ["grace_hopper.jpg"]
    assert holdfast("get", "grace_hopper.jpg").code == 0
    assert Path("grace_hopper.jpg").read_bytes() == PHOTO_BYTES
    assert names() == ["grace_hopper.jpg"]
    assert holdfast("cat", "grace_hopper.jpg").out == PHOTO_BYTES
    assert "image/jpeg" in holdfast("stat", "grace_hopper.jpg").out.decode()
    assert holdfast("rm", "grace_hopper.jpg").code == 0
    gone = holdfast("get", "grace_hopper.jpg", "again.jpg")
    assert (gone.code, gone.out) == (3, b"")
    assert "grace_hopper.jpg: no such key" in gone.err
    assert names() == ["grace_hopper.jpg"]


def test_stdin_and_stdout_are_files_too(store: str, holdfast: Holdfast) -> None:
    assert holdfast("put", "-", "notes/a.txt", stdin=b"from a pipe").code == 0
    assert holdfast("get", "notes/a.txt", "-").out == b"from a pipe"
    nameless = holdfast("put", "-", stdin=b"x")
    assert (nameless.code, "stdin has no name" in nameless.err) == (2, True)


def test_all_that_is_said_of_a_blob_is_kept(store: str, holdfast: Holdfast) -> None:
    said = ("-m", "place=Zürich, CH", "-m", "n=1=2", "-t", "image/x-odd")
    entry = json.loads(holdfast("put", PHOTO, "k", *said, "--json").out)
    assert entry["metadata"] == {"place": "Zürich, CH", "n": "1=2"}
    assert (entry["content_type"], entry["digest"]) == ("image/x-odd", str(PHOTO_DIGEST))
    described = json.loads(holdfast("stat", "k", "--json").out)
    assert described == entry | {"verified_at": None}
    assert ["verified", "not", "yet"] in [line.split() for line in holdfast("stat", "k").lines]
    assert holdfast("put", PHOTO, "-m", "novalue").code == 2


def test_nothing_is_replaced_against_a_condition(store: str, holdfast: Holdfast) -> None:
    first = holdfast("put", "-", "k", "-n", stdin=b"1").lines[0].split()[0]
    assert holdfast("put", "-", "k", "-n", stdin=b"2").code == 4
    assert holdfast("put", "-", "k", "--if-match", first, stdin=b"2").code == 0
    assert holdfast("put", "-", "k", "--if-match", first, stdin=b"3").code == 4
    assert holdfast("put", "-", "k", "--digest", first, stdin=b"3").code == 5
    assert holdfast("cp", "k", "k", "-n").code == 4
    assert holdfast("cat", "k").out == b"2"


def test_a_blob_has_the_name_of_its_bytes(store: str, holdfast: Holdfast) -> None:
    name = str(PHOTO_DIGEST)
    assert holdfast("put", "--by-hash", PHOTO).lines == [name]
    assert holdfast("put", PHOTO, name).lines == [name]
    assert json.loads(holdfast("put", PHOTO, name, "--json").out) == {"digest": name}
    assert holdfast("put", DATA / "astronaut.png", name).code == 5
    assert holdfast("ls").lines == []
    assert name in holdfast("ls", "--hashes").lines
    assert holdfast("cat", name).out == PHOTO_BYTES
    assert holdfast("get", name).code == 0
    assert Path(PHOTO_DIGEST.file_name).read_bytes() == PHOTO_BYTES
    assert PHOTO_DIGEST.cid in holdfast("stat", name).out.decode()
    assert json.loads(holdfast("stat", name, "--json").out)["size_bytes"] == len(PHOTO_BYTES)
    assert holdfast("rm", name).code == 0


def test_a_key_that_looks_like_a_digest_is_written_with_key(store: str, holdfast: Holdfast) -> None:
    name = f"sha256:{'0' * 64}"
    assert holdfast("put", PHOTO, f"key:{name}").code == 0
    assert holdfast("ls").lines == [name]
    assert holdfast("cat", f"key:{name}").out == PHOTO_BYTES
    assert holdfast("cat", name).code == 3
    assert holdfast("mv", name, "x").code == 2
    assert holdfast("mv", f"key:{name}", "key:key:x").code == 0
    assert holdfast("ls").lines == ["key:x"]


def test_a_folder_is_stored_with_all_that_is_in_it(store: str, holdfast: Holdfast) -> None:
    shutil.copytree(DATA, "tree/deep")
    Path("tree/empty.txt").touch()
    Path("tree/gone").symlink_to("nowhere")
    put = holdfast("put", "-r", "tree", "2026/")
    assert put.code == 0
    assert "skipped: tree/gone" in put.err
    files = [path for path in Path("tree").rglob("*") if path.is_file()]
    keys = sorted(f"2026/{path.relative_to('tree')}" for path in files)
    assert holdfast("ls").lines == keys
    assert holdfast("ls", "-d", "/").lines == ["2026/"]
    assert holdfast("ls", "2026/", "-d", "/").lines == ["2026/deep/", "2026/empty.txt"]
    assert holdfast("ls", "--limit", "1").lines == keys[:1]
    assert len(holdfast("ls", "-l").lines) == len(keys)
    found = [json.loads(line) for line in holdfast("ls", "--json", "2026/", "-d", "/").lines]
    assert found[0] == {"prefix": "2026/deep/"}
    assert found[1]["size_bytes"] == 0
    assert holdfast("put", "tree").code == 2
    assert holdfast("put", "-r", PHOTO).code == 2


@pytest.mark.parametrize(
    ("part", "expected"),
    [("0-3", b"0123"), ("7-", b"789"), ("-2", b"89"), ("8-99", b"89"), ("0-9", b"0123456789")],
)
def test_a_part_is_written(store: str, holdfast: Holdfast, part: str, expected: bytes) -> None:
    holdfast("put", "-", "k", stdin=b"0123456789")
    assert holdfast("cat", "k", f"--range={part}").out == expected


@pytest.mark.parametrize("part", ["10-12", "x", "3-1", "1-2,4-5", ""])
def test_other_parts_are_refused(store: str, holdfast: Holdfast, part: str) -> None:
    holdfast("put", "-", "k", stdin=b"0123456789")
    assert holdfast("cat", "k", "--range", part)[:2] == (2, b"")


def test_keys_are_copied_moved_and_removed(store: str, holdfast: Holdfast) -> None:
    holdfast("put", PHOTO, "a")
    assert holdfast("cp", "a", "b").lines[0].endswith("  b")
    assert holdfast("mv", "a", "c").code == 0
    assert holdfast("cp", "c", "d", "--to-bucket", "elsewhere").code == 0
    assert holdfast("ls").lines == ["b", "c"]
    assert "d" in holdfast("ls", "-b", "elsewhere").lines
    assert holdfast("cp", "absent", "x").code == 3
    missing = holdfast("rm", "b", "absent", "c")
    assert (missing.code, missing.err) == (3, "holdfast: absent: no such key\n")
    assert holdfast("rm", "-f", "absent").code == 0
    assert holdfast("ls").lines == []


def test_all_that_can_be_removed_is(store: str, holdfast: Holdfast) -> None:
    for number in range(3):
        holdfast("put", "-", f"k{number}", stdin=b"%d" % number)
    digest = holdfast("put", "--by-hash", "-", stdin=b"of this test alone").lines[0]
    mixed = holdfast("rm", "k0", "absent", "bad\tkey", digest, "k1", digest, "k2")
    assert mixed.code == 2
    assert [line.split(": ")[1] for line in mixed.err.splitlines()] == ["absent", "bad\tkey"]
    assert holdfast("ls").lines == []
    assert holdfast("cat", digest).code == 3


def test_a_folder_of_many_files_is_stored_in_order(store: str, holdfast: Holdfast) -> None:
    Path("many").mkdir()
    for number in range(600):
        Path(f"many/{number:03}").write_text(str(number))
    Path("many/large").write_bytes(bytes(1_000_000))
    put = holdfast("put", "-r", "many", "m/", "--json", "-n", "-m", "by=me")
    entries = [json.loads(line) for line in put.lines]
    assert [entry["key"] for entry in entries] == [f"m/{n:03}" for n in range(600)] + ["m/large"]
    assert {entry["metadata"]["by"] for entry in entries} == {"me"}
    again = holdfast("put", "-r", "many", "m/", "-n")
    assert (again.code, again.out) == (4, b"")
    assert holdfast("cat", "m/599").out == b"599"
    assert holdfast("rm", *(entry["key"] for entry in entries)).code == 0
    assert holdfast("ls").lines == []


def test_the_store_says_how_much_it_holds(store: str, holdfast: Holdfast) -> None:
    holdfast("put", PHOTO)
    numbers = json.loads(holdfast("stats", "--json").out)
    assert numbers["entries"] >= 1
    assert f"{numbers['entries']:,}" in holdfast("stats").out.decode()


def test_a_file_is_replaced_whole_and_never_left_half(store: str, holdfast: Holdfast) -> None:
    holdfast("put", PHOTO, "photos/p.jpg")
    Path("into").mkdir()
    assert holdfast("get", "photos/p.jpg", "into").code == 0
    target = Path("into/p.jpg")
    target.write_bytes(b"old")
    assert json.loads(holdfast("get", "photos/p.jpg", target, "--json").out) == {
        "file": "into/p.jpg",
        "size_bytes": len(PHOTO_BYTES),
    }
    assert target.read_bytes() == PHOTO_BYTES
    assert names("into") == ["p.jpg"]
    assert holdfast("get", "photos/p.jpg", "nowhere/p.jpg").code == 1


@pytest.mark.parametrize("key", ["a/..", "a/", "."])
def test_a_key_that_names_no_file_needs_one(store: str, holdfast: Holdfast, key: str) -> None:
    holdfast("put", PHOTO, key)
    assert holdfast("get", key).code == 2
    assert holdfast("get", key, "f").code == 0
    assert Path("f").read_bytes() == PHOTO_BYTES


def test_errors_are_json_on_demand(store: str, holdfast: Holdfast) -> None:
    holdfast("put", PHOTO)
    failed = holdfast("stat", "absent", "--json")
    assert (failed.code, failed.out) == (3, b"")
    assert json.loads(failed.err)["error"]["code"] == "not_found"


def test_reading_makes_no_store(tmp_path: Path, holdfast: Holdfast) -> None:
    assert holdfast("ls", "-s", tmp_path / "typo").code == 3
    assert holdfast("ls", "-s", f"file://{tmp_path}/typo").code == 3
    assert names(tmp_path) == []


def test_a_server_that_is_not_there_has_its_code(holdfast: Holdfast) -> None:
    refused = holdfast("ls", "-s", "http://127.0.0.1:1")
    assert (refused.code, "does not answer" in refused.err) == (7, True)


@pytest.mark.parametrize("where", ["ftp://x", "http://", "s3://bucket"])
def test_a_store_of_another_kind_is_refused(holdfast: Holdfast, where: str) -> None:
    assert holdfast("ls", "-s", where).code == 2
