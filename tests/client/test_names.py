"""Names that look alike, lead elsewhere or are none, in every verb on every way to a bucket."""

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.core.errors import BlobError, InvalidError, NotFoundError
from holdfast.core.stream import NOW

ALIKE = [
    *("paypal", "p\u0430ypal", "PAYPAL", "paypa\u217c", "paypal\u200b", "\u202elapyap"),
    *(unicodedata.normalize("NFC", "\u00e9"), unicodedata.normalize("NFD", "\u00e9")),
    *("\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u00a0", " ", "\u3000", "a ", " a"),
    *("..", ".", "...", "../x", "x/..", "x/.", "x", "./x", "x/", "/x", "x//", "//"),
    *("%2e%2e", "%2F", "/", "%252F", "%00", "%", "+", "%20", "%2B", "%C3%A9", "\\", "a\\..\\b"),
    *("?", "?version=0", "#", ";", "a=b&c=d", "~", "alice~photos", "sha256:x", "key:x"),
    *("metadata", "/metadata", "x/metadata", "x/metadata/metadata", "missing", "batch"),
    *("\u0085", "\u2028", "\ufeff", "\ufffd", "\U0001f4f7", "\U0010ffff", "\ue000"),
    *("con", "nul", "-rf", "*", "`id`", "$(id)", "'; DROP TABLE", "<script>", '"', "\u00df", "ss"),
    *("k" * 1023, "k" * 1024, "\u00e9" * 512, "\U0001f4f7" * 256),
]
NONE = [
    *("", "\x00", "a\x00b", "\x01", "a\nb", "a\r\nX: y", "\t", "\x1f", "\x1b[31m", "\x7f"),
    *("\ud800", "a\udcffb", "k" * 1025, "k" * 10_000, "\u00e9" * 513, "../" * 3_400),
]
Verb = Callable[[Any, str], object]
VERBS: dict[str, Verb] = {
    "put": lambda bucket, key: bucket.put(key, b"x"),
    "put from chunks": lambda bucket, key: bucket.put(key, iter([b"x"])),
    "get": lambda bucket, key: bucket.get(key),
    "open": lambda bucket, key: bucket.open(key),
    "head": lambda bucket, key: bucket.head(key),
    "get a version": lambda bucket, key: bucket.get(key, version=0),
    "delete": lambda bucket, key: bucket.delete(key),
    "copy from": lambda bucket, key: bucket.copy(key, "other"),
    "copy to": lambda bucket, key: bucket.copy("there", key),
    "move from": lambda bucket, key: bucket.move(key, "other"),
    "move to": lambda bucket, key: bucket.move("there", key),
    "undelete": lambda bucket, key: bucket.undelete(key),
    "versions": lambda bucket, key: bucket.versions(key),
    "restore": lambda bucket, key: bucket.restore(key, 0),
}
MANY: dict[str, Callable[[Any, str], Iterator[object]]] = {
    "put": lambda bucket, key: iter(bucket.put_many([(key, b"x"), ("good", b"x")])),
    "get": lambda bucket, key: bucket.get_many([key, "there"]),
    "head": lambda bucket, key: bucket.head_many([key, "there"]),
    "delete": lambda bucket, key: iter(bucket.delete_many([key, "good"])),
}


def test_names_that_look_alike_are_as_many(bucket: Any) -> None:
    assert len(set(ALIKE)) == len(ALIKE)
    with bucket.events(NOW) as reader:
        assert list(reader) == []
        begin = reader.cursor
    bodies = {key: b"%d" % number for number, key in enumerate(ALIKE)}
    entries = {key: bucket.put(key, body) for key, body in bodies.items()}
    assert {entry.key for entry in entries.values()} == set(ALIKE)
    assert [entry.key for entry in bucket.entries()] == sorted(ALIKE, key=str.encode)
    assert [event.key for event in bucket.events(begin)] == ALIKE
    assert dict(zip(ALIKE, bucket.get_many(ALIKE), strict=True)) == bodies
    for key, body in bodies.items():
        assert bucket.get(key) == body
        assert bucket.head(key) == entries[key]
        assert key in [entry.key for entry in bucket.list(prefix=key, limit=1000).entries]
        assert [entry.version for entry in bucket.versions(key).entries] == [0]
    for number, key in enumerate(ALIKE):
        assert bucket.move(key, f"moved{number}").key == f"moved{number}"
        with pytest.raises(NotFoundError):
            bucket.head(key)
    assert len(list(bucket.entries())) == len(ALIKE)


@pytest.mark.parametrize("key", NONE, ids=lambda key: ascii(key[:20]))
def test_what_is_no_name_is_refused_by_every_verb(bucket: Any, key: str) -> None:
    bucket.put("there", b"there")
    for name, verb in VERBS.items():
        with pytest.raises(InvalidError, match="key"):
            verb(bucket, key)
        assert bucket.get("there") == b"there", name
    for name, many in MANY.items():
        refused, done = many(bucket, key)
        assert isinstance(refused, InvalidError), name
        assert not isinstance(done, BlobError), name
    assert [entry.key for entry in bucket.entries()] == ["there"]
