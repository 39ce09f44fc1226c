from datetime import UTC, datetime

from holdfast.core.bucket import matches
from holdfast.core.digest import BlobRef, Digest
from holdfast.core.entry import Entry


def test_an_entry_shows_its_tag_and_its_times() -> None:
    entry = Entry("b", "k", Digest.of(b"hello"), 5, "text/plain", 1_000_001, 86_400_000_000)
    assert entry.etag == f'"{Digest.of(b"hello").hex()}"'
    assert entry.ref == BlobRef(Digest.of(b"hello"), 5)
    assert entry.created_at == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)
    assert entry.modified_at == datetime(1970, 1, 2, tzinfo=UTC)
    assert matches(entry.etag).if_match == entry.etag
