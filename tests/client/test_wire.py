"""HTTP as data: what one end writes, the other reads, and nothing else gets through."""

import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import wire
from holdfast.core import errors
from holdfast.core.digest import Digest
from holdfast.core.entry import Entry, HashPage, Page, Stats
from holdfast.core.errors import BlobError, InvalidError, UnavailableError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
TIMES = st.integers(0, 4_000_000_000_000_000)

ENTRIES = st.builds(
    Entry,
    bucket=st.just("photos"),
    key=KEYS,
    digest=st.binary(min_size=32, max_size=32).map(Digest),
    size_bytes=st.integers(0, 1 << 60),
    content_type=TEXT,
    created_us=TIMES,
    modified_us=TIMES,
    version=st.integers(0, 1 << 40),
    metadata=st.dictionaries(TEXT, TEXT, max_size=4),
    expires_us=TIMES,
)


@given(ENTRIES)
def test_an_entry_survives_the_wire(entry: Entry) -> None:
    assert wire.parse_entry(wire.entry_json(entry)) == entry


@given(st.lists(ENTRIES, max_size=3), st.lists(KEYS, max_size=3), st.none() | TEXT)
def test_a_page_survives_the_wire(entries: list[Entry], prefixes: list[str], after: str) -> None:
    page = Page(entries, prefixes, after)
    assert wire.parse_page(wire.page_json(page)) == page


def test_digests_and_counters_survive_the_wire() -> None:
    page = HashPage([Digest.of(b"a"), Digest.of(b"b")], None)
    assert wire.parse_hash_page(wire.hash_page_json(page)) == page
    assert wire.parse_stats(wire.stats_json(Stats(1, 2, 3))) == Stats(1, 2, 3)


def test_an_entry_has_the_documented_members_in_their_order() -> None:
    entry = Entry("default", "k", Digest.of(b""), 0, "text/plain", 0, 1_000_000)
    document = json.loads(wire.entry_json(entry))
    assert list(document) == [
        *("key", "bucket", "size_bytes", "digest", "content_type", "metadata"),
        *("created_at", "updated_at", "version", "expires_at", "size"),
    ]
    assert document["updated_at"] == "1970-01-01T00:00:01Z"


def test_members_of_a_newer_server_are_passed_over() -> None:
    entry = Entry("default", "k", Digest.of(b""), 0, "text/plain", 0, 0)
    document = json.loads(wire.entry_json(entry)) | {"tier": "cold"}
    assert wire.parse_entry(json.dumps(document).encode()) == entry


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", b'{"key": 1}', b"\xff"])
def test_what_is_no_entry_is_an_error_of_the_server(data: bytes) -> None:
    with pytest.raises(UnavailableError, match="not ours"):
        wire.parse_entry(data)


EXAMPLES: list[BlobError] = [
    errors.NotFoundError("no such key", key="k"),
    errors.GoneError("deleted", at="2026-01-01T00:00:00Z"),
    errors.InvalidError("key", "", "1 to 1,024 bytes"),
    errors.UnsatisfiableError(10),
    errors.DigestMismatchError("sha256:aa", "sha256:bb"),
    errors.CorruptError("a chunk is damaged", chunk=3),
    errors.PreconditionError("If-Match did not hold"),
    errors.ConflictError("the name is in use again", bucket="b", key="k"),
    errors.TooLargeError("body", 30),
    errors.HeadTooLargeError("head", 32_768),
    errors.SlowError("too slow", waited_s=10),
    errors.QuotaError(5, 4),
    errors.QuotaError(5, 4, "entries"),
    errors.RateError("key", 20, 2, 7, "bytes"),
    errors.UnsupportedTypeError("declared image/png", declared="image/png", shown=None),
    errors.FullError("the disk is full"),
    errors.UnauthenticatedError("no key"),
    errors.DeniedError("read only"),
    errors.MethodError("GET, HEAD"),
    errors.UnavailableError("stopping", retry_after_s=7),
    errors.UnsupportedError("no"),
    errors.CompactedError(9),
]


def test_every_class_of_error_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(errors.classes())


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: error.code)
def test_an_error_arrives_as_its_class_with_its_facts(error: BlobError) -> None:
    headers = {"retry-after": "7"} if hasattr(error, "retry_after_s") else {}
    arrived = wire.parse_error(error.status, headers, wire.error_json(error))
    assert type(arrived) is type(error)
    assert arrived.message == error.message
    assert arrived.facts == error.facts
    assert {k: v for k, v in vars(arrived).items() if k != "facts"} == {
        k: v for k, v in vars(error).items() if k != "facts"
    }


def test_an_error_about_bytes_that_are_no_text_can_be_written() -> None:
    assert (
        json.loads(wire.error_json(InvalidError("key", "\udcff", "UTF-8")))["error"]["got"] == "?"
    )


def test_the_members_of_an_error_win_over_facts_of_the_same_name() -> None:
    document = json.loads(wire.error_json(errors.FullError("full", code="fake", disk="sda")))
    assert document["error"] == {
        "code": "storage_full",
        "message": "full",
        "retryable": False,
        "disk": "sda",
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, InvalidError),
        (400, InvalidError),
        (401, errors.UnauthenticatedError),
        (403, errors.DeniedError),
        (404, errors.NotFoundError),
        (412, errors.PreconditionError),
        (429, UnavailableError),
        (500, UnavailableError),
        (502, UnavailableError),
        (503, UnavailableError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", b'{"error": null}'])
def test_without_a_body_of_ours_the_status_decides(
    status: int, kind: type[BlobError], body: bytes
) -> None:
    assert type(wire.parse_error(status, {}, body)) is kind


def test_the_size_behind_416_is_read_from_a_head_answer() -> None:
    error = wire.parse_error(416, {"content-range": "bytes */10"}, b"")
    assert isinstance(error, errors.UnsatisfiableError)
    assert error.size_bytes == 10


def test_facts_of_the_wrong_type_do_not_make_a_half_built_error() -> None:
    body = b'{"error": {"code": "too_large", "message": "m", "what": "body", "limit": "x"}}'
    assert type(wire.parse_error(413, {}, body)) is InvalidError


@pytest.mark.parametrize("code", [b"5", b'"new_in_version_9"', b"[]"])
def test_a_code_that_this_version_does_not_know_goes_by_whose_fault_it_is(code: bytes) -> None:
    body = b'{"error": {"code": ' + code + b', "message": "m"}}'
    assert type(wire.parse_error(409, {}, body)) is InvalidError
    assert type(wire.parse_error(500, {}, body)) is UnavailableError


def test_retry_after_is_bounded() -> None:
    error = wire.parse_error(503, {"retry-after": "99999999"}, b"")
    assert isinstance(error, UnavailableError)
    assert error.retry_after_s == wire.RETRY_AFTER_S_MAX


@given(KEYS)
def test_a_key_survives_its_path(key: str) -> None:
    path = wire.blob_path("default", key)
    encoded = path.removeprefix("/blob/")
    assert unquote(encoded) == key
    assert "//" not in path
    assert not {".", ".."} & set(path.split("/"))
    assert not path.endswith("/metadata")


@given(st.dictionaries(st.from_regex(r"[a-z0-9-]{1,10}", fullmatch=True), TEXT, max_size=5))
def test_metadata_survives_its_headers(metadata: dict[str, str]) -> None:
    headers = wire.metadata_headers(metadata)
    assert all(value.isascii() and value.strip() == value for _, value in headers)
    assert wire.parse_metadata([(b"Host", b"x"), *headers]) == metadata


def test_metadata_may_come_as_plain_utf8_and_in_any_case() -> None:
    header = (b"Holdfast-Meta-Place", "Zürich, CH".encode())
    assert wire.parse_metadata([header]) == {"place": "Zürich, CH"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"holdfast-meta-", b"x")],
        [(b"holdfast-meta-a", b"100%")],
        [(b"holdfast-meta-a", b"%ff")],
        [(b"holdfast-meta-a", b"1"), (b"Holdfast-Meta-A", b"2")],
    ],
)
def test_malformed_metadata_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidError):
        wire.parse_metadata(headers)


def test_digest_headers_of_old_and_new_are_read() -> None:
    digest = Digest.of(b"x")
    new = wire.repr_digest(digest)
    old = new.replace("=:", "=", 1).rstrip(":")
    assert wire.parse_digest(new) == digest
    assert wire.parse_digest(f"md5=abc, SHA-256={old.partition('=')[2]}") == digest
    assert wire.parse_digest("sha-512=:AAAA:") is None
    for bad in ("sha-256=:AAAA:", "sha-256=:%%:", "sha-256="):
        with pytest.raises(InvalidError):
            wire.parse_digest(bad)


def test_a_digest_header_that_is_not_ascii_is_invalid() -> None:
    with pytest.raises(InvalidError):
        wire.parse_digest("sha-256=:\xe9:")
