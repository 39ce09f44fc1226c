"""Verbs for many things at once, on every way to a bucket; the fixtures are those of one thing."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.core import limits
from holdfast.core.bucket import CREATE_ONLY, Description, Item
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry
from holdfast.core.errors import (
    DigestMismatchError,
    InvalidError,
    NotFoundError,
    PreconditionError,
)

LARGE = bytes(range(256)) * 5000
GOOD = {"small": b"1", "empty": b"", "ü 100%?#&": b"odd", "large": LARGE, "x/metadata": b"5"}
BAD = ["", "k" * 1025, "a\nb", "\udcff"]
absent = (Digest.of(b"absent %d" % number) for number in itertools.count())


def kinds(outcomes: Any) -> list[type]:
    return [type(each) for each in outcomes]


def test_many_things_are_stored_and_read_in_order(bucket: Any) -> None:
    stored = bucket.put_many(GOOD.items())
    assert [entry.key for entry in stored] == list(GOOD)
    assert [entry.digest for entry in stored] == [Digest.of(data) for data in GOOD.values()]
    wanted = [*GOOD, *reversed(GOOD), "small"]
    assert list(bucket.get_many(wanted)) == [GOOD[key] for key in wanted]
    heads = dict(zip(GOOD, stored, strict=True))
    assert list(bucket.head_many(wanted)) == [heads[key] for key in wanted]
    assert list(bucket.delete_many(["small", "absent", "small"])) == [True, False, False]
    assert kinds(bucket.get_many(["small", "large"])) == [NotFoundError, bytes]


def test_all_forms_of_data_are_stored_together(bucket: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    forms = [b"b", bytearray(b"a"), memoryview(b"m"), io.BytesIO(LARGE), path, iter([b"i", b"t"])]
    stored = bucket.put_many((f"k{at}", form) for at, form in enumerate(forms))
    assert kinds(stored) == [Entry] * len(forms)
    read = list(bucket.get_many(f"k{at}" for at in range(len(forms))))
    assert read == [b"b", b"a", b"m", LARGE, LARGE, b"it"]


def test_each_thing_may_have_its_own_description_and_conditions(bucket: Any) -> None:
    bucket.put("taken", b"x")
    stored = bucket.put_many(
        [
            Item("typed", b"1", Description("text/odd", {"by": "me"})),
            Item("taken", b"2", when=CREATE_ONLY),
            Item("promised", b"3", Description(digest=Digest.of(b"4"))),
            ("plain", b"5"),
        ]
    )
    assert kinds(stored) == [Entry, PreconditionError, DigestMismatchError, Entry]
    assert (stored[0].content_type, stored[0].metadata) == ("text/odd", {"by": "me"})
    assert list(bucket.get_many(["taken", "plain"])) == [b"x", b"5"]


def test_errors_are_values_in_their_places(bucket: Any, tmp_path: Path) -> None:
    keys = ["absent", *BAD, "small"]
    missing = tmp_path / "absent"
    stored = bucket.put_many([("small", b"1"), *((key, b"x") for key in BAD), ("gone", missing)])
    assert kinds(stored) == [Entry, *[InvalidError] * (len(BAD) + 1)]
    for verb, last in ((bucket.get_many, b"1"), (bucket.head_many, stored[0])):
        outcomes = list(verb(keys))
        assert kinds(outcomes[:-1]) == [NotFoundError, *[InvalidError] * len(BAD)]
        assert outcomes[-1] == last
    deleted = list(bucket.delete_many(keys))
    assert [deleted[0], deleted[-1]] == [False, True]
    assert kinds(deleted[1:-1]) == [InvalidError] * len(BAD)


def test_nothing_is_something_too(bucket: Any) -> None:
    for verb in (bucket.put_many, bucket.get_many, bucket.head_many, bucket.delete_many):
        assert list(verb([])) == []
    content = bucket.content
    for verb in (content.put_many, content.get_many, content.stat_many, content.delete_many):
        assert list(verb([])) == []
    assert list(content.missing([])) == []


def test_more_than_fits_one_request_is_several(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_REFS_MAX", 7)
    keys = [f"k{number:03}" for number in range(50)]
    stored = bucket.put_many((key, key.encode()) for key in keys)
    assert kinds(stored) == [Entry] * 50
    assert list(bucket.get_many(keys)) == [key.encode() for key in keys]
    assert [entry.key for entry in bucket.head_many(keys)] == keys
    digests = [entry.digest for entry in stored]
    assert list(bucket.content.get_many(digests)) == [key.encode() for key in keys]
    assert list(bucket.content.stat_many(digests)) == [4] * 50
    assert list(bucket.content.missing(digests)) == []
    assert list(bucket.delete_many(keys)) == [True] * 50


def test_reading_may_be_left_half_way(bucket: Any) -> None:
    bucket.put_many((f"k{number}", LARGE) for number in range(5))
    for _ in range(3):
        assert next(iter(bucket.get_many(f"k{number}" for number in range(5)))) == LARGE
    assert bucket.get("k0") == LARGE


def test_a_wrong_program_is_told(bucket: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        bucket.put_many(["only a key"])
    with pytest.raises(TypeError):
        bucket.put_many([("k", "text is no data")])


def test_a_source_that_fails_ends_the_call(bucket: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        bucket.put_many([("broken", broken())])
    with pytest.raises(NotFoundError):
        bucket.head("broken")


def test_many_digests_are_kept_read_and_let_go(bucket: Any) -> None:
    content = bucket.content
    mark = bucket.name.encode()
    blobs = [mark, mark + LARGE, mark * 2, mark]
    digests = list(content.put_many(blobs))
    assert digests == [Digest.of(data) for data in blobs]
    other, more = next(absent), next(absent)
    assert list(content.get_many(digests)) == blobs
    sizes = list(content.stat_many([*digests, other]))
    assert sizes[:-1] == [len(data) for data in blobs]
    assert kinds(sizes[-1:]) == [NotFoundError]
    assert list(content.missing([other, *digests, more, other])) == [other, more]
    assert list(content.delete_many([*digests, other])) == [True, True, True, False, False]
    assert kinds(content.get_many(digests)) == [NotFoundError] * 4
    assert list(content.missing(digests)) == digests[:3]
