"""One suite for every way to a bucket: in this process or over HTTP, blocking or awaited."""

import asyncio
import hashlib
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from awaited import Awaited, Loop
from ways import LIMIT

import holdfast
from holdfast.aio import AsyncBucket
from holdfast.client import AsyncClient, Client, ClientOptions
from holdfast.core.bucket import CREATE_ONLY, Description, matches
from holdfast.core.digest import Digest
from holdfast.core.errors import (
    DigestMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionError,
    TooLargeError,
    UnsatisfiableError,
)
from holdfast.core.store import Span

IMAGES = sorted((Path(__file__).parents[1] / "data").glob("*.*g"))
BIG = hashlib.shake_128(b"big").digest(9_000_001)  # over the sizes at which paths change
KEYS = [
    *("plain", "a/b", "../x", "/lead", "a//b", "trail/", "x/metadata", "a/./b", ".", ".."),
    *("ü 100%?#&", "u\u0308", "a+b;c=d,e", "sha256:x", "k" * 1024, "\U0001f4f7/'\"<>\\"),
]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_a_photograph_comes_back(bucket: Any, image: Path) -> None:
    entry = bucket.put("photo", image)
    assert entry.digest == Digest.of(image.read_bytes())
    assert entry.content_type == f"image/{image.suffix[1:].replace('jpg', 'jpeg')}"
    assert bucket.get("photo") == image.read_bytes()
    assert bucket.head("photo") == entry


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_its_own(bucket: Any, key: str) -> None:
    entry = bucket.put(key, key.encode(), about=Description("text/plain", {"n": "Zürich, 100%"}))
    assert (entry.key, entry.bucket, entry.metadata) == (key, bucket.name, {"n": "Zürich, 100%"})
    assert bucket.get(key) == key.encode()
    assert bucket.head(key) == entry
    assert [one.key for one in bucket.entries()] == [key]
    assert bucket.delete(key) is True


@pytest.mark.parametrize("key", ["", "k" * 1025, "a\nb", "a\x00", "\udcff"])
def test_other_keys_are_refused(bucket: Any, key: str) -> None:
    for verb in (bucket.get, bucket.open, bucket.head, bucket.delete):
        with pytest.raises(InvalidError):
            verb(key)
    with pytest.raises(InvalidError):
        bucket.put(key, b"x")


@pytest.mark.parametrize("name", ["", "A", ".x", "a/b", "..", "x" * 64])
def test_other_buckets_are_refused(bucket: Any, name: str) -> None:
    with pytest.raises(InvalidError):
        bucket.bucket(name)


@pytest.mark.parametrize("size", [0, 1, 300_000, len(BIG)])
def test_all_forms_of_data_are_stored(bucket: Any, tmp_path: Path, size: int) -> None:
    data = BIG[:size]
    path = tmp_path / "file"
    path.write_bytes(b"skip" + data)
    with path.open("rb") as file:
        file.seek(4)
        reader, writer = os.pipe()
        feeder = threading.Thread(target=_feed, args=(writer, data))
        feeder.start()
        with os.fdopen(reader, "rb") as pipe:
            chunks = (data[at : at + 70_000] for at in range(0, size, 70_000))
            forms = [data, bytearray(data), memoryview(data), io.BytesIO(data), file, pipe]
            for form in [*forms, chunks, iter([b"", data, b""])]:
                assert bucket.put("k", form).digest == Digest.of(data)
                assert bucket.head("k").size_bytes == size
        feeder.join()
    assert bucket.get("k") == data


def _feed(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(data)


def test_text_is_no_data(bucket: Any) -> None:
    with pytest.raises((TypeError, InvalidError)):
        bucket.put("k", "text")


def test_a_path_that_is_not_there_is_refused(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidError):
        bucket.put("k", tmp_path / "absent")


def test_a_source_that_fails_stores_nothing(bucket: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        bucket.put("k", broken())
    with pytest.raises(NotFoundError):
        bucket.head("k")


def test_parts_are_read_and_clamped(bucket: Any) -> None:
    bucket.put("k", b"0123456789")
    spans = {(0, 3): b"012", (7, 99): b"789", (0, 0): b"", (5, 0): b"", (10, 4): b"", (9, 1): b"9"}
    for (offset, size), expected in spans.items():
        assert bucket.get("k", Span(offset, size)) == expected
    with pytest.raises(UnsatisfiableError) as caught:
        bucket.get("k", Span(11, 1))
    assert caught.value.size_bytes == 10


def test_an_empty_blob_has_only_its_beginning(bucket: Any) -> None:
    bucket.put("k", b"")
    assert bucket.get("k") == b""
    assert bucket.get("k", Span(0, 5)) == b""
    with pytest.raises(UnsatisfiableError):
        bucket.get("k", Span(1, 1))
    with bucket.open("k") as file:
        assert file.read() == b""


def test_an_open_blob_is_a_seekable_file(bucket: Any) -> None:
    bucket.put("k", BIG)
    with bucket.open("k") as file:
        assert file.read(5) == BIG[:5]
        assert file.seek(-7, io.SEEK_END) == len(BIG) - 7
        assert file.read() == BIG[-7:]
        assert file.read(1) == b""
        assert file.seek(3_000_000) == 3_000_000
        assert file.read(10) == BIG[3_000_000:3_000_010]
        assert file.seek(100, io.SEEK_CUR) == 3_000_110
        assert file.read(2_000_000) == BIG[3_000_110:5_000_110]
        file.seek(len(BIG) + 5)
        assert file.read(1) == b""
        file.seek(0)
        assert file.read() == BIG
        with pytest.raises(ValueError, match=r".*"):
            file.seek(-1)


def test_what_is_not_there_is_not_found(bucket: Any) -> None:
    for verb in (bucket.get, bucket.open, bucket.head):
        with pytest.raises(NotFoundError):
            verb("absent")
    with pytest.raises(NotFoundError):
        bucket.copy("absent", "x")
    with pytest.raises(NotFoundError):
        bucket.move("absent", "x")
    assert bucket.delete("absent") is False
    assert list(bucket.entries()) == []


def test_conditions_hold_or_nothing_changes(bucket: Any) -> None:
    first = bucket.put("k", b"1", when=CREATE_ONLY)
    with pytest.raises(PreconditionError):
        bucket.put("k", b"2", when=CREATE_ONLY)
    second = bucket.put("k", b"2", when=matches(first.etag))
    assert second.version == first.version + 1
    for verb in (bucket.put, lambda key, _, when: bucket.delete(key, when=when)):
        with pytest.raises(PreconditionError):
            verb("k", b"3", when=matches(first.etag))
    with pytest.raises(PreconditionError):
        bucket.copy("k", "k", when=CREATE_ONLY)
    assert bucket.get("k") == b"2"
    assert bucket.delete("k", when=matches(second.etag)) is True


def test_a_promised_digest_is_kept(bucket: Any) -> None:
    about = Description(digest=Digest.of(b"right"))
    assert bucket.put("k", b"right", about=about).digest == Digest.of(b"right")
    for wrong in (b"wrong", iter([b"wrong"]), io.BytesIO(b"wrong")):
        with pytest.raises(DigestMismatchError) as caught:
            bucket.put("k", wrong, about=about)
        assert caught.value.expected == str(Digest.of(b"right"))
        assert caught.value.actual == str(Digest.of(b"wrong"))
    assert bucket.get("k") == b"right"


def test_copies_and_moves_keep_bytes_type_and_metadata(bucket: Any) -> None:
    entry = bucket.put("a", b"x", about=Description("text/odd", {"m": "1"}))
    other = bucket.bucket(bucket.name + "-other")
    copied = bucket.copy("a", "b/c", to_bucket=other.name)
    moved = bucket.move("a", "d ?")
    assert other.head("b/c") == copied
    for one in (copied, moved):
        assert (one.digest, one.content_type, one.metadata) == (
            entry.digest,
            entry.content_type,
            entry.metadata,
        )
    assert [one.key for one in bucket.entries()] == ["d ?"]
    assert bucket.get("d ?") == other.get("b/c") == b"x"


def test_listings_page_fold_and_end(bucket: Any) -> None:
    keys = sorted([f"{a}/{b}" for a in "abc" for b in range(4)] + ["top", "ü"], key=str.encode)
    for key in keys:
        bucket.put(key, b"x")
    assert [one.key for one in bucket.entries()] == keys
    assert [one.key for one in bucket.entries("b/")] == [f"b/{n}" for n in range(4)]
    found, cursor = [], None
    while True:
        page = bucket.list(delimiter="/", cursor=cursor, limit=2)
        found += [one.key for one in page.entries] + page.prefixes
        cursor = page.next
        if cursor is None:
            break
        assert len(page.entries) + len(page.prefixes) == 2
    assert sorted(found, key=str.encode) == ["a/", "b/", "c/", "top", "ü"]
    with pytest.raises(InvalidError):
        bucket.list(limit=0)
    with pytest.raises(InvalidError):
        bucket.list(cursor="nonsense?")


@pytest.mark.parametrize("size_bytes", [5, 1_000_000])
def test_a_blob_goes_from_one_store_to_another_by_its_digest(
    bucket: Any, tmp_path: Path, size_bytes: int
) -> None:
    data = hashlib.shake_128(bucket.name.encode()).digest(size_bytes)
    digest = bucket.content.put(data)
    with holdfast.open(tmp_path / "other") as other:
        with bucket.content.open(digest) as file:
            assert other.content.put(file, digest=digest) == digest
        assert other.content.get(digest) == data
        with bucket.content.open(digest) as file, pytest.raises(DigestMismatchError):
            other.content.put(file, digest=Digest.of(b"another"))


@pytest.mark.parametrize("rest", [b"", BIG], ids=["small", "big"])
def test_the_content_face_names_blobs_by_their_bytes(bucket: Any, rest: bytes) -> None:
    content, data = bucket.content, bucket.name.encode() + rest
    digest = Digest.of(data)
    for form in (data, io.BytesIO(data), iter([data[:1], data[1:]])):
        assert content.put(form) == digest
    assert content.put(iter([data]), digest=digest) == digest
    assert content.stat(digest) == len(data)
    assert content.verified_at(digest) is None
    assert content.get(digest) == data
    assert content.get(digest, Span(0, 2)) == data[:2]
    with content.open(digest) as file:
        assert file.read() == data
    assert digest in _all_hashes(content)
    content.delete(digest)
    content.delete(digest)
    for verb in (content.get, content.stat, content.verified_at, content.open):
        with pytest.raises(NotFoundError):
            verb(digest)


def test_the_content_face_refuses_other_bytes(bucket: Any) -> None:
    for data in (b"wrong", iter([b"wrong"])):
        with pytest.raises(DigestMismatchError):
            bucket.content.put(data, digest=Digest.of(b"right"))


def test_a_blob_lives_while_one_name_holds_it(bucket: Any) -> None:
    digest = bucket.put("k", BIG).digest
    assert bucket.content.put(BIG) == digest
    bucket.delete("k")
    assert bucket.content.get(digest) == BIG
    bucket.put("k", BIG)
    bucket.content.delete(digest)
    assert bucket.get("k") == BIG
    bucket.delete("k")


def _all_hashes(content: Any) -> list[Digest]:
    found: list[Digest] = []
    cursor = None
    while True:
        page = content.list(cursor=cursor, limit=1000)
        found += page.digests
        cursor = page.next
        if cursor is None:
            return found


def test_the_counters_count(bucket: Any) -> None:
    before = bucket.stats()
    bucket.put("k", b"12345")
    after = bucket.stats()
    assert after.entries == before.entries + 1
    assert after.entry_bytes == before.entry_bytes + 5
    assert after.revision > before.revision


@pytest.mark.parametrize("way", ["awaited depot", "awaited client"])
def test_chunks_may_come_asynchronously(
    way: str, request: pytest.FixtureRequest, loop: Loop
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "
        yield b""
        yield b"two"

    inner: Any
    if way == "awaited depot":
        inner = AsyncBucket(request.getfixturevalue("depot"), threads=2)
    else:
        inner = AsyncClient(request.getfixturevalue("url"))
    bucket = Awaited(inner, loop)
    assert bucket.put("async", chunks()).digest == Digest.of(b"one two")
    digest = bucket.content.put(chunks())
    assert bucket.content.put(chunks(), digest=digest) == digest
    assert bucket.content.get(digest) == b"one two"
    bucket.content.delete(digest)
    if way == "awaited client":
        bucket.close()


@pytest.mark.parametrize("bucket", ["client", "awaited client"], indirect=True)
@pytest.mark.parametrize("size", [LIMIT + 1, 3 * LIMIT])
def test_a_body_over_the_limit_is_refused_whenever_the_server_says_so(
    bucket: Any, size: int
) -> None:
    data = bytes(size)
    for form in (data, io.BytesIO(data), iter([data[:LIMIT], b"x"])):
        with pytest.raises(TooLargeError) as caught:
            bucket.put("k", form)
        assert caught.value.limit == LIMIT
    with pytest.raises(TooLargeError):
        bucket.content.put(data)
    assert bucket.put("k", data[:LIMIT]).size_bytes == LIMIT


class Restless(io.BytesIO):
    """A file that has another size once it is read."""

    size_then = 0

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() == 0:
            self.seek(0, io.SEEK_END)
            self.write(b"x")
            self.truncate(self.size_then)
            self.seek(0)
        return super().read(size)


@pytest.mark.parametrize("bucket", ["client", "awaited client"], indirect=True)
@pytest.mark.parametrize("step", [-1, 1])
def test_a_file_that_changes_while_it_is_sent_stores_nothing(bucket: Any, step: int) -> None:
    file = Restless(BIG)
    file.size_then = len(BIG) + step
    with pytest.raises(InvalidError, match="keeps its size"):
        bucket.put("k", file)
    with pytest.raises(NotFoundError):
        bucket.head("k")


def test_progress_ends_with_the_whole(url: str) -> None:
    seen: list[tuple[int, int | None]] = []
    options = ClientOptions(progress=lambda done, total: seen.append((done, total)))
    with Client(url, options=options) as client:
        client.put("progress", BIG)
        assert seen[-1] == (len(BIG), len(BIG))
        seen.clear()
        client.put("progress", iter([BIG[:10], BIG[10:]]))
        assert seen == [(10, None), (len(BIG), None)]
        seen.clear()
        client.get("progress")
        assert seen[-1] == (len(BIG), len(BIG))
        seen.clear()
        with client.open("progress") as file:
            file.read()
        assert seen[-1] == (len(BIG), len(BIG))
        client.delete("progress")


def test_a_thousand_requests_share_a_hundred_connections(url: str, loop: Loop) -> None:
    async def crowd() -> int:
        async with AsyncClient(url) as client:
            bucket = client.bucket("crowd")
            await asyncio.gather(*[bucket.put(f"{n}", b"%d" % n) for n in range(1000)])
            return len([entry async for entry in bucket.entries()])

    assert loop.wait(crowd()) == 1000
