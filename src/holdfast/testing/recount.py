"""Recounts the catalog of a depot: references and counters are what the entries make them."""

import struct
from collections import Counter
from collections.abc import Iterator

from holdfast.core.kv import KV, Item, prefix_end
from holdfast.core.limits import LIST_LIMIT_MAX
from holdfast.depot import catalog

COUNTERS = struct.Struct("<qq")


def check_catalog(kv: KV) -> None:
    """Read every entry, and compare all that was derived from them when they were written."""
    references: set[bytes] = set()
    entries, size_bytes = Counter[bytes](), Counter[bytes]()
    for item in _under(kv, catalog.ENTRY):
        bucket, _, key = item.key[1:].partition(b"\x00")
        entry = catalog.decode_entry(bucket.decode(), key.decode(), item.value)
        references.add(catalog.held_by_entry(entry.digest, entry.bucket, key))
        entries[bucket] += 1
        size_bytes[bucket] += entry.size_bytes
    for item in _under(kv, catalog.REFERENCE):
        catalog.decode_held(item.value)
        holder = item.key[33:]
        assert holder == catalog.BY_CONTENT or item.key in references, item
        references.discard(item.key)
    assert not references, references
    for item in _under(kv, catalog.USAGE):
        bucket = item.key[1:]
        assert COUNTERS.unpack(item.value) == (entries.pop(bucket, 0), size_bytes.pop(bucket, 0))
    assert not +entries
    assert not +size_bytes


def _under(kv: KV, prefix: bytes) -> Iterator[Item]:
    start, end = prefix, prefix_end(prefix)
    while page := kv.scan(start, end, limit=LIST_LIMIT_MAX):
        yield from page
        start = page[-1].key + b"\x00"
